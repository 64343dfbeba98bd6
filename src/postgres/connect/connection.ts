/** A server for the receiver, over real connections: one of several hosts must be suitable. */
import { type Logger, silentLog } from '../../observe/log.ts'
import { type Clock, systemClock, type Timer } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { orAborted } from '../../primitives/wait.ts'
import { combineFailures, connectError } from '../protocol/connect-error.ts'
import type { ReplicationServer } from '../protocol/session.ts'
import type { Conninfo } from './conninfo.ts'
import { type ConnectionSettings, openConnection } from './open-connection.ts'
import { PgSession } from './pg-session.ts'
import { readSlotBySql, type SqlOpening, tryOpenSql } from './sql-connection.ts'
import { findTargets, hostLabel, type Target } from './target.ts'

/** Options of {@link PgServer}. */
export interface PgServerOptions {
  readonly conninfo: Conninfo
  /** Default: no log. */
  readonly log?: Logger
  /** For each address, where the connection string has no connect_timeout. Default 10,000 ms. */
  readonly connectTimeoutMs?: number
  /** After this time without an answer to a command the connection is dead. Default 60,000 ms. */
  readonly commandTimeoutMs?: number
  /** Silence before TCP keepalives, where the string has no keepalives_idle. Default 10,000 ms. */
  readonly keepAliveIdleMs?: number
  /**
   * False skips standbys in a list of hosts, as target_session_attrs=primary would where the string does not set
   * another value. With a single host it has no effect: the caller judges its state. Default true.
   */
  readonly acceptStandby?: boolean
  /** True accepts every host and ignores target_session_attrs: the caller judges. Default false. */
  readonly anyHost?: boolean
  readonly clock?: Clock
  /** In [0, 1), for load_balance_hosts=random. Default Math.random. */
  readonly random?: () => number
}

/** Throws for a session that is not suitable. */
type Judge = Parameters<ReplicationServer['connect']>[1]

/** The values of target_session_attrs. */
type Attributes = Conninfo['targetSessionAttributes']

/** How long a survey waits for the other hosts after the first answer. */
const surveyMs = 3_000

/** A PostgreSQL server, or several hosts of one cluster. */
export class PgServer implements ReplicationServer {
  readonly #conninfo: Conninfo
  readonly #settings: ConnectionSettings
  readonly #attributes: Attributes
  readonly #random: () => number
  /** The address of each session, for its ordinary connection. */
  readonly #targets = new WeakMap<PgSession, Target>()

