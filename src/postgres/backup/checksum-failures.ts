/**
 * Damaged pages that a server reports while it reads its files for a base backup (sendFile in basebackup.c): a WARNING
 * for each of the first five blocks of a file, one that further ones are not reported, one with the file's total, and
 * at the end of the backup an error with SQLSTATE XX001.
 */
import type { ServerNotice } from './base-backup-sink.ts'

/** One file with damaged pages. */
export interface ChecksumFailure {
  /** As the server writes it, without a leading `./`: relative to the data directory, or absolute in a tablespace. */
  readonly file: string
  /** Damaged blocks, counted from the start of the file; the server reports at most five. */
  readonly blocks: readonly number[]
  /** Number of damaged blocks of the file that the server has reported so far. */
  readonly count: number
}

/** The most files that are kept by name. */
const filesMax = 1000
/** The most files that a message lists. */
const filesListed = 10

/**
 * Collects them. A server writes in its own language, with the quotes of that language. So a warning is parsed by the
 * parts that no translation changes: the file's name between quotes, and the numbers outside it.
 */
export class ChecksumFailures {
  readonly #byFile = new Map<string, { blocks: number[]; count: number }>()
  #isCut = false

  /** The damaged files, in the order of the server's reports, the first 1000. */
  get list(): ChecksumFailure[] {
    return [...this.#byFile].map(([file, { blocks, count }]) => ({ file, blocks: [...blocks], count }))
  }

  /** Reads a notice; ignores one that does not report damage. */
  note(notice: ServerNotice): void {
    if (notice['V'] !== 'WARNING' || notice['C'] !== '01000') return
    const reading = readWarning(notice['M'] ?? '')
    if (!reading) return
    const known = this.#byFile.get(reading.file)
    if (!known && this.#byFile.size === filesMax) {
      this.#isCut = true
      return
    }
    const failure = known ?? { blocks: [], count: 0 }
    this.#byFile.set(reading.file, failure)
    if (reading.block !== undefined) failure.blocks.push(reading.block)
    failure.count = Math.max(failure.blocks.length, reading.count ?? failure.count)
  }

  /** For a message: `base/5/16384 (blocks 1, 7), …`; '' without any. */
  describe(): string {
    const listed = this.list.slice(0, filesListed).map(({ blocks, count, file }) => {
      const more = count > blocks.length ? ` and ${count - blocks.length} more` : ''
      const named = blocks.length === 1 && more === '' ? `block ${blocks[0]}` : `blocks ${blocks.join(', ')}${more}`
      return `${file} (${named})`
    })
    const unlisted = this.#byFile.size - listed.length
    if (unlisted > 0) listed.push(`${this.#isCut ? 'more than ' : ''}${unlisted} further files`)
    return listed.join(', ')
  }
}

interface Reading {
  readonly file: string
  readonly block?: number
  readonly count?: number
}

/** A relation's file: relfilenode, fork and segment. */
const relationFile = /\/\d+(_[a-z]+)?(\.\d+)?$/

function readWarning(message: string): Reading | undefined {
  const match = /["'«»„“”「『]\s*(.+?)\s*["'«»“”」』](?=[^"'«»„“”「」『』]*$)/u.exec(message)
  const path = match?.[1]?.replace(/^\.\//, '')
  if (!match || path === undefined || !relationFile.test(path)) return undefined
  const around = message.slice(0, match.index) + ' ' + message.slice(match.index + match[0].length)
  const numbers = around.match(/(?<![0-9A-Za-z])[0-9A-F]+(?![0-9A-Za-z])/g) ?? []
  const [first, second, third] = numbers
  if (first === undefined || !/^\d+$/.test(first)) return undefined
  // `block %u: calculated %X and expected %X`
  if (numbers.length === 3) return isSizeRemark(second, third) ? undefined : { file: path, block: Number(first) }
  return numbers.length === 1 ? { file: path, count: Number(first) } : undefined
}

/** `block %u: read buffer size %d and page size %d differ`: a file that ends within a page, which the server skips. */
function isSizeRemark(read: string | undefined, page: string | undefined): boolean {
  return /^\d+$/.test(read ?? '') && /^(1024|2048|4096|8192|16384|32768)$/.test(page ?? '')
}
