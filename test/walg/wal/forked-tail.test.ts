/** What the archive has of a segment in which its timeline began. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { formatLsn, toLsn } from '../../../src/postgres/lsn.ts'
import { assembleForked } from '../../../src/walg/wal/forked-tail.ts'
import { tailKey } from '../../../src/walg/names.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { makeSegment, madeSegmentSize } from '../../harness/made/made-wal.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const old = '000000010000000000000005'
const young = '000000020000000000000005'
const start = 5n * BigInt(madeSegmentSize)
const forkedAt = 50_000
const wal = makeSegment(old)

function archive(): { storage: MemoryStorage; assembled: () => Promise<Buffer | undefined> } {
  const storage = new MemoryStorage()
  storage.seed(
    'wal_005/00000002.history',
    `1\t${formatLsn(toLsn(start + BigInt(forkedAt)))}\tno recovery target specified\n`,
  )
  const assembled = async () => (await assembleForked(new WalReader(storage), young))?.bytes
  return { storage, assembled }
}

function chunk(storage: MemoryStorage, segment: string, from: number, to: number, bytes = wal): void {
  storage.seed(tailKey(segment, { from, to }, ''), bytes.subarray(from, to))
}

describe('the beginning of a segment in which its timeline began', () => {
  for (const [what, seed] of [
    ['partial', (storage) => storage.seed(`wal_005/${old}.partial`, Buffer.concat([wal.subarray(0, 60_000)]))],
    ['whole segment', (storage) => storage.seed(`wal_005/${old}`, wal)],
    ['chunks', (storage) => chunk(storage, old, 0, 60_000)],
  ] as [string, (storage: MemoryStorage) => void][]) {
    test(`is completed up to the fork by its parent's ${what}, and no further`, async () => {
      const { assembled, storage } = archive()
      seed(storage)
      for (const length of [3, 30_000]) {
        chunk(storage, young, 0, length)
        assert.deepEqual(await assembled(), wal.subarray(0, forkedAt))
      }
      chunk(storage, young, 0, 55_000)
      assert.equal((await assembled())?.length, 55_000, 'after the fork the timeline has its own')
    })
  }

  test('is what there is, where the parent has less', async () => {
    const { assembled, storage } = archive()
    chunk(storage, old, 0, 10_000)
    chunk(storage, young, 0, 20_000)
    assert.equal((await assembled())?.length, 20_000)
    assert.equal(await assembleForked(new WalReader(storage), '000000020000000000000006'), undefined)
  })

  test('is refused when the parent has other WAL before the fork', async () => {
    const { assembled, storage } = archive()
    const other = Buffer.from(wal)
    other[20_000] = (other[20_000] ?? 0) ^ 1
    storage.seed(`wal_005/${old}.partial`, other.subarray(0, 60_000))
    chunk(storage, young, 0, 30_000)
    await assert.rejects(assembled(), {
      code: 'WALRX_ARCHIVE_CONFLICT',
      message: /the WAL of 00000002\w+ and of 00000001\w+ at .* differs before the fork/,
    })
  })
})
