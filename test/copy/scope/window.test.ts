/** Windows: which backup they begin with, which WAL belongs to them, and where a time ends. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import { segmentAfterTime } from '../../../src/copy/scope/wal-time.ts'
import type { CopyRequest, WindowEnd } from '../../../src/copy/scope/copy-request.ts'
import { parseTimestamp } from '../../../src/postgres/timestamp.ts'
import { nameOfSentinel } from '../../../src/walg/backup/backup-names.ts'
import { walKey } from '../../../src/walg/names.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { MadeRecords, switchRecord, transactionRecord } from '../../harness/made/made-records.ts'
import { madeSegmentSize } from '../../harness/made/made-wal.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { copy, delta, full, makeArchive, newTarget, second, seedSegment, segment } from '../made-archive.ts'

const time = (text: string): WindowEnd => ({ kind: 'time', time: parseTimestamp(text) })
const lsn = (text: string): WindowEnd => ({ kind: 'lsn', lsn: parseLsn(text) })
const backup = (name: string): WindowEnd => ({ kind: 'backup', name })

/** What a window has: names of backups, and of the objects of WAL without their extension. */
async function windowOf(request: CopyRequest, source = makeArchive()) {
  const to = newTarget()
  await copy(source, to, request)
  const keys = [...to.objects.keys()].sort()
  return {
    backups: keys.flatMap((key) => nameOfSentinel(key) ?? []),
    wal: keys
      .filter((key) => key.startsWith('wal_005/'))
      .map((key) => key.slice('wal_005/'.length).replace(/\.zst$/, ''))
      .sort(),
    tails: keys.filter((key) => key.startsWith('walrx_005/tail/')).length,
    gaps: keys.filter((key) => key.startsWith('walrx_005/gap/')).length,
  }
}

const history = '00000002.history'
const range = (timeline: number, first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, index) => segment(first + index, timeline))

/** Segments of made-up records: each ends a transaction at its minute, but for those that have none. */
function seedTimes(storage: MemoryStorage, minutes: readonly (number | undefined)[]): void {
  const records = new MadeRecords(segment(20, 3), minutes.length)
  for (const minute of minutes) {
    if (minute !== undefined)
      records.add(transactionRecord(parseTimestamp('2026-03-01T10:00:00Z') + BigInt(minute) * 60_000_000n))
    records.add(switchRecord)
  }
  for (const [index] of minutes.entries()) storage.seed(walKey(segment(20 + index, 3), ''), records.segment(index))
}

