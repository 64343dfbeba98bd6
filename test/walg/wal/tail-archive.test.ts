/** Chunks are written once, and go only when what they hold is durable elsewhere. */
import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import type { WriteMethod } from '../../../src/compression/codec.ts'
import { extensions, openWriteCodec } from '../../../src/compression/codecs.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { tailKey } from '../../../src/walg/names.ts'
import { WalArchive } from '../../../src/walg/wal/wal-archive.ts'
import { encodeCopy } from '../../harness/made/codec-streams.ts'
import { madeSegmentSize, makeSegment } from '../../harness/made/made-wal.ts'
import { MemoryStorage, unavailable } from '../../harness/store/memory-storage.ts'

const methods: readonly WriteMethod[] = ['zstd', 'lz4', 'brotli', 'none']
const nameOf = (number: number) => `00000001000000000000000${number}`
const segment = nameOf(5)
const bytes = makeSegment(segment)

let storage: MemoryStorage
let archive: WalArchive
beforeEach(() => {
  storage = new MemoryStorage()
  archive = new WalArchive(storage, openWriteCodec('none'))
})

const seed = (from: number, to: number, name = segment, content: Buffer = makeSegment(name).subarray(from, to)) =>
  storage.seed(tailKey(name, { from, to }, ''), content)
const chunks = () => [...storage.objects.keys()].filter((key) => key.startsWith('walrx_005/tail/'))
const isConflict = (error: unknown) => hasCode(error, 'WALRX_ARCHIVE_CONFLICT')

describe('a chunk', () => {
  test('is put under its range, and found again, in every codec', async () => {
    for (const method of methods) {
      const codec = openWriteCodec(method)
      archive = new WalArchive(storage, codec)
      const range = { from: 0, to: 70_000 }
      await archive.putTailChunk(segment, range, await encodeCopy(codec, bytes.subarray(0, 70_000)))
      assert.ok(storage.objects.has(tailKey(segment, range, extensions[method])), method)
      await archive.putTailChunk(segment, range, await encodeCopy(codec, bytes.subarray(0, 70_000)))
      const buffer = Buffer.alloc(madeSegmentSize)
      assert.equal((await archive.readTail(segment, buffer)).length, 70_000)
      assert.deepEqual(buffer.subarray(0, 70_000), bytes.subarray(0, 70_000))
    }
    const { keys } = await archive.readTail(segment, Buffer.alloc(madeSegmentSize))
    assert.equal(keys.length, methods.length)
    await archive.deleteTailChunks(keys)
    assert.deepEqual(chunks(), [])
  })

  test('that is there already with the same bytes will do, compressed in another way as well', async () => {
    const range = { from: 0, to: 5000 }
    const slow = openWriteCodec('zstd', { level: 11 })
    const fast = openWriteCodec('zstd', { level: 1 })
    const [one, other] = [
      await encodeCopy(slow, bytes.subarray(0, 5000)),
      await encodeCopy(fast, bytes.subarray(0, 5000)),
    ]
    archive = new WalArchive(storage, fast)
    await archive.putTailChunk(segment, range, one)
    await archive.putTailChunk(segment, range, other)
    assert.deepEqual(storage.peek(archive.tailKey(segment, range)), one)
  })

  test('that is there with other bytes is a contradiction, which names the key and the place', async () => {
    seed(100, 200)
    const other = Buffer.from(bytes.subarray(100, 200))
    other.writeUInt8(other.readUInt8(7) ^ 1, 7)
    await assert.rejects(archive.putTailChunk(segment, { from: 100, to: 200 }, other), (error: Error) => {
      assert.ok(isConflict(error))
      assert.match(error.message, /walrx_005\/tail\/00000001\/0{7}1\w{16}\/00000064-000000C8 .* from byte 107 of/)
      return true
    })
    assert.deepEqual(storage.peek(tailKey(segment, { from: 100, to: 200 }, '')), bytes.subarray(100, 200))
  })

  test('that is there and cannot be read is a contradiction as well: it would stand in the way for ever', async () => {
    archive = new WalArchive(storage, openWriteCodec('zstd'))
    const range = { from: 0, to: 100 }
    storage.seed(archive.tailKey(segment, range), 'no zstd')
    const encoded = await encodeCopy(openWriteCodec('zstd'), bytes.subarray(0, 100))
    await assert.rejects(archive.putTailChunk(segment, range, encoded), isConflict)
    assert.equal(storage.openBodies, 0)
  })
})

