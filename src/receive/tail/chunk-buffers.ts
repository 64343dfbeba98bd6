/**
 * Buffers of one chunk each. They are made when they are first needed and used again from then on; the writer holds no more
 * than tail-pace.ts says, which the plan of the memory counts.
 */
import { encodeSlack } from '../../walg/stored/stored-form.ts'

/** See the file's header. */
export class ChunkBuffers {
  readonly #bytesMax: number
  readonly #free: Buffer[] = []
  #lent = 0

  /** @param bytesMax longest chunk, not compressed */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** Buffers that are lent at this moment. */
  get lent(): number {
    return this.#lent
  }

  /** A buffer for a chunk of the greatest length and the codec's slack, with undefined content. */
  take(): Buffer {
    this.#lent++
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#bytesMax + encodeSlack(this.#bytesMax))
  }

  /** Gives a buffer back. */
  give(buffer: Buffer): void {
    this.#lent--
    this.#free.push(buffer)
  }
}
