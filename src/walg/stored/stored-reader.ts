/** Reads stored objects, from any writer: as streams, in pieces, whole. Keys in, decoded bytes out. */
import type { DecodedPiece } from '../../compression/codec.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { checkForm, formOf, kindOf } from './object-kinds.ts'
import { decoded, decodedPieces, decodingOf, type StoredName } from './stored-form.ts'

/** What is needed of a storage. */
export type ReadableStorage = Pick<Storage, 'get' | 'keyring' | 'location'>

/** Options of what opens an object. */
export interface OpenOptions extends StorageCallOptions {
  /** Called with the bytes as they are stored, piece by piece, before they are decoded. */
  readonly onStored?: (chunk: Uint8Array) => void
}

/** An object that is there. */
export interface OpenedObject extends StoredName {
  /** Its decoded bytes; throws WALRX_OBJECT_DAMAGED or what the storage says while it is read. */
  readonly body: AsyncIterable<Uint8Array>
  /** The same in pieces that the reader frees, in place of {@link OpenedObject.body}: for what is large and read often. */
  readonly pieces?: () => AsyncIterable<DecodedPiece>
}

/**
 * Opens an object. A caller that stops iterating early frees the source.
 * @throws WALRX_CODEC_UNSUPPORTED, before anything is asked of the storage; WALRX_OBJECT_NOT_FOUND, and what else the
 * storage says. While it is read: WALRX_OBJECT_DAMAGED for what does not decode; WALRX_KEY_MISSING, WALRX_KEY_WRONG and
 * WALRX_KEY_UNAVAILABLE for what the keys do not open
 */
export async function openObject(
  storage: ReadableStorage,
  { extension, key }: StoredName,
  options?: OpenOptions,
): Promise<OpenedObject> {
  const decoding = decodingOf({ key, extension }, storage)
  const stored = await openStored(storage, key, options)
  return { key, extension, body: decoded(stored, decoding), pieces: () => decodedPieces(stored, decoding) }
}

/**
 * Opens a document: what is stored as it is.
 * @throws as {@link openObject}, and WALRX_INTERNAL for an object of another kind
 */
export async function openDocument(
  storage: ReadableStorage,
  key: string,
  options?: OpenOptions,
): Promise<AsyncIterable<Uint8Array>> {
  checkForm(key, false)
  return (await openObject(storage, { key, extension: '' }, options)).body
}

/**
 * Reads a document into memory.
 * @throws as {@link openDocument}; WALRX_OBJECT_DAMAGED for one that is larger than any of its kind
 */
export async function readDocument(
  storage: ReadableStorage,
  key: string,
  options?: StorageCallOptions,
): Promise<Buffer> {
  const body = await openDocument(storage, key, options)
  // Nobody changes the chunks of a get: they need no copy of their own.
  return join(body, { key, at: `${storage.location}/${key}` }, (chunk) => chunk)
}

/**
 * Reads an object into memory: a segment at most.
 * @throws WALRX_OBJECT_DAMAGED for one that decodes to more than any of its kind; what its body throws
 */
export function readWhole({ body, key }: Pick<OpenedObject, 'body' | 'key'>): Promise<Buffer> {
  // A decoder may use its memory again.
  return join(body, { key, at: key }, (chunk) => Buffer.from(chunk))
}

async function join(
  body: AsyncIterable<Uint8Array>,
  { at, key }: { readonly key: string; readonly at: string },
  keep: (chunk: Uint8Array) => Uint8Array,
): Promise<Buffer> {
  const { wholeBytesMax } = formOf(key)
  const pieces: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    if (bytes > wholeBytesMax) {
      const kind = kindOf(key) ?? 'file'
      throw new WalrxError('WALRX_OBJECT_DAMAGED', `${at} has more than the ${wholeBytesMax} bytes of any ${kind}`)
    }
    pieces.push(keep(chunk))
  }
  return Buffer.concat(pieces, bytes)
}

/** The bytes as they are stored. */
async function openStored(
  storage: ReadableStorage,
  key: string,
  { onStored, ...options }: OpenOptions = {},
): Promise<AsyncIterable<Uint8Array>> {
  const stored = await storage.get(key, options)
  return onStored ? watched(stored, onStored) : stored
}

/** Not a generator: what frees the bytes must not wait for a read. */
function watched(stored: AsyncIterable<Uint8Array>, onStored: (chunk: Uint8Array) => void): AsyncIterable<Uint8Array> {
  const chunks = stored[Symbol.asyncIterator]()
  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      const result = await chunks.next()
      if (!result.done) onStored(result.value)
      return result
    },
    async return() {
      await chunks.return?.()
      return { done: true, value: undefined }
    },
  }
  return { [Symbol.asyncIterator]: () => iterator }
}
