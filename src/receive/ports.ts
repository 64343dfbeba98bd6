/**
 * What the receive core needs from the outside, as small as it can be: the real ones come from `walg/`, `observe/` and
 * the command line, the simulation brings its own.
 */
import type { WalrxError } from '../primitives/errors.ts'
import type { Lsn, Timeline } from '../postgres/lsn.ts'
import type { GapRecord } from '../walg/wal/gap-records.ts'
import type { SegmentStore } from '../walg/wal/segment-archiver.ts'

/** Options of calls that wait. */
export interface CallOptions {
  readonly signal?: AbortSignal
}

/** Options of calls that read chunks, and set damaged ones aside. */
export interface TailReadOptions extends CallOptions {
  /** Called with every chunk that was set aside: its key, where it is now, what is wrong with it. */
  readonly onDamaged?: (chunk: { readonly key: string; readonly aside: string; readonly error: WalrxError }) => void
}

/** Where whole segments and partials go. */
export interface SegmentSink extends SegmentStore {
  /**
   * Archives the unfinished last segment of a timeline.
   * @param raw the whole segment's buffer; bytes from `length` on are undefined and become zeros
   * @returns what was done, for the log
   */
  archivePartial(segment: string, raw: Buffer, length: number, options?: CallOptions): Promise<string>
}

/** Where tails go, chunk by chunk. */
export interface TailSink {
  /** Compresses `buffer[0, length)` in place; see SegmentEncoder. */
  encodeInPlace(buffer: Buffer, length: number): Promise<number>
  /** Key of a chunk: the bytes `[from, to)` of a segment. */
  tailKey(segment: string, range: { readonly from: number; readonly to: number }): string
  /** Stores an encoded chunk. Throws WALRX_ARCHIVE_CONFLICT when other bytes stand under that key. */
  putTailChunk(
    segment: string,
    range: { readonly from: number; readonly to: number },
    encoded: Uint8Array,
    options?: CallOptions,
  ): Promise<void>
  /** Removes chunks. */
  deleteTailChunks(keys: readonly string[], options?: CallOptions): Promise<void>
  /** Reads what the chunks cover of a segment, from its first byte on; throws WALRX_ARCHIVE_CONFLICT when they disagree. */
  readTail(
    segment: string,
    buffer: Buffer,
    options?: TailReadOptions,
  ): Promise<{ readonly length: number; readonly keys: readonly string[] }>
  /**
   * Names of segments that are there as chunks from the first byte to the last, and not as a whole. The buffer holds the
   * bytes of the last one yielded, and may be changed until the next is asked for.
   */
  completeTails(buffer: Buffer, segmentSize: number, options?: TailReadOptions): AsyncIterable<string>
  /**
   * Removes chunks of segments that are archived as a whole, after comparing them; names the segments that contradict
   * theirs.
   */
  clearTails(options?: CallOptions): Promise<{
    readonly removed: number
    readonly contradicting: readonly string[]
    /** Segments that the keys don't open. */
    readonly locked: readonly string[]
  }>
}

/** One archived segment. */
export interface ArchivedSegment {
  readonly timeline: Timeline
  /** Segment number: start position / segment size. */
  readonly segno: bigint
}

/** A segment as it is stored. */
export interface StoredSegment extends ArchivedSegment {
  /** Bytes of the shortest of its forms. With 0 it is as good as missing: none is that short, encoded or not. */
  readonly size: number
}

/** The archive as the receiver sees it. */
export interface ReceiveArchive extends SegmentSink, TailSink {
  /** Binds the archive to a cluster, atomically; throws WALRX_OTHER_CLUSTER when it belongs to another, or has another segment size. */
  bindSystem(systemId: bigint, segmentSize: number, options?: CallOptions): Promise<void>
  /** Archives a timeline history file; throws WALRX_ARCHIVE_CONFLICT when there is another one. */
  archiveHistory(fileName: string, content: Uint8Array, options?: CallOptions): Promise<'created' | 'same'>
  /** Newer timelines that left this one, by the histories in the archive. */
  forksOf(
    timeline: Timeline,
    options?: CallOptions,
  ): AsyncIterable<{ readonly timeline: Timeline; readonly switchpoint: Lsn }>
  /** Timelines after this one that have any file, in order. */
  timelinesAfter(timeline: Timeline, options?: CallOptions): AsyncIterable<Timeline>
  /** Called before a run begins with its first segment: what the archive holds from there on under other names. */
  lookAhead(segment: string, options?: CallOptions): Promise<void>
  /** True when a WAL file of that name is there under any extension. */
  has(name: string, options?: CallOptions): Promise<boolean>
  /** Reads a segment: false for one that is not there, is damaged, or is not of that many bytes. */
  isWhole(segment: string, segmentSize: number, options?: CallOptions): Promise<boolean>
  /** Records that WAL is lost; `same` when that was known. */
  recordGap(gap: GapRecord, options?: CallOptions): Promise<'created' | 'same'>
  /** Segments of a timeline that have chunks or a partial segment, in any order. */
  segmentsWithTail(timeline: Timeline, segmentSize: number, options?: CallOptions): AsyncIterable<ArchivedSegment>
  /** Whole segments of a timeline in WAL order, from segment number `from` on. */
  segments(timeline: Timeline, from: bigint, segmentSize: number, options?: CallOptions): AsyncIterable<StoredSegment>
}

/** What is counted. */
export interface ReceiveMeter {
  /** WAL bytes taken from the stream. */
  received(bytes: number): void
  /** One file became durable: bytes stored, time of the put, time since its last byte had arrived. */
  uploaded(bytes: number, putMs: number, sinceReceivedMs: number): void
  uploadFailed(): void
  /** One chunk of an unfinished segment became durable: bytes stored, time of the put. */
  tailStored(bytes: number, putMs: number): void
  /** A flush position went to the server. */
  flushed(lsn: Lsn): void
  reconnected(): void
  poolFull(ms: number): void
  /** WAL between the two positions is lost to the archive. */
  gap(startLsn: Lsn, endLsn: Lsn): void
  /** Bytes of WAL that one server no longer had were archived from another host. */
  repaired(host: string, bytes: number): void
  /** Bytes beyond the fork of their timeline. */
  pastFork(bytes: number): void
}
