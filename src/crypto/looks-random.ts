/** Nothing in an archive says what is encrypted. What can be seen of the bytes is here. */

/** Fewer bytes show nothing. */
const headBytesMin = 64
/** Of as many as are looked at. */
const headBytesMax = 1024

/**
 * True where bytes look random, as all do that a method without a mark has encrypted, and compressed ones do after their head.
 * Text, pages, zeros, and what is too short for a guess don't.
 * @param head the first bytes of an object
 */
export function looksRandom(head: Uint8Array): boolean {
  const bytes = head.subarray(0, headBytesMax)
  if (bytes.length < headBytesMin) return false
  // Of n random bytes about 256 * (1 - e^(-n / 256)) differ; deviations are a few.
  const expected = 256 * (1 - Math.exp(-bytes.length / 256))
  return new Set(bytes).size >= expected * 0.85
}
