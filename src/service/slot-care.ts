/** What looks after the slot of a receiver, put together from its options. */
import type { OptionValues } from '../config/options/options.ts'
import type { Logger } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { PgServer } from '../postgres/connect/connection.ts'
import { PgSession } from '../postgres/connect/pg-session.ts'
import type { SlotHealth } from '../postgres/connect/sql-connection.ts'
import { systemClock } from '../primitives/clock.ts'
import { WalrxError } from '../primitives/errors.ts'
import { SlotGuard } from '../receive/slot/slot-guard.ts'
import { SlotWatch } from '../receive/slot/slot-watch.ts'

/** Options about the slot. */
export type SlotCareOptions = Pick<
  OptionValues<'wal-receive'>,
  'slotName' | 'slotless' | 'maxSlotLagBytes' | 'slotLagAction' | 'synchronous'
>

/** Refuses options that would have no effect. Throws WALRX_USAGE. */
export function refuseIdleSlotOptions({ maxSlotLagBytes, slotLagAction, slotless }: SlotCareOptions): void {
  if (slotless && maxSlotLagBytes !== undefined) {
    throw new WalrxError('WALRX_USAGE', '--max-slot-lag is given with --slotless', {
      hint: 'without a slot the server keeps no WAL for walrx: leave one of the two out',
    })
  }
  if (slotLagAction === 'drop' && maxSlotLagBytes === undefined) {
    throw new WalrxError('WALRX_USAGE', '--slot-lag-action=drop is given without --max-slot-lag', {
      hint: 'say with --max-slot-lag how much WAL the slot may keep',
    })
  }
}

/** The watch and the guard of the slot, both telling `metrics`; neither without a slot. */
export function slotCare(
  options: SlotCareOptions,
  server: PgServer,
  metrics: Metrics,
  log: Logger,
): { readonly watch: SlotWatch; readonly guard: SlotGuard } | undefined {
  if (options.slotless) return undefined
  const guard = new SlotGuard({
    slot: options.slotName,
    server,
    limitBytes: options.maxSlotLagBytes,
    action: options.slotLagAction,
    clock: systemClock,
    random: Math.random,
    log,
    onLag: (lagBytes, isOverBudget) => {
      metrics.slotLag.set(lagBytes)
      metrics.slotOverBudget.set(isOverBudget ? 1 : 0)
    },
  })
  const watch = new SlotWatch({
    slot: options.slotName,
    clock: systemClock,
    log,
    isSynchronous: options.synchronous,
    open: async (session) => {
      if (!(session instanceof PgSession)) throw new Error('not a session of this server')
      const { sql, reason } = await server.trySql(session)
      if (!sql) return { reason: reason?.message ?? 'unknown' }
      return {
        readSlotHealth: (name) => sql.readSlotHealth(name),
        readSyncState: () => sql.readSyncState(session.backendPid),
        close: () => sql.close(),
      }
    },
    onHealth: (health) => {
      setHealth(metrics, health)
      // While the stream is paused it tells nothing.
      if (health.serverEnd !== undefined) guard.heard(health.serverEnd)
    },
  })
  return { watch, guard }
}

function setHealth(metrics: Metrics, { restartLsn, safeWalBytes, walStatus }: SlotHealth): void {
  metrics.slotRestartLsn.set(Number(restartLsn ?? 0n))
  metrics.slotSafeWal.set(safeWalBytes === undefined ? Infinity : Number(safeWalBytes))
  metrics.slotWalStatus.reset()
  if (walStatus !== undefined) metrics.slotWalStatus.set({ status: walStatus }, 1)
}
