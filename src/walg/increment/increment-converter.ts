/**
 * Makes WAL-G's increment of PostgreSQL 17's while it streams (docs/walg-format.md, 6.8). WAL-G has no notion of blocks
 * that are neither listed nor kept, so those become pages of zeros. Its length is known as soon as the head of the
 * server's is: the header of the tar entry comes before any of it.
 */
import { pageBytes, type Refuse } from '../../postgres/relations/relation-file.ts'
import { type IncrementHead, IncrementReader, type IncrementSink } from './increment-reader.ts'
import { encodeWi1Head, wi1Bytes } from './increment-format.ts'

/** Where the converted increment goes. A promise means: wait. */
export interface Wi1Target {
  /** Called once, first of all, with the bytes that {@link append} will get in all. */
  begin(size: number): void | Promise<void>
  /** The next bytes; they may be overwritten once they were taken. */
  append(bytes: Uint8Array): void | Promise<void>
}

/** Options of {@link IncrementConverter}. */
export interface IncrementConverterOptions {
  /** Bytes of the server's increment, by the header of its tar entry. */
  readonly size: number
  /** Makes the errors: it knows the file's name. */
  readonly refuse: Refuse
  readonly target: Wi1Target
}

/** Zeros are written in pieces of this length. */
const zeros = Buffer.alloc(8 * pageBytes)

/** See the file's header. */
export class IncrementConverter {
  readonly #reader: IncrementReader
  readonly #target: Wi1Target
  /** The first block that a page of zeros may have to be written for. */
  #next = 0
  /** False where no pages of zeros come between: then the server's follow one another as WAL-G wants them. */
  #hasZeros = true

  constructor({ refuse, size, target }: IncrementConverterOptions) {
    this.#target = target
    const hasZeros = () => this.#hasZeros
    const sink: IncrementSink = {
      onHead: (head) => this.#onHead(head),
      onPages: (position, bytes) => this.#onPages(position, bytes),
      get takesAnyPages() {
        return !hasZeros()
      },
    }
    this.#reader = new IncrementReader({ size, formats: ['native'], refuse, sink })
  }

  /** Takes the next bytes of the server's. Throws what `refuse` makes, and what the target throws. */
  append(bytes: Uint8Array): void | Promise<void> {
    return this.#reader.append(bytes)
  }

  /** To be called when the server's are all there. Throws what `refuse` makes for one that is cut short. */
  end(): void {
    this.#reader.end()
  }

  #onHead(head: IncrementHead): void | Promise<void> {
    this.#next = head.keptBlocks
    const blocks = withZeroBlocks(head)
    this.#hasZeros = blocks.length > head.blocks.length
    const bytes = encodeWi1Head({ fileBlocks: head.fileBlocks, blocks })
    const busy = this.#target.begin(wi1Bytes(blocks.length))
    return busy ? busy.then(() => this.#target.append(bytes)) : this.#target.append(bytes)
  }

  /** The last block is always a listed one, or kept: zeros come in front of pages only. */
  #onPages(position: number, bytes: Uint8Array): void | Promise<void> {
    if (!this.#hasZeros) return this.#target.append(bytes)
    const first = Math.floor(position / pageBytes)
    const zeroBlocks = Math.max(0, first - this.#next)
    this.#next = Math.max(this.#next, Math.ceil((position + bytes.length) / pageBytes))
    const busy = zeroBlocks > 0 ? this.#appendZeros(zeroBlocks * pageBytes) : undefined
    return busy ? busy.then(() => this.#target.append(bytes)) : this.#target.append(bytes)
  }

  #appendZeros(count: number): void | Promise<void> {
    for (let left = count; left > 0;) {
      const piece = zeros.subarray(0, left)
      left -= piece.length
      const busy = this.#target.append(piece)
      const rest = left
      if (busy) return busy.then(() => this.#appendZeros(rest))
    }
  }
}

/** The listed blocks, and those that are neither listed nor kept. */
function withZeroBlocks({ blocks, fileBlocks, keptBlocks }: IncrementHead): Uint32Array {
  const keptCount = lowerCount(blocks, keptBlocks)
  const all = new Uint32Array(keptCount + Math.max(0, fileBlocks - keptBlocks))
  all.set(blocks.subarray(0, keptCount))
  for (let index = keptCount; index < all.length; index++) all[index] = keptBlocks + index - keptCount
  return all
}

/** How many of ascending numbers are lower than a limit. */
function lowerCount(numbers: Uint32Array, limit: number): number {
  const first = numbers.findIndex((number) => number >= limit)
  return first === -1 ? numbers.length : first
}
