/**
 * The contract of a storage: objects by key under one prefix. There are two implementations, `file` and `s3`; one
 * contract suite (test/storage/contract.ts) runs on both.
 *
 * Keys are relative to the prefix, with `/` between folders, never a leading `/` (`folder/name.zst`). After any crash an
 * object is complete or absent. The rooms above define what the keys mean and what is in the objects.
 */

import type { Keyring } from '../crypto/keyring.ts'
import type { WalrxError } from '../primitives/errors.ts'

/** One object, as returned by a listing or a head. */
export interface ObjectInfo {
  readonly key: string
  /** Size in bytes. */
  readonly size: number
  /** Last modification, milliseconds since 1970 (many stores have whole seconds only). */
  readonly lastModifiedMs: number
  /** MD5 of the bytes as 32 hex digits, where the store shows what may be it: an ETag of that form (s3-etag.ts). */
  readonly md5?: string
  /** What a symbolic link leads to that stands for itself; see {@link ListOptions.linksAsObjects}. */
  readonly linkTo?: string
}

/**
 * The content of an object: bytes in memory, or a stream of unknown length (sent in blocks of bounded size). The bytes,
 * and each chunk of a stream, must not change until the call ends: they may be sent again. See also
 * {@link Storage.releasesChunks}.
 */
export type StorageBody = Uint8Array | AsyncIterable<Uint8Array>

/** Options of every storage call. */
export interface StorageCallOptions {
  /** Ends the call, its retries included, with the signal's reason. */
  readonly signal?: AbortSignal
}

/** Memory for the chunks of a {@link Storage.get}. */
export interface ChunkBuffers {
  /** Memory that nobody uses: a storage fills a part of it, from its beginning on, and gives that out as a chunk. */
  take(): Buffer
}

/** Options of {@link Storage.get}. */
export interface GetOptions extends StorageCallOptions {
  /** Where a storage may take memory from that it would allocate. Then it is not written to once it is given out. */
  readonly buffers?: ChunkBuffers
}

/** Options of {@link Storage.put}. */
export interface PutOptions extends StorageCallOptions {
  /** Upper limit of a stream's length in bytes: with it the storage can use smaller blocks in memory. */
  readonly sizeMaxBytes?: number
}

/** Options of {@link Storage.delete}. */
export interface DeleteOptions extends StorageCallOptions {
  /**
   * Called with each key that the store does not let us remove (a lock, a policy, the mode of a directory) and why; all
   * others are removed. Without it such a key fails the call.
   */
  readonly onRefused?: (key: string, error: WalrxError) => void
}

/** Options of {@link Storage.list}. */
export interface ListOptions extends StorageCallOptions {
  /** Only keys that sort after this one (byte order, as S3's StartAfter), which need not exist. */
  readonly startAfter?: string
  /** For a reader that mostly needs a few: the most keys that the first page of a bucket's listing has. */
  readonly firstPageKeys?: number
  /**
   * For what is to be removed. In a directory a symbolic link that leads to a folder or nowhere is then an object without
   * bytes, and what it leads to is not listed; one that {@link Storage.forDeletion} follows is no such object. Where the
   * prefix is the folder of such a link, the link is all that is listed, by its own key, which has no slash at the end.
   */
  readonly linksAsObjects?: boolean
}

/** What a deletion wants to know of symbolic links: their paths, and what they lead to. */
export interface DeletionLinks {
  /** Called for each link that leads nowhere and was passed over, by every listing that meets it. */
  readonly onBroken: (path: string, target: string) => void
  /** Called for each link that was removed. What it leads to is still there. */
  readonly onRemoved: (path: string, target: string) => void
}

/** Options of {@link Storage.sweepUnfinished}. */
export interface SweepOptions extends StorageCallOptions {
  /** Milliseconds since 1970: what has changed since then may have a writer. */
  readonly beforeMs: number
  /** False: only counts. */
  readonly removes: boolean
}

/** Unfinished files of a directory. */
export interface SweptFiles {
  /** Those that no writer has changed for so long, and their bytes: they are removed. */
  readonly files: number
  readonly bytes: number
  /** Those that a writer may be writing. */
  readonly younger: number
}

