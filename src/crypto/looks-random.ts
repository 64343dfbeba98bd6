/** Nothing in an archive says what is encrypted. What can be seen of the bytes is here. */

/** Fewer bytes are no encrypted object: libsodium's begins with 24, and its shortest chunk has 17. */
const headBytesMin = 41
/** Of as many as are looked at. */
const headBytesMax = 1024

/** Fewer bytes show no order. */
const orderedBytesMin = 12

/**
 * True where bytes show that they are not random, as WAL, text and zeros do. Of a few bytes half have to be repeated, which
 * random ones are less than once in 10^8 times.
 */
export function looksOrdered(head: Uint8Array): boolean {
  if (head.length >= headBytesMin) return !looksRandom(head)
  return head.length >= orderedBytesMin && new Set(head).size <= head.length / 2
}

/**
 * True where bytes look random, as all do that a method without a mark has encrypted, and compressed ones do after their head.
 * Text, WAL pages, tars, zeros, and what is too short for a guess don't.
 *
 * Of n random bytes about 256 * (1 - e^(-n / 256)) values differ, and half of the bytes are 0x80 or more. The limits are so
 * far from both that random bytes miss them less than once in a million objects at the least length (computed from both
 * distributions: 4e-7 each), once in 10^8 at 64 bytes, and never at a thousand.
 * @param head the first bytes of an object
 */
export function looksRandom(head: Uint8Array): boolean {
  const bytes = head.subarray(0, headBytesMax)
  if (bytes.length < headBytesMin) return false
  const expected = 256 * (1 - Math.exp(-bytes.length / 256))
  if (new Set(bytes).size < expected * 0.75) return false
  return bytes.reduce((count, byte) => count + (byte >> 7), 0) > bytes.length / 8
}
