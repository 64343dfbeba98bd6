/** WAL of an encrypted archive: what is torn is found torn, what is of another key is left alone, and what is the same is the same. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import type { WriteMethod } from '../../../src/compression/codec.ts'
import type { Keyring } from '../../../src/crypto/keyring.ts'
import { type ErrorCode, hasCode, isOfKey } from '../../../src/primitives/errors.ts'
import { encodeSlack } from '../../../src/walg/stored/stored-form.ts'
import { openObject, readWhole } from '../../../src/walg/stored/stored-reader.ts'
import { StoredWriter } from '../../../src/walg/stored/stored-writer.ts'
import { WalArchive } from '../../../src/walg/wal/wal-archive.ts'
import { madeSegmentSize, makeHistory, makeSegment } from '../../harness/made/made-wal.ts'
import { type MemoryObject, MemoryStorage } from '../../harness/store/memory-storage.ts'
import { testKeyring } from '../../harness/store/test-keys.ts'

const segment = '000000010000000000000005'
const content = makeSegment(segment)
const methods = ['zstd', 'lz4', 'brotli', 'none'] as const
const hasThe = (code: ErrorCode) => (error: unknown) => hasCode(error, code)

/** One store, seen by writers with different keys. */
class Store {
  readonly objects = new Map<string, MemoryObject>()

  open(method: WriteMethod, keyring?: Keyring) {
    const storage = new MemoryStorage({ objects: this.objects, ...(keyring && { keyring }) })
    const codec = openWriteCodec(method)
    const writer = new StoredWriter(storage, codec)
    const key = (name: string) => `wal_005/${name}${writer.extension === '' ? '' : `.${writer.extension}`}`
    return {
      storage,
      archive: new WalArchive(storage, codec),
      encode: (bytes: Uint8Array) => writer.encodeCopy(bytes),
      key,
    }
  }
}

const one = () => testKeyring('one')
const two = () => testKeyring('two')