describe('segments that are there in chunks alone', () => {
  const complete = async () => {
    const found: string[] = []
    const buffer = Buffer.alloc(madeSegmentSize + 100)
    for await (const name of archive.completeTails(buffer, madeSegmentSize)) {
      assert.deepEqual(buffer.subarray(0, madeSegmentSize), makeSegment(name))
      found.push(name)
      buffer.fill(1)
    }
    return found
  }

  test('are those with chunks from the first byte to the last that are not there as a whole', async () => {
    const half = madeSegmentSize / 2
    for (const number of [3, 4, 5, 6, 7]) seed(half, madeSegmentSize, nameOf(number))
    for (const number of [3, 5, 6]) seed(0, half, nameOf(number))
    seed(0, half - 1, nameOf(7))
    storage.seed(`wal_005/${nameOf(6)}.lz4`, 'there')
    assert.deepEqual(await complete(), [nameOf(3), nameOf(5)])
  })

  test('are not made whole where a partial has other WAL; zeros at the end of one are padding', async () => {
    seed(0, madeSegmentSize)
    const partial = Buffer.from(bytes).fill(0, 100_000)
    storage.seed(`wal_005/${segment}.partial`, partial)
    assert.deepEqual(await complete(), [segment])
    // After the place where the two first differ: the zeros before it are WAL then, and different WAL.
    partial.writeUInt8(1, madeSegmentSize - 1)
    storage.seed(`wal_005/${segment}.partial`, partial)
    await assert.rejects(complete(), (error: Error) => {
      assert.ok(isConflict(error))
      assert.match(error.message, /\.partial and the chunks under .* hold different WAL/)
      return true
    })
    assert.equal(storage.openBodies, 0)
  })

  test('are found where a chunk is damaged that others cover', async () => {
    seed(0, madeSegmentSize)
    const key = tailKey(segment, { from: 0, to: 1000 }, '')
    storage.seed(key, 'damaged')
    assert.deepEqual(await complete(), [segment])
    assert.equal(storage.peek(key), undefined, 'it is set aside')
  })

  test('are none when they become whole while they are read', async () => {
    seed(0, madeSegmentSize)
    storage.before = ({ operation }) => {
      if (operation === 'get') storage.seed(`wal_005/${segment}`, bytes)
    }
    assert.deepEqual(await complete(), [])
  })
})

test('segments with a tail have chunks or partials of that timeline', async () => {
  seed(0, 100, nameOf(5))
  seed(50, 100, nameOf(6))
  seed(0, 100, '000000020000000000000005')
  storage.seed(`wal_005/${nameOf(8)}.partial`, 'x')
  storage.seed('wal_005/000000020000000000000009.partial', 'x')
  storage.seed(`wal_005/${nameOf(9)}`, 'x')
  const found: bigint[] = []
  for await (const { segno } of archive.segmentsWithTail(1, madeSegmentSize)) found.push(segno)
  assert.deepEqual(found, [5n, 6n, 8n])
})

