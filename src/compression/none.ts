/** No compression: objects without an extension, bytes as they are. */
import { PassThrough } from 'node:stream'
import type { WriteCodec } from './codec.ts'
import { GeneratorDuplex } from './generator-duplex.ts'

/** A writer may use its chunks again when they are taken; a storage holds them longer. */
async function* copies(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  for await (const chunk of source) yield Buffer.from(chunk)
}

/** The codec that changes nothing. It notices no damage either: compare sizes. */
export const noneCodec: WriteCodec = {
  method: 'none',
  extension: '',
  encoder: () => new GeneratorDuplex(copies),
  decoder: () => new PassThrough(),
  encodeInPlace: (_buffer, length) => Promise.resolve(length),
}
