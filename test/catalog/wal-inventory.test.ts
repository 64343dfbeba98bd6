/** The inventory tells timelines, ranges and gaps, whatever else lies in the folder. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { gapsOf, namesOf, readInventory } from '../../src/catalog/wal-inventory.ts'
import { parseLsn } from '../../src/postgres/lsn.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { WalReader } from '../../src/walg/wal-reader.ts'
import { MemoryStorage } from '../harness/memory-storage.ts'
import { runWalrx } from '../harness/walrx-process.ts'

const MiB = 1024 * 1024
const nothing = Buffer.alloc(0)

test('ranges, gaps, forks and partials by timeline; metadata and delta maps count for nothing', async () => {
  const storage = new MemoryStorage()
  for (const segno of [3n, 4n, 5n, 9n, 10n, 4095n, 4096n])
    storage.seed(`wal_005/${segmentName(1, segno, MiB)}.zst`, nothing)
  storage.seed(`wal_005/${segmentName(1, 4n, MiB)}.lz4`, nothing)
  storage.seed(`wal_005/${segmentName(1, 7n, MiB)}.json`, nothing)
  storage.seed(`wal_005/${segmentName(1, 6n, MiB)}_delta.zst`, nothing)
  storage.seed(`wal_005/${segmentName(1, 4097n, MiB)}.partial`, nothing)
  storage.seed('wal_005/00000003.history', '1\t1/123456\tno recovery target specified\n')
  storage.seed(`wal_005/${segmentName(3, 4097n, MiB)}.`, nothing)
  const { timelines } = await readInventory(new WalReader(storage), MiB)
  assert.deepEqual(
    timelines.map(({ timeline, parent, switchpoint, segmentCount, hasPartial }) => [
      timeline,
      parent,
      switchpoint,
      segmentCount,
      hasPartial,
    ]),
    [
      [1, 0, 0n, 7n, true],
      [3, 1, parseLsn('1/123456'), 1n, false],
    ],
  )
  const [first] = timelines
  assert.ok(first)
  assert.deepEqual(gapsOf(first), [
    { first: 6n, last: 8n },
    { first: 11n, last: 4094n },
  ])
  assert.deepEqual(
    [...namesOf({ first: 4095n, last: 4096n }, 1, MiB)],
    ['000000010000000000000FFF', '000000010000000100000000'],
  )
})

test('100,000 segments cost one range and one listing', async () => {
  const storage = new MemoryStorage({ pageKeys: 200_000 })
  for (let segno = 1n; segno <= 100_000n; segno++) storage.seed(`wal_005/${segmentName(1, segno, MiB)}.zst`, nothing)
  const { timelines } = await readInventory(new WalReader(storage), MiB)
  assert.deepEqual(timelines[0]?.ranges, [{ first: 1n, last: 100_000n }])
})

test("the command prints WAL-G's JSON of an archive that WAL-G wrote", async () => {
  const archive = fileURLToPath(new URL('../golden/walg-remote-zstd/archive', import.meta.url))
  const { status, stdout } = await runWalrx(['wal-show', '--json', '--file-prefix', archive])
  assert.equal(status, 0)
  assert.deepEqual(JSON.parse(stdout), [
    {
      id: 1,
      parent_id: 0,
      switch_point_lsn: 0,
      start_segment: '000000010000000000000002',
      end_segment: '000000010000000000000004',
      segments_count: 3,
      missing_segments: [],
      segment_range_size: 3,
      status: 'OK',
    },
  ])
})

test('an archive that is missing is told in one line', async () => {
  const { status, stderr } = await runWalrx(['wal-show', '--file-prefix', '/no/such/archive'])
  assert.equal(status, 4)
  assert.match(stderr, /\/no\/such\/archive/)
})
