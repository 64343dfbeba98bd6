/** A target is checked before anything is fetched, and one that the archive cannot reach is refused with the range. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { addBytes, formatLsn, type Lsn, toLsn } from '../../../src/postgres/lsn.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import { checkReachable, type RecoveryBackup } from '../../../src/restore/recovery/recovery-check.ts'
import type { RecoveryTarget, RecoveryTimeline } from '../../../src/restore/recovery/recovery-request.ts'
import { parseTimestamp } from '../../../src/postgres/timestamp.ts'
import { type GapRecord, writeGap } from '../../../src/walg/wal/gap-records.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { MadeRecords, otherRecord, switchRecord, transactionRecord } from '../../harness/made/made-records.ts'
import { madeSegmentSize } from '../../harness/made/made-wal.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const first = '000000010000000000000005'
const start = toLsn(0x500000n)

/** Microseconds since 2000, `minute` minutes past noon. */
const at = (minute: number) => parseTimestamp('2026-03-01 12:00:00Z') + BigInt(minute) * 60_000_000n

/** A backup in the first segment; transactions end 5, 10, 20 and 30 minutes past noon, one in each segment. */
function makeArchive() {
  const made = new MadeRecords(first, 4)
  made.add(transactionRecord(at(5)))
  made.add(otherRecord(50))
  const finishLsn = toLsn(made.position)
  made.add(switchRecord)
  for (const minute of [10, 20]) {
    made.add(transactionRecord(at(minute)))
    made.add(otherRecord(20_000))
    made.add(switchRecord)
  }
  made.add(transactionRecord(at(30)))
  made.add(otherRecord(10))
  const storage = new MemoryStorage()
  for (let index = 0; index < 4; index++) storage.seed(key(index), made.segment(index))
  const backup: RecoveryBackup = {
    name: `base_${first}`,
    timeline: 1,
    startLsn: start,
    finishLsn,
    startTime: at(4),
    finishTime: at(6),
  }
  return { storage, made, backup, last: toLsn(made.records.at(-1)?.start ?? 0n) }
}

const key = (index: number, timeline = 1) => `wal_005/${segmentName(timeline, 5n + BigInt(index), madeSegmentSize)}`

interface Asked {
  readonly target?: RecoveryTarget
  readonly inclusive?: boolean
  readonly timeline?: RecoveryTimeline
}

const check = (world: { storage: MemoryStorage; backup: RecoveryBackup }, asked: Asked) => {
  const { inclusive = true, target, timeline = 'latest' } = asked
  return checkReachable({
    reader: new WalReader(world.storage),
    backup: world.backup,
    request: { target, inclusive, timeline },
  })
}

const refusal = async (
  world: { storage: MemoryStorage; backup: RecoveryBackup },
  asked: Asked,
): Promise<WalrxError> => {
  const error: unknown = await check(world, asked).catch((reason: unknown) => reason)
  assert.ok(error instanceof WalrxError, 'it was not refused')
  assert.equal(error.code, 'WALRX_TARGET_UNREACHABLE')
  return error
}

const lsn = (value: bigint): RecoveryTarget => ({ kind: 'lsn', lsn: value as Lsn })
const time = (minute: number): RecoveryTarget => ({ kind: 'time', time: at(minute) })

describe('a position', () => {
  test('is reachable from the end of the backup to the start of the last record, to the byte', async () => {
    const world = makeArchive()
    const { backup, last } = world
    for (const value of [backup.finishLsn, backup.finishLsn + 1n, last - 1n, last]) {
      const reached = await check(world, { target: lsn(value) })
      assert.equal(reached.end, 0x900000n)
      assert.deepEqual(reached.warnings, [])
    }
    const late = await refusal(world, { target: lsn(last + 1n) })
    assert.match(late.message, new RegExp(`^LSN 0/8[0-9A-F]+ is too late: .* from 0/5000[0-9A-F]+ to 0/8000[0-9A-F]+$`))
    assert.match((await refusal(world, { target: lsn(backup.finishLsn - 1n) })).message, /is too early/)
    assert.equal(world.storage.openBodies, 0)
  })

  test('after a gap is refused with the missing segment, before the gap it is not', async () => {
    const world = makeArchive()
    world.storage.objects.delete(key(2))
    await check(world, { target: lsn(0x600028n) })
    const error = await refusal(world, { target: lsn(0x800028n) })
    assert.match(error.message, /is too late: .* to 0\/60[0-9A-F]{4}$/)
    assert.match(
      error.hint ?? '',
      /^segment 000000010000000000000007 is missing, although the archive holds later WAL$/,
    )
  })

  test('with a damaged last segment is checked by the segments that are there, with a warning', async () => {
    const world = makeArchive()
    world.storage.seed(key(3), Buffer.alloc(madeSegmentSize))
    const { warnings } = await check(world, { target: lsn(0x600028n) })
    assert.match(warnings.join(), /cannot be read/)
    await refusal(world, { target: lsn(0x900001n) })
  })
})

