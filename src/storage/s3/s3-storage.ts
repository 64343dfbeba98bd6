/**
 * Objects in a bucket of S3 or a store that speaks its protocol. The object `a/b` has the key `<prefix>/a/b`.
 *
 * Every request is tried several times, within limits (S3Retries). Status and code of a failure decide what it means
 * (s3-errors). An object counts as absent only when the store answers with S3's own code, never after a bare 404: a
 * proxy, a wrong path and a missing bucket also answer that, and a recovering server would take it for the archive's end.
 */
import { isIP } from 'node:net'
import type { Readable } from 'node:stream'
import type { PutObjectCommandInput, StorageClass } from '@aws-sdk/client-s3'
import { describeProxy, proxyFor } from '../../aws/proxy.ts'
import type { Keyring } from '../../crypto/keyring.ts'
import type { WalrxError } from '../../primitives/errors.ts'
import { abortable } from '../abortable.ts'
import { checkKey, checkPrefix } from '../keys.ts'
import { proveStorage } from '../probe.ts'
import type {
  BucketTrials,
  DeleteOptions,
  ListOptions,
  ListPagesOptions,
  ObjectInfo,
  PutOptions,
  Storage,
  StorageBody,
  StorageCallOptions,
  StorageTraits,
} from '../storage.ts'
import { S3Body } from './s3-body.ts'
import { S3Retries } from './s3-retries.ts'
import { type S3Connection, type S3Shared, connectS3, newShared } from './s3-client.ts'
import { abortUploads, deleteObjects } from './s3-delete.ts'
import { type S3Operation, type S3Task, isConditionRefused, isDenial, neededActions, statusOf } from './s3-errors.ts'
import { listInRanges } from './listing/listed-ranges.ts'
import { type S3ListingPlace, beginsAnywhere, listObjects, testListing } from './listing/s3-listing.ts'
import { type S3StorageOptions, s3Defaults } from './s3-options.ts'
import { S3Reads } from './s3-reads.ts'
import { bucketTrials } from './s3-trials.ts'
import { smallPartBytes, uploadStream } from './s3-upload.ts'

/** A wrong endpoint or access key should end a start soon: the probe has a shorter retry time than other requests. */
const PROBE_RETRY_TIME_MAX_MS = 15_000
/** How long `close` waits until the parts of failed uploads are removed. */
const CLOSE_WAIT_MS = 5000
/** How long bodies may come over a connection with old keys: after that they are resumed over a new one. */
const RETIRED_FOR_MS = 15 * 60_000

/** A storage in a bucket. */
export class S3Storage implements Storage {
  readonly location: string
  readonly keyring: Keyring | undefined
  /** The signature of a request has the SHA-256 of its body. */
  readonly verifiesPuts = true
  readonly #options: S3StorageOptions
  readonly #root: string
  readonly #caller: S3Retries
  readonly #reads: S3Reads
  /** Running streamed puts, including the removal of their parts. */
  readonly #uploads = new Set<Promise<void>>()
  readonly #parent: S3Storage | undefined
  readonly #shared: S3Shared
  #connection: Promise<S3Connection> | undefined
  /** Connections with keys that the store no longer takes; bodies may still come over them. */
  readonly #retired = new Map<S3Connection, NodeJS.Timeout>()
  #traits: StorageTraits | undefined
  #probing: Promise<StorageTraits> | undefined

