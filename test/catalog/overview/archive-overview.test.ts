/** What `walrx info` knows of an archive. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readOverview } from '../../../src/catalog/overview/archive-overview.ts'
import { readArchive } from '../../../src/catalog/window/shown-archive.ts'
import { toLsn } from '../../../src/postgres/lsn.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import { overviewToJson } from '../../../src/cli/terminal/overview/overview-json.ts'
import { overviewText } from '../../../src/cli/terminal/overview/overview-text.ts'
import { intentKey, metadataKey, partKey, sentinelKey } from '../../../src/walg/backup/backup-names.ts'
import { putVerification, type Verification, verificationKey } from '../../../src/walg/backup/verification.ts'
import { tailKey, walKey } from '../../../src/walg/names.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { madeSegmentSize } from '../../harness/made/made-wal.ts'
import { seedParts } from '../../harness/made/made-parts.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const dayMs = 86_400_000
const nowMs = Date.UTC(2026, 2, 10, 12)
const segment = (segno: bigint) => segmentName(1, segno, madeSegmentSize)
const lsnOf = (segno: bigint) => toLsn(segno * BigInt(madeSegmentSize) + 40n)

/** Puts a backup of a hundred bytes of parts that began `daysAgo` in segment `segno`. */
function seedBackup(storage: MemoryStorage, segno: bigint, daysAgo: number, more: object = {}, suffix = ''): string {
  const name = `base_${segment(segno)}${suffix}`
  const startMs = nowMs - daysAgo * dayMs
  const times = { StartTime: new Date(startMs).toISOString(), FinishTime: new Date(startMs + 600_000).toISOString() }
  const lsns = { LSN: Number(lsnOf(segno)), FinishLSN: Number(lsnOf(segno)) + 200 }
  const sentinel = { ...lsns, ...times, PgVersion: 170_005, UncompressedSize: 1000, CompressedSize: 100, ...more }
  storage.seed(sentinelKey(name), Buffer.from(JSON.stringify(sentinel)))
  seedParts(storage, name)
  storage.seed(metadataKey(name), Buffer.from('{"is_permanent":false}'))
  return name
}

const read = (storage: MemoryStorage, dayCount = 7) => {
  const signal = new AbortController().signal
  return readOverview({ storage, segmentSize: madeSegmentSize, dayCount, nowMs, signal })
}

const verificationOf = (name: string, segno: bigint, daysAgo: number): Verification => ({
  verifiedAt: new Date(nowMs - dayMs).toISOString(),
  walrxVersion: '0.1.0',
  result: 'whole',
  problem: undefined,
  bytes: 1000,
  backups: [{ name, startLsn: lsnOf(segno), startTime: new Date(nowMs - daysAgo * dayMs).toISOString() }],
})

