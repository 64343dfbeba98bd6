/**
 * The contract of a storage: objects by key under one prefix. Two implementations, `file.ts` and `s3.ts`; one contract
 * suite (test/storage/contract.ts) runs on both.
 *
 * Keys are relative to the prefix, with `/` between folders, never a leading `/` (`folder/name.zst`). An object is there
 * whole or not at all, under any crash. What the keys mean, and what is in the objects, is for the rooms above to know.
 */

/** One object, as a listing or a head answers it. */
export interface ObjectInfo {
  readonly key: string
  /** Size in bytes. */
  readonly size: number
  /** Last modification, milliseconds since 1970 (many stores have whole seconds only). */
  readonly lastModifiedMs: number
}

/**
 * What can be stored: bytes in memory, or a stream of unknown length (sent in bounded pieces). The bytes, and each chunk
 * of a stream, must stay as they are until the call ends: pieces may be sent again.
 */
export type StorageBody = Uint8Array | AsyncIterable<Uint8Array>

/** Options of every storage call. */
export interface StorageCallOptions {
  /** Ends the call, its retries included, with the signal's reason. */
  readonly signal?: AbortSignal
}

/** Options of {@link Storage.put}. */
export interface PutOptions extends StorageCallOptions {
  /** The most that a stream may come to, in bytes: who knows it has its pieces kept small in memory. */
  readonly sizeMaxBytes?: number
}

/** Options of {@link Storage.list}. */
export interface ListOptions extends StorageCallOptions {
  /** Only keys that sort after this one (byte order, as S3's StartAfter); it need not exist. */
  readonly startAfter?: string
}

/**
 * A storage. Every method throws WalrxError: WALRX_STORAGE_DENIED, WALRX_STORAGE_MISSING (bucket or root directory),
 * WALRX_STORAGE_UNAVAILABLE (after the bounded retries that the implementation does itself).
 */
export interface Storage {
  /** The prefix as an operator writes it, for messages: `s3://bucket/path` or `file:///path`. */
  readonly location: string

  /** True where to look for one name costs next to nothing, but a listing reads a whole folder. Default false. */
  readonly hasCheapHeads?: boolean

  /** Writes an object, replacing any of that key. Durable when it resolves. */
  put(key: string, body: StorageBody, options?: PutOptions): Promise<void>

  /**
   * Removes what writers left unfinished below a folder, and readers don't see: hidden files of a directory, multipart
   * uploads of a bucket. Only for a folder that nobody writes to any more.
   * @param prefix ends with a slash
   */
  removeUnfinished?(prefix: string, options?: StorageCallOptions): Promise<void>

  /**
   * Writes an object only if there is none of that key: atomic where the store can (see each implementation for what
   * happens where it can't). `exists` also when an earlier attempt of this very call had succeeded without our hearing
   * of it, so the caller compares before it believes in a conflict.
   */
  putIfAbsent(key: string, body: Uint8Array, options?: StorageCallOptions): Promise<'created' | 'exists'>

  /** The bytes of an object. Throws WALRX_OBJECT_NOT_FOUND. A caller that stops iterating early frees the source. */
  get(key: string, options?: StorageCallOptions): Promise<AsyncIterable<Uint8Array>>

  /** The object's size and time, or undefined when the store positively says that there is none. */
  head(key: string, options?: StorageCallOptions): Promise<ObjectInfo | undefined>

  /** All objects whose key begins with `prefix`, at any depth, in byte order of their keys; pages are fetched lazily. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo>

  /** Removes objects; those that are not there are no error. */
  delete(keys: readonly string[], options?: StorageCallOptions): Promise<void>

  /**
   * Proves that the storage can be read and written, by a small object in {@link StorageFolders.probe} that is removed
   * again; learns whether putIfAbsent is atomic here. Called once when a writer starts, so that a wrong key or an
   * unwritable directory ends the start with one clear line.
   */
  probe(options?: StorageCallOptions): Promise<StorageTraits>

  /** Frees sockets. The storage is not used afterwards. */
  close(): Promise<void>
}

/** The folders that a storage has to know by name: from its prefix, without a slash at either end. */
export interface StorageFolders {
  /** Where a probe writes an object and removes it again. */
  readonly probe: string
  /** A writer takes what is listed here for durable: a probe of a directory makes it so, and clears dead writers' files. */
  readonly durable: string
  /** A probe of a directory clears dead writers' files here, at any depth. */
  readonly swept: string
}

/** What {@link Storage.probe} found out. */
export interface StorageTraits {
  /** False where the store ignores conditional puts: putIfAbsent then looks first and puts after (racy). */
  readonly conditionalPut: boolean
}

/** Reads a whole object into memory: for small ones (markers, history files). Throws as {@link Storage.get} does. */
export async function readObject(
  storage: Pick<Storage, 'get'>,
  key: string,
  options?: StorageCallOptions,
): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of await storage.get(key, options)) chunks.push(chunk)
  return Buffer.concat(chunks)
}