describe('a time', () => {
  test('is reachable where a later transaction is archived, and none of the backup ended after it', async () => {
    const world = makeArchive()
    for (const minute of [5, 6, 10, 29]) assert.deepEqual((await check(world, { target: time(minute) })).warnings, [])
    const late = await refusal(world, { target: time(30) })
    assert.match(
      late.message,
      /^time 2026-03-01 12:30:00\+00 is too late: .* from 2026-03-01 12:05:00\+00 to before 2026-03-01 12:30:00\+00$/,
    )
    assert.match((await refusal(world, { target: time(4) })).message, /is too early/)
  })

  test('that is exclusive needs a transaction at the time or later, and none of the backup at it', async () => {
    const world = makeArchive()
    await check(world, { target: time(30), inclusive: false })
    await refusal(world, { target: { kind: 'time', time: at(30) + 1n }, inclusive: false })
    assert.match((await refusal(world, { target: time(5), inclusive: false })).message, /is too early/)
  })

  test('is checked by older segments where no transaction ended in the last ones', async () => {
    const world = makeArchive()
    const made = new MadeRecords(segmentName(1, 8n, madeSegmentSize), 6)
    for (let index = 0; index < 6; index++) {
      made.add(otherRecord(100))
      made.add(switchRecord)
      world.storage.seed(key(3 + index), made.segment(index))
    }
    await check(world, { target: time(19) })
    assert.match((await refusal(world, { target: time(20) })).message, /to before 2026-03-01 12:20:00\+00$/)
  })

  test('is out of reach without any transaction after the backup', async () => {
    const world = makeArchive()
    for (const index of [1, 2, 3]) world.storage.objects.delete(key(index))
    const error = await refusal(world, { target: time(7) })
    assert.match(error.message, /is too late: .* reaches only 2026-03-01 12:05:00\+00$/)
  })

  test('is checked by the sentinel where the backup has no transaction: the server would not notice', async () => {
    const world = makeArchive()
    const made = new MadeRecords(first, 1)
    made.add(otherRecord(80))
    const finishLsn = toLsn(made.position)
    made.add(switchRecord)
    world.storage.seed(key(0), made.segment(0))
    const idle = { ...world, backup: { ...world.backup, finishLsn } }
    await check(idle, { target: time(4) })
    assert.match((await refusal(idle, { target: time(3) })).message, /is too early: .* from 2026-03-01 12:04:00\+00/)
  })

  test('cannot be checked where the WAL cannot be read, with a warning', async () => {
    const world = makeArchive()
    world.storage.seed(key(3), Buffer.from('no WAL at all, but long enough for a header'))
    const { warnings } = await check(world, { target: time(10) })
    assert.match(warnings.join('\n'), /cannot be read.*\ncannot check that the archive reaches time /)
  })
})

