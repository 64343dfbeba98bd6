/** No compression: objects without an extension, bytes as they are. */
import { PassThrough } from 'node:stream'
import type { WriteCodec } from './codec.ts'
import { GeneratorDuplex } from './generator-duplex.ts'

/** Copies chunks: a writer may reuse its chunks once they are taken, but a storage holds them longer. */
async function* copies(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  for await (const chunk of source) yield Buffer.from(chunk)
}

/** The codec that changes nothing. It detects no damage: compare sizes. */
export const noneCodec: WriteCodec = {
  method: 'none',
  extension: '',
  encoder: () => new GeneratorDuplex(copies),
  decoder: () => new PassThrough(),
  encodeInPlace: (_buffer, length) => Promise.resolve(length),
}
