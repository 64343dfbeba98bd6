/** All parts of one backup: several lanes that share a pool of chunks, and the rule which file goes to which. */
import { availableParallelism } from 'node:os'
import type { WriteCodec } from '../../compression/codec.ts'
import type { Storage } from '../../storage/storage.ts'
import { ChunkPool } from './chunk-pool.ts'
import { type FinishedPart, PartLane } from './part-lane.ts'
import type { EntryPlacer, EntryTarget } from './entry-target.ts'

/**
 * Bytes that are received, and not compressed yet: at least six chunks of 4 MiB. Every chunk is a trip to the libuv pool
 * and back: with chunks of 1 MiB a backup costs 8 % more CPU, with 256 KiB 40 % more.
 */
const chunkBytes = 4 * 1024 * 1024
const chunkCount = 6

/** Lanes at most. Each costs an encoder and the pieces of an upload. */
const lanesMax = 4

/** Options of {@link PartWriter}. */
export interface PartWriterOptions {
  readonly storage: Storage
  readonly codec: WriteCodec
  /** Beginning of the keys, up to the backup's name and a slash. */
  readonly folder: string
  /** Bytes of a part's tar, which is longer only where a single file is. */
  readonly partBytesMax: number
  /** Parts at the same time; default as many as there are cores, up to four. */
  readonly laneCount?: number
  readonly signal: AbortSignal
}

/** part_999 comes before part_1000. */
function byNumber({ fileName: a }: FinishedPart, { fileName: b }: FinishedPart): number {
  return a.length - b.length || (a < b ? -1 : 1)
}

/** See the file's header. */
export class PartWriter implements EntryPlacer {
  readonly #lanes: readonly PartLane[]
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  readonly #onAbort = () => this.#stop.abort(this.#signal.reason)
  #last: PartLane
  #number = 0

  constructor(options: PartWriterOptions) {
    const { laneCount = Math.min(lanesMax, availableParallelism()), signal } = options
    this.#signal = signal
    signal.addEventListener('abort', this.#onAbort, { once: true })
    if (signal.aborted) this.#onAbort()
    const pool = new ChunkPool(chunkBytes, Math.max(chunkCount, 2 * laneCount))
    const settings = {
      ...options,
      pool,
      nextNumber: () => ++this.#number,
      onFailure: (error: Error) => this.#stop.abort(error),
      signal: this.#stop.signal,
    }
    const first = new PartLane(settings)
    this.#lanes = [first, ...Array.from({ length: laneCount - 1 }, () => new PartLane(settings))]
    this.#last = first
  }

  /** The lane with the least to do; where that is a draw, the one that had the last entry, which keeps parts few. */
  place(name: string | undefined, bytes: number): EntryTarget | Promise<EntryTarget> {
    this.#stop.signal.throwIfAborted()
    let lane = this.#last
    for (const other of this.#lanes) {
      if (other.queuedBytes + chunkBytes < lane.queuedBytes) lane = other
    }
    this.#last = lane
    const busy = lane.begin(name, bytes)
    return busy ? busy.then(() => lane) : lane
  }

  /** Ends all parts. Resolves when they are durable. */
  async finish(): Promise<readonly FinishedPart[]> {
    try {
      const parts = await Promise.all(this.#lanes.map((lane) => lane.finish()))
      return parts.flat().sort(byNumber)
    } finally {
      this.#signal.removeEventListener('abort', this.#onAbort)
    }
  }

  /** Drops what is under way; durable parts stay. */
  async drop(error: Error): Promise<void> {
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.#stop.abort(error)
    await Promise.all(this.#lanes.map((lane) => lane.drop(error)))
  }
}
