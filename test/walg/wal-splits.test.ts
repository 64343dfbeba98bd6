/** Splits of a long listing of WAL: few requests, ranges of about a size, and never another result. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { segmentName } from '../../src/postgres/wal/wal-file.ts'
import { walSplits } from '../../src/walg/wal-splits.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'

const MiB = 1024 * 1024

class Bucket extends MemoryStorage {
  isAble = true

  listsInParallel(): Promise<boolean> {
    return Promise.resolve(this.isAble)
  }
}

function seed(storage: MemoryStorage, timeline: number, from: number, to: number, size: number): void {
  for (let segno = from; segno < to; segno++)
    storage.seed(`wal_005/${segmentName(timeline, BigInt(segno), size)}.zst`, 'x')
}

/** How many keys are between two splits. */
function rangesOf(storage: MemoryStorage, splits: readonly string[]): number[] {
  const counts = Array.from({ length: splits.length + 1 }, () => 0)
  for (const key of storage.objects.keys()) {
    const index = splits.findIndex((split) => key <= split)
    counts[index < 0 ? splits.length : index]!++
  }
  return counts
}

test('small archives, and storages that list no faster for it, have none', async () => {
  const bucket = new Bucket()
  seed(bucket, 1, 1, 900, MiB)
  assert.deepEqual(await walSplits(bucket), [])
  const directory = new MemoryStorage()
  seed(directory, 1, 1, 20_000, MiB)
  directory.calls.length = 0
  assert.deepEqual(await walSplits(directory), [])
  assert.equal(directory.calls.length, 0)
  bucket.isAble = false
  seed(bucket, 1, 900, 20_000, MiB)
  bucket.calls.length = 0
  assert.deepEqual(await walSplits(bucket), [])
  assert.equal(bucket.calls.length, 1)
})

test('ranges have a few thousand keys, whatever the segment size, over timelines and holes', async () => {
  for (const size of [MiB, 16 * MiB, 64 * MiB]) {
    const storage = new Bucket()
    seed(storage, 1, 1, 30_000, size)
    seed(storage, 1, 60_000, 75_000, size)
    storage.seed('wal_005/00000002.history.zst', 'x')
    seed(storage, 2, 75_000, 99_000, size)
    storage.seed('wal_005/00000003.history.zst', 'x')
    seed(storage, 3, 99_000, 99_010, size)
    storage.seed('wal_005/zzz', 'x')
    storage.calls.length = 0
    const splits = await walSplits(storage)
    const requests = storage.calls.length
    assert.deepEqual(splits, [...new Set(splits)].sort())
    const ranges = rangesOf(storage, splits)
    assert.ok(Math.max(...ranges) <= 20_000, `${size}: ${ranges.join(' ')}`)
    assert.ok(ranges.length >= 9, String(ranges.length))
    assert.ok(requests < 160, `${size}: ${requests}`)
  }
})

test('names of nothing, and one segment far ahead, make no thousands of splits', async () => {
  const storage = new Bucket()
  for (let index = 0; index < 3000; index++) storage.seed(`wal_005/0000000${index % 10}/x${index}`, 'x')
  assert.ok((await walSplits(storage)).length < 20)
  const far = new Bucket()
  seed(far, 1, 1, 5000, 16 * MiB)
  far.seed(`wal_005/${segmentName(1, 0xffff_ffffn * 256n, 16 * MiB)}`, 'x')
  const splits = await walSplits(far)
  assert.ok(splits.length <= 2049, String(splits.length))
  assert.deepEqual(splits, [...new Set(splits)].sort())
})