  /** @param parent a storage on the same place, whose connections this one uses */
  constructor(options: S3StorageOptions, parent?: S3Storage) {
    this.#options = options
    this.#parent = parent
    this.#shared = parent ? parent.#shared : newShared()
    const prefix = (options.prefix ?? '').replace(/^\/+|\/+$/g, '')
    this.#root = prefix === '' ? '' : `${prefix}/`
    this.location = `s3://${options.bucket}${prefix === '' ? '' : `/${prefix}`}`
    this.keyring = options.keyring
    this.#caller = new S3Retries(
      () => this.#connect(),
      () => this.#retire(),
      this.#shared,
      options,
    )
    this.#reads = new S3Reads({
      caller: this.#caller,
      task: (operation, key) => this.#task(operation, key),
      object: (key) => this.#object(key),
      list: (prefix, listOptions) => this.list(prefix, listOptions),
    })
  }

  /** Bytes in memory are one PUT; a stream longer than a part is a multipart upload. */
  async put(key: string, body: StorageBody, { signal, sizeMaxBytes }: PutOptions = {}): Promise<void> {
    checkKey(key)
    if (body instanceof Uint8Array) await this.#putBytes(key, body, signal)
    else await this.#putStream(key, body, sizeMaxBytes, signal)
  }

  /**
   * Atomic by `If-None-Match: *`. Where the probe has found that the store doesn't honour it (walrx probes by itself when
   * nobody has), it is a GET and then a PUT: of two writers at the same moment both may get `created`, and the later
   * one's bytes stay. The GET must say that there is no such object, as for {@link head}.
   */
  async putIfAbsent(key: string, body: Uint8Array, { signal }: StorageCallOptions = {}): Promise<'created' | 'exists'> {
    checkKey(key)
    signal?.throwIfAborted()
    if (this.#traits === undefined) {
      this.#probing ??= this.#probe(undefined).finally(() => (this.#probing = undefined))
      await abortable(this.#probing, signal)
    }
    const result = this.#traits?.conditionalPut ? await this.#create(key, body, signal) : 'unsupported'
    if (result !== 'unsupported') return result
    if ((await this.#reads.headByGet(key, signal)) !== undefined) return 'exists'
    await this.#putBytes(key, body, signal)
    return 'created'
  }

  async get(key: string, { signal }: StorageCallOptions = {}): Promise<AsyncIterable<Uint8Array>> {
    checkKey(key)
    const first = await this.#reads.getObject(key, {}, signal)
    const answer = { stream: first.Body as Readable, size: first.ContentLength, etag: first.ETag }
    return new S3Body(
      answer,
      (offset, etag) => this.#reads.getRest(key, offset, etag, signal),
      this.#task('get', key),
      signal,
      this.#options,
    )
  }

  /** After a HEAD with 404, a GET distinguishes a missing object from a missing bucket. */
  async head(key: string, { signal }: StorageCallOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key)
    return (await this.#reads.headBare(key, signal)) ?? (await this.#reads.headByGet(key, signal))
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ObjectInfo> {
    yield* listObjects({ ...this.#listing(prefix, options.signal), ...options, prefix })
  }

  async listsInParallel(prefix: string, { signal }: StorageCallOptions = {}): Promise<boolean> {
    return await beginsAnywhere(this.#listing(prefix, signal), prefix)
  }

  listPages(prefix: string, options: ListPagesOptions = {}): AsyncIterable<readonly ObjectInfo[]> {
    return listInRanges((signal) => this.#listing(prefix, signal), prefix, options)
  }

  async delete(keys: readonly string[], { onRefused, signal }: DeleteOptions = {}): Promise<void> {
    keys.forEach(checkKey)
    const task = this.#task('delete', keys.length === 1 ? keys[0]! : `${keys.length} objects`)
    const fullKeys = keys.map((key) => this.#root + key)
    const refused = onRefused && ((key: string, error: WalrxError) => onRefused(key.slice(this.#root.length), error))
    const place = { caller: this.#caller, bucket: this.#options.bucket, shared: this.#shared, task, signal }
    await deleteObjects({ ...place, onRefused: refused, keys: fullKeys })
  }

  get keepsVersions(): boolean {
    return this.#shared.keepsVersions === true
  }

  get trials(): BucketTrials {
    const objects = { made: (key: string) => this.#newObject(key), read: (key: string) => this.#object(key) }
    return bucketTrials(this.#caller, (operation, key) => this.#task(operation, key), objects)
  }

  async removeUnfinished(prefix: string, { signal }: StorageCallOptions = {}): Promise<void> {
    checkPrefix(prefix)
    const [caller, task] = [this.#caller, this.#task('removal of unfinished uploads', prefix)]
    await abortUploads({ caller, bucket: this.#options.bucket, prefix: this.#root + prefix, task, signal })
  }

  assumeTraits(traits: StorageTraits): void {
    this.#traits ??= traits
    if (!traits.isListingProven) return
    this.#shared.listing.startsAfter ??= 'any key'
    this.#shared.listing.announcesPages ??= true
  }

  async probe({ signal }: StorageCallOptions = {}): Promise<StorageTraits> {
    return await this.#probe(signal)
  }

  async close(): Promise<void> {
    const connection = this.#connection
    if (connection === undefined && this.#retired.size === 0) return
    const waited = new AbortController()
    const timer = setTimeout(() => waited.abort(), CLOSE_WAIT_MS)
    await abortable(Promise.allSettled(this.#uploads), waited.signal).catch(() => {})
    clearTimeout(timer)
    await connection?.then(({ destroy }) => destroy()).catch(() => {})
    for (const [retired, timer] of this.#retired) {
      clearTimeout(timer)
      retired.destroy()
    }
    this.#retired.clear()
  }

  #connect(): Promise<S3Connection> {
    if (this.#parent) return this.#parent.#connect()
    if (this.#connection) return this.#connection
    const connection = connectS3(this.#options, this.#shared)
    connection.catch(() => {
      if (this.#connection === connection) this.#connection = undefined
    })
    this.#connection = connection
    return connection
  }

  /** The next request has a client of its own, whose keys are read again; requests that are under way keep theirs. */
  #retire(): void {
    if (this.#parent) return this.#parent.#retire()
    this.#connection?.then(
      (connection) => {
        const timer = setTimeout(() => {
          connection.destroy()
          this.#retired.delete(connection)
        }, RETIRED_FOR_MS)
        this.#retired.set(connection, timer.unref())
      },
      () => {},
    )
    this.#connection = undefined
  }

  #listing(prefix: string, signal: AbortSignal | undefined): S3ListingPlace {
    checkPrefix(prefix)
    const [caller, traits, task] = [this.#caller, this.#shared.listing, this.#task('list', prefix)]
    return { caller, bucket: this.#options.bucket, root: this.#root, signal, task, traits }
  }

  #task(operation: S3Operation, key: string): S3Task {
    return { operation, key, location: this.location, action: neededActions[operation], proxy: this.#proxy() }
  }

  /** The proxy to the host of the bucket, for messages. */
  #proxy(): string | undefined {
    const { bucket, endpoint, forcePathStyle, proxy, region } = this.#options
    const url = proxy && URL.parse(endpoint ?? `https://s3.${region ?? 'us-east-1'}.amazonaws.com`)
    if (!url) return undefined
    if (forcePathStyle !== true && !isIP(url.hostname)) url.hostname = `${bucket}.${url.hostname}`
    const used = proxyFor(proxy, url)
    return used && describeProxy(used)
  }

  /** Bucket, key and the settings of every new object. */
  #newObject(key: string): PutObjectCommandInput {
    const { storageClass, sse, sseKmsKeyId } = this.#options
    return {
      ...this.#object(key),
      ...(storageClass !== undefined && { StorageClass: storageClass as StorageClass }),
      // With a customer-provided key S3 accepts no other encryption.
      ...(sse !== undefined && this.#options.sseCustomerKey === undefined && { ServerSideEncryption: sse }),
      ...(sseKmsKeyId !== undefined && { SSEKMSKeyId: sseKmsKeyId }),
    }
  }

  /** Bucket, key and the customer-provided key, to read an object. */
  #object(key: string) {
    const { bucket, sseCustomerKey } = this.#options
    return {
      Bucket: bucket,
      Key: this.#root + key,
      ...(sseCustomerKey !== undefined && { SSECustomerAlgorithm: 'AES256', SSECustomerKey: sseCustomerKey }),
    }
  }

  async #putBytes(key: string, body: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    await this.#caller.call(this.#task('put', key), signal, ({ sdk, send }) =>
      send(new sdk.PutObjectCommand({ ...this.#newObject(key), Body: body })),
    )
  }

  async #putStream(
    key: string,
    body: StorageBody,
    sizeMaxBytes: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const largest = this.#options.partSizeBytes ?? s3Defaults.partSizeBytes
    const partSizeBytes = sizeMaxBytes === undefined ? largest : smallPartBytes(sizeMaxBytes, largest)
    const task = this.#task('put', key)
    const caller = this.#caller
    const connection = await abortable(this.#connect(), signal)
    const params = this.#newObject(key)
    const { hashes } = this.#shared
    const upload = uploadStream({ connection, caller, params, body, partSizeBytes, task, signal, hashes })
    this.#uploads.add(upload)
    const over = () => this.#uploads.delete(upload)
    upload.then(over, over)
    // After an abort the parts are removed while the caller goes on.
    await abortable(upload, signal)
  }

  /**
   * A conditional put without the fallback: `unsupported` when the store refuses the condition itself. A denial where the
   * object is there is `exists`, too: versitygw denies a put over an object with a lock before it looks at the condition.
   */
  async #create(
    key: string,
    body: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<'created' | 'exists' | 'unsupported'> {
    try {
      return await this.#caller.call(this.#task('put', key), signal, async ({ sdk, send }) => {
        try {
          await send(new sdk.PutObjectCommand({ ...this.#newObject(key), Body: body, IfNoneMatch: '*' }))
          return 'created'
        } catch (error) {
          if (statusOf(error) === 412) return 'exists'
          if (isConditionRefused(error)) return 'unsupported'
          throw error
        }
      })
    } catch (error) {
      if (isDenial(error) && (await this.#isThere(key, signal))) return 'exists'
      throw error
    }
  }

  /** True only when the store has shown the object. */
  async #isThere(key: string, signal: AbortSignal | undefined): Promise<boolean> {
    const found = await this.#reads.headByGet(key, signal).catch(() => undefined)
    signal?.throwIfAborted()
    return found !== undefined
  }

  async #probe(signal: AbortSignal | undefined): Promise<StorageTraits> {
    const retryTimeMaxMs = Math.min(this.#options.retryTimeMaxMs ?? Infinity, PROBE_RETRY_TIME_MAX_MS)
    const sourceTimeMaxMs = this.#options.retryTimeMaxMs
    const hurried = new S3Storage({ ...this.#options, retryTimeMaxMs, sourceTimeMaxMs }, this)
    const traits = await proveStorage(
      {
        location: this.location,
        put: hurried.put.bind(hurried),
        get: hurried.get.bind(hurried),
        list: hurried.list.bind(hurried),
        delete: hurried.delete.bind(hurried),
        createBare: (key, body, options) => hurried.#create(key, body, options.signal),
        testListing: (first, second, { signal }) => testListing(hurried.#listing(first, signal), first, second),
      },
      this.#options.folders.probe,
      signal ? { signal } : {},
    )
    this.#traits = traits
    return traits
  }
}
