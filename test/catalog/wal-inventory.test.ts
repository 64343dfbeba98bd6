/** The inventory shows timelines, ranges and gaps, whatever else lies in the folder. */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isOpenGap, openGaps } from '../../src/catalog/open-gaps.ts'
import { emptyTimeline, gapsOf, namesOf, readInventory, type WalInventory } from '../../src/catalog/wal-inventory.ts'
import { parseLsn } from '../../src/postgres/lsn.ts'
import { segmentName } from '../../src/postgres/wal/wal-file.ts'
import { FileStorage } from '../../src/storage/file/file-storage.ts'
import { type GapRecord, writeGap } from '../../src/walg/wal/gap-records.ts'
import { WalReader } from '../../src/walg/wal/wal-reader.ts'
import { archiveFolders } from '../../src/walg/names.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'
import { runWalrx } from '../harness/walrx/walrx-process.ts'

const MiB = 1024 * 1024
const notEmpty = Buffer.from('x')

interface ShownTimeline {
  readonly written_at: string
  readonly backups: readonly { readonly backup_name: string }[]
  readonly restore_windows: readonly unknown[]
}

test('ranges, gaps, forks and partials by timeline; metadata and delta maps count for nothing', async () => {
  const storage = new MemoryStorage()
  for (const segno of [3n, 4n, 5n, 9n, 10n, 4095n, 4096n])
    storage.seed(`wal_005/${segmentName(1, segno, MiB)}.zst`, notEmpty)
  storage.seed(`wal_005/${segmentName(1, 4n, MiB)}.lz4`, notEmpty)
  storage.seed(`wal_005/${segmentName(1, 7n, MiB)}.json`, notEmpty)
  storage.seed(`wal_005/${segmentName(1, 6n, MiB)}_delta.zst`, notEmpty)
  storage.seed(`wal_005/${segmentName(1, 4097n, MiB)}.partial`, notEmpty)
  storage.seed('wal_005/00000003.history', '1\t1/123456\tno recovery target specified\n')
  storage.seed(`wal_005/${segmentName(3, 4097n, MiB)}.`, notEmpty)
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
  for (let segno = 1n; segno <= 100_000n; segno++) storage.seed(`wal_005/${segmentName(1, segno, MiB)}.zst`, notEmpty)
  const { timelines } = await readInventory(new WalReader(storage), MiB)
  assert.deepEqual(timelines[0]?.ranges, [{ first: 1n, last: 100_000n }])
})

test("the command prints WAL-G's JSON of an archive that WAL-G wrote", async () => {
  const archive = fileURLToPath(new URL('../golden/walg-remote-zstd/archive', import.meta.url))
  const { status, stdout } = await runWalrx(['wal-show', '--json', '--file-prefix', archive])
  assert.equal(status, 0)
  const [{ backups, restore_windows: windows, written_at, ...shown }] = JSON.parse(stdout) as [ShownTimeline]
  assert.ok(Date.parse(written_at) > 0)
  assert.deepEqual(
    backups.map(({ backup_name: name }) => name),
    ['base_000000010000000000000002'],
  )
  assert.deepEqual(windows.length, 1)
  assert.deepEqual(
    [shown],
    [
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
        durable_lsn: 5 * 16 * MiB,
        stored_bytes: 39_703,
      },
    ],
  )
})