test('an archive with backups, an unfinished one, a hole and a tail', async () => {
  const storage = new MemoryStorage()
  const full = seedBackup(storage, 5n, 3)
  const delta = seedBackup(storage, 7n, 1, { DeltaFrom: full, DeltaCount: 1, IsPermanent: true }, `_D_${segment(5n)}`)
  for (const segno of [3n, 5n, 6n, 7n]) {
    storage.seed(walKey(segment(segno), 'zst'), Buffer.alloc(10), nowMs - Number(8n - segno) * dayMs)
  }
  storage.seed(walKey(segment(6n), 'lz4'), Buffer.alloc(5), nowMs - 2 * dayMs)
  storage.seed(tailKey(segment(8n), { from: 0, to: 4096 }, ''), Buffer.alloc(4096), nowMs - 3000)
  storage.seed('wal_005/notes.txt', Buffer.alloc(7))
  storage.seed(partKey('base_0000000100000000000000FF', 'part_001.tar.zst'), Buffer.alloc(50), nowMs - 4 * dayMs)
  await putVerification(storage, verificationOf(full, 5n, 3))

  const overview = await read(storage)
  const found = overview.backups.map(({ chain, name, storedBytes, verification }) => {
    return [name, chain.names.length, storedBytes > 100, verification?.result]
  })
  assert.deepEqual(found, [
    [full, 1, true, 'whole'],
    [delta, 2, true, undefined],
  ])
  assert.deepEqual(
    overview.unfinished.map(({ name, state, storedBytes }) => [name, state, storedBytes]),
    [['base_0000000100000000000000FF', 'unknown', 50]],
  )
  assert.equal(overview.use.tails, 4096)
  assert.equal(overview.use.wal, 52)
  assert.deepEqual(
    overview.days.map(({ day, segmentCount, storedBytes }) => [day, segmentCount, storedBytes]),
    [
      ['2026-03-05', 1, 10],
      ['2026-03-06', 0, 0],
      ['2026-03-07', 1, 10],
      ['2026-03-08', 1, 15],
      ['2026-03-09', 1, 10],
      ['2026-03-10', 0, 0],
    ],
  )
  const json = overviewToJson(overview, 0.5)
  assert.deepEqual(json['newest_wal'], {
    timeline: 1,
    durable_lsn: toLsn(8n * BigInt(madeSegmentSize) + 4096n),
    written_at: '2026-03-10T11:59:57.000Z',
    written_seconds_ago: 3,
  })
  assert.deepEqual(json['missing_wal'], [
    { timeline: 1, first_segment: segment(4n), last_segment: segment(4n), segments_count: 1n },
  ])
  const text = overviewText(overview, 0.5)
  for (const line of text.split('\n')) assert.ok(line.length <= 130, line)
  assert.match(text, /^newest WAL {2}\S+ on timeline 1, written 3 s ago$/m)
  assert.match(text, new RegExp(`^${full} +3 days +10 min .* full +- +24 h ago$`, 'm'))
  assert.match(text, new RegExp(`^${delta} .* \\+1 +yes +never$`, 'm'))
  assert.match(text, new RegExp(`^ {2}missing ${segment(4n)}$`, 'm'))
  assert.match(text, /^price +less than 0\.01 a month, at 0\.5 for a GB$/m)
})

test('a record of another backup of the same name, or of a chain that is another now, counts for nothing', async () => {
  const storage = new MemoryStorage()
  const full = seedBackup(storage, 5n, 3)
  const delta = seedBackup(storage, 7n, 1, { DeltaFrom: full, DeltaCount: 1 }, `_D_${segment(5n)}`)
  const ofFull = verificationOf(full, 5n, 3)
  await putVerification(storage, ofFull)
  await putVerification(storage, { ...ofFull, backups: [...ofFull.backups, ...verificationOf(delta, 7n, 1).backups] })
  const results = async () => (await read(storage)).backups.map(({ verification }) => verification?.result)
  assert.deepEqual(await results(), ['whole', 'whole'])
  // The full one is taken again under its name.
  seedBackup(storage, 5n, 2)
  assert.deepEqual(await results(), [undefined, undefined])
  storage.seed(verificationKey(full), Buffer.from('{"version":2}'))
  assert.deepEqual(await results(), [undefined, undefined])
})

test('what a backup without a sentinel is, is said by its intent and the age of that', async () => {
  const storage = new MemoryStorage()
  const seed = (name: string, ageMinutes: number, more: object) => {
    const intent = { owner: 'x', hostname: 'db1', startedAt: '2026-03-10T10:00:00Z', ...more }
    storage.seed(intentKey(name), Buffer.from(JSON.stringify(intent)), nowMs - ageMinutes * 60_000)
  }
  seed(`base_${segment(5n)}`, 1, {})
  seed(`base_${segment(6n)}`, 16, {})
  seed(`base_${segment(7n)}`, 16, { sentinel: '{}' })
  seed(`base_${segment(8n)}`, 24 * 60 + 1, { sentinel: '{}' })
  // Its sentinel is there: it is finished, and its intent about to go.
  seed(seedBackup(storage, 9n, 0), 1, {})
  const { unfinished } = await read(storage)
  assert.deepEqual(
    unfinished.map(({ host, state }) => [host, state]),
    ['written', 'left', 'waits', 'left'].map((state) => ['db1', state]),
  )
  const text = overviewText(await read(storage), undefined)
  assert.match(text, /\(db1\), 0 bytes, 16 min ago:\n {4}waits for its WAL: walrx backup-finish completes it/)
})

