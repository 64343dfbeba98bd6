import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { loadSettings } from '../../../src/config/load.ts'
import type { OptionKey } from '../../../src/config/options/options.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import { parseRecoveryRequest, type RecoveryRequest } from '../../../src/restore/recovery/recovery-request.ts'
import { parseTimestamp } from '../../../src/postgres/timestamp.ts'

/** The request of these flags, through the table of options. */
async function requested(flags: Partial<Record<OptionKey, string>>): Promise<RecoveryRequest> {
  const given = new Map(Object.entries(flags)) as Map<OptionKey, string>
  const { values } = await loadSettings({ command: 'backup-fetch', flags: given, environment: {} })
  return parseRecoveryRequest(values)
}

const nothing: RecoveryRequest = {
  recover: false,
  target: undefined,
  inclusive: true,
  action: 'pause',
  timeline: 'latest',
  restoreCommand: undefined,
  archiveMode: 'preserve',
}

describe('a request', () => {
  test('of nothing recovers nothing, and of archive_mode alone neither', async () => {
    assert.deepEqual(await requested({}), nothing)
    assert.deepEqual(await requested({ archiveMode: 'off' }), { ...nothing, archiveMode: 'off' })
  })

  test('of settings to keep has their names, and starts no recovery', async () => {
    const keepSettings = 'Primary_Conninfo,restore_command, standby.signal'
    const keep = ['primary_conninfo', 'restore_command', 'standby.signal']
    assert.deepEqual(await requested({ keepSettings }), { ...nothing, keep })
    const both = await requested({ recover: 'true', keepSettings: 'recovery_end_command' })
    assert.deepEqual(both, { ...nothing, recover: true, keep: ['recovery_end_command'] })
  })

  for (const [flags, expected] of [
    [{ recover: 'true' }, {}],
    [{ targetTime: '2026-03-01 11:00:00Z' }, { target: { kind: 'time', time: parseTimestamp('2026-03-01 11:00Z') } }],
    [{ targetLsn: '16/B374D848' }, { target: { kind: 'lsn', lsn: parseLsn('16/B374D848') } }],
    [{ targetName: 'before it' }, { target: { kind: 'name', name: 'before it' } }],
    [{ targetXid: '12884902629' }, { target: { kind: 'xid', xid: 12_884_902_629n } }],
    [
      { targetImmediate: 'true', targetAction: 'promote' },
      { target: { kind: 'immediate' }, action: 'promote' },
    ],
    [{ targetTimeline: 'Current' }, { timeline: 'current' }],
    [{ targetTimeline: '10' }, { timeline: 10 }],
    [{ targetTimeline: '0x0A' }, { timeline: 10 }],
    [{ restoreCommand: 'cp /a/%f %p' }, { restoreCommand: 'cp /a/%f %p' }],
    [
      { targetXid: '700', targetInclusive: 'false' },
      { target: { kind: 'xid', xid: 700n }, inclusive: false },
    ],
  ] as [Partial<Record<OptionKey, string>>, Partial<RecoveryRequest>][]) {
    test(`is made by ${JSON.stringify(flags)}`, async () => {
      assert.deepEqual(await requested(flags), { ...nothing, recover: true, ...expected })
    })
  }

  for (const [flags, message] of [
    [{ targetTime: '2026-03-01 11:00Z', targetXid: '700' }, /--target-time and --target-xid are both given/],
    [{ targetImmediate: 'true', targetName: 'x' }, /--target-name and --target-immediate are both given/],
    [{ targetTime: '2026-03-01 11:00' }, /has no time zone/],
    [{ targetLsn: 'B374D848' }, /must be an LSN/],
    [{ targetName: 'é'.repeat(32) }, /has 64 bytes/],
    [{ targetName: 'a\nb' }, /line break/],
    [{ restoreCommand: 'true\nfalse' }, /line break/],
    [{ targetXid: '0x10' }, /is not a transaction id/],
    [{ targetXid: '2' }, /is not a transaction id/],
    [{ targetXid: '4294967296' }, /is not a transaction id/],
    [{ targetXid: '18446744073709551617' }, /is not a transaction id/],
    [{ targetTimeline: '010' }, /is not a timeline/],
    [{ targetTimeline: '4294967296' }, /is not a timeline/],
    [{ targetAction: 'promote' }, /without a target/],
    [{ targetInclusive: 'false', recover: 'true' }, /without a target/],
    [{ keepSettings: 'work_mem' }, /"work_mem" is no setting that walrx turns off/],
    [{ keepSettings: 'restore_command', recover: 'true' }, /restore_command is given with a recovery/],
    [{ keepSettings: 'standby.signal', targetXid: '700' }, /standby.signal is given with a recovery/],
    [{ targetInclusive: 'true', targetName: 'x' }, /no effect with --target-name/],
  ] as [Partial<Record<OptionKey, string>>, RegExp][]) {
    test(`is refused by ${JSON.stringify(flags)}`, async () => {
      await assert.rejects(
        requested(flags),
        (error) => hasCode(error, 'WALRX_USAGE') && message.test(error.message) && !/\n.*\n/.test(error.message),
      )
    })
  }
})
