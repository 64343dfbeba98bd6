import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Logger } from '../../../src/observe/log.ts'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import type { SlotHealth } from '../../../src/postgres/connect/sql-connection.ts'
import { SlotWatch, slotWatchMs } from '../../../src/receive/slot/slot-watch.ts'
import { VirtualClock } from '../../harness/time/virtual-clock.ts'
import { FakeSession, settle } from '../fakes.ts'

const well: SlotHealth = {
  kind: 'physical',
  isActive: true,
  activePid: 1,
  restartLsn: parseLsn('0/5000000'),
  walStatus: 'reserved',
  safeWalBytes: undefined,
  inactiveSince: undefined,
  invalidationReason: undefined,
  serverEnd: parseLsn('0/6000000'),
  idleTimeoutSeconds: undefined,
}

/** A watch of a slot; the test sets its health. */
function setUp() {
  const clock = new VirtualClock()
  const lines: string[] = []
  const seen: SlotHealth[] = []
  const state = { health: well as SlotHealth | undefined, closed: 0, opened: 0 }
  const say = (level: string) => (message: string) => void lines.push(`${level} ${message}`)
  const log: Logger = { debug: () => {}, info: say('info'), warn: say('warn'), error: say('error'), child: () => log }
  const watch = new SlotWatch({
    slot: 'walrx',
    clock,
    log,
    open: () => {
      state.opened++
      return Promise.resolve({
        readSlotHealth: () => Promise.resolve(state.health),
        readSyncState: () => Promise.resolve('async'),
        close: () => Promise.resolve(void state.closed++),
      })
    },
    onHealth: (health) => seen.push(health),
  })
  const next = async () => {
    await clock.pass(slotWatchMs + 1)
    await settle()
  }
  return { lines, next, seen, state, watch }
}

const session = new FakeSession(parseLsn('0/6000000'))

describe('the slot is watched', () => {
  test('at once and then every half minute over one connection, until that is stopped', async () => {
    const { lines, next, seen, state, watch } = setUp()
    watch.start(session)
    await settle()
    await next()
    assert.deepEqual([seen.length, state.opened], [2, 1])
    assert.deepEqual(lines, ['info slot health'])
    watch.stop()
    await settle()
    assert.equal(state.closed, 1)
    await next()
    assert.equal(seen.length, 2)
  })

  test('and the log says when the server is about to give it up, or has done so', async () => {
    const { lines, next, state, watch } = setUp()
    watch.start(session)
    await settle()
    state.health = { ...well, walStatus: 'unreserved', safeWalBytes: -1n }
    await next()
    await next()
    state.health = { ...well, walStatus: 'lost', restartLsn: undefined, invalidationReason: 'wal_removed' }
    await next()
    const danger =
      'error the slot is in danger: the server will remove WAL that is not archived, or has removed some already'
    assert.deepEqual(lines, ['info slot health', danger, danger])
    watch.stop()
  })

  test('and a short idle_replication_slot_timeout is warned of, once', async () => {
    const warning = 'warn the server invalidates the slot when walrx is disconnected for this long'
    for (const [seconds, warnings] of [
      [86_399, 1],
      [86_400, 0],
    ] as const) {
      const { lines, next, state, watch } = setUp()
      state.health = { ...well, idleTimeoutSeconds: seconds }
      watch.start(session)
      await settle()
      await next()
      watch.stop()
      assert.equal(lines.filter((line) => line === warning).length, warnings)
    }
  })
})