describe('gaps', () => {
  let archive: string
  before(async () => {
    archive = await mkdtemp(join(tmpdir(), 'walrx-show-'))
    await mkdir(join(archive, 'wal_005'))
    for (let segno = 0n; segno < 60n; segno += 2n) await writeFile(join(archive, walKey(segno)), 'x')
    await writeFile(join(archive, walKey(200_000n)), 'x')
  })
  after(() => rm(archive, { recursive: true }))
  const walKey = (segno: bigint) => `wal_005/${segmentName(1, segno, MiB)}.zst`
  const show = (...args: string[]) => runWalrx(['wal-show', '--file-prefix', archive, '--pg-wal-size', '1', ...args])

  test('are listed for people as far as they can be read', async () => {
    const { stdout } = await show()
    assert.equal(stdout.match(/^missing/gm)?.length, 20)
    assert.match(stdout, /^missing 000000010000000000000001$/m)
    assert.match(stdout, /^… and 10 more ranges of missing segments; --json names every segment$/m)
    assert.match(stdout, / 31 +199970 +LOST_SEGMENTS/)
  })

  test('are complete in JSON, name by name, however many there are', async () => {
    const { stdout } = await show('--json')
    const [timeline] = JSON.parse(stdout) as {
      missing_segments: string[]
      segment_range_size: number
      status: string
    }[]
    assert.equal(timeline?.missing_segments.length, 199_970)
    assert.deepEqual(timeline.missing_segments.slice(0, 2), [segmentName(1, 1n, MiB), segmentName(1, 3n, MiB)])
    assert.equal(timeline.missing_segments.at(-1), segmentName(1, 199_999n, MiB))
    assert.deepEqual([timeline.segment_range_size, timeline.status], [200_001, 'LOST_SEGMENTS'])
  })

  test('are none in an archive of several timelines or of nothing', async () => {
    const empty = await mkdtemp(join(tmpdir(), 'walrx-show-'))
    assert.equal((await runWalrx(['wal-show', '--file-prefix', empty, '--json'])).stdout, '[]\n')
    await mkdir(join(empty, 'wal_005'))
    await writeFile(join(empty, 'wal_005', '00000002.history'), '1\t0/3000098\tx\n')
    for (const timeline of [1, 2]) await writeFile(join(empty, `wal_005/${segmentName(timeline, 3n, MiB)}`), 'x')
    const { stdout } = await runWalrx(['wal-show', '--file-prefix', empty, '--json', '--pg-wal-size=1'])
    const shown = JSON.parse(stdout) as { id: number; parent_id: number; switch_point_lsn: number }[]
    assert.deepEqual(
      shown.map(({ id, parent_id, switch_point_lsn }) => [id, parent_id, switch_point_lsn]),
      [
        [1, 0, 0],
        [2, 1, 0x3000098],
      ],
    )
    await rm(empty, { recursive: true })
  })
})