  constructor(options: PgServerOptions) {
    const { acceptStandby, conninfo } = options
    this.#conninfo = conninfo
    this.#settings = {
      conninfo,
      log: options.log ?? silentLog,
      clock: options.clock ?? systemClock,
      connectTimeoutMs: conninfo.connectTimeoutMs ?? options.connectTimeoutMs ?? 10_000,
      commandTimeoutMs: options.commandTimeoutMs ?? 60_000,
      keepAliveIdleMs: conninfo.keepAliveIdleMs ?? options.keepAliveIdleMs ?? 10_000,
    }
    this.#random = options.random ?? Math.random
    const asked = conninfo.targetSessionAttributes
    const passesOver = acceptStandby === false && asked === 'any' && conninfo.hosts.length > 1
    this.#attributes = options.anyHost === true ? 'any' : passesOver ? 'primary' : asked
  }

  /**
   * Connects to the first host, and its first address, that answers and is suitable.
   * @param judge see {@link ReplicationServer.connect}
   * @throws WalrxError that lists the failure of each host; the signal's reason when it aborts
   */
  async connect(signal: AbortSignal = new AbortController().signal, judge?: Judge): Promise<PgSession> {
    const passes: Attributes[] = this.#attributes === 'prefer-standby' ? ['standby', 'any'] : [this.#attributes]
    let failures: WalrxError[] = []
    for (const attributes of passes) {
      failures = []
      for (const host of this.#ordered(this.#conninfo.hosts)) {
        const targets = await this.#find(host, failures, signal)
        for (const target of this.#ordered(targets)) {
          const session = await this.#try(target, { attributes, judge }, failures, signal)
          if (session) return session
        }
      }
    }
    throw combineFailures(failures, 'no host can be used')
  }

  /** See {@link ReplicationServer.survey}. */
  async survey(signal: AbortSignal, look: (session: PgSession) => Promise<void>): Promise<void> {
    const late = new AbortController()
    const onAbort = () => late.abort(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    let timer: Timer | undefined
    const visit = async (host: Conninfo['hosts'][number]): Promise<void> => {
      for (const target of await this.#find(host, [], late.signal)) {
        const session = await this.#try(target, { attributes: 'any', judge: undefined }, [], late.signal)
        if (!session) continue
        try {
          await orAborted(look(session), late.signal)
        } finally {
          await session.close()
        }
        timer ??= this.#settings.clock.setTimer(surveyMs, () => late.abort(new Error('a survey is over')))
        return
      }
    }
    await Promise.allSettled(this.#conninfo.hosts.map(visit))
    timer?.cancel()
    signal.removeEventListener('abort', onAbort)
    signal.throwIfAborted()
  }

  /**
   * Opens an ordinary connection to the host of `session`, for facts that only SQL can show. Where pg_hba.conf or
   * something else prevents it, returns the reason instead.
   */
  async trySql(session: PgSession, signal?: AbortSignal): Promise<SqlOpening> {
    const target = this.#targets.get(session)
    if (!target) throw new WalrxError('WALRX_INTERNAL', `the session with ${session.host} is not one of this server`)
    return tryOpenSql(target, this.#settings, signal)
  }

  /**
   * Opens an ordinary connection to the first host that allows one, without a replication connection: to find out why that
   * is refused.
   * @returns the reasons of all hosts where there is none
   * @throws only the signal's reason
   */
  async openSql(signal?: AbortSignal): Promise<SqlOpening> {
    const failures: WalrxError[] = []
    for (const host of this.#conninfo.hosts) {
      for (const target of await this.#find(host, failures, signal ?? new AbortController().signal)) {
        const { reason, sql } = await tryOpenSql(target, this.#settings, signal)
        if (sql) return { sql }
        failures.push(reason)
      }
    }
    return { reason: combineFailures(failures, 'no host can be used') }
  }

  #ordered<T>(items: readonly T[]): readonly T[] {
    if (this.#conninfo.loadBalance === 'disable') return items
    const shuffled = [...items]
    for (let last = shuffled.length - 1; last > 0; last--) {
      const other = Math.floor(this.#random() * (last + 1))
      ;[shuffled[last], shuffled[other]] = [shuffled[other] as T, shuffled[last] as T]
    }
    return shuffled
  }

  async #find(host: Conninfo['hosts'][number], failures: WalrxError[], signal: AbortSignal): Promise<Target[]> {
    try {
      return await findTargets(host, signal)
    } catch (error) {
      signal.throwIfAborted()
      failures.push(connectError(error, hostLabel(host), this.#conninfo.tls.mode))
      return []
    }
  }

  async #try(
    target: Target,
    { attributes, judge }: { readonly attributes: Attributes; readonly judge: Judge | undefined },
    failures: WalrxError[],
    signal: AbortSignal,
  ): Promise<PgSession | undefined> {
    let session: PgSession | undefined
    try {
      session = await this.#open(target, signal)
      const refusal = unsuitable(session, attributes)
      if (!refusal) {
        await judge?.(session)
        return session
      }
      failures.push(refusal)
    } catch (error) {
      signal.throwIfAborted()
      failures.push(connectError(error, target.label, this.#conninfo.tls.mode))
    }
    await session?.close()
    return undefined
  }

  async #open(target: Target, signal: AbortSignal): Promise<PgSession> {
    const { backendPid, wire } = await openConnection(target, undefined, this.#settings, signal)
    const session: PgSession = new PgSession({
      wire,
      backendPid,
      readSlotBySql: async (slot) => {
        const opening = await this.trySql(session)
        return opening.sql && readSlotBySql(opening.sql, slot)
      },
    })
    this.#targets.set(session, target)
    return session
  }
}

const oldestServer = 140_000

/** Why a session cannot be used; undefined when it can. */
function unsuitable(session: PgSession, attributes: Attributes): WalrxError | undefined {
  const { host, inRecovery, isReadOnly, serverVersion } = session
  if (serverVersion < oldestServer) {
    const version = Math.floor(serverVersion / 10_000)
    return new WalrxError('WALRX_SERVER_UNSUPPORTED', `${host} is PostgreSQL ${version}; walrx needs 14 or later`)
  }
  const wants = (what: string) => `${host} ${what}, but target_session_attrs is ${attributes}`
  if (inRecovery && (attributes === 'primary' || attributes === 'read-write')) {
    return new WalrxError('WALRX_SOURCE_IN_RECOVERY', wants('is a standby'))
  }
  if (!inRecovery && attributes === 'standby') return new WalrxError('WALRX_CONNECT_FAILED', wants('is not a standby'))
  if (isReadOnly && attributes === 'read-write') return new WalrxError('WALRX_CONNECT_FAILED', wants('is read-only'))
  if (!isReadOnly && attributes === 'read-only') return new WalrxError('WALRX_CONNECT_FAILED', wants('accepts writes'))
  return undefined
}
