/** What an earlier receiver has left of unfinished segments, before a run begins. */
import { WalrxError } from '../../primitives/errors.ts'
import type { Logger } from '../../observe/log.ts'
import { type Lsn, type Timeline } from '../../postgres/lsn.ts'
import { parseSegmentName, segmentNameAt, segmentStartLsn } from '../../postgres/wal/wal-file.ts'
import type { SegmentArchiver } from '../../walg/wal/segment-archiver.ts'
import type { ReceiveArchive, TailReadOptions } from '../ports.ts'
import type { SegmentAssembler } from '../segment/segment-assembler.ts'
import type { SegmentPool } from '../segment/segment-pool.ts'

/** The server is asked for the WAL of a damaged chunk again: it keeps the segment in which the slot's position lies. */
function reportDamage(log: Logger, signal: AbortSignal): TailReadOptions {
  return {
    signal,
    onDamaged: ({ aside, error, key }) =>
      log.error('a chunk is damaged: it is set aside, and its WAL is taken from the server again', {
        file: key,
        movedTo: aside,
        error: error.message,
        hint: 'find out what has damaged it; if the server no longer has that WAL, a gap is reported',
      }),
  }
}

/** What {@link finaliseTails} needs. */
export interface FinaliseOptions {
  readonly archive: Pick<ReceiveArchive, 'completeTails'>
  /** Checks, encodes and stores whole segments. */
  readonly segments: Pick<SegmentArchiver, 'archive'>
  /** Nothing of it is lent. */
  readonly pool: SegmentPool
  readonly log: Logger
  readonly signal: AbortSignal
}

/**
 * Makes whole segments of those that are there in chunks from the first byte to the last: a synchronous receiver reports
 * them as flushed, and so the server may have removed them.
 * @throws WALRX_ARCHIVE_CONFLICT, WALRX_WAL_INVALID, and what the storage says
 */
export async function finaliseTails({ archive, log, pool, segments, signal }: FinaliseOptions): Promise<void> {
  const { segmentSize } = pool
  const buffer = pool.take()
  if (!buffer) throw new Error('no buffer is free before a run begins')
  try {
    for await (const name of archive.completeTails(buffer, segmentSize, reportDamage(log, signal))) {
      const id = parseSegmentName(name, segmentSize)
      if (!id) throw new WalrxError('WALRX_WAL_INVALID', `${name} is not the name of a segment of ${segmentSize} bytes`)
      const startLsn = segmentStartLsn(id, segmentSize)
      const outcome = await segments.archive({ timeline: id.timeline, startLsn, buffer }, { signal })
      log.warn('archived from its chunks', { file: name, outcome })
    }
  } finally {
    pool.give(buffer)
  }
}

/** What {@link preloadTail} needs: where the run begins, and what it begins with. */
export interface PreloadOptions {
  readonly timeline: Timeline
  readonly startLsn: Lsn
  readonly archive: Pick<ReceiveArchive, 'readTail'>
  readonly pool: SegmentPool
  readonly assembler: SegmentAssembler
  readonly log: Logger
  readonly signal: AbortSignal
}

/**
 * Puts what the archive has of the run's first segment into the assembler, which compares it with the stream.
 * @returns how many bytes that is, and the keys of the chunks
 * @throws WALRX_ARCHIVE_CONFLICT when the chunks disagree, and what the storage says
 */
export async function preloadTail(options: PreloadOptions): Promise<{ length: number; keys: readonly string[] }> {
  const { archive, assembler, log, pool, signal, startLsn, timeline } = options
  const name = segmentNameAt(timeline, startLsn, pool.segmentSize)
  const buffer = pool.take()
  if (!buffer) throw new Error('no buffer is free before a run begins')
  let length = 0
  try {
    const found = await archive.readTail(name, buffer.subarray(0, pool.segmentSize), reportDamage(log, signal))
    length = found.length === pool.segmentSize ? 0 : found.length
    if (length > 0) {
      assembler.preload({ timeline, startLsn, buffer, length })
      log.info('the archive has a tail of the segment', { file: name, bytes: length })
    }
    return { length, keys: found.keys }
  } finally {
    if (length === 0) pool.give(buffer)
  }
}

/** What {@link clearTails} needs. */
export interface ClearOptions {
  readonly archive: Pick<ReceiveArchive, 'clearTails'>
  readonly log: Logger
  readonly signal: AbortSignal
}

/** While WAL streams: removes chunks that an earlier receiver has left of segments that are whole. */
export function clearTails({ archive, log, signal }: ClearOptions): void {
  archive.clearTails({ signal }).then(
    ({ contradicting, locked, removed }) => {
      if (removed > 0) log.info('removed chunks of segments that are whole', { chunks: removed })
      if (contradicting.length > 0) {
        log.error('chunks contradict the archived segments: they are kept, find out who wrote them', { contradicting })
      }
      if (locked.length > 0) log.warn('chunks cannot be compared with the keys that are set: they are kept', { locked })
    },
    (error: unknown) => {
      if (!signal.aborted) log.warn('could not check old chunks', { error: (error as Error).message })
    },
  )
}
