/**
 * An object that one thread reads and another decodes. Storage and keys stay where they are: what goes over is the bytes, and
 * for libsodium what opens this one object. The other methods of encryption are decrypted on the thread that has the keys.
 */
import type { DecodedPiece } from '../../compression/codec.ts'
import { codecOfExtension, openReadCodec } from '../../compression/codecs.ts'
import { HeadedSource } from '../../primitives/headed-source.ts'
import type { ChunkBuffers, StorageCallOptions } from '../../storage/storage.ts'
import { formOf } from './object-kinds.ts'
import { beginningTest, decodedHere, decodingOf, keepsChunks, named, type StoredName } from './stored-form.ts'
import type { ReadableStorage } from './stored-reader.ts'

/** What the other thread has to know, as plain data. */
export interface Handing extends StoredName {
  /** Names the object in errors. */
  readonly at: string
  /**
   * `stored`: nobody has looked at the bytes. `plain`: they are not encrypted, by the keyring. `decrypted`: they were.
   * `libsodium`: they are still encrypted, and `opens` opens them.
   */
  readonly bytes: 'stored' | 'plain' | 'decrypted' | 'libsodium'
  /** Zero it when it is not passed on. */
  readonly opens?: Uint8Array<ArrayBuffer>
}

/** An object that is there. */
export interface HandedObject {
  readonly handing: Handing
  /** What {@link handedPieces} takes: the stored bytes, unless they were decrypted. */
  readonly bytes: AsyncIterable<Uint8Array>
  /** Frees the source, also while it is read. */
  close(): Promise<void>
}

/** Options of {@link openHanded}. */
export interface HandOptions extends StorageCallOptions {
  /** Called with the bytes as they are stored, piece by piece, when they are passed on. */
  readonly onStored: (chunk: Uint8Array) => void
  /** The storage may take the memory of its chunks from here. */
  readonly buffers?: ChunkBuffers
}

/**
 * Opens an object for another thread.
 * @throws WALRX_CODEC_UNSUPPORTED, before anything is asked of the storage; what the storage says; WALRX_KEY_WRONG and
 * WALRX_KEY_MISSING where no key opens it; WALRX_OBJECT_DAMAGED
 */
export async function openHanded(
  storage: ReadableStorage,
  { extension, key }: StoredName,
  { onStored, ...options }: HandOptions,
): Promise<HandedObject> {
  const decoding = decodingOf({ key, extension }, storage)
  const { at, keyring } = decoding
  const stored = await storage.get(key, options)
  const source = new HeadedSource(stored)
  const close = () => source.close()
  const passed = watched(source, onStored)
  const handed = (bytes: Handing['bytes']) => ({ handing: { key, extension, at, bytes }, bytes: passed, close })
  if (!keyring) return handed('stored')
  try {
    const crypter = await keyring.opener(source, beginningTest(decoding))
    if (!crypter) return handed('plain')
    if (crypter.handOver) {
      const opens = crypter.handOver(await source.head(crypter.headBytes))
      return { handing: { key, extension, at, bytes: 'libsodium', opens }, bytes: passed, close }
    }
    const bytes = crypter.decrypt(passed, { reusesChunks: true })
    return { ...handed('decrypted'), bytes }
  } catch (error) {
    await close().catch(() => {})
    throw named(error, decoding)
  }
}

/** Options of {@link handedPieces}. */
export interface HandedOptions {
  /** See {@link DecodeOptions}. */
  readonly inSync: boolean
  /** A chunk of the source is no longer needed. It is called for none, or for each of them once. */
  readonly release: (chunk: Uint8Array) => void
}

/**
 * Decodes what {@link openHanded} has opened, on any thread, in pieces that the reader frees.
 * @throws as {@link decodedPieces} does
 */
export async function* handedPieces(
  handing: Handing,
  source: AsyncIterable<Uint8Array>,
  { inSync, release }: HandedOptions,
): AsyncGenerator<DecodedPiece, undefined> {
  const { at, bytes, extension, key, opens } = handing
  const form = formOf(key)
  const codec = form.compressed ? codecOfExtension(extension, at) : openReadCodec('none')
  const isKnown = bytes !== 'stored'
  const decoding = { key, at, codec, form: isKnown ? { ...form, encrypted: false } : form, keyring: undefined }
  const pieces = (chunks: AsyncIterable<Uint8Array>) => decodedHere(chunks, decoding, { inSync, opens })
  if (!keepsChunks(decoding, opens)) yield* pieces(releasing(source, release))
  else if (codec.method !== 'none') yield* pieces(copied(source, release))
  // Its pieces are the chunks themselves.
  else for await (const { bytes: chunk } of pieces(source)) yield { bytes: chunk, free: () => release(chunk) }
}

/** Not a generator: what frees the bytes must not wait for a read. */
function watched(source: AsyncIterable<Uint8Array>, onChunk: (chunk: Uint8Array) => void): AsyncIterable<Uint8Array> {
  return stepping(source, (_last, chunk) => {
    if (chunk) onChunk(chunk)
  })
}

/** For a decoder that keeps its input: the memory of a chunk is free at once. */
async function* copied(
  source: AsyncIterable<Uint8Array>,
  release: (chunk: Uint8Array) => void,
): AsyncGenerator<Uint8Array, undefined> {
  for await (const chunk of source) {
    const copy = Buffer.from(chunk)
    release(chunk)
    yield copy
  }
}

/** Releases each chunk when the next one is asked for: a decoder has used it then. */
function releasing(source: AsyncIterable<Uint8Array>, release: (chunk: Uint8Array) => void): AsyncIterable<Uint8Array> {
  return stepping(source, (last) => {
    if (last) release(last)
  })
}

function stepping(
  source: AsyncIterable<Uint8Array>,
  step: (last: Uint8Array | undefined, chunk: Uint8Array | undefined) => void,
): AsyncIterable<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]()
  let last: Uint8Array | undefined
  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      const before = last
      last = undefined
      if (before) step(before, undefined)
      const result = await chunks.next()
      if (result.done) return result
      last = result.value
      step(undefined, result.value)
      return result
    },
    async return() {
      await chunks.return?.()
      return { done: true, value: undefined }
    },
  }
  return { [Symbol.asyncIterator]: () => iterator }
}
