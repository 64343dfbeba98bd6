import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import { toLsn } from '../../../src/postgres/lsn.ts'
import { chooseBackup, recoveryBackup } from '../../../src/restore/recovery/recovery-backup.ts'
import type { RecoveryBackup } from '../../../src/restore/recovery/recovery-check.ts'
import type { RecoveryTarget, RecoveryTimeline } from '../../../src/restore/recovery/recovery-request.ts'
import { Histories } from '../../../src/restore/recovery/recovery-timelines.ts'
import { parseTimestamp } from '../../../src/postgres/timestamp.ts'
import { parseSentinel } from '../../../src/walg/backup/sentinel.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const at = (minute: number) => parseTimestamp('2026-03-01 12:00:00Z') + BigInt(minute) * 60_000_000n

/** A backup that starts in this segment of 16 MB and takes a minute and 0x100 bytes. */
function made(timeline: number, segment: number, minute: number): RecoveryBackup {
  const startLsn = toLsn(BigInt(segment) * 0x1000000n + 0x28n)
  const hex = (value: number) => value.toString(16).toUpperCase().padStart(8, '0')
  const name = `base_${hex(timeline)}00000000${hex(segment)}`
  const finishLsn = toLsn(startLsn + 0x100n)
  return { name, timeline, startLsn, finishLsn, startTime: at(minute), finishTime: at(minute + 1) }
}

// Timeline 2 left timeline 1 in segment 0x40; the old primary went on and was backed up once more.
const one = made(1, 0x10, 10)
const two = made(1, 0x30, 20)
const stray = made(1, 0x50, 50)
const three = made(2, 0x45, 40)
const four = made(2, 0x60, 60)
const backups = [one, two, stray, three, four]

/** Chosen from these; the first one is LATEST. */
async function chosen(
  target: RecoveryTarget | undefined,
  options: { timeline?: RecoveryTimeline; from?: readonly RecoveryBackup[]; loaded?: string[] } = {},
): Promise<RecoveryBackup> {
  const storage = new MemoryStorage()
  storage.seed('wal_005/00000002.history', '1\t0/40000100\tno recovery target specified\n')
  const from = options.from ?? [four, three, stray, two, one]
  return chooseBackup({
    names: from.map(({ name }) => name),
    load: (name) => {
      options.loaded?.push(name)
      return Promise.resolve(backups.find((backup) => backup.name === name))
    },
    histories: new Histories(new WalReader(storage)),
    request: { target, timeline: options.timeline ?? 'latest' },
  })
}

const lsn = (value: bigint): RecoveryTarget => ({ kind: 'lsn', lsn: toLsn(value) })
const time = (minute: number): RecoveryTarget => ({ kind: 'time', time: at(minute) })

describe('LATEST with a target', () => {
  for (const [what, target, expected, timeline] of [
    ['a position in the newest history', lsn(0x70000000n), four],
    ['exactly where a backup finished', lsn(four.finishLsn), four],
    ['a byte before it finished', lsn(four.finishLsn - 1n), three],
    ['a position before the fork', lsn(0x40000000n), two],
    ['a position on the old timeline', lsn(0x58000000n), stray, 1],
    ['a position that only a stray backup is near to', lsn(0x44000000n), two],
    ['a time', time(59), three],
    ['the moment a backup finished', time(61), four],
    ['a time when only a stray backup was newer', time(39), two],
    ['a time on the old timeline', time(59), stray, 1],
    ['nothing', undefined, four],
    ['a name', { kind: 'name', name: 'x' }, four],
    ['a transaction on the old timeline', { kind: 'xid', xid: 700n }, stray, 1],
  ] as [string, RecoveryTarget | undefined, RecoveryBackup, RecoveryTimeline?][]) {
    test(`of ${what} is the backup that has least to replay`, async () => {
      assert.equal((await chosen(target, { timeline: timeline ?? 'latest' })).name, expected.name)
    })
  }

  test('goes by the order of LATEST, whatever the names: after a pg_upgrade they begin again', async () => {
    const from = [two, four, three, one]
    for (const target of [lsn(0x70000000n), time(70), { kind: 'immediate' }, undefined] as const)
      assert.equal((await chosen(target, { from })).name, two.name)
  })

  test('reads no more sentinels than it must', async () => {
    const loaded: string[] = []
    await chosen(time(70), { loaded })
    assert.deepEqual(loaded, [four.name])
  })

  for (const [what, target, timeline, message] of [
    [
      'before all backups',
      time(5),
      'latest',
      /no backup leads to time .*: backup base_0{7}10{8}00000010 finished after it/,
    ],
    ['before all backups', lsn(5n), 'latest', /finished after it, at 0\/10000128$/],
    ['of an unknown timeline', undefined, 7, /on timeline 7: the archive lacks 00000007\.history$/],
  ] as [string, RecoveryTarget | undefined, RecoveryTimeline, RegExp][]) {
    test(`${what} is refused with the reason`, async () => {
      await assert.rejects(
        chosen(target, { timeline }),
        (error) => hasCode(error, 'WALRX_TARGET_UNREACHABLE') && message.test(error.message),
      )
    })
  }

  test('of an empty archive is refused', async () => {
    await assert.rejects(chosen(undefined, { from: [] }), /the archive has no backup/)
  })
})

describe('a sentinel', () => {
  const bytes = (fields: object) => Buffer.from(JSON.stringify(fields))
  const whole = {
    LSN: 0x2000028,
    FinishLSN: 0x2000100,
    StartTime: '2026-03-01T12:00:00.123457Z',
    FinishTime: '2026-03-01T12:00:04.5Z',
  }
  const name = 'base_0000000A0000000000000002'

  test('gives LSNs, and times to the microsecond; the name gives the timeline', () => {
    assert.deepEqual(recoveryBackup(name, parseSentinel(bytes(whole), 'x')), {
      name,
      timeline: 10,
      startLsn: 0x2000028n,
      finishLsn: 0x2000100n,
      startTime: at(0) + 123_457n,
      finishTime: at(0) + 4_500_000n,
    })
  })

  test('that lacks one of them is not used for a recovery', () => {
    for (const without of Object.keys(whole)) {
      assert.equal(recoveryBackup(name, parseSentinel(bytes({ ...whole, [without]: undefined }), 'x')), undefined)
    }
    const unknown = { ...whole, FinishTime: '0001-01-01T00:00:00Z' }
    assert.equal(recoveryBackup(name, parseSentinel(bytes(unknown), 'x')), undefined)
  })
})
