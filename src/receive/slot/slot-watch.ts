/**
 * Looks at our slot through an ordinary connection, where the server allows one: how much WAL it holds, whether the
 * server is about to drop it, and whether the server treats walrx as a synchronous standby. Without such a connection the stream
 * works all the same, but there is no warning before the slot is lost.
 */
import type { Logger } from '../../observe/log.ts'
import { formatLsn, type Lsn } from '../../postgres/lsn.ts'
import type { ReplicationSession } from '../../postgres/protocol/session.ts'
import type { SlotHealth } from '../../postgres/connect/sql-connection.ts'
import type { Clock, Timer } from '../../primitives/clock.ts'
import { toWalrxError } from '../../primitives/errors.ts'

/** How often the slot is looked at. */
export const slotWatchMs = 30_000

/** An idle_replication_slot_timeout below this is warned of: a day. */
const shortIdleTimeoutSeconds = 86_400

/** What the ordinary connection answers. */
export interface SlotQueries {
  readSlotHealth(slot: string): Promise<SlotHealth | undefined>
  /** sync_state of our walsender; undefined when the role may not see it. */
  readSyncState(): Promise<string | undefined>
  close(): Promise<void>
}

/** Options of {@link SlotWatch}. */
export interface SlotWatchOptions {
  readonly slot: string
  readonly clock: Clock
  readonly log: Logger
  /** True where commits are meant to wait for us. */
  readonly isSynchronous?: boolean
  /** Opens the ordinary connection to the host of a session, or says why there is none. */
  readonly open: (session: ReplicationSession) => Promise<SlotQueries | { readonly reason: string }>
  /** Called after every look. */
  readonly onHealth: (health: SlotHealth) => void
}

/** See the file's header. One session at a time. */
export class SlotWatch {
  readonly #options: SlotWatchOptions
  #timer: Timer | undefined
  #queries: SlotQueries | undefined
  /** Counts sessions, so that an answer for a session that has ended is dropped. */
  #generation = 0
  #saidWhyNot = false
  #lastStatus: string | undefined
  #lastSyncState: string | undefined
  /** True when the last look did not show walrx as a synchronous standby. */
  #wasAsync = false
  #lastIdleTimeout: number | undefined

  constructor(options: SlotWatchOptions) {
    this.#options = options
  }

  /** Begins to watch the slot on this session's host; never throws. */
  start(session: ReplicationSession): void {
    this.stop()
    void this.#run(session, this.#generation)
  }

  /** Stops watching and closes the connection. */
  stop(): void {
    this.#generation++
    this.#wasAsync = false
    this.#timer?.cancel()
    this.#timer = undefined
    void this.#queries?.close().catch(() => {})
    this.#queries = undefined
  }

  async #run(session: ReplicationSession, generation: number): Promise<void> {
    const { clock, log, open } = this.#options
    try {
      const opened = this.#queries ?? (await open(session))
      if ('reason' in opened) {
        if (!this.#saidWhyNot) log.info('slot health is not watched: no ordinary connection', { reason: opened.reason })
        this.#saidWhyNot = true
        return
      }
      if (generation !== this.#generation) return await opened.close()
      this.#queries = opened
      await this.#look(opened)
    } catch (error) {
      log.debug('slot health could not be read', { error: toWalrxError(error).message })
      await this.#queries?.close().catch(() => {})
      this.#queries = undefined
    }
    if (generation !== this.#generation) return
    this.#timer = clock.setTimer(slotWatchMs, () => void this.#run(session, generation))
  }

  async #look(queries: SlotQueries): Promise<void> {
    const { onHealth, slot } = this.#options
    const health = await queries.readSlotHealth(slot)
    const syncState = await queries.readSyncState()
    if (health) {
      onHealth(health)
      this.#report(health)
      this.#warnOfIdleTimeout(health)
    }
    this.#reportSyncState(syncState)
  }

  #reportSyncState(syncState: string | undefined): void {
    const { isSynchronous, log } = this.#options
    // Until the first flush position of a stream was reported everyone is async.
    const isTooEarly = isSynchronous && syncState === 'async' && !this.#wasAsync
    this.#wasAsync = syncState === 'async'
    if (syncState === undefined || syncState === this.#lastSyncState || isTooEarly) return
    this.#lastSyncState = syncState
    if (!isSynchronous && syncState !== 'async') {
      log.warn('the server treats walrx as a synchronous standby', { syncState })
    } else if (isSynchronous && syncState === 'async') {
      log.warn('no commit waits for the archive: the server does not treat walrx as a synchronous standby', {
        syncState,
        hint: 'add the application_name of walrx (walrx by default) to synchronous_standby_names',
      })
    } else if (isSynchronous) log.info('commits wait for the archive', { syncState })
  }

  /** The timeout counts while we are away: an outage of ours that lasts as long costs the slot, and WAL with it. */
  #warnOfIdleTimeout({ idleTimeoutSeconds }: SlotHealth): void {
    if (idleTimeoutSeconds === this.#lastIdleTimeout) return
    this.#lastIdleTimeout = idleTimeoutSeconds
    if (idleTimeoutSeconds === undefined || idleTimeoutSeconds >= shortIdleTimeoutSeconds) return
    this.#options.log.warn('the server invalidates the slot when walrx is disconnected for this long', {
      slot: this.#options.slot,
      idleTimeoutSeconds,
      hint: 'idle_replication_slot_timeout is less than a day: raise it, or set it to 0',
    })
  }

  #report(health: SlotHealth): void {
    const { log, slot } = this.#options
    const status = health.invalidationReason ?? health.walStatus
    if (status === this.#lastStatus) return
    this.#lastStatus = status
    const facts = { slot, walStatus: health.walStatus, restartLsn: formatRestart(health.restartLsn) }
    if (status === 'reserved' || status === 'extended' || status === undefined) {
      log.info('slot health', facts)
    } else {
      log.error('the slot is in danger: the server will remove WAL that is not archived, or has removed some already', {
        ...facts,
        invalidationReason: health.invalidationReason,
        safeWalBytes: health.safeWalBytes,
      })
    }
  }
}

function formatRestart(lsn: Lsn | undefined): string | undefined {
  return lsn === undefined ? undefined : formatLsn(lsn)
}
