/** What objects hold, by their kind: whether bytes can be the beginning of it. */
import { decodePageHeader, walPageSize } from '../../postgres/wal/wal-page.ts'
import { parseTailKey, type TailRange } from '../names.ts'
import { kindOf, type ObjectKind } from './object-kinds.ts'

/** Bytes that these tests need: a page of WAL from any place holds the header of the next one within so many. */
export const contentBytesMax = walPageSize + 40

/** @param isWhole true where there are no more bytes than these */
type ContentTest = (content: Buffer, isWhole: boolean) => boolean

const tests: Partial<Record<ObjectKind, ContentTest>> = {
  segment: isFirstPage,
  partial: isFirstPage,
  history: isText,
  backup: isText,
  manifest: isText,
  contents: isText,
  part: isTar,
}

/**
 * Whether bytes can be the beginning of what an object holds. For damage rather than for format: it needs only a part of the
 * beginning to be as it should, as long as random bytes are so less than once in a hundred thousand times.
 * @returns undefined where anything can be in it
 */
export function beginsContent(content: Buffer, key: string, isWhole: boolean): boolean | undefined {
  const range = parseTailKey(key)
  if (range) return isOfTail(content, range, isWhole)
  const kind = kindOf(key)
  return kind === undefined ? undefined : tests[kind]?.(content, isWhole)
}

/** The fields of a long page header that have few values. Of random bytes fewer than one in a million has one of them. */
function isFirstPage(content: Buffer): boolean {
  if (content.length < 4) return false
  const isPowerOfTwo = (value: number, min: number, max: number) =>
    value >= min && value <= max && (value & (value - 1)) === 0
  const info = content.readUInt16LE(2)
  const isMagic = (content[1] === 0xd0 || content[1] === 0xd1) && (info === 2 || info === 3 || info === 6 || info === 7)
  if (isMagic || content.length < 40) return isMagic
  return (
    isPowerOfTwo(content.readUInt32LE(32), 1024 * 1024, 1024 * 1024 * 1024) ||
    isPowerOfTwo(content.readUInt32LE(36), 1024, 64 * 1024)
  )
}

/**
 * A chunk begins anywhere in its segment. The next page has its own address in its header; one that ends before has as many
 * bytes as its name says.
 */
function isOfTail(content: Buffer, { from, to }: TailRange, isWhole: boolean): boolean | undefined {
  if (from === 0) return isFirstPage(content)
  const page = Math.ceil(from / walPageSize) * walPageSize
  const header = decodePageHeader(content, page - from)
  // Segments are no smaller than a megabyte, so that an offset shows in the lower bits of the address.
  if (header) return Number(header.pageAddress & 0xfffffn) === (page & 0xfffff)
  if (isWhole) return content.length === to - from
  return content.length >= contentBytesMax ? false : undefined
}

/** Three quarters printable: of 41 random bytes fewer than one in a million times, of more never. */
function isText(content: Buffer): boolean {
  const head = content.subarray(0, 1024)
  const printable = head.reduce(
    (count, byte) => count + Number(byte === 9 || byte === 10 || (byte >= 32 && byte < 127)),
    0,
  )
  return head.length > 0 && printable >= head.length * 0.75
}

/** The header of a tar has zeros after each of its texts: half of it at least, of random bytes 1 in 256. */
function isTar(content: Buffer): boolean {
  const header = content.subarray(0, 512)
  const zeros = header.reduce((count, byte) => count + Number(byte === 0), 0)
  return header.length === 512 && zeros >= 128
}
