/** How often the tail goes to the archive, and how many puts of chunks may be under way. */
import { encodeSlack } from '../../walg/stored/stored-form.ts'

/** When chunks are sent. */
export interface TailPace {
  /** Milliseconds between two chunks; 0 sends none. Of no matter in synchronous mode but for merging. */
  readonly intervalMs: number
  /** Longest chunk in bytes, not compressed. */
  readonly bytesMax: number
  readonly isSynchronous: boolean
}

/** Puts under way at once: by interval the next may begin while a slow one lasts. */
const lanesByInterval = 2
/** In synchronous mode the time of one put divided by this is the longest that a commit waits for its turn, */
const lanesSynchronous = 4
/**
 * but with a quick store no more puts begin than one in so many milliseconds: a put costs the CPU of both sides, and
 * those of a batch that is cut small cost more than its commits gain by not waiting for the next.
 */
const quickMs = 8

/** Puts that may be under way at once. */
export function lanesOf({ isSynchronous }: TailPace): number {
  return isSynchronous ? lanesSynchronous : lanesByInterval
}

/**
 * Buffers of a chunk each that the writer holds at most: in synchronous mode one is for merging, and one for the end of a
 * segment, which must be copied before the whole is compressed.
 */
export function buffersAtMost({ isSynchronous }: TailPace): number {
  return isSynchronous ? lanesSynchronous + 2 : lanesByInterval
}

/** Bytes that the writer holds at most. */
export function tailMemory(pace: TailPace): number {
  if (pace.intervalMs === 0 && !pace.isSynchronous) return 0
  return buffersAtMost(pace) * (pace.bytesMax + encodeSlack(pace.bytesMax))
}

/**
 * Milliseconds between the starts of two puts while one is under way.
 *
 * `putMs` is what a put takes at present. By interval that is the interval. In synchronous mode the puts are spread over
 * the time of one, so that a commit that came too late for one waits a part of it only; a quick store's are at most
 * two at a time.
 */
export function spacingOfPuts({ isSynchronous, intervalMs }: TailPace, putMs: number): number {
  if (!isSynchronous) return intervalMs
  return Math.max(putMs / lanesSynchronous, Math.min(putMs / 2, quickMs))
}
