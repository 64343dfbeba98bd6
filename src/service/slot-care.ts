/** Watches the slot of a receiver: how much WAL it keeps, and whether the server is about to invalidate it. */
import type { ClusterMetrics } from '../observe/cluster-metrics.ts'
import type { Logger } from '../observe/log.ts'
import type { PgServer } from '../postgres/connect/connection.ts'
import { PgSession } from '../postgres/connect/pg-session.ts'
import type { SlotHealth, SqlConnection } from '../postgres/connect/sql-connection.ts'
import type { Clock } from '../primitives/clock.ts'
import { SlotLagLimit } from '../receive/slot/slot-lag-limit.ts'
import { type SlotQueries, SlotWatch } from '../receive/slot/slot-watch.ts'
import type { SlotSettings } from './service-settings.ts'

/** What {@link SlotCare} needs. */
export interface SlotCareOptions {
  readonly slot: SlotSettings
  readonly server: PgServer
  /** True where commits are meant to wait for us. */
  readonly isSynchronous: boolean
  readonly clock: Clock
  /** Random number in [0, 1) for back-off jitter. */
  readonly random: () => number
  readonly log: Logger
  readonly metrics: ClusterMetrics
}

/** The watch and the guard of the slot, both reporting to the metrics. */
export class SlotCare {
  readonly watch: SlotWatch
  readonly guard: SlotLagLimit
  readonly #server: PgServer
  readonly #closing = new AbortController()
  readonly #opening = new Set<Promise<unknown>>()
  readonly #connections = new Set<SqlConnection>()

  constructor({ clock, isSynchronous, log, metrics, random, server, slot }: SlotCareOptions) {
    this.#server = server
    const guard = new SlotLagLimit({
      slot: slot.name,
      server,
      limitBytes: slot.maxLagBytes,
      action: slot.lagAction,
      clock,
      random,
      log,
      onLag: (lagBytes, isOverBudget) => {
        metrics.slotLag.set(lagBytes)
        metrics.slotOverBudget.set(isOverBudget ? 1 : 0)
      },
    })
    this.guard = guard
    this.watch = new SlotWatch({
      slot: slot.name,
      clock,
      log,
      isSynchronous,
      open: (session) => {
        if (!(session instanceof PgSession)) throw new Error('not a session of this server')
        const opening = this.#open(session)
        const settled = opening.catch(() => {}).finally(() => this.#opening.delete(settled))
        this.#opening.add(settled)
        return opening
      },
      onHealth: (health) => {
        setHealth(metrics, health)
        // While the stream is paused it reports nothing.
        if (health.serverEnd !== undefined) guard.heard(health.serverEnd)
      },
    })
  }

  /** Ends both, and waits until no connection is open. */
  async close(): Promise<void> {
    this.watch.stop()
    this.#closing.abort()
    await Promise.all(this.#opening)
    await Promise.all([...this.#connections].map((sql) => sql.close()))
    await this.guard.close()
  }

  async #open(session: PgSession): Promise<SlotQueries | { readonly reason: string }> {
    const { reason, sql } = await this.#server.trySql(session, this.#closing.signal)
    if (!sql) return { reason: reason?.message ?? 'unknown' }
    this.#connections.add(sql)
    return {
      readSlotHealth: (name) => sql.readSlotHealth(name),
      readSyncState: () => sql.readSyncState(session.backendPid),
      close: () => sql.close().finally(() => this.#connections.delete(sql)),
    }
  }
}

function setHealth(metrics: ClusterMetrics, { restartLsn, safeWalBytes, walStatus }: SlotHealth): void {
  metrics.slotRestartLsn.set(Number(restartLsn ?? 0n))
  metrics.slotSafeWal.set(safeWalBytes === undefined ? Infinity : Number(safeWalBytes))
  metrics.slotWalStatus.reset()
  if (walStatus !== undefined) metrics.slotWalStatus.set(1, { status: walStatus })
}
