/** No compression: objects without an extension, bytes as they are. */
import { PassThrough } from 'node:stream'
import type { WriteCodec } from './codec.ts'

/** The codec that changes nothing. It notices no damage either: compare sizes. */
export const noneCodec: WriteCodec = {
  method: 'none',
  extension: '',
  encoder: () => new PassThrough(),
  decoder: () => new PassThrough(),
  encodeInPlace: (_buffer, length) => Promise.resolve(length),
}