for (const method of methods) {
  describe(`by ${method}, encrypted`, () => {
    test('a segment is the same when it is archived again, with the same key or a new one that reads the old', async () => {
      const store = new Store()
      const { archive, encode } = store.open(method, one())
      assert.equal(await archive.archive(segment, await encode(content)), 'created')
      assert.equal(await archive.archive(segment, await encode(content)), 'same')
      const rotated = store.open(method, testKeyring('two', { reading: ['one'] }))
      assert.equal(await rotated.archive.archive(segment, await rotated.encode(content)), 'same')
      assert.equal(await rotated.archive.isWhole(segment, madeSegmentSize), true)
      const changed = Buffer.from(content)
      changed[500_000] = 7
      await assert.rejects(archive.archive(segment, await encode(changed)), hasThe('WALRX_ARCHIVE_CONFLICT'))
    })

    test('in its own buffer it gets no longer than the buffer', async () => {
      const { archive, storage, key } = new Store().open(method, one())
      const buffer = Buffer.alloc(madeSegmentSize + encodeSlack(madeSegmentSize))
      content.copy(buffer)
      const length = await archive.encodeInPlace(buffer, madeSegmentSize)
      await archive.archive(segment, buffer.subarray(0, length))
      const name = { key: key(segment), extension: openWriteCodec(method).extension }
      assert.ok((await readWhole(await openObject(storage, name))).equals(content))
    })

    test('a torn one is torn, wherever it was cut, and a changed one is a conflict', async () => {
      const store = new Store()
      const { archive, encode, key, storage } = store.open(method, one())
      const stored = await encode(content)
      const { length } = stored
      const torn = [0, 1, 23, 24, 40, 41, 60, 70, 100, 2000, 8232, 8233, 8234, length - 17, length - 1]
      for (const cut of torn.filter((at) => at < length)) {
        const padded = Buffer.alloc(length)
        stored.copy(padded, 0, 0, cut)
        for (const damaged of [stored.subarray(0, cut), padded]) {
          storage.seed(key(segment), damaged)
          const isKnown = method !== 'brotli' || cut < 41 || cut > 150 || damaged === padded
          if (isKnown) {
            assert.equal(await archive.isWhole(segment, madeSegmentSize), false, `cut at ${cut} of ${length}`)
            await assert.rejects(archive.archive(segment, stored), hasThe('WALRX_ARCHIVE_CONFLICT'), `cut at ${cut}`)
            continue
          }
          // So few bytes decode to nothing: the start is refused, and says both.
          const outcome = await archive.isWhole(segment, madeSegmentSize).catch((error: unknown) => error)
          assert.ok(outcome === false || (isOfKey(outcome) && /or damaged/.test(outcome.message)), `cut at ${cut}`)
        }
      }
      // In its header: it looks like an object of another key.
      for (const at of [25, 200, 4000, length - 1].filter((each) => each < length)) {
        const flipped = Buffer.from(stored)
        flipped[at] = (flipped[at] ?? 0) ^ 4
        storage.seed(key(segment), flipped)
        assert.equal(await archive.isWhole(segment, madeSegmentSize), false, `flipped at ${at}`)
      }
    })

    test('one of another key, or without the key, is neither torn nor compared, and nothing is written over it', async () => {
      const store = new Store()
      const theirs = store.open(method, one())
      await theirs.archive.archive(segment, await theirs.encode(content))
      const before = theirs.storage.peek(theirs.key(segment))
      for (const keyring of [two(), testKeyring('two', { acceptsUnencrypted: true }), undefined]) {
        const { archive, encode, key } = store.open(method, keyring)
        await assert.rejects(archive.isWhole(segment, madeSegmentSize), isOfKey)
        await assert.rejects(archive.archive(segment, await encode(content)), (error) => {
          assert.ok(isOfKey(error) && error.message.includes(key(segment)), String(error))
          return true
        })
      }
      assert.equal(theirs.storage.peek(theirs.key(segment)), before)
    })

    test('a partial of another key stays, and ours goes beside it, once', async () => {
      const store = new Store()
      const theirs = store.open(method, one())
      assert.equal(await theirs.archive.archivePartial(segment, Buffer.from(content), 50_000), 'created')
      const before = theirs.storage.peek(theirs.key(`${segment}.partial`))
      for (const keyring of [two(), undefined]) {
        const { archive } = store.open(method, keyring)
        for (const _ of [1, 2]) {
          const outcome = await archive.archivePartial(segment, Buffer.from(content), 60_000)
          assert.equal(outcome, 'diverged, kept beside')
        }
      }
      assert.equal([...store.objects.keys()].filter((key) => key.startsWith('walrx_005/partial/')).length, 1)
      assert.equal(theirs.storage.peek(theirs.key(`${segment}.partial`)), before)
      assert.equal(await theirs.archive.archivePartial(segment, Buffer.from(content), 60_000), 'replaced a shorter one')
    })

    test('a tail of the old key is continued with the new one; of another key it stops the start, and stays', async () => {
      const store = new Store()
      const old = store.open(method, one())
      const ranges = [
        { from: 0, to: 9000 },
        { from: 9000, to: 9100 },
        { from: 9100, to: 70_000 },
      ]
      for (const range of ranges) {
        const bytes = content.subarray(range.from, range.to)
        await old.archive.putTailChunk(segment, range, await old.encode(bytes))
        await old.archive.putTailChunk(segment, range, await old.encode(bytes))
      }
      const buffer = Buffer.alloc(madeSegmentSize)
      const rotated = store.open(method, testKeyring('two', { reading: ['one'] }))
      const range = { from: 70_000, to: 90_000 }
      await rotated.archive.putTailChunk(segment, range, await rotated.encode(content.subarray(70_000, 90_000)))
      assert.equal((await rotated.archive.readTail(segment, buffer)).length, 90_000)
      assert.ok(buffer.subarray(0, 90_000).equals(content.subarray(0, 90_000)))
      for (const keyring of [testKeyring('three'), undefined]) {
        const { archive } = store.open(method, keyring)
        await assert.rejects(archive.readTail(segment, buffer), (error) => {
          assert.ok(isOfKey(error), String(error))
          assert.match(error.hint ?? '', /wal-finalize --set-aside 000000010000000000000005/)
          return true
        })
      }
      assert.equal(store.objects.size, 4, 'nothing is set aside')
    })

    test('a damaged chunk is set aside', async () => {
      const { archive, encode, storage } = new Store().open(method, one())
      const key = archive.tailKey(segment, { from: 0, to: 9000 })
      const stored = await encode(content.subarray(0, 9000))
      for (const cut of [0, 20, ...(method === 'brotli' ? [] : [70]), 150, stored.length - 1]) {
        if (cut >= stored.length) continue
        storage.seed(key, stored.subarray(0, cut))
        assert.equal((await archive.readTail(segment, Buffer.alloc(madeSegmentSize))).length, 0, `cut at ${cut}`)
        assert.equal(storage.objects.has(key), false)
      }
    })

    test('what is not encrypted is read where that is accepted, and refused where not', async () => {
      const store = new Store()
      const plain = store.open(method)
      await plain.archive.archive(segment, await plain.encode(content))
      const chunks = [
        { from: 0, to: 500 },
        { from: 500, to: 9000 },
        { from: 9000, to: 9200 },
        { from: 9200, to: 60_000 },
      ]
      for (const range of chunks) {
        await plain.archive.putTailChunk(segment, range, await plain.encode(content.subarray(range.from, range.to)))
      }
      const history = Buffer.from(makeHistory(2))
      await plain.archive.archiveHistory('00000002.history', history)
      const mixed = store.open(method, testKeyring('one', { acceptsUnencrypted: true }))
      assert.equal(await mixed.archive.archive(segment, await mixed.encode(content)), 'same')
      assert.equal((await mixed.archive.readTail(segment, Buffer.alloc(madeSegmentSize))).length, 60_000)
      assert.equal(await mixed.archive.archiveHistory('00000002.history', history), 'same')
      const strict = store.open(method, one())
      const isRefused = (error: unknown) =>
        hasCode(error, 'WALRX_KEY_WRONG') && /is not encrypted, but one \(libsodium\) is set$/.test(error.message)
      await assert.rejects(strict.archive.archive(segment, await strict.encode(content)), isRefused)
      await assert.rejects(strict.archive.readTail(segment, Buffer.alloc(madeSegmentSize)), isRefused)
      await assert.rejects(strict.archive.archiveHistory('00000002.history', history), isRefused)
    })
  })
}

test('a form that gives way is set aside once, although every attempt encrypts it in another way', async () => {
  const store = new Store()
  const theirs = store.open('lz4', one())
  const ours = store.open('zstd', one())
  const changed = Buffer.from(content)
  changed[9000] = 1
  for (const _ of [1, 2]) {
    // While ours is being put.
    ours.storage.before = async ({ operation }) => {
      if (operation === 'putIfAbsent') theirs.storage.seed(theirs.key(segment), await theirs.encode(changed))
      ours.storage.before = undefined
    }
    await assert.rejects(ours.archive.archive(segment, await ours.encode(content)), hasThe('WALRX_ARCHIVE_CONFLICT'))
    assert.equal(store.objects.has(ours.key(segment)), false)
    store.objects.delete(theirs.key(segment))
  }
  const aside = [...store.objects.keys()].filter((key) => key.startsWith('walrx_005/aside/'))
  assert.equal(aside.length, 1, aside.join(', '))
})