describe('every recovery', () => {
  const kinds: Asked[] = [
    {},
    { target: { kind: 'immediate' } },
    { target: { kind: 'name', name: 'x' } },
    { target: { kind: 'xid', xid: 700n } },
    { target: time(10) },
  ]

  test('needs the WAL of the backup itself', async () => {
    const world = makeArchive()
    const needy = { ...world, backup: { ...world.backup, finishLsn: toLsn(0x780000n) } }
    world.storage.objects.delete(key(2))
    for (const asked of kinds) {
      const error = await refusal(needy, asked)
      assert.match(error.message, /needs WAL up to 0\/780000 to be consistent, but the archive reaches only 0\/700000$/)
      assert.equal(error.hint, 'segment 000000010000000000000007 is missing')
    }
    world.storage.objects.clear()
    assert.match(
      (await refusal(needy, {})).message,
      /starts in segment 000000010000000000000005, which the archive lacks/,
    )
  })

  test('to the end is refused at a gap; a target that only the server can find gets a warning', async () => {
    const world = makeArchive()
    world.storage.objects.delete(key(2))
    const error = await refusal(world, {})
    assert.match(error.message, /^the archive has a gap: segment 000000010000000000000007 is missing/)
    assert.match(error.hint ?? '', /--target-lsn=0\/60[0-9A-F]{4}$/)
    const { warnings } = await check(world, { target: { kind: 'name', name: 'x' } })
    assert.match(
      warnings.join(),
      /000000010000000000000007 is missing: recovery fails if restore point "x" comes after it/,
    )
    await check(world, { target: { kind: 'immediate' } })
  })
})

describe('WAL of wal_level=minimal', () => {
  /** The server wrote down its level after 20 o'clock. */
  function makeBreak() {
    const world = makeArchive()
    const [before, at7] = world.made.records.slice(-5)
    assert.ok(before && at7)
    const startLsn = toLsn(at7.start)
    const range = { timeline: 1, startLsn, endLsn: addBytes(startLsn, 1) }
    const facts = { detectedAt: '2026-03-01T12:15:00Z', reason: 'test', host: 'db1', slot: undefined }
    return { ...world, before: toLsn(before.start), startLsn, broken: { ...range, ...facts } }
  }
  const why = /the server ran with wal_level=minimal from 0\/7[0-9A-F]{5} on timeline 1 on, and no recovery passes that/

  test('is never recovered from an older backup, up to its beginning all is well', async () => {
    const world = makeBreak()
    await writeGap(world.storage, world.broken)
    await check(world, { target: lsn(world.before) })
    await check(world, { target: time(9) })
    await check(world, { target: { kind: 'immediate' } })
    for (const target of [lsn(world.startLsn), lsn(0x800028n), time(25)]) {
      const error = await refusal(world, { target })
      assert.match(error.message, why)
      assert.match(error.hint ?? '', /choose a backup that started after it, or an earlier target/)
    }
    const whole = await refusal(world, {})
    assert.match(whole.message, why)
    assert.match(whole.hint ?? '', new RegExp(`--target-lsn=${formatLsn(world.before)}$`))
    const { warnings } = await check(world, { target: { kind: 'name', name: 'later' } })
    assert.match(warnings.join(), why)
  })

  test('is nothing to a backup that was begun after it, nor on another timeline', async () => {
    const world = makeBreak()
    const { broken } = world
    await writeGap(world.storage, { ...broken, startLsn: toLsn(0x4ffff8n), endLsn: toLsn(0x4ffff9n) })
    await writeGap(world.storage, { ...broken, timeline: 2 })
    await check(world, { target: lsn(world.last) })
    await check(world, {})
  })
})

