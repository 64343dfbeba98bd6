/** The options of an S3 storage, and their defaults. */
import type { AwsAccess } from '../../aws/aws-access.ts'
import type { Keyring } from '../../crypto/keyring.ts'
import type { Clock } from '../../primitives/clock.ts'
import type { StorageFolders, StorageTrouble } from '../storage.ts'

/** Options of {@link S3Storage}. `undefined` means the default. */
export interface S3StorageOptions extends AwsAccess {
  readonly bucket: string
  /** Folder of the archive in the bucket; `/` at both ends is dropped. Default none. */
  readonly prefix?: string | undefined
  /** The folders that a probe needs by name. */
  readonly folders: StorageFolders
  /** See {@link Storage.keyring}. Default none. */
  readonly keyring?: Keyring | undefined
  /** Default with an endpoint: `us-east-1`. Without one: the region that the SDK finds (AWS_REGION, profile), else the one
   * that the bucket answers to a request in `us-east-1`. */
  readonly region?: string | undefined
  /** URL of a store that is not AWS. */
  readonly endpoint?: string | undefined
  /**
   * True puts the bucket into the path instead of the host name. Default false; an IP address always has it in the
   * path.
   */
  readonly forcePathStyle?: boolean | undefined
  /** PEM file of the trusted certificate authorities, instead of Node's own. */
  readonly caFile?: string | undefined
  /** Storage class of new objects. Default the bucket's. */
  readonly storageClass?: string | undefined
  /** Server-side encryption of new objects. Default the bucket's. */
  readonly sse?: 'AES256' | 'aws:kms' | undefined
  /** KMS key for `aws:kms`. Default the account's. */
  readonly sseKmsKeyId?: string | undefined
  /** Customer-provided key for server-side encryption (SSE-C): 32 bytes as text, or their base64. */
  readonly sseCustomerKey?: string | undefined
  /**
   * Which checksums the SDK adds to requests and checks in answers. Default `when-required`, because older compatible
   * stores refuse the newer headers, and store a trailing checksum as part of the object. Uploads stay protected: every
   * request is signed over the SHA-256 of its body, which the store verifies.
   */
  readonly checksums?: 'when-required' | 'when-supported' | undefined
  /** Attempts after the first of one request. Default as many as `retryTimeMaxMs` has room for. */
  readonly maxRetries?: number | undefined
  /** The patience: no attempt begins later than this after the first one. Default 60,000. */
  readonly retryTimeMaxMs?: number | undefined
  /** The patience while the source of the keys fails, where `retryTimeMaxMs` is less. Default 60,000. */
  readonly sourceTimeMaxMs?: number | undefined
  /** Wait before the second attempt; it doubles up to `retryDelayMaxMs`, with jitter. Default 100. */
  readonly retryDelayFirstMs?: number | undefined
  /** Default 10,000. */
  readonly retryDelayMaxMs?: number | undefined
  /** Size of the parts of a multipart upload, from 5 MiB. Default 20 MiB; two or three are in memory at a time. */
  readonly partSizeBytes?: number | undefined
  /** Time limit for connecting. Default 10,000. */
  readonly connectTimeoutMs?: number | undefined
  /** Time limit without a byte in either direction. Default 30,000. */
  readonly idleTimeoutMs?: number | undefined
  /** Time limit from the beginning of a request to the first byte of its answer. Default 300,000. */
  readonly requestTimeoutMs?: number | undefined
  /** Time for the answer to the completion of a multipart upload, in which stores copy its parts. Default 900,000. */
  readonly completionTimeoutMs?: number | undefined
  /** Connections at the same time. Default 32. */
  readonly maxSockets?: number | undefined
  /** Called when requests wait for the store. Default: nothing is reported. */
  readonly onTrouble?: ((trouble: StorageTrouble) => void) | undefined
  /** Default the real clock. */
  readonly clock?: Clock | undefined
  /** Random number in [0, 1), for jitter. Default Math.random. */
  readonly random?: (() => number) | undefined
}

/** The numeric defaults. */
export const s3Defaults = {
  retryTimeMaxMs: 60_000,
  retryDelayFirstMs: 100,
  retryDelayMaxMs: 10_000,
  partSizeBytes: 20 * 1024 * 1024,
  connectTimeoutMs: 10_000,
  idleTimeoutMs: 30_000,
  requestTimeoutMs: 300_000,
  completionTimeoutMs: 900_000,
  maxSockets: 32,
} as const

/** The most parts of a multipart upload: the limit of S3. */
export const PART_COUNT_MAX = 10_000
