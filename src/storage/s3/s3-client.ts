/** The AWS SDK's client, configured to make one attempt, print nothing, and send only what older stores understand. */
import { createHash } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3'
import {
  agentsFor,
  checkedEndpoint,
  clientSettings,
  type HandlerOptions,
  knowsRegion,
  readAuthorities,
} from '../../aws/client-settings.ts'
import { type S3StorageOptions, s3Defaults } from './s3-options.ts'
import { refuseStrangeAnswers } from './s3-strange-answers.ts'

/** The loaded SDK. Loading takes 100 ms, which a command without S3 doesn't spend. */
export interface S3Connection {
  readonly sdk: typeof import('@aws-sdk/client-s3')
  readonly client: S3Client
  /** A second client, made when it is first asked for, that waits for an answer as long as a completion may take. */
  readonly slowClient: () => S3Client
  /** Frees the sockets. */
  readonly destroy: () => void
}

/** How a store lists: found out by requests, and shared by all connections to it. */
export interface S3ListingTraits {
  /** After which keys it can begin a listing; undefined where that is not known. */
  startsAfter: 'any key' | 'keys that exist' | 'no key' | undefined
  /** False where a page that is marked as the last one may not be it; undefined where that is not known. */
  announcesPages: boolean | undefined
  /** So many keys a page of it can have: one that is marked as the last one may not be it where it has more. */
  pageKeys: number
}

/** What all connections of one storage share. */
export interface S3Shared {
  /** True once the store has refused an object without a checksum: each is sent with its MD5 then. */
  demandsChecksums: boolean
  /** The CA file as it was read first: one that is being replaced must not end a running storage. */
  ca: Buffer | undefined
  /** True where a deletion has left a delete marker: the bucket keeps the versions. Undefined: none was made yet. */
  keepsVersions: boolean | undefined
  /** What is known of how the store lists. */
  readonly listing: S3ListingTraits
  /** SHA-256 in hex of large bodies that were sent, over whichever connection. */
  readonly hashes: WeakMap<Uint8Array, string>
}

/** Nothing is known of a store yet. */
export function newShared(): S3Shared {
  const listing = { startsAfter: undefined, announcesPages: undefined, pageKeys: 1 }
  return { demandsChecksums: false, ca: undefined, keepsVersions: undefined, listing, hashes: new WeakMap() }
}

const FALLBACK_REGION = 'us-east-1'
/** Bytes that are hashed at a time: 2 to 5 ms on a core without instructions for SHA-256. */
const HASH_SLICE_BYTES = 1024 * 1024

/**
 * Loads the SDK and creates a client.
 * @throws WALRX_USAGE for an endpoint that is not an http(s) URL, or a CA file that can't be read
 */
export async function connectS3(options: S3StorageOptions, shared: S3Shared): Promise<S3Connection> {
  const config = await clientConfig(options, shared)
  const sdk = await import('@aws-sdk/client-s3')
  let client = new sdk.S3Client(config)
  if (config.region === undefined && !(await knowsRegion(client))) {
    client.destroy()
    client = new sdk.S3Client({ ...config, region: FALLBACK_REGION })
  }
  const equip = (one: S3Client) => {
    // It goes through all that an answer says, also where nothing is logged.
    one.middlewareStack.remove('loggerMiddleware')
    hashInSlices(one, shared.hashes)
    refuseStrangeAnswers(one)
    if (options.checksums !== 'when-supported') useContentMd5(one, shared)
    return one
  }
  equip(client)
  let slow: S3Client | undefined
  const destroy = () => {
    client.destroy()
    slow?.destroy()
  }
  return {
    sdk,
    client,
    slowClient: () => (slow ??= equip(slowCopy(client, config, options, sdk))),
    destroy,
  }
}

/** A client with the keys and the region of another one, and the time-outs of a completion. */
function slowCopy(
  client: S3Client,
  config: S3ClientConfig,
  { completionTimeoutMs = s3Defaults.completionTimeoutMs }: S3StorageOptions,
  sdk: S3Connection['sdk'],
): S3Client {
  const { credentials, region } = client.config
  const handler = { ...(config.requestHandler as HandlerOptions) }
  const timeouts = { socketTimeout: completionTimeoutMs, requestTimeout: completionTimeoutMs }
  return new sdk.S3Client({ ...config, credentials, region, requestHandler: { ...handler, ...timeouts } })
}

