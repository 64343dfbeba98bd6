import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { encodeSlack } from '../../../src/walg/stored/stored-form.ts'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { openObject, readWhole } from '../../../src/walg/stored/stored-reader.ts'
import { createDocument, putDocument, StoredWriter } from '../../../src/walg/stored/stored-writer.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const segment = 'wal_005/000000010000000000000002'
const sentinel = 'basebackups_005/base_000000010000000000000002_backup_stop_sentinel.json'
const content = Buffer.from('what is in a segment '.repeat(20_000))

const isInternal = (error: unknown) => hasCode(error, 'WALRX_INTERNAL')

function watched(): { storage: MemoryStorage; requests: string[] } {
  const requests: string[] = []
  return { storage: new MemoryStorage({ before: ({ operation }) => void requests.push(operation) }), requests }
}

for (const method of ['zstd', 'lz4', 'brotli', 'none'] as const) {
  describe(`a writer under ${method}`, () => {
    const codec = openWriteCodec(method)
    const key = codec.extension === '' ? segment : `${segment}.${codec.extension}`

    test('encodes in place and by a copy, and what it stores can be read', async () => {
      const { requests, storage } = watched()
      const writer = new StoredWriter(storage, codec)
      const buffer = Buffer.alloc(content.length + encodeSlack(content.length))
      content.copy(buffer)
      const encoded = buffer.subarray(0, await writer.encodeInPlace(buffer, content.length))
      assert.equal(await writer.create(key, encoded), 'created')
      assert.equal(await writer.create(key, encoded), 'exists')
      const name = { key, extension: writer.extension }
      assert.ok((await readWhole(await openObject(storage, name))).equals(content))
      const before = Buffer.from(content)
      await writer.replace(key, await writer.encodeCopy(content.subarray(7)))
      assert.ok((await readWhole(await openObject(storage, name))).equals(content.subarray(7)))
      assert.ok(content.equals(before), 'the copy was encoded in place')
      assert.deepEqual(requests, ['putIfAbsent', 'putIfAbsent', 'get', 'put', 'get'])
    })

    test('decodes its own, and calls what does not decode a defect of walrx', async () => {
      const { storage } = watched()
      const writer = new StoredWriter(storage, codec)
      const encoded = await writer.encodeCopy(content)
      assert.ok((await readWhole({ key, body: writer.decodeOwn(key, encoded) })).equals(content))
      if (method === 'none') return
      await assert.rejects(readWhole({ key, body: writer.decodeOwn(key, encoded.subarray(0, -3)) }), isInternal)
    })

    test('stores no document', async () => {
      const { requests, storage } = watched()
      const writer = new StoredWriter(storage, codec)
      await assert.rejects(writer.create(sentinel, content), isInternal)
      await assert.rejects(writer.replace(sentinel, content), isInternal)
      await assert.rejects(writer.create('elsewhere', content), isInternal)
      assert.deepEqual(requests, [])
    })
  })
}

describe('a document', () => {
  test('is stored as it is, by one request', async () => {
    const { requests, storage } = watched()
    assert.equal(await createDocument(storage, sentinel, Buffer.from('{}')), 'created')
    assert.equal(await createDocument(storage, sentinel, Buffer.from('{"a":1}')), 'exists')
    assert.equal(storage.peek(sentinel)?.toString(), '{}')
    await putDocument(storage, sentinel, Buffer.from('{"b":1}'))
    assert.equal(storage.peek(sentinel)?.toString(), '{"b":1}')
    assert.deepEqual(requests, ['putIfAbsent', 'putIfAbsent', 'put'])
  })

  test('has a key of a document', async () => {
    const { requests, storage } = watched()
    for (const key of [segment, 'basebackups_005/b/tar_partitions/part_001.tar', 'elsewhere']) {
      await assert.rejects(putDocument(storage, key, content), isInternal)
      await assert.rejects(createDocument(storage, key, content), isInternal)
    }
    assert.deepEqual(requests, [])
  })
})