describe('a window', () => {
  test('begins with the newest backup that was complete, with its chain and its WAL', async () => {
    const { backups, gaps, tails, wal } = await windowOf({ from: time('2026-03-01T11:45:00Z') })
    assert.deepEqual(backups, [full, delta, second])
    // Segment 3 lies between what the full backup needs and where the window begins.
    assert.deepEqual(
      wal,
      [
        segment(0) + '_delta',
        ...[segment(2), `${segment(2)}.json`, ...range(1, 4, 6), `${segment(6)}.partial`],
        ...[history, ...range(2, 6, 11)],
      ].sort((a, b) => (a < b ? -1 : 1)),
    )
    assert.deepEqual([gaps, tails], [1, 2])
  })

  test('leaves out what an older backup has', async () => {
    const { backups, wal } = await windowOf({ from: time('2026-03-01T13:00:00Z') })
    assert.deepEqual(backups, [second])
    assert.deepEqual(wal, [`${segment(0)}_delta`, history, ...range(2, 8, 11)])
  })

  test('ends at an LSN, and has no tail then', async () => {
    const { backups, tails, wal } = await windowOf({ from: backup(full), to: lsn('0/500000') })
    assert.deepEqual(backups, [full, delta])
    assert.deepEqual(wal, [`${segment(0)}_delta`, segment(2), `${segment(2)}.json`, ...range(1, 3, 5), history])
    assert.equal(tails, 0)
  })

  test('may end where a backup does, on a timeline that forked', async () => {
    const { backups, wal } = await windowOf({ from: lsn('0/500000'), to: backup('LATEST') })
    assert.deepEqual(backups, [full, delta, second])
    assert.deepEqual(
      wal.filter((name) => name.startsWith('00000002')),
      [history, ...range(2, 6, 8)],
    )
  })

  test('of one backup is what makes it consistent; with history, all that follows', async () => {
    const alone = await windowOf({ backup: delta })
    assert.deepEqual(alone.backups, [full, delta])
    assert.deepEqual(alone.wal, [`${segment(0)}_delta`, segment(2), `${segment(2)}.json`, segment(4), history])
    const all = await windowOf({ backup: 'LATEST', withHistory: true })
    assert.deepEqual(all.backups, [second])
    assert.deepEqual([all.wal.at(-1), all.tails], [segment(11, 2), 2])
  })

  test('grows when it is copied again, up to the whole archive', async () => {
    const [source, to] = [makeArchive(), newTarget()]
    await copy(source, to, { backup: full })
    await copy(source, to, { from: backup(second) })
    const summary = await copy(source, to)
    assert.deepEqual(summary.backups, [delta])
  })

  const refusals: readonly (readonly [string, CopyRequest, WalrxError['code'], RegExp])[] = [
    [
      'a time before every backup',
      { from: time('2026-03-01T10:00:00Z') },
      'WALRX_TARGET_UNREACHABLE',
      /the oldest, base_0+1/,
    ],
    [
      'an end before its beginning',
      { from: backup(second), to: lsn('0/700000') },
      'WALRX_TARGET_UNREACHABLE',
      /only at 0\/801000/,
    ],
    ['an unknown backup', { backup: 'base_000000010000000000000003' }, 'WALRX_BACKUP_NOT_FOUND', /no backup/],
  ]
  for (const [what, request, code, message] of refusals) {
    test(`refuses ${what}`, async () => {
      await assert.rejects(windowOf(request), (error) => {
        assert.ok(error instanceof WalrxError)
        assert.equal(error.code, code)
        assert.match(error.message, message)
        return true
      })
    })
  }

  test('refuses to begin with a backup whose WAL is missing, and a delta without its parent', async () => {
    const source = makeArchive()
    source.objects.delete(walKey(segment(4), 'zst'))
    seedSegment(source, segment(5))
    await assert.rejects(windowOf({ backup: delta }, source), /lacks segment 000000010000000000000004/)
    const orphan = makeArchive()
    for (const key of orphan.objects.keys()) if (key.includes(`${full}_backup`)) orphan.objects.delete(key)
    await assert.rejects(windowOf({ backup: delta }, orphan), new RegExp(`${delta} builds on ${full}`))
  })
})

describe('the end of a time', () => {
  const find = async (minutes: readonly (number | undefined)[], minute: number) => {
    const storage = new MemoryStorage()
    seedTimes(storage, minutes)
    const from = 20n
    const at = parseTimestamp('2026-03-01T10:00:00Z') + BigInt(minute) * 60_000_000n
    const found = await segmentAfterTime({
      reader: new WalReader(storage),
      timeline: 3,
      from,
      segmentSize: madeSegmentSize,
      time: at,
    })
    return {
      found: found === undefined ? undefined : Number(found),
      reads: storage.calls.filter(({ operation }) => operation === 'get').length,
    }
  }

  test('is the segment of the first transaction that ended after it, wherever segments have none', async () => {
    const minutes = [1, undefined, 2, undefined, undefined, 5, 5, 9, undefined]
    const answers = await Promise.all([0, 1, 2, 4, 5, 8, 9].map((minute) => find(minutes, minute)))
    assert.deepEqual(
      answers.map(({ found }) => found),
      [20, 22, 25, 25, 27, 27, undefined],
    )
  })

  test('is found by a few reads', async () => {
    const { found, reads } = await find(
      Array.from({ length: 24 }, (_, index) => index),
      11,
    )
    assert.equal(found, 32)
    // Each is asked for under its preferred extension first.
    assert.ok(reads <= 12, String(reads))
  })

  test('is found across a hole in the archive', async () => {
    const storage = new MemoryStorage()
    seedTimes(storage, [1, 2, 3, 4, 5])
    storage.objects.delete(walKey(segment(22, 3), ''))
    const at = parseTimestamp('2026-03-01T10:03:30Z')
    const search = { reader: new WalReader(storage), timeline: 3, from: 20n, segmentSize: madeSegmentSize, time: at }
    assert.equal(await segmentAfterTime(search), 23n)
  })
})
