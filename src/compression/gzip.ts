/** gzip, for reading only: any number of members, as WAL-G accepts them. WAL-RUS's wal-fetch doesn't look for it. */
import { createGunzip } from 'node:zlib'
import type { Codec } from './codec.ts'
import { GeneratorDuplex } from './generator-duplex.ts'
import { decodeChunkBytes, throughZlib } from './zlib-stream.ts'

/** The gzip codec. */
export const gzipCodec: Codec = {
  method: 'gzip',
  extension: 'gz',
  begins: (head) => head[0] === 0x1f && head[1] === 0x8b,
  decoder: () => new GeneratorDuplex(decode),
}

function decode(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  return throughZlib(() => createGunzip({ chunkSize: decodeChunkBytes }), source, 'gzip stream')
}