async function clientConfig(options: S3StorageOptions, shared: S3Shared): Promise<S3ClientConfig> {
  const { endpoint } = options
  const region = options.region ?? (endpoint === undefined ? undefined : FALLBACK_REGION)
  const checksums = options.checksums === 'when-supported' ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED'
  return {
    ...(region !== undefined && { region }),
    ...(endpoint !== undefined && { endpoint: checkedEndpoint(endpoint, 'S3') }),
    forcePathStyle: options.forcePathStyle ?? false,
    ...(await clientSettings(options)),
    requestHandler: {
      connectionTimeout: options.connectTimeoutMs ?? s3Defaults.connectTimeoutMs,
      socketTimeout: options.idleTimeoutMs ?? s3Defaults.idleTimeoutMs,
      requestTimeout: options.requestTimeoutMs ?? s3Defaults.requestTimeoutMs,
      throwOnRequestTimeout: true,
      ...(await agents(options, shared)),
    },
    // S3Retries counts, spaces and limits the attempts; it can be aborted while it waits.
    maxAttempts: 1,
    requestChecksumCalculation: checksums,
    responseChecksumValidation: checksums,
    followRegionRedirects: true,
    // With the header the SDK opens a new connection for every body of 2 MB and more.
    expectContinueHeader: false,
  }
}

async function agents(
  options: S3StorageOptions,
  shared: S3Shared,
): Promise<Pick<HandlerOptions, 'httpAgent' | 'httpsAgent'>> {
  if (options.caFile !== undefined) shared.ca ??= await readAuthorities(options.caFile)
  const agent = { keepAlive: true, maxSockets: options.maxSockets ?? s3Defaults.maxSockets }
  return agentsFor(options, agent, shared.ca)
}

/**
 * The signature covers the SHA-256 of the body. To compute it for 20 MiB, the SDK would block the event loop for 50 to
 * 100 ms. So large bodies are hashed here, a slice at a time, and the SDK takes the hash from the header.
 */
function hashInSlices(client: S3Client, hashes: WeakMap<Uint8Array, string>): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      const { body, headers } = args.request as { body?: unknown; headers: Record<string, string> }
      if (body instanceof Uint8Array && body.length > HASH_SLICE_BYTES) {
        const sha256 = await hashed('sha256', body)
        hashes.set(body, sha256.toString('hex'))
        headers['x-amz-content-sha256'] = sha256.toString('hex')
      }
      return await next(args)
    },
    { step: 'build', priority: 'low', name: 'walrxHashInSlices' },
  )
}

/** The hash of bytes, a slice at a time. */
async function hashed(algorithm: 'md5' | 'sha256', body: Uint8Array): Promise<Buffer> {
  const hash = createHash(algorithm)
  for (let offset = 0; offset < body.length; offset += HASH_SLICE_BYTES) {
    hash.update(body.subarray(offset, offset + HASH_SLICE_BYTES))
    await setImmediate()
  }
  return hash.digest()
}

/**
 * S3 requires a checksum only for the deletion of several objects. Every store accepts Content-MD5 there; only newer
 * ones accept the CRC32 that the SDK sends.
 * Objects get one where the store has demanded it.
 */
function useContentMd5(client: S3Client, shared: Readonly<S3Shared>): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const request = args.request as { headers: Record<string, string>; body?: string | Uint8Array }
      const { body, headers } = request
      if (context.commandName === 'DeleteObjectsCommand' && body !== undefined) {
        for (const header of Object.keys(headers)) {
          if (/^x-amz-(sdk-)?checksum-/i.test(header)) delete headers[header]
        }
        headers['content-md5'] = createHash('md5').update(body).digest('base64')
      }
      const isObject = context.commandName === 'PutObjectCommand' || context.commandName === 'UploadPartCommand'
      if (isObject && shared.demandsChecksums && body !== undefined) {
        const bytes = typeof body === 'string' ? Buffer.from(body) : body
        headers['content-md5'] = (await hashed('md5', bytes)).toString('base64')
      }
      return next(args)
    },
    { step: 'build', priority: 'low', name: 'walrxContentMd5' },
  )
}
