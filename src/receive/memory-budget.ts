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
      `the memory for WAL, ${memoryBytes} bytes, is less than two segments of this server (wal_segment_size ${segmentSize})`,
      {
        hint: `give at least ${2 * segmentSize} bytes by --memory, or to a cluster of walrx serve by memory: under receive:; one stream has ${defaultMemoryBytes(segmentSize)} by default`,
      },
    )
  }
  const buffers = Math.max(2, Math.floor((memoryBytes * 3) / 4 / segmentSize))
  const left = memoryBytes - buffers * (segmentSize + encodeSlack(segmentSize)) - encoderBytes - tailBytes
  return { buffers, compactedBytesMax: Math.max(0, left) }
}

/** What the budget is spent on, once it is known how large the segments are. */
interface Resizable {
  resize(size: number): void
  trim(): void
}

/** The memory of one receiver. It may change while WAL streams. */
export class MemoryShare {
  #bytes: number | undefined
  #plan: ((bytes: number | undefined) => MemoryBudget) | undefined
  #use: (budget: MemoryBudget) => void = () => {}
  #trim: () => void = () => {}

  /** @param bytes undefined for {@link defaultMemoryBytes} */
  constructor(bytes: number | undefined) {
    this.#bytes = bytes
  }

  /** Divides it as {@link planMemory} does, also after later changes. Throws WALRX_USAGE as that does. */
  plan(segmentSize: number, tailBytes: number): MemoryBudget {
    this.#plan = (bytes) => planMemory(bytes ?? defaultMemoryBytes(segmentSize), segmentSize, tailBytes)
    return this.#plan(this.#bytes)
  }

  /** What was made by the plan, and changes with it. */
  holds(pool: Resizable, arena: Resizable): void {
    this.#use = ({ buffers, compactedBytesMax }) => {
      pool.resize(buffers)
      arena.resize(compactedBytesMax)
    }
    this.#trim = () => {
      pool.trim()
      arena.trim()
    }
  }

  /** Gives memory back that was of no use since the last time. */
  trim(): void {
    this.#trim()
  }

  /**
   * Changes it. What is lent beyond it is freed as it comes back.
   * @throws WALRX_USAGE when it does not hold two segments of the server
   */
  resize(bytes: number): void {
    if (this.#plan) this.#use(this.#plan(bytes))
    this.#bytes = bytes
  }
}
