/** What an S3 storage is told, and what it does by default. */
import type { Clock } from '../../primitives/clock.ts'

/** A role that is assumed by a token of somebody else (AssumeRoleWithWebIdentity). */
export interface WebIdentity {
  /** File with the token; it is read again for every session. */
  readonly tokenFile: string
  readonly roleArn: string
  /** Default one that the SDK makes up. */
  readonly sessionName: string | undefined
}

/** Options of {@link S3Storage}. What is `undefined` counts as left out. */
export interface S3StorageOptions {
  readonly bucket: string
  /** Folder of the archive in the bucket; `/` at both ends is dropped. Default none. */
  readonly prefix?: string | undefined
  /** Default with an endpoint `us-east-1`; else what the SDK finds (AWS_REGION, profile), and where that is nothing, what
   * the bucket answers to a request in `us-east-1`. */
  readonly region?: string | undefined
  /** URL of a store that is not AWS. */
  readonly endpoint?: string | undefined
  /** The bucket in the path instead of the host name. Default false; an endpoint by address has it in any case. */
  readonly forcePathStyle?: boolean | undefined
  /** With `secretAccessKey`; default the SDK's credential chain (environment, profile, web identity, instance). */
  readonly accessKeyId?: string | undefined
  readonly secretAccessKey?: string | undefined
  readonly sessionToken?: string | undefined
  /** Profile of the SDK's credential chain. Default AWS_PROFILE, and without one also keys of the environment. */
  readonly profile?: string | undefined
  /** The file with profiles. Default AWS_CONFIG_FILE, `~/.aws/config`. */
  readonly configFile?: string | undefined
  /** The file with their keys. Default AWS_SHARED_CREDENTIALS_FILE, `~/.aws/credentials`. */
  readonly credentialsFile?: string | undefined
  /** Default AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN and AWS_ROLE_SESSION_NAME. */
  readonly webIdentity?: WebIdentity | undefined
  /** Default what environment and profile say. */
  readonly useFipsEndpoint?: boolean | undefined
  /** Default what environment and profile say. */
  readonly useDualstackEndpoint?: boolean | undefined
  /** PEM file of the certificate authorities that are trusted, instead of Node's own. */
  readonly caFile?: string | undefined
  /** Storage class of new objects. Default the bucket's. */
  readonly storageClass?: string | undefined
  /** Server-side encryption of new objects. Default the bucket's. */
  readonly sse?: 'AES256' | 'aws:kms' | undefined
  /** KMS key for `aws:kms`. Default the account's. */
  readonly sseKmsKeyId?: string | undefined
  /** Key of one's own for server-side encryption (SSE-C): 32 bytes as text, or their base64. */
  readonly sseCustomerKey?: string | undefined
  /**
   * Which checksums the SDK adds to requests and checks in answers. Default `when-required`, because older work-alikes
   * refuse the newer headers, and take objects sent with a trailing checksum for longer ones. Nothing is lost for what
   * we send: every request is signed over the SHA-256 of its body, which the store verifies.
   */
  readonly checksums?: 'when-required' | 'when-supported' | undefined
  /** Attempts after the first of one request. Default 15, as WAL-G. */
  readonly maxRetries?: number | undefined
  /** No further attempt begins later than this after the first. Default 60,000. */
  readonly retryTimeMaxMs?: number | undefined
  /** Wait before the second attempt; it doubles up to `retryDelayMaxMs`, with jitter. Default 100. */
  readonly retryDelayFirstMs?: number | undefined
  /** Default 10,000. */
  readonly retryDelayMaxMs?: number | undefined
  /** Size of the pieces of a streamed put, from 5 MiB. Default 20 MiB; two or three are in memory at a time. */
  readonly partSizeBytes?: number | undefined
  /** Time for a connection to be made. Default 10,000. */
  readonly connectTimeoutMs?: number | undefined
  /** Time in which a connection moves no byte in either direction. Default 30,000. */
  readonly idleTimeoutMs?: number | undefined
  /** Time from the beginning of a request to the first byte of its answer. Default 300,000. */
  readonly requestTimeoutMs?: number | undefined
  /** Connections at the same time. Default 32. */
  readonly maxSockets?: number | undefined
  /** Default the real clock. */
  readonly clock?: Clock | undefined
  /** Random number in [0, 1), for jitter. Default Math.random. */
  readonly random?: (() => number) | undefined
}

/** The defaults that are numbers. */
export const s3Defaults = {
  maxRetries: 15,
  retryTimeMaxMs: 60_000,
  retryDelayFirstMs: 100,
  retryDelayMaxMs: 10_000,
  partSizeBytes: 20 * 1024 * 1024,
  connectTimeoutMs: 10_000,
  idleTimeoutMs: 30_000,
  requestTimeoutMs: 300_000,
  maxSockets: 32,
} as const

/** Most parts of a multipart upload: the limit of S3. */
export const PART_COUNT_MAX = 10_000
