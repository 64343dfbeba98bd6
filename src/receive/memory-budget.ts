/**
 * How `--memory` is spent. WAL bytes live in segment buffers and, once compressed, in exact-size copies that let the
 * big buffer go back while the upload runs; both together never exceed the budget.
 */
import { encodeSlack } from '../walg/stored/stored-form.ts'
import { WalrxError } from '../primitives/errors.ts'

/** Default of `--memory`: the larger of 64 MB and four segments. */
export function defaultMemoryBytes(segmentSize: number): number {
  return Math.max(64 * 1024 * 1024, 4 * segmentSize)
}

/** The budget, divided. */
export interface MemoryBudget {
  /** Segment buffers, each one segment plus the codec's slack. */
  readonly buffers: number
  /** Bytes for compressed segments that wait for their upload outside a segment buffer. */
  readonly compactedBytesMax: number
}

/**
 * What the encoders hold besides the segments' buffers: contexts, and output that is ahead of its input. Measured. Before
 * a run begins nothing is encoded, and the chunks take their place that are read ahead (walg/wal/tail-reader.ts).
 */
const encoderBytes = 10 * 1024 * 1024

/**
 * Divides `memoryBytes`: three quarters to segment buffers, at least two (one receives while the other is archived),
 * the rest to the encoders and to compressed copies. With no more than two segments only the slack and the encoders'
 * few megabytes come on top.
 * @param tailBytes what the chunks of unfinished segments take
 * @throws WALRX_USAGE when it is less than two segments
 */
export function planMemory(memoryBytes: number, segmentSize: number, tailBytes: number): MemoryBudget {
  if (memoryBytes < 2 * segmentSize) {
    throw new WalrxError(
      'WALRX_USAGE',
      `--memory ${memoryBytes} is less than two segments of this server (wal_segment_size ${segmentSize})`,
      { hint: `give at least ${2 * segmentSize} bytes; the default here is ${defaultMemoryBytes(segmentSize)}` },
    )
  }
  const buffers = Math.max(2, Math.floor((memoryBytes * 3) / 4 / segmentSize))
  const left = memoryBytes - buffers * (segmentSize + encodeSlack(segmentSize)) - encoderBytes - tailBytes
  return { buffers, compactedBytesMax: Math.max(0, left) }
}
