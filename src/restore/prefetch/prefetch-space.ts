/**
 * How much of a small file system prefetching may take. The recovering server needs space in the same place: for the
 * segment that it restores now, and for those that it keeps until its next restartpoint.
 */

/** Always left to the server, in segments. */
const leftSegments = 2

/** See the file's header. */
export interface SegmentSpace {
  /** Bytes that are free now. */
  readonly freeBytes: number
  readonly segmentSize: number
  /** Segments that are ready. */
  readonly ready: number
  /** Segments that are being downloaded: they may not have taken any space yet. */
  readonly running: number
}

/** True while one more segment leaves at least as much free as all prefetched ones take, and two segments. */
export function hasRoomForAnother({ freeBytes, ready, running, segmentSize }: SegmentSpace): boolean {
  const left = freeBytes / segmentSize - (running + 1)
  return left >= Math.max(leftSegments, ready + running + 1)
}

/** True when the server may need the space of segments that are ready. */
export function isTooFull({ freeBytes, segmentSize }: Pick<SegmentSpace, 'freeBytes' | 'segmentSize'>): boolean {
  return freeBytes < leftSegments * segmentSize
}

/** How many segments will be prefetched at most, while nothing else takes or gives space. */
export function segmentsThatFit(freeBytes: number, segmentSize: number): number {
  const segments = Math.floor(freeBytes / segmentSize)
  return segments <= leftSegments ? 0 : Math.min(segments - leftSegments, Math.max(1, Math.floor(segments / 2)))
}
