/**
 * The bytes of objects, to the form in which they are stored and back: first compressed, then encrypted, by what the kind
 * of the object says. All that is read comes through {@link decoded} or {@link decodedPieces}, all that is written through
 * {@link encodeInPlace}, {@link openEncoder} or {@link encryptDocument}.
 */
import { Readable } from 'node:stream'
import {
  type Codec,
  codecSlack,
  type DecodedPiece,
  type EncodedPiece,
  type WriteCodec,
} from '../../compression/codec.ts'
import { codecOfExtension, methodOfExtension, openReadCodec } from '../../compression/codecs.ts'
import { type DecryptOptions, encryptSlack } from '../../crypto/crypter.ts'
import type { BeginningTest, Keyring } from '../../crypto/keyring.ts'
import { isOfKey, hasCode, WalrxError } from '../../primitives/errors.ts'
import { HeadedSource } from '../../primitives/headed-source.ts'
import type { Storage, StorageBody } from '../../storage/storage.ts'
import { parseTailKey } from '../names.ts'
import { formOf, type StoredForm } from './object-kinds.ts'
import { judgeBeginning } from './beginning.ts'
import { type ContentInput, PieceInput, StreamInput } from './content-input.ts'
import { Unkeyed } from './plain-form.ts'

/** An object by its key. */
export interface StoredName {
  readonly key: string
  /** Of the codec, without the dot; empty for none, and for objects that are stored as they are. */
  readonly extension: string
}

/** What it takes to read an object. */
export interface Decoding {
  readonly key: string
  readonly form: StoredForm
  readonly codec: Codec
  /** Undefined for what is not encrypted. */
  readonly keyring: Keyring | undefined
  /** Names the object in errors. */
  readonly at: string
}

/**
 * How an object is read.
 * @throws WALRX_CODEC_UNSUPPORTED for an extension that walrx cannot read
 */
export function decodingOf(
  { extension, key }: StoredName,
  { keyring, location }: Pick<Storage, 'keyring' | 'location'>,
): Decoding {
  const at = `${location}/${key}`
  const form = formOf(key)
  const codec = form.compressed ? codecOfExtension(extension, at) : openReadCodec('none')
  return { key, at, form, codec, keyring: form.encrypted ? keyring : undefined }
}

/** True for an extension that walrx can read; '' is none. */
export function isReadable(extension: string): boolean {
  return methodOfExtension(extension) !== undefined
}

/**
 * Decodes the bytes of an object, streaming: nothing is held whole.
 * @throws while iterating: what the source throws as it is; WALRX_OBJECT_DAMAGED for what does not decode,
 * WALRX_CODEC_UNSUPPORTED for what asks for more than walrx can, WALRX_KEY_WRONG and WALRX_KEY_MISSING for what none of the
 * keys opens, WALRX_KEY_UNAVAILABLE for keys that cannot be read
 */
