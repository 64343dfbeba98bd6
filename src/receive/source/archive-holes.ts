/** What the archive lacks between two positions, by one listing of each timeline on the way. */
import { type Lsn, maxLsn, segmentNumber, type Timeline, toLsn } from '../../postgres/lsn.ts'
import type { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { segmentName } from '../../postgres/wal/wal-file.ts'
import type { ArchivedSegment, ReceiveArchive } from '../ports.ts'

/** WAL that the archive lacks: `startLsn` inclusive, `endLsn` exclusive. */
export interface ArchiveHole {
  readonly startLsn: Lsn
  /** The first byte of a segment. */
  readonly endLsn: Lsn
}

/** Where {@link holesBetween} looks. */
export interface HoleSearch {
  readonly chain: TimelineChain
  readonly segmentSize: number
  /** Where the first hole may begin: within a segment whose beginning is archived otherwise. */
  readonly from: Lsn
  /** The first byte of a segment. */
  readonly to: Lsn
  /** So many segments before a hole are read: those that a killed receiver left unfinished are holes as well. */
  readonly holeWindow: number
}

/**
 * The holes between two positions, in order, whatever wrote what lies between them. A segment counts on the timeline of
 * its last byte: where a timeline ended within it, the next one has a copy of the rest.
 * @throws what the archive says
 */
export async function holesBetween(
  search: HoleSearch,
  archive: Pick<ReceiveArchive, 'isWhole' | 'segments'>,
  signal: AbortSignal,
): Promise<ArchiveHole[]> {
  const { from, segmentSize, to } = search
  const listed = await listSegments(search, archive, signal)
  const holes: ArchiveHole[] = []
  let next = segmentNumber(from, segmentSize)
  const addUpTo = (segno: bigint): void => {
    if (segno <= next) return
    const startLsn = maxLsn(toLsn(next * BigInt(segmentSize)), from)
    holes.push({ startLsn, endLsn: toLsn(segno * BigInt(segmentSize)) })
  }
  for (const [index, { segno, timeline }] of listed.entries()) {
    const later = listed[index + search.holeWindow]
    const isNearHole = later === undefined || later.segno - segno > BigInt(search.holeWindow)
    const name = segmentName(timeline, segno, segmentSize)
    if (isNearHole && !(await archive.isWhole(name, segmentSize, { signal }))) continue
    addUpTo(segno)
    next = segno + 1n
  }
  addUpTo(segmentNumber(to, segmentSize))
  return holes
}

async function listSegments(
  { chain, from, segmentSize, to }: HoleSearch,
  archive: Pick<ReceiveArchive, 'segments'>,
  signal: AbortSignal,
): Promise<ArchivedSegment[]> {
  const listed: { segno: bigint; timeline: Timeline }[] = []
  let first = segmentNumber(from, segmentSize)
  for (const { end, timeline } of chain.links) {
    const stop = segmentNumber(end !== undefined && end < to ? end : to, segmentSize)
    if (first >= stop) continue
    for await (const { segno, size } of archive.segments(timeline, first, segmentSize, { signal })) {
      if (segno >= stop) break
      if (size > 0) listed.push({ segno, timeline })
    }
    first = stop
  }
  return listed
}