describe('a recorded gap', () => {
  /** Segments 7 and more are lost; `isFollowed`: later WAL has been archived. */
  async function makeGap(isFollowed: boolean) {
    const world = makeArchive()
    for (const index of isFollowed ? [2] : [2, 3]) world.storage.objects.delete(key(index))
    await writeGap(world.storage, gap)
    return world
  }
  const gap: GapRecord = {
    timeline: 1,
    startLsn: toLsn(0x700000n),
    endLsn: toLsn(0x800000n),
    detectedAt: '2026-03-01T12:15:00Z',
    reason: 'the slot was missing',
    host: 'db1:5432',
    slot: 'walrx',
  }
  const lost = /WAL from 0\/700000 to 0\/800000 on timeline 1 was lost \(detected at 2026-03-01T12:15:00Z\)/

  test('is reported for a target after it, with its ends and the time; a target before it is reachable', async () => {
    for (const isFollowed of [true, false]) {
      const world = await makeGap(isFollowed)
      await check(world, { target: lsn(0x600028n) })
      await check(world, { target: time(9) })
      for (const target of [lsn(0x800028n), time(25)]) {
        const error = await refusal(world, { target })
        assert.match(error.message, /is too late: from backup .* the archive reaches from /)
        assert.match(error.message, lost)
        assert.match(error.hint ?? '', /choose a backup that started after it, or an earlier target/)
      }
    }
  })

  test('stops a recovery to the end, even if no later WAL is archived yet: the server would promote', async () => {
    for (const isFollowed of [true, false]) {
      const error = await refusal(await makeGap(isFollowed), {})
      assert.match(error.message, lost)
      assert.match(error.hint ?? '', /--target-lsn=0\/60[0-9A-F]{4}$/)
    }
  })

  test('is reported in a warning where only the server knows the position of the target', async () => {
    const { warnings } = await check(await makeGap(false), { target: { kind: 'name', name: 'x' } })
    assert.match(warnings.join(), lost)
    assert.match(warnings.join(), /recovery fails if restore point "x" comes after it/)
    assert.deepEqual((await check(await makeGap(false), { target: { kind: 'immediate' } })).warnings, [])
  })

  test('that begins before the backup has ended makes it useless', async () => {
    const world = await makeGap(true)
    const needy = { ...world, backup: { ...world.backup, finishLsn: toLsn(0x780000n) } }
    assert.match((await refusal(needy, { target: lsn(0x800028n) })).hint ?? '', lost)
  })

  test('does not matter for a backup that started after it, for other timelines, and once its segments are there', async () => {
    const filled = makeArchive()
    await writeGap(filled.storage, gap)
    await check(filled, {})
    await check(filled, { target: lsn(0x800028n) })
    const earlier = makeArchive()
    await writeGap(earlier.storage, { ...gap, startLsn: toLsn(0x300000n), endLsn: toLsn(0x500000n) })
    await check(earlier, {})
    const elsewhere = makeArchive()
    elsewhere.storage.objects.delete(key(2))
    await writeGap(elsewhere.storage, { ...gap, timeline: 2 })
    assert.doesNotMatch((await refusal(elsewhere, {})).message, lost)
  })
})

describe('timelines', () => {
  /** Timeline 2 forks off in the third segment and has two of its own. */
  function makeFork() {
    const world = makeArchive()
    const fork = toLsn(0x700100n)
    world.storage.seed('wal_005/00000002.history', `1\t0/700100\tno recovery target specified\n`)
    const made = new MadeRecords(segmentName(2, 7n, madeSegmentSize), 2)
    made.add(transactionRecord(at(40)))
    made.add(switchRecord)
    made.add(transactionRecord(at(50)))
    for (const index of [0, 1]) world.storage.seed(key(2 + index, 2), made.segment(index))
    return { ...world, fork, last: toLsn(made.records.at(-1)?.start ?? 0n) }
  }

  test('are followed across a fork: to the newest one, or to the one asked for', async () => {
    const world = makeFork()
    assert.equal((await check(world, { target: time(49) })).chain.newest.timeline, 2)
    await refusal(world, { target: time(50) })
    for (const timeline of ['current', 1] as const) {
      assert.equal((await check(world, { target: time(29), timeline })).chain.newest.timeline, 1)
      await refusal(world, { target: time(49), timeline })
    }
    await check(world, { target: lsn(world.last) })
  })

  test('may lack their first segment: the old one serves up to the fork, with a warning', async () => {
    const world = makeFork()
    world.storage.objects.delete(key(2, 2))
    world.storage.objects.delete(key(3, 2))
    const { end, warnings } = await check(world, {})
    assert.equal(end, world.fork)
    assert.match(
      warnings.join(),
      /timeline 2 began at 0\/700100, but its segment 000000020000000000000007 is not archived/,
    )
    await refusal(world, { target: lsn(world.fork) })
    await check(world, { target: lsn(0x700028n) })
  })

  test('that do not descend from the backup’s, or are unknown, are refused', async () => {
    const world = makeFork()
    assert.match((await refusal(world, { timeline: 3 })).message, /the archive lacks 00000003\.history/)
    const later = { ...world, backup: { ...world.backup, finishLsn: toLsn(0x700108n) } }
    assert.match(
      (await refusal(later, {})).message,
      /^backup \S+ ends at 0\/700108, but timeline 2 forked from timeline 1 before that, at 0\/700100$/,
    )
    const stranger = { ...world, backup: { ...world.backup, timeline: 2 } }
    assert.match(
      (await refusal(stranger, { timeline: 1 })).message,
      /on timeline 2, which is not an ancestor of timeline 1$/,
    )
  })
})
