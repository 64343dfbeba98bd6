/** gzip, for reading only: any number of members, as WAL-G accepts them. WAL-RUS's wal-fetch doesn't look for it. */
import { createGunzip } from 'node:zlib'
import type { Codec } from './codec.ts'
import { GeneratorDuplex } from './generator-duplex.ts'
import { decodeChunkBytes, throughZlib } from './zlib-stream.ts'

/** The gzip codec. */
export const gzipCodec: Codec = {
  method: 'gzip',
  extension: 'gz',
  // Its mark, and deflate, the only method that there is (RFC 1952, 2.3.1).
  begins: (head) => head[0] === 0x1f && head[1] === 0x8b && head[2] === 8,
  decoder: () => new GeneratorDuplex(decode),
}

function decode(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  return throughZlib(() => createGunzip({ chunkSize: decodeChunkBytes }), source, 'gzip stream')
}