/** Options of {@link Storage.listPages}. */
export interface ListPagesOptions extends StorageCallOptions {
  /**
   * Keys in their order, which need not exist: a bucket lists what is between two of them beside the rest. A few thousand
   * keys should be between two, for that is what is held of each.
   */
  readonly splits?: readonly string[]
}

/** What a bucket says of an object beyond its size. */
export interface BucketObject {
  /** The clock of the store when it answered, in milliseconds since 1970, to the second; undefined where it says none. */
  readonly storeTimeMs: number | undefined
  /** Until when a lock keeps it; undefined without one, or where the key may not see that (s3:GetObjectRetention). */
  readonly lockedUntilMs: number | undefined
  /** True where the bucket keeps the versions of objects. */
  readonly hasVersions: boolean
}

/** Requests that only a bucket knows, for a test of what a key may do there. All throw as {@link Storage} does. */
export interface BucketTrials {
  /**
   * Stores an object as a multipart upload of one piece, and returns the id of the upload. What it leaves when it fails, it tries
   * to abort.
   */
  putInPieces(key: string, bytes: Uint8Array, options?: StorageCallOptions): Promise<string>
  /** Aborts an upload. One that is over, or was never begun, is none: the store has shown that it may be aborted. */
  abortUpload(key: string, uploadId: string, options?: StorageCallOptions): Promise<void>
  /** Undefined where the object is not there. */
  describe(key: string, options?: StorageCallOptions): Promise<BucketObject | undefined>
}

/**
 * A storage. Every method throws WalrxError: WALRX_STORAGE_DENIED, WALRX_STORAGE_MISSING (bucket or root directory),
 * WALRX_STORAGE_UNAVAILABLE (after the implementation's own bounded retries).
 */
export interface Storage {
  /** The prefix in the operator's notation, for messages: `s3://bucket/path` or `file:///path`. */
  readonly location: string

  /**
   * The keys of the objects in it; undefined where they are not encrypted. A storage passes bytes on as they are, and only
   * carries the keys: who reads or writes an object has the storage in hand (walg/stored).
   */
  readonly keyring: Keyring | undefined

  /** True where a lookup of one name costs almost nothing, but a listing reads a whole folder. Default false. */
  readonly hasCheapHeads?: boolean

  /**
   * True where {@link Storage.put} has used a chunk of a stream when it asks for the next one: its memory may be used again.
   * Default false.
   */
  readonly releasesChunks?: boolean
  /** True where the store itself compares a checksum of all bytes with what it got before a put resolves. Default false. */
  readonly verifiesPuts?: boolean
  /** True once a deletion has shown that the store keeps the versions of objects: what is removed is hidden. Default false. */
  readonly keepsVersions?: boolean

  /** Undefined for what is no bucket. */
  readonly trials?: BucketTrials

  /** Writes an object, and replaces an existing one with the same key. Durable when it resolves. */
  put(key: string, body: StorageBody, options?: PutOptions): Promise<void>

  /**
   * Makes an object durable that another process has written, before anybody relies on it: needed where a reader sees
   * objects that a crash of the machine may still take away. Without it, what is seen is durable.
   */
  makeDurable?(key: string, options?: StorageCallOptions): Promise<void>

  /**
   * Spares the storage its own probe: `traits` are what an earlier one found of this store. Without it, no write needs
   * a probe.
   */
  assumeTraits?(traits: StorageTraits): void

  /**
   * Removes unfinished writes below a folder, which readers don't see: hidden files of a directory, multipart uploads
   * of a bucket. Only for a folder without running writers.
   * @param prefix ends with a slash
   */
  removeUnfinished?(prefix: string, options?: StorageCallOptions): Promise<void>

  /**
   * Counts, and removes, the unfinished files of ended writers in all of a directory. Without it, unfinished writes are not
   * files.
   */
  sweepUnfinished?(options: SweepOptions): Promise<SweptFiles>

  /**
   * The same storage for a deletion, where there may be symbolic links. Its listings pass over links that lead nowhere, and
   * its `delete` removes nothing through a link, but for those of the archive's own folders: such keys are refused.
   */
  forDeletion?(links: DeletionLinks): Storage

