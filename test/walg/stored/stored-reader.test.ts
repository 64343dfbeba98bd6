import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { beforeEach, describe, test } from 'node:test'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { Keyring } from '../../../src/crypto/keyring.ts'
import { hasCode, type ErrorCode } from '../../../src/primitives/errors.ts'
import { readObject } from '../../../src/storage/storage.ts'
import { objectKinds } from '../../../src/walg/stored/object-kinds.ts'
import { openDocument, openObject, readDocument, readWhole } from '../../../src/walg/stored/stored-reader.ts'
import { StoredWriter } from '../../../src/walg/stored/stored-writer.ts'
import { crypterOf } from '../../harness/made/secretstreams.ts'
import { makeSegment } from '../../harness/made/made-wal.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const segment = 'wal_005/000000010000000000000002'
const history = 'wal_005/00000002.history'
const sentinel = 'basebackups_005/base_000000010000000000000002_backup_stop_sentinel.json'
const content = Buffer.from('what is in a segment '.repeat(20_000))
const methods = ['zstd', 'lz4', 'brotli', 'none'] as const

const keyring = new Keyring({ load: async () => ({ writing: await crypterOf(1), reading: [] }) })

let storage: MemoryStorage
let requests: string[]

beforeEach(() => {
  requests = []
  storage = new MemoryStorage({ before: ({ key, operation }) => void requests.push(`${operation} ${key}`) })
})

/** Stores the content. */
async function stored(method: (typeof methods)[number], bytes = content): Promise<{ key: string; extension: string }> {
  const writer = new StoredWriter(storage, openWriteCodec(method))
  const { extension } = writer
  const key = extension === '' ? segment : `${segment}.${extension}`
  storage.seed(key, await writer.encodeCopy(bytes))
  return { key, extension }
}

/** A storage of one object, of the same chunk again and again. */
const endless = (chunk: Uint8Array) => ({
  location: 'memory://endless',
  keyring: undefined,
  async get() {
    await Promise.resolve()
    return (async function* () {
      for (;;) yield await Promise.resolve(chunk)
    })()
  },
})

const isNamed =
  (code: ErrorCode, text: string) =>
  (error: unknown): boolean => {
    assert.ok(hasCode(error, code), String(error))
    assert.ok(error.message.includes(text), error.message)
    return true
  }

