/**
 * What the receive core needs from the outside, as small as it can be: the real ones come from `walg/`, `observe/` and
 * the command line, the simulation brings its own.
 */
import type { Lsn, Timeline } from '../postgres/lsn.ts'

/** Options of calls that wait. */
export interface CallOptions {
  readonly signal?: AbortSignal
}

/** Where whole segments and partials go. */
export interface SegmentSink {
  /** Compresses `buffer[0, length)` in place; see SegmentEncoder. */
  encodeInPlace(buffer: Buffer, length: number): Promise<number>
  /** Archives an encoded WAL file. Throws WALRX_ARCHIVE_CONFLICT when other bytes stand under that name. */
  archive(name: string, encoded: Uint8Array, options?: CallOptions): Promise<'created' | 'same'>
  /**
   * Archives the unfinished last segment of a timeline.
   * @param raw the whole segment's buffer; bytes from `length` on are undefined and become zeros
   * @returns what was done, for the log
   */
  archivePartial(segment: string, raw: Buffer, length: number, options?: CallOptions): Promise<string>
}

/** One archived segment. */
export interface ArchivedSegment {
  readonly timeline: Timeline
  /** Segment number: start position / segment size. */
  readonly segno: bigint
}

/** The archive as the receiver sees it. */
export interface ReceiveArchive extends SegmentSink {
  /** Binds the archive to a cluster, atomically; throws WALRX_OTHER_CLUSTER when it is bound to another. */
  bindSystem(systemId: bigint, segmentSize: number, options?: CallOptions): Promise<void>
  /** Archives a timeline history file; throws WALRX_ARCHIVE_CONFLICT when there is another one. */
  archiveHistory(fileName: string, content: Uint8Array, options?: CallOptions): Promise<'created' | 'same'>
  /** Called before a run begins with its first segment: what the archive holds from there on under other names. */
  lookAhead(segment: string, options?: CallOptions): Promise<void>
  /** True when a WAL file of that name is there under any extension. */
  has(name: string, options?: CallOptions): Promise<boolean>
  /** Whole segments of a timeline in WAL order, from segment number `from` on. */
  segments(timeline: Timeline, from: bigint, segmentSize: number, options?: CallOptions): AsyncIterable<ArchivedSegment>
}

/** What is counted. */
export interface ReceiveMeter {
  /** WAL bytes taken from the stream. */
  received(bytes: number): void
  /** One file became durable: bytes stored, time of the put, time since its last byte had arrived. */
  uploaded(bytes: number, putMs: number, sinceReceivedMs: number): void
  uploadFailed(): void
  /** A flush position went to the server. */
  flushed(lsn: Lsn): void
  reconnected(): void
  poolFull(ms: number): void
  /** WAL between the two positions is lost to the archive. */
  gap(startLsn: Lsn, endLsn: Lsn): void
  /** Bytes that lie behind the fork of their timeline. */
  pastFork(bytes: number): void
}