  /**
   * Writes an object only if the key does not exist: atomically where the store supports it (see each implementation
   * for the other case). The result is `exists` also when an earlier attempt of the same call succeeded and its answer
   * was lost; so the caller compares the bytes before it reports a conflict.
   */
  putIfAbsent(key: string, body: Uint8Array, options?: StorageCallOptions): Promise<'created' | 'exists'>

  /** The bytes of an object. Throws WALRX_OBJECT_NOT_FOUND. A caller that stops iterating early frees the source. */
  get(key: string, options?: GetOptions): Promise<AsyncIterable<Uint8Array>>

  /** The object's size and time, or undefined when the store has answered that there is none. */
  head(key: string, options?: StorageCallOptions): Promise<ObjectInfo | undefined>

  /**
   * All objects with a key that begins with `prefix`, at any depth, in byte order of the keys; pages are fetched
   * lazily.
   */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo>

  /** The same objects in the same order, in pages: for readers of a million. Without it they come by {@link Storage.list}. */
  listPages?(prefix: string, options?: ListPagesOptions): AsyncIterable<readonly ObjectInfo[]>

  /**
   * Whether {@link ListPagesOptions.splits} make a listing of this prefix faster, and a listing can begin after any key at
   * the cost of a page. Without it they don't.
   */
  listsInParallel?(prefix: string, options?: StorageCallOptions): Promise<boolean>

  /** Removes objects. A missing object is not an error. */
  delete(keys: readonly string[], options?: DeleteOptions): Promise<void>

  /**
   * Proves that the storage can be read and written, with a small object in {@link StorageFolders.probe} that it removes
   * again. It finds out whether putIfAbsent is atomic here. Called once when a writer starts, so that a wrong access
   * key or an unwritable directory ends the start with one clear message.
   */
  probe(options?: StorageCallOptions): Promise<StorageTraits>

  /** Frees sockets. The storage is not used afterwards. */
  close(): Promise<void>
}

/** The folders that a storage needs by name, relative to its prefix, without a slash at either end. */
export interface StorageFolders {
  /** Where a probe writes an object and removes it again. */
  readonly probe: string
  /** A writer takes what is listed here for durable. A probe of a directory makes it durable, and removes files of ended writers. */
  readonly durable: string
  /** A probe of a directory removes files of ended writers here, at any depth. */
  readonly swept: string
  /** Those directly below the prefix that may be symbolic links to another disk, for a deletion too. */
  readonly own: readonly string[]
}

/** What a storage reports while requests wait for the store. */
export type StorageTrouble =
  | {
      readonly kind: 'waiting'
      /** What the last attempt ended with. */
      readonly reason: string
      /** Milliseconds since the oldest request that waits began. */
      readonly forMs: number
      /** Milliseconds until it gives up. */
      readonly leftMs: number
    }
  | {
      /** No request waits any more. */
      readonly kind: 'over'
      /** False when the last one gave up. */
      readonly hasSucceeded: boolean
      readonly forMs: number
    }
  | {
      /** The store refused the keys: they are read again from their source. */
      readonly kind: 'credentials'
      readonly reason: string
    }

/** The result of {@link Storage.probe}. */
export interface StorageTraits {
  /** False where the store ignores conditional puts: putIfAbsent then checks first and puts afterwards (racy). */
  readonly conditionalPut: boolean
  /** What its listings lack, and what walrx does then, for the log; undefined where they are as they should be. */
  readonly listingProblem?: string
  /** True where its listings were tested, and are as they should be; else each listing of a bucket proves itself. */
  readonly isListingProven?: true
}

/** Objects of a page, where a storage has none of its own. */
const pageKeys = 1000

/** {@link Storage.listPages} of any storage. */
export async function* listInPages(
  storage: Pick<Storage, 'list' | 'listPages'>,
  prefix: string,
  options?: ListPagesOptions,
): AsyncGenerator<readonly ObjectInfo[], undefined> {
  if (storage.listPages) {
    yield* storage.listPages(prefix, options)
    return
  }
  let page: ObjectInfo[] = []
  for await (const info of storage.list(prefix, options)) {
    if (page.push(info) < pageKeys) continue
    yield page
    page = []
  }
  if (page.length > 0) yield page
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
