/**
 * The bytes of objects, to the form in which they are stored and back. All that is read comes through {@link decoded} or
 * {@link decodedPieces}, all that is compressed through {@link encodeInPlace} or {@link openEncoder}: encryption, which
 * comes after compression, has its place here, by what the kind of the object says.
 */
import { Readable, type Duplex } from 'node:stream'
import type { Codec, DecodedPiece, WriteCodec } from '../../compression/codec.ts'
import { codecOfExtension, methodOfExtension, openReadCodec } from '../../compression/codecs.ts'
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import type { Storage } from '../../storage/storage.ts'
import { formOf, type StoredForm } from './object-kinds.ts'

/** An object by its key. */
export interface StoredName {
  readonly key: string
  /** Of the codec, without the dot; empty for none, and for objects that are stored as they are. */
  readonly extension: string
}

/** What it takes to read an object. */
export interface Decoding {
  readonly form: StoredForm
  readonly codec: Codec
  /** Names the object in errors. */
  readonly at: string
}

/**
 * How an object is read.
 * @throws WALRX_CODEC_UNSUPPORTED for an extension that walrx cannot read
 */
export function decodingOf({ extension, key }: StoredName, { location }: Pick<Storage, 'location'>): Decoding {
  const at = `${location}/${key}`
  const form = formOf(key)
  return { at, form, codec: form.compressed ? codecOfExtension(extension, at) : openReadCodec('none') }
}

/** True for an extension that walrx can read; '' is none. */
export function isReadable(extension: string): boolean {
  return methodOfExtension(extension) !== undefined
}

/**
 * Decodes the bytes of an object, streaming: nothing is held whole.
 * @throws while iterating: what the source throws as it is; WALRX_OBJECT_DAMAGED for what does not decode,
 * WALRX_CODEC_UNSUPPORTED for what asks for more than walrx can
 */
export async function* decoded(
  stored: AsyncIterable<Uint8Array>,
  { at, codec }: Decoding,
): AsyncGenerator<Uint8Array, undefined> {
  try {
    // Bytes that are stored as they are need no stream to go through.
    yield* codec.method === 'none' ? stored : throughDecoder(stored, codec)
  } catch (error) {
    throw withName(error, at)
  }
}

async function* throughDecoder(stored: AsyncIterable<Uint8Array>, codec: Codec): AsyncGenerator<Uint8Array, undefined> {
  const source = Readable.from(stored, { objectMode: false })
  const decoder = codec.decoder()
  source.once('error', (error) => decoder.destroy(error))
  source.pipe(decoder)
  try {
    for await (const chunk of decoder) yield chunk as Uint8Array
  } finally {
    source.destroy()
    decoder.destroy()
  }
}

/**
 * The same in pieces that the reader frees.
 * @throws as {@link decoded}
 */
export async function* decodedPieces(
  stored: AsyncIterable<Uint8Array>,
  decoding: Decoding,
): AsyncGenerator<DecodedPiece, undefined> {
  if (!decoding.codec.decodePieces) {
    for await (const bytes of decoded(stored, decoding)) yield { bytes, free: () => {} }
    return
  }
  try {
    yield* decoding.codec.decodePieces(stored)
  } catch (error) {
    throw withName(error, decoding.at)
  }
}

/** A codec doesn't know what it decodes: puts the name before its message. Other errors are no fault of the object's. */
function withName(error: unknown, at: string): unknown {
  if (!hasCode(error, 'WALRX_OBJECT_DAMAGED') && !hasCode(error, 'WALRX_CODEC_UNSUPPORTED')) return error
  return new WalrxError(error.code, `${at}: ${error.message}`, { cause: error })
}

/** Encodes `buffer[0, length)` inside its own buffer; see {@link SegmentEncoder.encodeInPlace}. */
export function encodeInPlace(codec: WriteCodec, buffer: Buffer, length: number): Promise<number> {
  return codec.encodeInPlace(buffer, length)
}

/** A stream that encodes one object. */
export function openEncoder(codec: WriteCodec): Duplex {
  return codec.encoder()
}
