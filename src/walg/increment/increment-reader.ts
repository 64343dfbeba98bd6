/**
 * Reads the increment of a file, WAL-G's or PostgreSQL 17's, from pieces cut anywhere. It keeps the block numbers, 512 KiB
 * at most; pages go through as they come.
 */
import {
  decodeIncrementalHead,
  incrementalFixedBytes,
  incrementalHeadBytes,
  incrementalMagic,
} from '../../postgres/backup/incremental-file.ts'
import { pageBytes, type Refuse, segmentBlocksMax } from '../../postgres/relations/relation-file.ts'
import { decodeWi1Head, wi1FixedBytes, wi1HeadBytes, wi1Magic } from './increment-format.ts'

/** What an increment makes of a file, whatever its format. */
export interface IncrementHead {
  /** Blocks of the file afterwards. */
  readonly fileBlocks: number
  /** The file is cut to this length first, where it is longer: blocks beyond it that are not listed become zero. */
  readonly keptBlocks: number
  /** Numbers of the blocks in the increment, ascending: their pages follow in this order. */
  readonly blocks: Uint32Array
}

/** Takes an increment apart. A promise means: wait. Bytes may be overwritten once they were taken. */
export interface IncrementSink {
  /** Called once, before all pages. */
  onHead(head: IncrementHead): void | Promise<void>
  /**
   * Bytes of the file, as many as lie together.
   * @param position their offset in the file
   */
  onPages(position: number, bytes: Uint8Array): void | Promise<void>
  /** True, from the head on, where pages are wanted as they come: then position is that of the first byte alone. */
  readonly takesAnyPages?: boolean
}

/** Formats of increments. */
export type IncrementFormat = 'wi1' | 'native'

/** Options of {@link IncrementReader}. */
export interface IncrementReaderOptions {
  /** Bytes of the whole increment, by the header of its tar entry. */
  readonly size: number
  /** Those that may come. */
  readonly formats: readonly IncrementFormat[]
  readonly refuse: Refuse
  readonly sink: IncrementSink
}

const magicBytes = 4

/** See the file's header. */
export class IncrementReader {
  readonly #options: IncrementReaderOptions
  #read = 0
  /** Grows twice: from the magic to the fields of fixed length, and on to the block numbers. */
  #head = Buffer.alloc(magicBytes)
  #filled = 0
  #blocks: Uint32Array | undefined
  /** Bytes of pages so far. */
  #paged = 0

  constructor(options: IncrementReaderOptions) {
    this.#options = options
  }

  /**
   * Takes the next bytes.
   * @throws what `refuse` makes for what is malformed, before any page of it has gone on; what the sink throws
   */
  append(bytes: Uint8Array): void | Promise<void> {
    let rest = bytes
    while (rest.length > 0) {
      const taken = this.#blocks ? this.#pagesTogether(rest) : Math.min(rest.length, this.#head.length - this.#filled)
      if (taken === 0) throw this.#options.refuse(`${rest.length} bytes follow the last page`)
      const busy = this.#take(rest.subarray(0, taken))
      rest = rest.subarray(taken)
      this.#read += taken
      if (!busy) continue
      const left = rest
      return busy.then(() => this.append(left))
    }
  }

  /** To be called when no bytes are left. Throws what `refuse` makes for an increment that is cut short. */
  end(): void {
    const { refuse, size } = this.#options
    if (this.#blocks && this.#paged === this.#blocks.length * pageBytes) return
    throw refuse(`it ends after ${this.#read} of ${size} bytes, within its ${this.#blocks ? 'pages' : 'head'}`)
  }

  #take(bytes: Uint8Array): void | Promise<void> {
    if (this.#blocks) {
      const position = (this.#blocks[Math.floor(this.#paged / pageBytes)] ?? 0) * pageBytes + (this.#paged % pageBytes)
      this.#paged += bytes.length
      return this.#options.sink.onPages(position, bytes)
    }
    this.#head.set(bytes, this.#filled)
    this.#filled += bytes.length
    if (this.#filled < this.#head.length) return
    const whole = this.#headBytes()
    if (whole === this.#filled) return this.#onHead()
    const { refuse, size } = this.#options
    if (whole > size) throw refuse(`it has ${size} bytes, and its head alone ${whole}`)
    const grown = Buffer.alloc(whole)
    grown.set(this.#head)
    this.#head = grown
  }

  get #format(): IncrementFormat {
    const magic = this.#head.readUInt32LE(0)
    const format = magic === wi1Magic ? 'wi1' : magic === incrementalMagic ? 'native' : undefined
    if (format !== undefined && this.#options.formats.includes(format)) return format
    const found = this.#head.toString('hex', 0, magicBytes)
    const known = { wi1: '77693155', native: '0d1faed3' }
    const wanted = this.#options.formats.map((each) => known[each]).join(' or ')
    throw this.#options.refuse(`the magic is ${found} instead of ${wanted}`)
  }

  /** How long the head is, as far as is known. */
  #headBytes(): number {
    const { refuse } = this.#options
    const isWi1 = this.#format === 'wi1'
    const fixed = isWi1 ? wi1FixedBytes : incrementalFixedBytes
    if (this.#filled < fixed) return fixed
    return isWi1 ? wi1HeadBytes(this.#head, refuse) : incrementalHeadBytes(this.#head, refuse)
  }

  #onHead(): void | Promise<void> {
    const { refuse, sink, size } = this.#options
    const head = this.#format === 'wi1' ? readWi1(this.#head, refuse) : readNative(this.#head, refuse)
    const expected = this.#head.length + head.blocks.length * pageBytes
    if (expected !== size) throw refuse(`it has ${size} bytes, and with ${head.blocks.length} pages ${expected}`)
    this.#blocks = head.blocks
    this.#head = Buffer.alloc(0)
    return sink.onHead(head)
  }

  /** How many of these bytes go on at once: those that lie together in the file, or all. */
  #pagesTogether(bytes: Uint8Array): number {
    const blocks = this.#blocks ?? new Uint32Array()
    let index = Math.floor(this.#paged / pageBytes)
    if (index >= blocks.length) return 0
    if (this.#options.sink.takesAnyPages) return Math.min(bytes.length, blocks.length * pageBytes - this.#paged)
    let together = pageBytes - (this.#paged % pageBytes)
    while (together < bytes.length && blocks[index + 1] === (blocks[index] ?? 0) + 1) {
      index++
      together += pageBytes
    }
    return Math.min(together, bytes.length)
  }
}

function readWi1(head: Buffer, refuse: Refuse): IncrementHead {
  const { blocks, fileBlocks } = decodeWi1Head(head, refuse)
  return { fileBlocks, keptBlocks: fileBlocks, blocks }
}

/**
 * The length as pg_combinebackup finds it: every block that is kept or listed, and none after (docs/walg-format.md,
 * 6.8).
 */
function readNative(head: Buffer, refuse: Refuse): IncrementHead {
  const { blocks, truncationBlockLength } = decodeIncrementalHead(head, refuse)
  const keptBlocks = Math.min(truncationBlockLength, segmentBlocksMax)
  return { fileBlocks: Math.max(keptBlocks, (blocks.at(-1) ?? -1) + 1), keptBlocks, blocks }
}