test('300 backups and 5000 segments: a listing of each folder, and two documents of each backup', async () => {
  const storage = new MemoryStorage()
  for (let segno = 1n; segno <= 5000n; segno++) storage.seed(walKey(segment(segno), 'zst'), Buffer.alloc(1))
  for (let index = 0; index < 300; index++) seedBackup(storage, 1n + BigInt(index) * 10n, 100 - index / 100)
  storage.calls.length = 0
  const { backups, use } = await read(storage)
  assert.equal(backups.length, 300)
  assert.equal(use.wal, 5000)
  const count = (pattern: RegExp) => storage.log.filter((call) => pattern.test(call)).length
  assert.equal(count(/^get basebackups_005/), 600)
  assert.ok(count(/^list wal_005\/$/) <= 7, String(count(/^list wal_005\/$/)))
  assert.ok(count(/^list basebackups_005\/$/) <= 3)
  assert.ok(storage.calls.length < 640, String(storage.calls.length))
  const lines = overviewText(await read(storage), undefined).split('\n')
  assert.ok(lines.length < 60)
  assert.ok(lines.includes('… and 280 older backups: walrx backup-list shows them'))
})

test('an empty archive', async () => {
  const text = overviewText(await read(new MemoryStorage()), 1)
  assert.match(text, /^recovery +impossible: there is no backup$/m)
  assert.match(text, /^price +0\.00 a month/m)
})

test('a backup that lacks a part gives no window, nor does a delta on it, and both are named', async () => {
  const storage = new MemoryStorage()
  const full = seedBackup(storage, 5n, 3)
  const delta = seedBackup(storage, 7n, 1, { DeltaFrom: full, DeltaCount: 1 }, `_D_${segment(5n)}`)
  for (const segno of [5n, 6n, 7n, 8n]) storage.seed(walKey(segment(segno), 'zst'), Buffer.alloc(10))
  assert.equal((await read(storage)).windows[0]?.backup.name, full)
  storage.objects.delete(partKey(full, 'pg_control.tar.zst'))
  const overview = await read(storage)
  assert.deepEqual(overview.windows, [])
  const json = overviewToJson(overview, undefined)
  const problem = `${full} has no part with pg_control`
  assert.deepEqual(
    (json['backups'] as { chain_problem: unknown }[]).map((each) => each.chain_problem),
    [problem, problem],
  )
  const text = overviewText(overview, undefined)
  assert.match(text, /^recovery +impossible: no backup is whole$/m)
  assert.match(text, new RegExp(`^${full} cannot be restored: it has no part with pg_control$`, 'm'))
  assert.match(text, new RegExp(`^${delta} cannot be restored: ${problem}$`, 'm'))
})

test('a segment of 0 bytes is named, and the window ends before it', async () => {
  const storage = new MemoryStorage()
  seedBackup(storage, 5n, 3)
  for (const segno of [5n, 6n, 7n, 8n]) storage.seed(walKey(segment(segno), 'zst'), Buffer.alloc(segno === 7n ? 0 : 9))
  const overview = await read(storage)
  const json = overviewToJson(overview, undefined)
  assert.deepEqual(json['missing_wal'], [])
  assert.deepEqual(json['empty_wal'], [
    { timeline: 1, first_segment: segment(7n), last_segment: segment(7n), segments_count: 1n },
  ])
  assert.match(overviewText(overview, undefined), new RegExp(`^ {2}0 bytes in ${segment(7n)}$`, 'm'))
  assert.deepEqual(
    overview.windows.map(({ end, endLsn }) => [end.kind, endLsn]),
    [['hole', toLsn(7n * BigInt(madeSegmentSize))]],
  )
})