describe('recorded gaps', () => {
  const record: GapRecord = {
    timeline: 1,
    startLsn: parseLsn('0/500000'),
    endLsn: parseLsn('0/900000'),
    detectedAt: '2026-03-01T12:00:00Z',
    reason: 'the slot was missing and the server removed it',
    host: 'db1:5432',
    slot: 'walrx',
  }
  const inventoryOf = (...segnos: bigint[]): Pick<WalInventory, 'segmentSize' | 'timelines'> => ({
    segmentSize: MiB,
    timelines: [
      {
        ...emptyTimeline(1),
        segmentCount: BigInt(segnos.length),
        ranges: segnos.map((segno) => ({ first: segno, last: segno })),
      },
    ],
  })

  test('are open while a segment of theirs is missing', () => {
    for (const [present, missing] of [
      [[], 4n],
      [[4n, 9n], 4n],
      [[4n, 5n, 8n, 9n], 2n],
      [[5n, 6n, 7n, 8n], 0n],
    ] as const) {
      const expected = missing === 0n ? [] : [{ ...record, missingCount: missing }]
      assert.deepEqual(openGaps([record], inventoryOf(...present)), expected)
    }
  })

  test('are the same by their own listing alone, which is read as far as the first that is missing', async () => {
    let read = 0
    const reader = (segnos: readonly bigint[]): Parameters<typeof isOpenGap>[0] => ({
      async *segments(timeline, from) {
        assert.equal(timeline, 1)
        for (const segno of segnos.filter((each) => each >= from)) {
          read++
          yield await Promise.resolve({
            timeline,
            segno,
            name: segmentName(timeline, segno, MiB),
            extension: 'zst',
            size: 1,
          })
        }
        return undefined
      },
    })
    for (const [present, isOpen, readCount] of [
      [[], true, 0],
      [[4n, 9n, 10n], true, 1],
      [[4n, 5n, 8n, 9n], true, 2],
      [[5n, 6n, 7n], true, 3],
      [[4n, 5n, 6n, 7n, 8n, 9n, 10n], false, 4],
    ] as const) {
      read = 0
      assert.deepEqual([await isOpenGap(reader(present), record, MiB), read], [isOpen, readCount])
    }
    const fork = { ...record, endLsn: parseLsn('0/500100') }
    assert.equal(await isOpenGap(reader([]), fork, MiB), false)
  })

  test('within others, and of timelines that ended where they began, say nothing', () => {
    const inner = { ...record, endLsn: parseLsn('0/800000') }
    const fork = { ...record, timeline: 2, endLsn: parseLsn('0/500100') }
    const other = { ...record, timeline: 3 }
    const found = openGaps([inner, record, fork, other], inventoryOf(4n))
    assert.deepEqual(
      found.map(({ endLsn, timeline }) => [timeline, endLsn]),
      [
        [1, record.endLsn],
        [3, record.endLsn],
      ],
    )
  })

  test('are shown by the command as text and as JSON, also before anything is archived after them', async () => {
    const archive = await mkdtemp(join(tmpdir(), 'walrx-show-'))
    await mkdir(join(archive, 'wal_005'))
    await writeFile(join(archive, `wal_005/${segmentName(1, 4n, MiB)}.zst`), 'x')
    const storage = new FileStorage({ folders: archiveFolders, root: archive, fsync: false })
    await writeGap(storage, record)
    await writeGap(storage, { ...record, timeline: 2 })
    const show = (...args: string[]) => runWalrx(['wal-show', '--file-prefix', archive, '--pg-wal-size', '1', ...args])
    const text = (await show()).stdout
    assert.match(text, / 1 +0 +LOST_SEGMENTS/)
    assert.match(
      text,
      /^WAL from 0\/500000 to 0\/900000 on timeline 1 was lost \(detected at 2026-03-01T12:00:00Z\): the slot was missing/m,
    )
    assert.match(text, /^WAL from 0\/500000 to 0\/900000 on timeline 2 was lost/m)
    const all = JSON.parse((await show('--json')).stdout) as { id: number; status: string; gaps: unknown[] }[]
    const { gaps: ofOther, ...other } = all[1] ?? { gaps: [] }
    assert.deepEqual(
      other,
      {
        id: 2,
        parent_id: 0,
        switch_point_lsn: 0,
        start_segment: null,
        end_segment: null,
        segments_count: 0,
        missing_segments: [],
        segment_range_size: 0,
        status: 'LOST_SEGMENTS',
        durable_lsn: null,
        written_at: null,
        stored_bytes: 0,
        restore_windows: [],
      },
      'a timeline with nothing but a gap',
    )
    assert.equal(ofOther.length, 1)
    const shown = all.slice(0, 1)
    assert.deepEqual(
      shown.map(({ gaps, status }) => [status, gaps]),
      [
        [
          'LOST_SEGMENTS',
          [
            {
              kind: 'gap',
              start_lsn: 0x500000,
              end_lsn: 0x900000,
              segments_count: 4,
              detected_at: '2026-03-01T12:00:00Z',
              reason: 'the slot was missing and the server removed it',
              host: 'db1:5432',
              slot: 'walrx',
            },
          ],
        ],
      ],
    )
    for (let segno = 5n; segno < 9n; segno++) {
      await writeFile(join(archive, `wal_005/${segmentName(1, segno, MiB)}`), 'x')
    }
    assert.doesNotMatch((await show()).stdout, /on timeline 1 was lost|LOST_SEGMENTS/)
    await rm(archive, { recursive: true })
  })
})

test('an archive that is missing is reported in one line', async () => {
  const { status, stderr } = await runWalrx(['wal-show', '--file-prefix', '/no/such/archive'])
  assert.equal(status, 4)
  assert.match(stderr, /\/no\/such\/archive/)
})
