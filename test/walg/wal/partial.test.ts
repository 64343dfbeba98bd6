import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import fc from 'fast-check'
import type { WriteMethod } from '../../../src/compression/codec.ts'
import { openReadCodec, openWriteCodec } from '../../../src/compression/codecs.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { WalArchive } from '../../../src/walg/wal/wal-archive.ts'
import { decodeStream, encodeCopy, randomBytesOf, walLikeBytes } from '../../harness/made/codec-streams.ts'
import { MemoryStorage, unavailable } from '../../harness/store/memory-storage.ts'

const size = 1024 * 1024
const segment = '000000010000000000000007'
const key = `wal_005/${segment}.partial.zst`
const full = walLikeBytes(1, size)

let storage: MemoryStorage
let archive: WalArchive
beforeEach(() => {
  storage = new MemoryStorage()
  archive = new WalArchive(storage, openWriteCodec('zstd'))
})

/** A segment's buffer with the first bytes of `bytes`, and leftovers after them. */
function filled(bytes: Uint8Array, length: number): Buffer {
  const raw = Buffer.alloc(size, 0xee)
  raw.set(bytes.subarray(0, length))
  return raw
}

/** `bytes` up to `length` as a whole segment. */
function padded(bytes: Uint8Array, length: number): Buffer {
  const raw = Buffer.alloc(size)
  raw.set(bytes.subarray(0, length))
  return raw
}

const stored = async (at: string, method: WriteMethod = 'zstd') =>
  decodeStream(openReadCodec(method), [storage.peek(at) ?? Buffer.alloc(0)])

test('a partial is a whole segment padded with zeros, as WAL-G writes it', async () => {
  assert.equal(await archive.archivePartial(segment, filled(full, 300_000), 300_000), 'created')
  assert.ok((await stored(key)).equals(padded(full, 300_000)))
})

test('a longer partial replaces a shorter one, and a shorter one never a longer one', async () => {
  await archive.archivePartial(segment, filled(full, 200_000), 200_000)
  assert.equal(await archive.archivePartial(segment, filled(full, 300_000), 300_000), 'replaced a shorter one')
  assert.equal(await archive.archivePartial(segment, filled(full, 300_000), 300_000), 'same')
  assert.equal(await archive.archivePartial(segment, filled(full, 100), 100), 'kept a longer one')
  assert.equal(await archive.archivePartial(segment, filled(full, 0), 0), 'kept a longer one')
  assert.ok((await stored(key)).equals(padded(full, 300_000)))
  assert.equal(storage.objects.size, 1)
})

test('a divergent partial is kept beside under a name of its content, once, and the first one stays', async () => {
  await archive.archivePartial(segment, filled(full, 300_000), 300_000)
  const other = Buffer.from(full)
  other.writeUInt8(other.readUInt8(250_000) ^ 0x80, 250_000)
  const hash = createHash('sha256').update(padded(other, 280_000)).digest('hex').slice(0, 16)
  for (let n = 0; n < 2; n++) {
    assert.equal(await archive.archivePartial(segment, filled(other, 280_000), 280_000), 'diverged, kept beside')
  }
  assert.deepEqual([...storage.objects.keys()], [key, `walrx_005/partial/${segment}.partial.${hash}.zst`])
  assert.ok((await stored(key)).equals(padded(full, 300_000)))
  assert.ok((await stored(`walrx_005/partial/${segment}.partial.${hash}.zst`)).equals(padded(other, 280_000)))
})

test('what is there under another extension counts, and is not destroyed', async () => {
  const lz4Key = `wal_005/${segment}.partial.lz4`
  storage.seed(lz4Key, await encodeCopy(openWriteCodec('lz4'), padded(full, 200_000)))
  assert.equal(await archive.archivePartial(segment, filled(full, 100_000), 100_000), 'kept a longer one')
  assert.equal(await archive.archivePartial(segment, filled(full, 300_000), 300_000), 'replaced a shorter one')
  assert.ok((await stored(lz4Key, 'lz4')).equals(padded(full, 200_000)))
  assert.ok((await stored(key)).equals(padded(full, 300_000)))
})

test('one that cannot be decoded neither stops the stream nor is overwritten', async () => {
  const damaged = randomBytesOf(1, 1000)
  storage.seed(key, damaged)
  storage.seed(`wal_005/${segment}.partial.lzo`, 'lzo')
  assert.equal(await archive.archivePartial(segment, filled(full, 100_000), 100_000), 'diverged, kept beside')
  assert.ok(storage.peek(key)?.equals(damaged))
  assert.equal(storage.objects.size, 3)
})

test('a storage that fails is asked again by the caller, not taken for a divergent partial', async () => {
  await archive.archivePartial(segment, filled(full, 100_000), 100_000)
  storage.body = async function* (_key, chunks) {
    for await (const chunk of chunks) {
      yield chunk.subarray(0, 10)
      throw unavailable()
    }
  }
  await assert.rejects(archive.archivePartial(segment, filled(full, 200_000), 200_000), (error) =>
    hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'),
  )
  assert.equal(storage.objects.size, 1)
})

test('of any two partials the longer one of a common beginning stands, and nothing of either is lost', async () => {
  const tail = fc.array(fc.constantFrom(0, 0, 1, 2), { maxLength: 12 })
  const place = fc.constantFrom(0, 1, 65_530, 65_536, 500_000, size - 40)
  await fc.assert(
    fc.asyncProperty(place, tail, tail, tail, async (at, common, firstTail, secondTail) => {
      storage = new MemoryStorage()
      archive = new WalArchive(storage, openWriteCodec('none'))
      const [first, second] = [firstTail, secondTail].map((end) => {
        const bytes = Buffer.concat([full.subarray(0, at), Buffer.from([...common, ...end])])
        return { bytes, whole: padded(bytes, bytes.length) }
      })
      assert.ok(first && second)
      await archive.archivePartial(segment, filled(first.bytes, first.bytes.length), first.bytes.length)
      const outcome = await archive.archivePartial(
        segment,
        filled(second.bytes, second.bytes.length),
        second.bytes.length,
      )
      const standing = await stored(`wal_005/${segment}.partial`, 'none')
      const isPrefix = (a: Buffer, b: Buffer) => {
        const length = a.findLastIndex((byte) => byte !== 0) + 1
        return a.subarray(0, length).equals(b.subarray(0, length))
      }
      if (isPrefix(first.whole, second.whole)) {
        assert.ok(standing.equals(second.whole), outcome)
      } else {
        assert.ok(standing.equals(first.whole), outcome)
        assert.equal(storage.objects.size, isPrefix(second.whole, first.whole) ? 1 : 2, outcome)
      }
    }),
    { numRuns: 60 },
  )
})
