/** Frees memory that native code has allocated now, instead of at some later collection. */

/** Does nothing to a part of a larger buffer, such as one of Node's pool. Nobody may use the bytes any more. */
export function release(bytes: Uint8Array): void {
  if (bytes.buffer instanceof ArrayBuffer && bytes.buffer.byteLength === bytes.length) bytes.buffer.transfer(0)
}
