import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { encodeCopy, walLikeBytes } from '../../harness/made/codec-streams.ts'
import { MemoryStorage, unavailable } from '../../harness/store/memory-storage.ts'

const mebi = 1024 * 1024
const segment = '000000010000000000000007'
const content = walLikeBytes(1, 500_000)

let storage: MemoryStorage
let reader: WalReader
beforeEach(() => {
  storage = new MemoryStorage()
  reader = new WalReader(storage)
})

async function read(name: string, preferred?: string): Promise<Buffer | undefined> {
  const file = await reader.openWalFile(name, preferred)
  if (!file) return undefined
  const chunks: Uint8Array[] = []
  for await (const chunk of file.body) chunks.push(chunk)
  return Buffer.concat(chunks)
}

describe('opening a WAL file', () => {
  test('under the preferred extension it is one request', async () => {
    storage.seed(`wal_005/${segment}.lz4`, await encodeCopy(openWriteCodec('lz4'), content))
    assert.ok((await read(segment, 'lz4'))?.equals(content))
    assert.deepEqual(storage.log, [`get wal_005/${segment}.lz4`])
  })

  test('under any other form it is found by one listing', async () => {
    const forms = {
      '': content,
      '.': content,
      '.gz': gzipSync(content),
      '.br': await encodeCopy(openWriteCodec('brotli'), content),
      '.lz4': await encodeCopy(openWriteCodec('lz4'), content),
    }
    for (const [end, bytes] of Object.entries(forms)) {
      storage.objects.clear()
      storage.calls.length = 0
      storage.seed(`wal_005/${segment}${end}`, bytes)
      assert.ok((await read(segment))?.equals(content), `form "${end}"`)
      assert.deepEqual(storage.log, [
        `get wal_005/${segment}.zst`,
        `list wal_005/${segment}`,
        `get wal_005/${segment}${end}`,
      ])
    }
  })

  test('one that is nowhere is two requests, a history that is nowhere one', async () => {
    storage.seed(`wal_005/${segment}.partial.zst`, 'x')
    storage.seed(`wal_005/${segment}.json`, 'x')
    assert.equal(await read(segment), undefined)
    assert.equal(storage.calls.length, 2)
    storage.calls.length = 0
    assert.equal(await read('00000002.history'), undefined)
    assert.deepEqual(storage.log, ['list wal_005/00000002.history'])
  })

  test('both forms of a history are read', async () => {
    const history = Buffer.from('1\t0/3000000\tno recovery target specified\n')
    storage.seed('wal_005/00000002.history', history)
    storage.seed('wal_005/00000003.history.zst', await encodeCopy(openWriteCodec('zstd'), history))
    assert.ok((await read('00000002.history'))?.equals(history))
    assert.ok((await read('00000003.history'))?.equals(history))
  })

  test('an lzo object is named, unless a form that can be read lies beside it', async () => {
    storage.seed(`wal_005/${segment}.lzo`, 'x')
    await assert.rejects(
      reader.openWalFile(segment),
      (error) =>
        hasCode(error, 'WALRX_CODEC_UNSUPPORTED') && error.message.includes(`memory://test/wal_005/${segment}.lzo`),
    )
    storage.seed(`wal_005/${segment}.zst`, await encodeCopy(openWriteCodec('zstd'), content))
    assert.ok((await read(segment, 'lz4'))?.equals(content))
  })

  test('a storage that does not answer is never taken for a file that is not there', async () => {
    for (const failing of ['get', 'list'] as const) {
      storage.before = ({ operation }) => {
        if (operation === failing) throw unavailable()
      }
      await assert.rejects(reader.openWalFile(segment), (error) => hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
    }
  })

  test('damage is named with the key, a failing storage as what it is, and a reader that stops frees the source', async () => {
    const encoded = await encodeCopy(openWriteCodec('zstd'), walLikeBytes(2, 5 * mebi))
    storage.seed(`wal_005/${segment}.zst`, encoded.subarray(0, -20))
    await assert.rejects(
      read(segment),
      (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED') && error.message.includes(`${segment}.zst`),
    )
    storage.body = async function* (_key, chunks) {
      for await (const chunk of chunks) {
        yield chunk
        throw unavailable()
      }
    }
    await assert.rejects(read(segment), (error) => hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
    storage.body = undefined
    for await (const chunk of (await reader.openWalFile(segment))?.body ?? []) {
      assert.ok(chunk.length > 0)
      break
    }
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(storage.openBodies, 0)
  })
})

describe('holes', () => {
  test('a later whole segment of the same timeline makes it a hole', async () => {
    assert.equal(await reader.hasLaterSegment(segment), false)
    for (const end of ['.partial.zst', '.partial', '_delta.lz4', '.json', '.00000028.backup.zst', '.zst']) {
      storage.seed(`wal_005/${segment}${end}`, 'x')
    }
    storage.seed('wal_005/000000010000000000000008.partial', 'x')
    storage.seed('wal_005/000000010000000000000009.json', 'x')
    storage.seed('wal_005/000000010000000000000006.zst', 'x')
    storage.seed('wal_005/000000020000000000000009.zst', 'x')
    assert.equal(await reader.hasLaterSegment(segment), false)
    storage.seed('wal_005/00000001000000010000000A', 'x')
    storage.calls.length = 0
    assert.equal(await reader.hasLaterSegment(segment), true)
    assert.equal(storage.calls.length, 1)
  })

  test('a history is missing rather than not there yet when its timeline has segments', async () => {
    storage.seed('wal_005/000000030000000000000009.zst', 'x')
    assert.equal(await reader.hasLaterSegment('00000002.history'), false)
    assert.equal(await reader.hasLaterSegment('00000003.history'), true)
  })
})

describe('listing', () => {
  const names = async (timeline: number, from: bigint, size: number) => {
    const found: string[] = []
    for await (const { name } of reader.segments(timeline, from, size)) found.push(name)
    return found
  }

  test('segments come in order, once each, whole ones only, from the given one on, over 4 GB borders and pages', async () => {
    for (const size of [mebi, 16 * mebi, 1024 * mebi]) {
      storage = new MemoryStorage({ pageKeys: 3 })
      reader = new WalReader(storage)
      const perId = 0x100000000n / BigInt(size)
      const wanted = [perId - 2n, perId - 1n, perId, perId + 1n, 3n * perId].map((segno) => segmentName(2, segno, size))
      for (const name of wanted) {
        for (const end of ['', '.zst', '.lz4', '.partial', '.json', '_delta.zst', '.'])
          storage.seed(`wal_005/${name}${end}`, 'x')
      }
      storage.seed('wal_005/00000002.history.zst', 'x')
      storage.seed(`wal_005/${segmentName(1, perId, size)}.zst`, 'x')
      storage.seed(`wal_005/${segmentName(3, perId, size)}.zst`, 'x')
      storage.seed('wal_005/0000000200000000FFFFFFFF.zst', 'x') // impossible with any of these sizes
      assert.deepEqual(await names(2, 0n, size), wanted)
      assert.deepEqual(await names(2, perId - 1n, size), wanted.slice(1))
      assert.deepEqual(await names(2, perId, size), wanted.slice(2))
      assert.deepEqual(await names(2, 3n * perId + 1n, size), [])
    }
  })

  test('the newest segment is the last one of the newest timeline that has any', async () => {
    assert.equal(await reader.newestSegment(), undefined)
    for (let n = 0; n < 30; n++) storage.seed(`wal_005/${segmentName(1, BigInt(n + 50), mebi)}.lz4`, 'x')
    for (let n = 0; n < 5; n++) storage.seed(`wal_005/${segmentName(10, BigInt(n), mebi)}.zst`, 'x')
    storage.seed('wal_005/0000000A.history', 'x')
    storage.seed('wal_005/0000000B.history', 'x')
    storage.seed(`wal_005/${segmentName(11, 3n, mebi)}.partial`, 'x')
    assert.equal((await reader.newestSegment())?.key, `wal_005/${segmentName(10, 4n, mebi)}.zst`)
  })
})

describe('a segment is whole', () => {
  const isWhole = () => reader.isWhole(segment, content.length)

  test('when it decodes to as many bytes as it has to have, in whatever form', async () => {
    assert.equal(await isWhole(), false)
    for (const method of ['none', 'lz4', 'zstd'] as const) {
      const codec = openWriteCodec(method)
      const encoded = await encodeCopy(codec, content)
      const key = `wal_005/${segment}${codec.extension === '' ? '' : `.${codec.extension}`}`
      storage.objects.clear()
      storage.seed(key, encoded)
      assert.equal(await isWhole(), true, method)
      storage.seed(key, encoded.subarray(0, -1))
      assert.equal(await isWhole(), false, `${method}, cut`)
      storage.seed(key, await encodeCopy(codec, content.subarray(1)))
      assert.equal(await isWhole(), false, `${method}, short`)
    }
  })

  test('not when its end is zeros, as a crash of the store may leave it', async () => {
    const encoded = await encodeCopy(openWriteCodec('zstd'), content)
    storage.seed(`wal_005/${segment}.zst`, Buffer.from(encoded).fill(0, encoded.length / 2))
    assert.equal(await isWhole(), false)
  })

  test('as far as is known when walrx cannot read its codec', async () => {
    storage.seed(`wal_005/${segment}.lzo`, 'x')
    assert.equal(await isWhole(), true)
  })

  test('is an error when the storage does not answer', async () => {
    storage.before = () => {
      throw unavailable()
    }
    await assert.rejects(isWhole(), (error) => hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
  })
})