describe('an object', () => {
  for (const method of methods) {
    test(`under ${method} is read by one request, whole, as a stream and in pieces`, async () => {
      const name = await stored(method)
      assert.ok((await readWhole(await openObject(storage, name))).equals(content))
      const sizes: number[] = []
      const opened = await openObject(storage, name, { onStored: ({ length }) => void sizes.push(length) })
      const pieces: Buffer[] = []
      for await (const { bytes, free } of opened.pieces?.() ?? []) {
        pieces.push(Buffer.from(bytes))
        free()
      }
      assert.ok(Buffer.concat(pieces).equals(content))
      const size = sizes.reduce((sum, each) => sum + each, 0)
      assert.equal(size, (await readObject(storage, name.key)).length, 'bytes as stored')
      assert.deepEqual(requests, Array(3).fill(`get ${name.key}`))
      assert.equal(storage.openBodies, 0)
    })

    for (const keys of ['plain', 'encrypted'] as const) {
      test(`under ${method}, ${keys}, is freed when its reader has enough`, async () => {
        if (keys === 'encrypted') storage = new MemoryStorage({ keyring })
        // Longer than what any stream of it reads ahead.
        const name = await stored(
          method,
          Buffer.concat([makeSegment('000000010000000000000002'), randomBytes(4 * 1024 * 1024)]),
        )
        const { body } = await openObject(storage, name)
        for await (const chunk of body) if (chunk.length > 0) break
        assert.equal(storage.openBodies, 0)
        const { pieces } = await openObject(storage, name)
        for await (const piece of pieces?.() ?? []) if (piece.bytes.length > 0) break
        assert.equal(storage.openBodies, 0)
      })
    }
  }

  test('that is damaged is named with its place, and freed', async () => {
    for (const method of ['zstd', 'lz4', 'brotli'] as const) {
      const name = await stored(method)
      const bytes = await readObject(storage, name.key)
      for (const damaged of [bytes.subarray(0, -3), Buffer.from('no frame'), Buffer.alloc(0)]) {
        storage.seed(name.key, damaged)
        const isDamaged = isNamed('WALRX_OBJECT_DAMAGED', `memory://test/${name.key}: `)
        await assert.rejects(openObject(storage, name).then(readWhole), isDamaged)
        const { pieces } = await openObject(storage, name)
        await assert.rejects(async () => {
          for await (const piece of pieces?.() ?? []) piece.free()
        }, isDamaged)
      }
    }
    assert.equal(storage.openBodies, 0)
  })

  test('that is missing is named', async () => {
    const name = { key: `${segment}.zst`, extension: 'zst' }
    const isMissing = isNamed('WALRX_OBJECT_NOT_FOUND', name.key)
    await assert.rejects(openObject(storage, name), isMissing)
    await assert.rejects(readDocument(storage, sentinel), isNamed('WALRX_OBJECT_NOT_FOUND', sentinel))
  })

  test('in a codec that walrx cannot read is named, and not asked for', async () => {
    const name = { key: `${segment}.lzo`, extension: 'lzo' }
    storage.seed(name.key, 'x')
    const isUnsupported = isNamed('WALRX_CODEC_UNSUPPORTED', `memory://test/${name.key} is compressed as .lzo`)
    await assert.rejects(openObject(storage, name), isUnsupported)
    assert.deepEqual(requests, [])
  })

  test('that decodes to more than any of its kind is not taken into memory', async () => {
    const { wholeBytesMax } = objectKinds.history
    const writer = new StoredWriter(storage, openWriteCodec('zstd'))
    for (const [bytes, isTaken] of [
      [wholeBytesMax, true],
      [wholeBytesMax + 1, false],
    ] as const) {
      storage.seed(`${history}.zst`, await writer.encodeCopy(Buffer.alloc(bytes)))
      const reading = readWhole(await openObject(storage, { key: `${history}.zst`, extension: 'zst' }))
      if (isTaken) assert.equal((await reading).length, wholeBytesMax)
      else await assert.rejects(reading, isNamed('WALRX_OBJECT_DAMAGED', `${history}.zst has more than the`))
    }
    assert.equal(storage.openBodies, 0)
  })

  test('is not read whole when its kind is only streamed', async () => {
    const key = 'basebackups_005/b/tar_partitions/part_001.tar'
    storage.seed(key, 'x')
    await assert.rejects(
      openObject(storage, { key, extension: '' }).then(readWhole),
      isNamed('WALRX_OBJECT_DAMAGED', key),
    )
  })
})

describe('a document', () => {
  test('is read as it is, by one request', async () => {
    storage.seed(sentinel, '{"a":1}')
    assert.equal((await readDocument(storage, sentinel)).toString(), '{"a":1}')
    const chunks: Uint8Array[] = []
    for await (const chunk of await openDocument(storage, sentinel)) chunks.push(chunk)
    assert.equal(Buffer.concat(chunks).toString(), '{"a":1}')
    assert.deepEqual(requests, [`get ${sentinel}`, `get ${sentinel}`])
  })

  test('that is larger than a string can be is not taken into memory', async () => {
    const reading = readDocument(endless(Buffer.alloc(32 * 1024 * 1024)), sentinel)
    await assert.rejects(reading, isNamed('WALRX_OBJECT_DAMAGED', `memory://endless/${sentinel} has more than the`))
  })

  test('is nothing else: a compressed object is not read as one', async () => {
    await assert.rejects(readDocument(storage, `${segment}.zst`), isNamed('WALRX_INTERNAL', `${segment}.zst`))
    assert.deepEqual(requests, [])
  })
})
