/** The block functions of `lz4-napi`, loaded with the first block: an unused codec costs nothing. */

/** The functions in use. For both, a block comes after the u32 length of its decoded bytes. */
export interface Lz4Native {
  compress(data: Uint8Array): Promise<Buffer>
  uncompress(data: Uint8Array, dictionary?: Uint8Array): Promise<Buffer>
}

/** Loads the native module. */
export async function lz4Native(): Promise<Lz4Native> {
  const module: Lz4Native = await import('lz4-napi')
  return module
}
