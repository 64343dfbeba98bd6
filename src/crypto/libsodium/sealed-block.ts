/** Where the chunks of an object lie while they are encrypted: in a block of their own, or in the buffer of their content. */
import { chunkBytes, contentBytes, headerBytes, overheadBytes, type SealingStream } from './chunk-stream.ts'

/** Content that is encrypted or decrypted without a pause, in bytes: a quarter of a millisecond. */
export const turnBytes = 32 * contentBytes

/** Of {@link SealedBlock}: four turns. */
const blockBytes = headerBytes + 4 * (turnBytes / contentBytes) * chunkBytes

const nothing = Buffer.alloc(0)

/** Chunks that can be sealed without a pause: those that are whole, and within a turn. */
export function wholeChunks(kept: number, length: number): number {
  return Math.min(Math.floor((kept + length) / contentBytes), turnBytes / contentBytes)
}

/**
 * Encrypted chunks on their way out. Where memory may be used again, all pass through one block, and a storage gets it when it
 * is full: fewer and longer writes. Else each turn gets memory of its own, and no more than it fills.
 */
export class SealedBlock {
  readonly #stream: SealingStream
  readonly #isReused: boolean
  #buffer: Buffer
  #written: number

  constructor(stream: SealingStream, isReused: boolean) {
    this.#stream = stream
    this.#isReused = isReused
    this.#buffer = stream.header
    this.#written = stream.header.length
  }

  /** False where what is in the block has to go first. */
  fits(bytes: number): boolean {
    return !this.#isReused || this.#written === 0 || this.#written + bytes <= blockBytes
  }

  /** Call it before chunks of so many bytes in all. */
  makeRoom(bytes: number): void {
    const needed = this.#written + bytes
    if (this.#buffer.length >= needed) return
    // It grows with the object: a small one gets twice what it takes at most.
    const grown = Math.min(blockBytes, 2 * this.#buffer.length)
    const buffer = Buffer.allocUnsafeSlow(this.#isReused ? Math.max(needed, grown) : needed)
    buffer.set(this.#buffer.subarray(0, this.#written))
    this.#buffer = buffer
  }

  /** Encrypts a chunk into the block. */
  seal(content: Uint8Array, isLast: boolean): void {
    this.#written += this.#stream.seal(content, this.#buffer, this.#written, isLast)
  }

  /** What has been encrypted since the last call. */
  take(): Buffer {
    const taken = this.#buffer.subarray(0, this.#written)
    this.#written = 0
    if (!this.#isReused) this.#buffer = nothing
    return taken
  }
}

/**
 * Content that its own encrypted form is about to overwrite. That form is 24 bytes ahead in the first chunk, and 17 more in
 * each that follows: 35 kB at the end of a segment of 16 MB. So the content passes through a ring of that size, which stays
 * in the processor's cache.
 */
export class ReadAhead {
  readonly #buffer: Buffer
  readonly #length: number
  readonly #ring: Buffer
  #read = 0

  constructor(buffer: Buffer, length: number) {
    this.#buffer = buffer
    this.#length = length
    const chunks = Math.floor(length / contentBytes) + 1
    const aheadMax = headerBytes + chunks * overheadBytes + 2 * contentBytes
    this.#ring = Buffer.allocUnsafeSlow(contentBytes * Math.ceil(Math.min(aheadMax, length + 1) / contentBytes))
  }

  /** Reads the content up to an offset at least. */
  read(offset: number): void {
    const end = Math.min(this.#length, offset)
    while (this.#read < end) {
      const at = this.#read % this.#ring.length
      const count = Math.min(end - this.#read, this.#ring.length - at)
      this.#buffer.copy(this.#ring, at, this.#read, this.#read + count)
      this.#read += count
    }
  }

  /** Content that has been read: one chunk, from a multiple of {@link contentBytes} on. */
  chunk(offset: number, count: number): Buffer {
    const at = offset % this.#ring.length
    return this.#ring.subarray(at, at + count)
  }
}
