/** Where WAL ends in a segment that is padded with zeros. */

const zeros = Buffer.alloc(64 * 1024)

/** Length without the zeros at the end, in bytes. */
export function trimmedLength(bytes: Buffer): number {
  let length = bytes.length
  while (length >= zeros.length && zeros.compare(bytes, length - zeros.length, length) === 0) length -= zeros.length
  while (length > 0 && bytes[length - 1] === 0) length--
  return length
}
