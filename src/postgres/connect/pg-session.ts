/** One replication connection: the commands of a walsender (walsender.c, repl_gram.y), then its socket. */
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { encodeStartReplication, type Row } from '../protocol/frames.ts'
import { type Lsn, parseLsn, type Timeline } from '../lsn.ts'
import { ServerError, sqlstates } from '../protocol/server-error.ts'
import type {
  ByteSocket,
  ByteSocketHandlers,
  HistoryFile,
  ReplicationSession,
  SlotReading,
  SystemIdentity,
} from '../protocol/session.ts'
import type { Transport } from '../protocol/transport.ts'
import { historyName } from '../wal/wal-file.ts'
import type { Wire } from '../protocol/wire.ts'

/** The components of a session. */
export interface PgSessionParts {
  readonly wire: Wire
  /** Process id of the session's walsender, as in pg_stat_replication. */
  readonly backendPid: number
  /**
   * Reads a slot over an ordinary connection: 14 has no replication command for it. Undefined where none is allowed.
   */
  readonly readSlotBySql: (slot: string) => Promise<SlotReading | undefined>
}

/** A session over a real connection. */
export class PgSession implements ReplicationSession {
  readonly host: string
  readonly serverVersion: number
  readonly backendPid: number
  readonly #wire: Wire
  readonly #parts: PgSessionParts
  #isTaken = false

  constructor(parts: PgSessionParts) {
    this.#parts = parts
    this.#wire = parts.wire
    this.host = parts.wire.host
    this.backendPid = parts.backendPid
    this.serverVersion = parseServerVersion(parts.wire.parameters.get('server_version') ?? '')
  }

  get inRecovery(): boolean {
    return this.#wire.parameters.get('in_hot_standby') === 'on'
  }

  /** True under TLS. */
  get isEncrypted(): boolean {
    return this.#wire.transport.encrypted
  }

  /** True where new transactions cannot write: in recovery, or by default_transaction_read_only. */
  get isReadOnly(): boolean {
    return this.inRecovery || this.#wire.parameters.get('default_transaction_read_only') === 'on'
  }