export async function* decoded(
  stored: AsyncIterable<Uint8Array>,
  decoding: Decoding,
): AsyncGenerator<Uint8Array, undefined> {
  const { codec } = decoding
  const source = new HeadedSource(stored)
  const compressed = decrypted(source, decoding)
  try {
    // Bytes that are stored as they are need no stream to go through.
    yield* codec.method === 'none' ? compressed : throughDecoder(compressed, codec)
  } catch (error) {
    throw await reasonOf(error, compressed, decoding)
  } finally {
    // A decoder that is given up frees what it reads only later.
    source.close().catch(() => {})
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
  const source = new HeadedSource(stored)
  // Such a decoder has done with a chunk when it asks for the next one.
  const compressed = decrypted(source, decoding, { reusesChunks: true })
  try {
    yield* decoding.codec.decodePieces(compressed)
  } catch (error) {
    throw await reasonOf(error, compressed, decoding)
  } finally {
    source.close().catch(() => {})
  }
}

/** How {@link decodedHere} decodes. */
export interface HereOptions {
  /** See {@link DecodeOptions}. */
  readonly inSync: boolean
  /** See {@link Crypter.handOver}: the object is encrypted with libsodium. */
  readonly opens: Uint8Array | undefined
}

/**
 * The same on a thread that has no keys.
 * @param stored chunks may be used again when the next one is asked for, unless {@link keepsChunks} says otherwise
 * @throws as {@link decoded}
 */
export async function* decodedHere(
  stored: AsyncIterable<Uint8Array>,
  decoding: Decoding,
  { inSync, opens }: HereOptions,
): AsyncGenerator<DecodedPiece, undefined> {
  const { codec } = decoding
  const source = new HeadedSource(stored)
  const compressed = opens ? source : decrypted(source, decoding)
  try {
    if (codec.method === 'none') yield* opens ? opened(opens, source) : unfreed(compressed)
    else if (codec.decodePieces) yield* codec.decodePieces(opens ? usedOnce(opens, source) : compressed, { inSync })
    else yield* unfreed(throughDecoder(opens ? copied(usedOnce(opens, source)) : compressed, codec))
  } catch (error) {
    throw await reasonOf(error, compressed, decoding)
  } finally {
    source.close().catch(() => {})
  }
}

/** Whether chunks of the source of {@link decodedHere} are used after the next one was asked for. */
export function keepsChunks({ codec }: Pick<Decoding, 'codec'>, opens: Uint8Array | undefined): boolean {
  return !opens && !codec.decodePieces
}

async function* unfreed(source: AsyncIterable<Uint8Array>): AsyncGenerator<DecodedPiece, undefined> {
  for await (const bytes of source) yield { bytes, free: () => {} }
}

/** Loads what decrypts when it is needed: most programs that load this file never do. */
async function* opened(opens: Uint8Array, stored: AsyncIterable<Uint8Array>): AsyncGenerator<DecodedPiece, undefined> {
  const { decryptHandedOver } = await import('../../crypto/libsodium/secretstream.ts')
  yield* decryptHandedOver(opens, stored)
}

/** Content that may be overwritten when the next is asked for. */
async function* usedOnce(opens: Uint8Array, stored: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  for await (const { bytes, free } of opened(opens, stored)) {
    yield bytes
    free()
  }
}

async function* copied(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  for await (const bytes of source) yield Buffer.from(bytes)
}

/** The bytes as they were before they were encrypted: still compressed. */
function decrypted(stored: HeadedSource, decoding: Decoding, options?: DecryptOptions): AsyncIterable<Uint8Array> {
  const { codec, form, key, keyring } = decoding
  const judge = beginningTest(decoding)
  if (keyring) return keyring.decrypt(stored, judge, options)
  if (!form.encrypted) return stored
  const isBare = codec.method === 'none'
  const range = isBare ? parseTailKey(key) : undefined
  // Some WAL looks random, and a chunk may begin anywhere in it; but encrypted it is longer than its name says.
  return new Unkeyed(stored, { judge, isBare: isBare && !range, bytesMax: range && range.to - range.from })
}

/** Judges the beginning of this object. */
export function beginningTest({ codec, key }: Pick<Decoding, 'codec' | 'key'>): BeginningTest {
  return (head, isWhole) => judgeBeginning(head, key, codec, isWhole)
}

/** Codecs and keys don't know what they decode: puts the name before their messages. Other errors are no fault of the object's. */
async function reasonOf(thrown: unknown, compressed: AsyncIterable<Uint8Array>, decoding: Decoding): Promise<unknown> {
  return named(compressed instanceof Unkeyed ? await compressed.reason(thrown) : thrown, decoding)
}

/** The error with the object's name before its message. */
export function named(error: unknown, { at }: Pick<Decoding, 'at'>): unknown {
  const isOfObject = hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_CODEC_UNSUPPORTED')
  if (!isOfObject && !isOfKey(error)) return error
  const hint = error.hint === undefined ? {} : { hint: error.hint }
  return new WalrxError(error.code, `${at}${isOfKey(error) ? ' ' : ': '}${error.message}`, { ...hint, cause: error })
}

/** Free bytes that {@link encodeInPlace} needs after `size` bytes of content. */
export function encodeSlack(size: number): number {
  const compressed = size + codecSlack(size)
  return codecSlack(size) + encryptSlack(compressed)
}

/**
 * Encodes `buffer[0, length)` inside its own buffer; see {@link SegmentEncoder.encodeInPlace}.
 * @param buffer at least `length + encodeSlack(length)` bytes long
 * @throws as {@link Keyring.encryptInPlace}
 */
export async function encodeInPlace(
  codec: WriteCodec,
  keyring: Keyring | undefined,
  buffer: Buffer,
  length: number,
): Promise<number> {
  const compressed = await codec.encodeInPlace(buffer, length)
  return keyring ? keyring.encryptInPlace(buffer, compressed) : compressed
}

/** One object that is encoded while its content comes. */
export interface Encoder {
  /** Takes the content. */
  readonly input: ContentInput
  /** The stored bytes: to be read while the content is written. */
  readonly output: AsyncIterable<Uint8Array>
}

/**
 * Opens the encoder of one object.
 *
 * Where the reader releases its chunks, no step leaves memory to the garbage collector, which took a third of the CPU of a backup.
 * Backups of 1.6 GB into a directory, medians of three in turn on a busy machine, CPU-seconds per GB and peak RSS in MB, before
 * and since: none 3.1 168 and 1.8 110, none encrypted 5.8 171 and 2.8 117, zstd 1.8 118 and 1.8 114.
 * @param releasesChunks true where the reader of the output has used a chunk when it asks for the next one
 */
export function openEncoder(
  codec: WriteCodec,
  keyring: Keyring | undefined,
  { releasesChunks = false }: { readonly releasesChunks?: boolean | undefined } = {},
): Encoder {
  const encrypted = (compressed: AsyncIterable<Uint8Array>) =>
    keyring ? keyring.encrypt(compressed, { reusesChunks: releasesChunks }) : compressed
  const isRead = keyring !== undefined || releasesChunks
  if (isRead && (codec.encodePieces || codec.method === 'none')) {
    // One chain of generators for all steps: between two streams, nobody would know when to free or to reuse the bytes.
    const input = new PieceInput()
    return { input, output: encrypted(codec.encodePieces ? freedAfterUse(codec.encodePieces(input)) : input) }
  }
  const stream = codec.encoder()
  return { input: new StreamInput(stream), output: encrypted(stream as AsyncIterable<Uint8Array>) }
}

/** For a reader that has used a chunk when it asks for the next one. */
async function* freedAfterUse(pieces: AsyncIterable<EncodedPiece>): AsyncGenerator<Uint8Array, undefined> {
  for await (const { bytes, free } of pieces) {
    yield bytes
    free()
  }
}

/** A document as it is stored, by its form. */
export function encryptDocument(body: StorageBody, form: StoredForm, keyring: Keyring | undefined): StorageBody {
  if (!form.encrypted || !keyring) return body
  return keyring.encrypt(body instanceof Uint8Array ? once(body) : body)
}

/** Bytes in memory as a source. */
export async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, undefined> {
  await Promise.resolve()
  yield bytes
}
