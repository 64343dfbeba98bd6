/** What a file must be, by its kind, before a recovering server gets it. */
import { toWalrxError, WalrxError } from '../../primitives/errors.ts'
import { parseHistory, segmentSizeMax, walFileKind } from '../../postgres/wal/wal-file.ts'
import { decodePageHeader, longHeaderSize } from '../../postgres/wal/wal-page.ts'
import { SegmentCheck, type SegmentRequirements } from './segment-check.ts'

/** Judges a file while its bytes stream by. */
export interface WalFileCheck {
  /** Takes the next bytes. Throws a WalrxError when they are wrong. */
  write(chunk: Uint8Array): void
  /** To be called at the end of the bytes; throws when something is missing. */
  finish(): void
  /** Of a segment, as soon as its first page was seen. */
  readonly segmentSize: number | undefined
}

/** Histories and backup labels have a few hundred bytes; beyond this one is no such thing. */
const textBytesMax = 1024 * 1024

/**
 * The check for a WAL file of this name.
 * @throws WALRX_USAGE when it is no name of a WAL file
 */
export function openWalFileCheck(requirements: SegmentRequirements): WalFileCheck {
  const { name } = requirements
  switch (walFileKind(name)) {
    case 'segment':
      return new SegmentCheck(requirements)
    case 'partial':
      return new PartialCheck(name)
    case 'history':
      return new TextCheck(name, (content) => checkHistory(name, content))
    case 'backup':
      return new TextCheck(name, () => {})
    case undefined:
      throw new WalrxError('WALRX_USAGE', `"${name}" is no name of a WAL file`, {
        hint: 'PostgreSQL gives it as %f: 24 hex digits, or 8 and .history',
      })
  }
}

/**
 * A history must have at least one ancestor, and none that is not older than the timeline itself: an empty one would
 * make the server forget where its timeline came from.
 */
function checkHistory(name: string, content: Buffer): void {
  let last
  try {
    last = parseHistory(content, name).at(-1)
  } catch (error) {
    throw new WalrxError('WALRX_OBJECT_DAMAGED', toWalrxError(error).message, { cause: error })
  }
  if (!last) throw new WalrxError('WALRX_OBJECT_DAMAGED', `${name} names no timeline`)
  const own = parseInt(name.slice(0, 8), 16)
  if (last.timeline >= own) {
    throw new WalrxError('WALRX_OBJECT_DAMAGED', `${name} names timeline ${last.timeline} as its ancestor`)
  }
}

/** A small text, held whole. */
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
    this.#chunks.push(chunk)
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

/** The beginning of a segment: nothing is promised of what is behind the last record, and some writers cut it off. */
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
    if (!header?.long) throw this.#damaged('does not begin with the first page of a segment')
    if (this.#length > header.long.segmentSize) {
      throw this.#damaged(`has ${this.#length} bytes, more than a segment of ${header.long.segmentSize}`)
    }
  }

  #damaged(what: string): WalrxError {
    return new WalrxError('WALRX_OBJECT_DAMAGED', `${this.#name} ${what}`)
  }
}
