/** Where WAL ends in a segment that is padded with zeros, or is to be. */
import { walPageSize } from '../../postgres/wal/wal-page.ts'

const zeros = Buffer.alloc(64 * 1024)

/** Length without the zeros at the end, in bytes. */
export function trimmedLength(bytes: Buffer): number {
  let length = bytes.length
  while (length >= zeros.length && zeros.compare(bytes, length - zeros.length, length) === 0) length -= zeros.length
  while (length > 0 && bytes[length - 1] === 0) length--
  return length
}

const pageHeaderSize = 24

/**
 * Length without the torn page header that the last bytes may be: no record is in it, and followed by zeros it is not a
 * valid header.
 */
export function withoutTornHeader(length: number): number {
  const ofPage = length % walPageSize
  return ofPage < pageHeaderSize ? length - ofPage : length
}
