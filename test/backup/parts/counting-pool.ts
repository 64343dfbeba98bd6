/** A pool that knows who has which chunk. */
import assert from 'node:assert/strict'
import { ChunkPool } from '../../../src/backup/parts/chunk-pool.ts'

/** See the file's header. */
export class CountingPool extends ChunkPool {
  /** Chunks that somebody holds. */
  readonly held = new Set<Buffer>()
  /** The most there ever were. */
  heldMax = 0
  /** How often somebody had to wait. */
  waits = 0
  readonly #count: number

  constructor(chunkBytes: number, count: number) {
    super(chunkBytes, count)
    this.#count = count
  }

  override take(): Buffer | undefined {
    const chunk = super.take()
    if (chunk) this.#hold(chunk)
    return chunk
  }

  override async taken(): Promise<Buffer> {
    if (this.held.size === this.#count) this.waits++
    const chunk = await super.taken()
    this.#hold(chunk)
    return chunk
  }

  override give(chunk: Buffer): void {
    assert.ok(this.held.delete(chunk), 'a chunk was given back that nobody had')
    // A reader that still has it will see.
    chunk.fill(0xee)
    super.give(chunk)
  }

  #hold(chunk: Buffer): void {
    assert.equal(chunk.length, this.chunkBytes)
    this.held.add(chunk)
    this.heldMax = Math.max(this.heldMax, this.held.size)
    assert.ok(this.held.size <= this.#count)
  }
}