test('a damaged small object is a problem with its name and a remedy, and all else is shown', async () => {
  const storage = new MemoryStorage()
  const name = seedBackup(storage, 5n, 3)
  for (const segno of [5n, 6n]) storage.seed(walKey(segment(segno), 'zst'), Buffer.alloc(10))
  const gap = 'walrx_005/gap/00000001/0000000000B00000-0000000000C00000.json'
  const remedies: readonly (readonly [key: string, hint: RegExp])[] = [
    ['walrx_005/system.json', /the next walrx wal-receive or backup-push writes it again$/],
    ['wal_005/00000002.history', /^remove it with walrx st rm --force wal_005\/00000002\.history: /],
    [gap, /: walrx st rm --force walrx_005\/gap\//],
    [verificationKey(name), new RegExp(`^walrx backup-verify ${name} writes it again$`)],
    [intentKey(`base_${segment(9n)}`), /walrx st rm --force walrx_005\/backups\//],
    [metadataKey(name), /^the sentinel says the same/],
  ]
  for (const [key, hint] of remedies) {
    const kept = storage.objects.get(key)
    for (const damage of ['', '{', '[]', '{"version":7}']) {
      storage.seed(key, damage, nowMs)
      // Of a document of WAL-G any object will do.
      if (key === metadataKey(name) && damage.startsWith('{"')) continue
      const overview = await read(storage)
      assert.equal(overview.problems.length, 1, `${key}: ${damage}`)
      assert.ok(overview.problems[0]?.message.includes(key.split('/').at(-1) ?? ''), overview.problems[0]?.message)
      assert.match(overview.problems[0]?.hint ?? '', hint)
      assert.deepEqual([overview.backups.length, overview.windows.length], [1, 1], key)
      const json = overviewToJson(overview, undefined)
      assert.equal((json['problems'] as unknown[]).length, 1)
      if (key === gap)
        assert.deepEqual(
          overview.gaps.map(({ missingCount }) => missingCount),
          [1n],
        )
    }
    storage.objects.delete(key)
    if (kept) storage.objects.set(key, kept)
  }
  assert.deepEqual((await read(storage)).problems, [])
})

test('of many windows the last twenty are read and shown', async () => {
  const storage = new MemoryStorage()
  for (let index = 0; index < 21; index++) {
    seedBackup(storage, 1n + BigInt(index) * 2n, 30 - index)
    storage.seed(walKey(segment(1n + BigInt(index) * 2n), 'zst'), Buffer.alloc(9))
  }
  storage.calls.length = 0
  const overview = await read(storage)
  assert.equal(overview.windows.length, 21)
  assert.equal(storage.log.filter((call) => /^get wal_005/.test(call)).length, 20)
  const text = overviewText(overview, undefined)
  assert.match(text, /^… and 1 older window: walrx wal-show --json has them$/m)
  assert.match(text, /^… and 1 older backup: walrx backup-list shows it$/m)
})

test('a backup that was found damaged gives no window, in info and wal-show, until it is taken again', async () => {
  const storage = new MemoryStorage()
  const first = seedBackup(storage, 5n, 3)
  const second = seedBackup(storage, 7n, 2)
  for (const segno of [5n, 6n, 7n, 8n]) storage.seed(walKey(segment(segno), 'zst'), Buffer.alloc(10))
  const options = { segmentSize: madeSegmentSize, withBackups: true, asJson: false }
  const starts = async () => {
    const both = [(await read(storage)).windows, (await readArchive(new WalReader(storage), options)).windows]
    return both.map((windows) => windows.map(({ backup }) => backup.name))
  }
  assert.deepEqual(await starts(), [[first], [first]])
  const found = verificationOf(first, 5n, 3)
  await putVerification(storage, { ...found, result: 'damaged', problem: 'part_001 is cut' })
  assert.deepEqual(await starts(), [[second], [second]])
  assert.match(
    overviewText(await read(storage), undefined),
    new RegExp(`^${first} cannot be restored: it was found damaged by walrx backup-verify$`, 'm'),
  )
  await putVerification(storage, verificationOf(first, 5n, 4))
  assert.deepEqual(await starts(), [[first], [first]])
})