describe('clearing away', () => {
  test('removes the chunks of what is whole, after comparing them, and no others', async () => {
    for (const number of [5, 6, 7]) {
      seed(0, 100, nameOf(number))
      seed(200, 300, nameOf(number))
    }
    storage.seed(`wal_005/${nameOf(5)}`, makeSegment(nameOf(5)))
    const other = makeSegment(nameOf(6))
    other.writeUInt8(other.readUInt8(250) ^ 1, 250)
    storage.seed(`wal_005/${nameOf(6)}`, other)
    assert.deepEqual(await archive.clearTails(), { removed: 2, contradicting: [nameOf(6)], locked: [] })
    assert.deepEqual(
      chunks().map((key) => key.slice(24, 48)),
      [nameOf(6), nameOf(6), nameOf(7), nameOf(7)],
    )
    assert.deepEqual(await archive.clearTails(), { removed: 0, contradicting: [nameOf(6)], locked: [] })
    assert.equal(storage.openBodies, 0)
  })

  test('keeps a chunk that is damaged, that reaches beyond the file, or that the file cannot be read for', async () => {
    seed(0, 100, segment, Buffer.from('damaged'))
    storage.seed(`wal_005/${segment}`, bytes)
    assert.deepEqual(await archive.clearTails(), { removed: 0, contradicting: [segment], locked: [] })
    seed(0, 100)
    storage.seed(`wal_005/${segment}`, bytes.subarray(0, 50))
    assert.deepEqual(await archive.clearTails(), { removed: 0, contradicting: [segment], locked: [] })
    storage.before = ({ key, operation }) => {
      if (operation === 'get' && key.startsWith('wal_005/')) throw unavailable()
    }
    await assert.rejects(archive.clearTails(), (error) => hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
    assert.equal(chunks().length, 1)
  })

  test('finds the one byte in which chunks that overlap differ from the file', async () => {
    storage.seed(`wal_005/${segment}`, bytes)
    for (const at of [0, 99_999, 100_000, 149_999, 199_999]) {
      storage.objects.clear()
      storage.seed(`wal_005/${segment}`, bytes)
      seed(0, 150_000)
      seed(100_000, 200_000)
      const other = Buffer.from(bytes.subarray(100_000, 200_000))
      if (at >= 100_000) other.writeUInt8(other.readUInt8(at - 100_000) ^ 1, at - 100_000)
      seed(100_000, 200_000, segment, other)
      const first = Buffer.from(bytes.subarray(0, 150_000))
      if (at < 100_000) first.writeUInt8(first.readUInt8(at) ^ 1, at)
      seed(0, 150_000, segment, first)
      assert.deepEqual(await archive.clearTails(), { removed: 0, contradicting: [segment], locked: [] }, String(at))
    }
  })

  test('keeps those of a segment that is damaged: they are all that there is of it', async () => {
    seed(0, 100)
    storage.seed(`wal_005/${segment}.gz`, 'damaged')
    assert.deepEqual(await archive.clearTails(), { removed: 0, contradicting: [segment], locked: [] })
    assert.equal(chunks().length, 1)
  })

  test('keeps those that a partial has: it may still be replaced by a shorter one', async () => {
    const partial = Buffer.alloc(madeSegmentSize)
    partial.set(bytes.subarray(0, 300))
    storage.seed(`wal_005/${segment}.partial`, partial)
    seed(0, 200)
    assert.deepEqual(await archive.clearTails(), { removed: 0, contradicting: [], locked: [] })
    storage.seed(`wal_005/${segment}`, bytes)
    assert.deepEqual(await archive.clearTails(), { removed: 1, contradicting: [], locked: [] })
  })

  test('minds chunks that vanish meanwhile as little as what else lies there', async () => {
    seed(0, 100)
    storage.seed(`wal_005/${segment}`, bytes)
    storage.seed('walrx_005/tail/x', 'x')
    storage.before = ({ key, operation }) => {
      if (operation === 'get' && key.startsWith('walrx_005/tail/')) storage.objects.delete(key)
    }
    assert.deepEqual(await archive.clearTails(), { removed: 0, contradicting: [], locked: [] })
    assert.deepEqual(chunks(), ['walrx_005/tail/x'])
  })
})

describe('a damaged chunk', () => {
  const set: { key: string; aside: string; message: string }[] = []
  const onDamaged = ({ aside, error, key }: { key: string; aside: string; error: Error }) =>
    set.push({ key, aside, message: error.message })
  beforeEach(() => set.splice(0))

  test('is set aside once, and what comes before it counts', async () => {
    seed(0, 1000)
    const key = tailKey(segment, { from: 1000, to: 2000 }, '')
    storage.seed(key, bytes.subarray(1000, 1500))
    seed(2000, 3000)
    const buffer = Buffer.alloc(madeSegmentSize)
    const found = await archive.readTail(segment, buffer, { onDamaged })
    assert.equal(found.length, 1000)
    assert.equal(found.keys.length, 2)
    assert.equal(set.length, 1)
    const [{ aside, message } = { aside: '', message: '' }] = set
    assert.match(message, /000003E8-000007D0 holds 500 bytes, its name says 1000/)
    assert.equal(aside, key.replace('walrx_005/', 'walrx_005/aside/'))
    assert.deepEqual(storage.peek(aside), bytes.subarray(1000, 1500), 'nothing is destroyed')
    assert.equal(storage.peek(key), undefined)
    await archive.readTail(segment, buffer, { onDamaged })
    assert.equal(set.length, 1)
  })

  test('under one name twice is kept twice', async () => {
    const key = tailKey(segment, { from: 0, to: 1000 }, '')
    for (const length of [10, 20, 10]) {
      storage.seed(key, bytes.subarray(0, length))
      assert.equal((await archive.readTail(segment, Buffer.alloc(madeSegmentSize), { onDamaged })).length, 0)
    }
    assert.equal([...storage.objects.keys()].filter((one) => one.startsWith('walrx_005/aside/')).length, 2)
  })

  test('keeps a segment from being whole', async () => {
    seed(0, 1000)
    storage.seed(tailKey(segment, { from: 1000, to: madeSegmentSize }, ''), 'not all of it')
    const buffer = Buffer.alloc(madeSegmentSize)
    for await (const name of archive.completeTails(buffer, madeSegmentSize, { onDamaged })) assert.fail(name)
    assert.equal(set.length, 1)
    assert.equal((await archive.readTail(segment, Buffer.alloc(madeSegmentSize))).length, 1000)
  })

  test('is left where it is while the storage cannot take it', async () => {
    const key = tailKey(segment, { from: 0, to: 1000 }, '')
    storage.seed(key, 'not all of it')
    storage.before = ({ operation }) => {
      if (operation === 'put') throw unavailable()
    }
    const read = archive.readTail(segment, Buffer.alloc(madeSegmentSize), { onDamaged })
    await assert.rejects(read, { code: 'WALRX_STORAGE_UNAVAILABLE' })
    assert.ok(storage.peek(key))
    assert.deepEqual(set, [])
  })

  test('that vanishes meanwhile is none: what is there is looked at again', async () => {
    seed(0, 1000)
    seed(1000, 2000)
    storage.before = ({ key, operation }) => {
      if (operation !== 'get') return
      storage.objects.delete(key)
      storage.before = undefined
    }
    const found = await archive.readTail(segment, Buffer.alloc(madeSegmentSize), { onDamaged })
    assert.deepEqual([found.length, found.keys.length, set.length], [0, 1, 0])
  })
})
