/**
 * The interfaces of a server for the receiver: `connection.ts` implements them for real servers, the simulation with a
 * fake walsender. All replication commands use the simple query protocol, the only one of walsender.c.
 */
import type { Lsn, Timeline } from '../lsn.ts'

/** Answer to IDENTIFY_SYSTEM. */
export interface SystemIdentity {
  /** 64-bit number of the cluster, kept as a bigint: it exceeds 2^53. */
  readonly systemId: bigint
  readonly timeline: Timeline
  /** The server's flush position; on a standby the last position replayed or received. */
  readonly xlogpos: Lsn
}

/**
 * Answer to READ_REPLICATION_SLOT (PostgreSQL 15 and later), or the row of pg_replication_slots where SQL is allowed.
 */
export type SlotReading =
  | { readonly kind: 'missing' }
  | { readonly kind: 'logical' }
  /** The slot may or may not exist: PostgreSQL 14 has no replication command to read it. */
  | { readonly kind: 'unreadable' }
  | { readonly kind: 'physical'; readonly restartLsn: Lsn | undefined; readonly restartTimeline: Timeline | undefined }

/** A timeline history file, as the server sends it. */
export interface HistoryFile {
  readonly timeline: Timeline
  /** `0000000N.history` */
  readonly fileName: string
  /** The file's bytes, unchanged. */
  readonly content: Buffer
}

/** Callbacks of a {@link ByteSocket}. */
export interface ByteSocketHandlers {
  /** Bytes as they arrived. They are valid only during the call: the buffer is reused. */
  onBytes(chunk: Uint8Array): void
  /** The socket is closed; `error` when it broke. Called exactly once, also after destroy. */
  onClose(error?: Error): void
}

/** A connected, authenticated socket for walrx's own parser: plain, TLS, or the simulation's. */
export interface ByteSocket {
  /** Starts delivery. Called once, before anything is written. */
  start(handlers: ByteSocketHandlers): void
  /** Queues bytes for sending; never waits. Ignored after the socket closed. The bytes must not change afterwards. */
  write(bytes: Uint8Array): void
  /** Stops reading: no onBytes until resume. Sending goes on. */
  pause(): void
  /** Reads again. */
  resume(): void
  /** Closes at once, dropping what is queued. */
  destroy(): void
}

/** One replication connection, idle until {@link ReplicationSession.takeOver}. */
export interface ReplicationSession {
  /** `host:port` or the socket's path, for messages. */
  readonly host: string
  /** server_version_num, e.g. 170010. */
  readonly serverVersion: number
  /** True when the server is in recovery (`in_hot_standby`, reported by 14 and later). */
  readonly inRecovery: boolean
  identifySystem(): Promise<SystemIdentity>
  /** `SHOW name` as text. Throws WALRX_NO_PRIVILEGE for settings the role may not see. */
  show(name: string): Promise<string>
  readSlot(slot: string): Promise<SlotReading>
  /** CREATE_REPLICATION_SLOT … PHYSICAL with RESERVE_WAL. An existing one (42710) is not an error. */
  createSlot(slot: string): Promise<void>
  /**
   * DROP_REPLICATION_SLOT. A missing slot (42704) is not an error.
   * @throws WALRX_SLOT_ACTIVE while another process uses it
   */
  dropSlot(slot: string): Promise<void>
  /** TIMELINE_HISTORY; undefined for timeline 1 and where the server lacks the file (58P01). */
  timelineHistory(timeline: Timeline): Promise<HistoryFile | undefined>
  /**
   * Whether the server still has the WAL at a position: asks it to stream from there, without a slot, and ends the stream
   * at once.
   * @param lsn of a segment that the server has written to its end
   * @throws what the server says, except that the WAL is removed
   */
  hasWal(timeline: Timeline, lsn: Lsn): Promise<boolean>
  /**
   * Hands the idle connection's socket over. The session is unusable afterwards; `close` still ends it.
   */
  takeOver(): ByteSocket
  /** Ends the connection. May be called twice. */
  close(): Promise<void>
}

/** A server, or several hosts of one: opens sessions. */
export interface ReplicationServer {
  /**
   * Connects to the first host that answers and is suitable, and reads server_version and in_hot_standby.
   * @param judge throws a WalrxError for an open session that is not suitable: then the next host is tried
   * @throws WalrxError WALRX_CONNECT_FAILED, WALRX_AUTH_FAILED, WALRX_NO_PRIVILEGE, WALRX_NO_WALSENDER,
   * WALRX_SERVER_STARTING …, by SQLSTATE
   */
  connect(signal?: AbortSignal, judge?: (session: ReplicationSession) => Promise<void>): Promise<ReplicationSession>
  /**
   * Opens a session on every host at once, passes it to `look`, and closes it. Hosts that do not answer, and those
   * where `look` fails, are left out; once `look` has run for one, the others have a few seconds more.
   * @throws the signal's reason
   */
  survey?(signal: AbortSignal, look: (session: ReplicationSession) => Promise<void>): Promise<void>
}
