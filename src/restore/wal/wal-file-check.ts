/** The checks that a WAL file must pass, by its kind, before a recovering server gets it. */
import { WalrxError } from '../../primitives/errors.ts'
import { segmentSizeMax, walFileKind } from '../../postgres/wal/wal-file.ts'
import { decodePageHeader, longHeaderSize } from '../../postgres/wal/wal-page.ts'
import { checkHistory } from '../../postgres/wal/wal-text-file.ts'
import { SegmentCheck, type SegmentRequirements } from './segment-check.ts'

/** Checks a file while its bytes stream by. */
export interface WalFileCheck {
  /** Takes the next bytes. Throws a WalrxError when they are wrong. */
  write(chunk: Uint8Array): void
  /** Call this after the last bytes; throws when some are missing. */
  finish(): void
  /** Of a segment, as soon as its first page has passed. */
  readonly segmentSize: number | undefined
}

/** History and label files have a few hundred bytes; a file beyond this size is neither. */
const textBytesMax = 1024 * 1024

/**
 * The check for a WAL file of this name.
 * @throws WALRX_USAGE when it is not the name of a WAL file
 */
export function openWalFileCheck(requirements: SegmentRequirements): WalFileCheck {
  const { name } = requirements
  switch (walFileKind(name)) {
    case 'segment':
      return new SegmentCheck(requirements)
    case 'partial':
      return new PartialCheck(name)
    case 'history':
      return new TextCheck(name, (content) => void checkHistory(content, name))
    case 'backup':
      return new TextCheck(name, () => {})
    case undefined:
      throw new WalrxError('WALRX_USAGE', `"${name}" is not the name of a WAL file`, {
        hint: 'pass %f of restore_command: 24 hex digits, or 8 hex digits and .history',
      })
  }
}

/** A small text, held in memory. */
class TextCheck implements WalFileCheck {
  readonly segmentSize = undefined
  readonly #name: string
  readonly #judge: (content: Buffer) => void
  readonly #chunks: Uint8Array[] = []
  #length = 0

  constructor(name: string, judge: (content: Buffer) => void) {
    this.#name = name
    this.#judge = judge
  }

  write(chunk: Uint8Array): void {
    // Who gave it frees it.
    this.#chunks.push(Buffer.from(chunk))
    this.#length += chunk.length
    if (this.#length > textBytesMax) {
      throw new WalrxError('WALRX_OBJECT_DAMAGED', `${this.#name} has more than ${textBytesMax} bytes`)
    }
  }

  finish(): void {
    if (this.#length === 0) throw new WalrxError('WALRX_OBJECT_DAMAGED', `${this.#name} is empty`)
    this.#judge(Buffer.concat(this.#chunks))
  }
}

/** A partial segment: the bytes after the last record may be anything, and some writers leave them out. */
class PartialCheck implements WalFileCheck {
  readonly segmentSize = undefined
  readonly #name: string
  #head = Buffer.alloc(0)
  #length = 0

  constructor(name: string) {
    this.#name = name
  }

  write(chunk: Uint8Array): void {
    if (this.#head.length < longHeaderSize) {
      this.#head = Buffer.concat([this.#head, chunk.subarray(0, longHeaderSize - this.#head.length)])
    }
    this.#length += chunk.length
    if (this.#length > segmentSizeMax) throw this.#damaged(`has more than ${segmentSizeMax} bytes`)
  }

  finish(): void {
    const header = decodePageHeader(this.#head)
    if (!header?.long) throw this.#damaged('does not start with the first page of a segment')
    if (this.#length > header.long.segmentSize) {
      throw this.#damaged(`has ${this.#length} bytes, more than a segment of ${header.long.segmentSize}`)
    }
  }

  #damaged(what: string): WalrxError {
    return new WalrxError('WALRX_OBJECT_DAMAGED', `${this.#name} ${what}`)
  }
}