  async identifySystem(): Promise<SystemIdentity> {
    const row = await this.#row('IDENTIFY_SYSTEM', 'IDENTIFY_SYSTEM')
    const [systemId, timeline, xlogpos] = row.map((column) => column?.toString('latin1') ?? '')
    if (!/^\d+$/.test(systemId ?? '') || !/^\d+$/.test(timeline ?? '')) throw this.#unexpected('IDENTIFY_SYSTEM')
    return { systemId: BigInt(systemId ?? ''), timeline: Number(timeline), xlogpos: this.#lsn(xlogpos ?? '') }
  }

  async show(name: string): Promise<string> {
    if (!/^[a-z_][a-z0-9_.]*$/i.test(name))
      throw new WalrxError('WALRX_USAGE', `"${name}" is not the name of a setting`)
    const [value] = await this.#row(`SHOW ${name}`, 'SHOW')
    return value?.toString('utf8') ?? ''
  }

  async readSlot(slot: string): Promise<SlotReading> {
    refuseSlotName(slot)
    if (this.serverVersion < 150_000) return (await this.#parts.readSlotBySql(slot)) ?? { kind: 'unreadable' }
    let row: Row
    try {
      row = await this.#row(`READ_REPLICATION_SLOT "${slot}"`, 'READ_REPLICATION_SLOT')
    } catch (error) {
      // The command supports only physical slots, and this SQLSTATE has no other reason.
      if (error instanceof ServerError && error.sqlstate === sqlstates.featureNotSupported) return { kind: 'logical' }
      throw error
    }
    // No restart_lsn: never reserved, or invalidated. 14 to 17 start streaming from an invalidated slot without an
    // error, and 16 and 17 even set its restart_lsn again at the first flush position, although it holds no WAL.
    const [type, restartLsn, restartTimeline] = row
    if (!type) return { kind: 'missing' }
    return {
      kind: 'physical',
      restartLsn: restartLsn ? this.#lsn(restartLsn.toString('latin1')) : undefined,
      restartTimeline: restartTimeline ? Number(restartTimeline.toString('latin1')) : undefined,
    }
  }

  async createSlot(slot: string): Promise<void> {
    refuseSlotName(slot)
    try {
      // All versions understand the old syntax; 14 does not understand the parenthesised one of 15.
      await this.#wire.query(`CREATE_REPLICATION_SLOT "${slot}" PHYSICAL RESERVE_WAL`, 'CREATE_REPLICATION_SLOT')
    } catch (error) {
      if (!(error instanceof ServerError && error.sqlstate === sqlstates.duplicateObject)) throw error
    }
  }

  async dropSlot(slot: string): Promise<void> {
    refuseSlotName(slot)
    try {
      await this.#wire.query(`DROP_REPLICATION_SLOT "${slot}"`, 'DROP_REPLICATION_SLOT')
    } catch (error) {
      if (!(error instanceof ServerError && error.sqlstate === sqlstates.undefinedObject)) throw error
    }
  }

  async timelineHistory(timeline: Timeline): Promise<HistoryFile | undefined> {
    // The first timeline has no history.
    if (timeline === 1) return undefined
    let row: Row
    try {
      row = await this.#row(`TIMELINE_HISTORY ${timeline}`, 'TIMELINE_HISTORY')
    } catch (error) {
      if (error instanceof ServerError && error.sqlstate === sqlstates.undefinedFile) return undefined
      throw error
    }
    const [fileName, content] = row
    if (fileName?.toString('latin1') !== historyName(timeline) || !content) throw this.#unexpected('TIMELINE_HISTORY')
    // A copy: the row is a view of a whole read.
    return { timeline, fileName: historyName(timeline), content: Buffer.from(content) }
  }

  /**
   * UPLOAD_MANIFEST (17 and later): the next incremental base backup of this connection builds on this manifest.
   * @param pieces the manifest, split anywhere
   * @throws ServerError when the server refuses it; what `pieces` throws
   */
  async uploadManifest(pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<void> {
    await this.#wire.copyIn('UPLOAD_MANIFEST', 'UPLOAD_MANIFEST', pieces)
  }

  async hasWal(timeline: Timeline, lsn: Lsn): Promise<boolean> {
    try {
      await this.#wire.copyFirst(
        encodeStartReplication({ slot: undefined, timeline, startLsn: lsn }),
        'START_REPLICATION',
      )
      return true
    } catch (error) {
      if (hasCode(error, 'WALRX_WAL_REMOVED')) return false
      throw error
    }
  }

  takeOver(): ByteSocket {
    const unread = this.#wire.release()
    this.#isTaken = true
    return new TakenSocket(this.#wire.transport, unread)
  }

  async close(): Promise<void> {
    if (!this.#isTaken) return this.#wire.close()
    this.#wire.transport.destroy()
    await this.#wire.transport.closed
  }

  /** Runs a command and returns its first row. */
  async #row(text: string, name: string): Promise<Row> {
    const [row] = await this.#wire.query(text, name)
    if (!row) throw this.#unexpected(name)
    return row
  }

  #lsn(text: string): Lsn {
    try {
      return parseLsn(text)
    } catch (error) {
      throw new WalrxError('WALRX_PROTOCOL', `${this.host} sent "${text}" for an LSN`, { cause: error })
    }
  }

  #unexpected(command: string): WalrxError {
    return new WalrxError('WALRX_PROTOCOL', `${this.host} sent an unexpected answer to ${command}`)
  }
}

/**
 * Converts server_version to server_version_num: `17.10 (Debian …)` is 170010, `18beta1` is 180000. Zero for a text
 * that does not begin with a number.
 */
export function parseServerVersion(text: string): number {
  const match = /^(\d+)(?:\.(\d+))?/.exec(text)
  return match ? Number(match[1]) * 10_000 + Number(match[2] ?? 0) : 0
}

/**
 * Checks PostgreSQL's own rule for slot names (ReplicationSlotValidateName in slot.c), which also makes them safe in
 * commands. Throws WALRX_USAGE.
 */
export function refuseSlotName(slot: string): void {
  if (/^[a-z0-9_]{1,63}$/.test(slot)) return
  throw new WalrxError('WALRX_USAGE', `"${slot}" is not a valid name for a replication slot`, {
    hint: 'use 1 to 63 lower case letters, digits and underscores',
  })
}

/** The socket of a session after the handover. */
class TakenSocket implements ByteSocket {
  readonly #transport: Transport
  #unread: Buffer

  constructor(transport: Transport, unread: Buffer) {
    this.#transport = transport
    this.#unread = unread
    // Until a receiver listens, keeps what arrives: a notice, or the reason why the server ends the connection.
    transport.receiveWith({
      onBytes: (chunk) => {
        this.#unread = Buffer.concat([this.#unread, chunk])
      },
      onClose: () => {},
    })
  }

  start(handlers: ByteSocketHandlers): void {
    const unread = this.#unread
    this.#transport.receiveWith(handlers)
    if (unread.length > 0) handlers.onBytes(unread)
  }

  write(bytes: Uint8Array): void {
    this.#transport.write(bytes)
  }

  pause(): void {
    this.#transport.pause()
  }

  resume(): void {
    this.#transport.resume()
  }

  destroy(): void {
    this.#transport.destroy()
  }
}
