/** Translates a failed request to S3 into an error: by HTTP status, S3 code and errno, never by message. */
import { type ErrorCode, WalrxError } from '../../primitives/errors.ts'
import { CredentialsError } from '../../aws/credentials.ts'

/** An operation on an object, for messages. */
export interface S3Task {
  /** `put`, `get` and so on. */
  readonly operation: string
  /** The key, or the prefix of a listing. */
  readonly key: string
  /** {@link Storage.location}. */
  readonly location: string
  /** What a policy must allow for it, as IAM calls it. */
  readonly action: string
  /** The proxy on the way, without user and password; undefined for none. */
  readonly proxy?: string | undefined
}

/** What a policy must allow, by operation. */
export const neededActions = {
  put: 's3:PutObject',
  get: 's3:GetObject',
  head: 's3:GetObject',
  list: 's3:ListBucket',
  delete: 's3:DeleteObject',
  'put in pieces': 's3:PutObject',
  'abort of an upload': 's3:AbortMultipartUpload',
  'removal of unfinished uploads': 's3:ListBucketMultipartUploads or s3:AbortMultipartUpload',
} as const

/** An operation of {@link neededActions}. */
export type S3Operation = keyof typeof neededActions

/** A failure, for the retry loop and the caller. */
export interface S3Failure {
  /** HTTP status; undefined when there was no answer. */
  readonly status: number | undefined
  /** S3 code (`SlowDown`), or errno or name of a failure without an answer (`ECONNRESET`). */
  readonly code: string
  /** True when the same request may succeed soon. */
  readonly shouldRetry: boolean
  /** True when the source of the keys fails, and not the store. */
  readonly isOfSource: boolean
  /**
   * What would have to change before it can: `expired` keys, `unknown` keys (misspelt, or replaced by others), or a
   * `checksum` in the request. Undefined where nothing that walrx can change helps.
   */
  readonly wants: 'expired' | 'unknown' | 'checksum' | undefined
  readonly error: WalrxError
}

interface Meaning {
  readonly code: ErrorCode
  readonly shouldRetry?: true
  readonly wants?: 'expired' | 'unknown'
  /** Overrides the code's row of the error table. */
  readonly transient?: boolean
  readonly hint?: string
}

const REGION_HINT = 'set AWS_REGION to the region of the bucket'
const TLS_HINT =
  "check the endpoint's certificate; where the store has its own certificate authority, set S3_CA_CERT_FILE"
const RETRY: Meaning = { code: 'WALRX_STORAGE_UNAVAILABLE', shouldRetry: true }
const DENIED: Meaning = {
  code: 'WALRX_STORAGE_DENIED',
  hint: 'allow it in the policy of the access key or of the bucket: docs/operations.md has a table of the actions of each command',
}
const REFUSED_BY_PROXY: Meaning = {
  code: 'WALRX_STORAGE_DENIED',
  hint: 'the proxy asks for a user and a password: write them into HTTPS_PROXY or HTTP_PROXY, or name the store in NO_PROXY',
}
const FAILING_SOURCE: Meaning = {
  ...RETRY,
  hint: 'the source of the credentials fails: check the profile, process, role or container endpoint that is configured',
}
const BAD_TLS: Meaning = { code: 'WALRX_STORAGE_UNAVAILABLE', transient: false, hint: TLS_HINT }

/** Codes that mean more than their status, or come without one. */
const BY_CODE: Readonly<Record<string, Meaning>> = {
  NoSuchKey: { code: 'WALRX_OBJECT_NOT_FOUND' },
  NoSuchBucket: { code: 'WALRX_STORAGE_MISSING', hint: 'create the bucket: walrx creates none' },
  InvalidBucketName: { code: 'WALRX_STORAGE_MISSING', hint: 'check the name of the bucket' },
  PermanentRedirect: { code: 'WALRX_STORAGE_MISSING', hint: REGION_HINT },
  AuthorizationHeaderMalformed: { code: 'WALRX_STORAGE_DENIED', hint: REGION_HINT },
  InvalidAccessKeyId: { code: 'WALRX_STORAGE_DENIED', wants: 'unknown', hint: 'check the access key' },
  // versitygw, with status 404.
  XAdminUserNotFound: { code: 'WALRX_STORAGE_DENIED', wants: 'unknown', hint: 'check the access key' },
  SignatureDoesNotMatch: { code: 'WALRX_STORAGE_DENIED', wants: 'unknown', hint: 'check the secret access key' },
  InvalidToken: { code: 'WALRX_STORAGE_DENIED', wants: 'unknown', hint: 'check the session token' },
  ExpiredToken: { code: 'WALRX_STORAGE_DENIED', wants: 'expired', hint: 'renew the session token' },
  ExpiredTokenException: { code: 'WALRX_STORAGE_DENIED', wants: 'expired', hint: 'renew the session token' },
  TokenRefreshRequired: { code: 'WALRX_STORAGE_DENIED', wants: 'expired', hint: 'renew the session token' },
  InvalidObjectState: {
    code: 'WALRX_STORAGE_DENIED',
    hint: 'the object is in an archive storage class: restore it there first',
  },
  RequestTimeTooSkewed: { code: 'WALRX_STORAGE_DENIED', hint: 'the clock of this machine is wrong: correct it' },
  CredentialsProviderError: {
    code: 'WALRX_STORAGE_DENIED',
    hint: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role that the AWS SDK finds',
  },
  // The multipart upload was completed or removed meanwhile: this request can't succeed, another put can.
  NoSuchUpload: { code: 'WALRX_STORAGE_UNAVAILABLE' },
  // The request was damaged or cut in transit.
  BadDigest: RETRY,
  IncompleteBody: RETRY,
  XAmzContentSHA256Mismatch: RETRY,
  XAmzContentChecksumMismatch: RETRY,
  // Another client is writing the same object.
  OperationAborted: RETRY,
  ConditionalRequestConflict: RETRY,
  // The store is busy, but the status doesn't show it.
  RequestTimeout: RETRY,
  InternalFailure: RETRY,
  TooManyRequests: RETRY,
  TooManyRequestsException: RETRY,
  ProvisionedThroughputExceededException: RETRY,
  InternalError: RETRY,
  ServiceUnavailable: RETRY,
  SlowDown: RETRY,
  Throttling: RETRY,
  ThrottlingException: RETRY,
  RequestLimitExceeded: RETRY,
  BandwidthLimitExceeded: RETRY,
  ENOTFOUND: { ...RETRY, hint: 'check the endpoint, region and bucket, which make up the host name' },
  ERR_TLS_CERT_ALTNAME_INVALID: BAD_TLS,
  CERT_HAS_EXPIRED: BAD_TLS,
  CERT_NOT_YET_VALID: BAD_TLS,
  CERT_UNTRUSTED: BAD_TLS,
  DEPTH_ZERO_SELF_SIGNED_CERT: BAD_TLS,
  SELF_SIGNED_CERT_IN_CHAIN: BAD_TLS,
  UNABLE_TO_GET_ISSUER_CERT: BAD_TLS,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: BAD_TLS,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: BAD_TLS,
}

/** An error of the SDK; every field may be missing. */
interface SdkError {
  readonly name?: string
  readonly Code?: unknown
  readonly code?: unknown
  readonly message?: string
  readonly $metadata?: { readonly httpStatusCode?: number; readonly clockSkewCorrected?: boolean }
  readonly $response?: { readonly statusCode?: number }
}

/** HTTP status of an error of the SDK; undefined when there was no answer. */
export function statusOf(error: unknown): number | undefined {
  const { $metadata, $response } = (error ?? {}) as SdkError
  return $metadata?.httpStatusCode ?? $response?.statusCode
}

/** S3 code, errno or name of an error of the SDK. */
export function codeOf(error: unknown): string {
  const { name, code } = (error ?? {}) as SdkError
  // Node's errors have the errno in `code` and the name `Error`; the SDK's errors have the S3 code as their name.
  if (typeof code === 'string' && statusOf(error) === undefined) return code
  return name ?? 'Unknown'
}

/**
 * True when a store does not support conditional puts: it answers 501, or 400 with a code that is not listed here. If
 * the reason was another one after all, the put without the condition fails with it, too.
 */
export function isConditionRefused(error: unknown): boolean {
  const status = statusOf(error)
  if (status === 501) return true
  return status === 400 && isReadable(error) && !Object.hasOwn(BY_CODE, codeOf(error)) && !wantsChecksum(error)
}

/** True for a 400 or 403 without a code of S3's, such as every one to a HEAD. */
export function namesNoReason(error: unknown): boolean {
  const status = statusOf(error)
  return (status === 400 || status === 403) && !isReadable(error)
}

/** The failure of a task, from a thrown error. */
export function explainFailure(error: unknown, task: S3Task): S3Failure {
  const status = statusOf(error)
  const code = codeOf(error)
  if (error instanceof WalrxError)
    return { status, code, shouldRetry: false, isOfSource: false, wants: undefined, error }
  const meaning = meaningOf(error, status, code)
  const answer = status === undefined ? code : isKnownName(code) ? `HTTP ${status} ${code}` : `HTTP ${status}`
  const detail = oneLine((error as SdkError | undefined)?.message)
  // What has no code of S3's may be the proxy's own answer.
  const isOfProxy = task.proxy !== undefined && (status === undefined || !isReadable(error))
  const via = isOfProxy ? ` through the proxy ${task.proxy}` : ''
  const lacking = meaning === DENIED ? `: the access key lacks ${task.action}` : ''
  const walrxError = new WalrxError(
    meaning.code,
    `${describeTask(task)}${via} failed: ${answer}${detail === '' || detail === code ? '' : ` (${detail})`}${lacking}`,
    {
      cause: error,
      ...(meaning.hint !== undefined && { hint: meaning.hint }),
      ...(meaning.transient !== undefined && { transient: meaning.transient }),
    },
  )
  const wants = wantsChecksum(error) ? 'checksum' : meaning.wants
  const isOfSource = meaning === FAILING_SOURCE
  return { status, code, shouldRetry: meaning.shouldRetry ?? false, isOfSource, wants, error: walrxError }
}

/** True for an error of {@link explainFailure} that says which right is lacking. */
export function isDenial(error: unknown): error is WalrxError {
  return error instanceof WalrxError && error.hint === DENIED.hint
}

/**
 * The denial of a get that may only mean that nothing is there.
 * @param listing the denial of a listing
 */
export function denialOfMissing(listing: WalrxError, { cause, hint, message }: WalrxError): WalrxError {
  const first = message.replace(/: the access key lacks .*$/, '')
  const detail = `${first}: the access key lacks s3:ListBucket, and without it S3 answers so where nothing is`
  return new WalrxError(listing.code, detail, { cause, ...(hint !== undefined && { hint }) })
}

/** `put of folder/x at s3://bucket/path`. */
export function describeTask({ operation, key, location }: S3Task): string {
  return `${operation} of ${key === '' ? 'everything' : key} at ${location}`
}

function meaningOf(error: unknown, status: number | undefined, code: string): Meaning {
  // The SDK takes the store's time from this refusal, and signs the next attempt with it.
  if ((error as SdkError | undefined)?.$metadata?.clockSkewCorrected)
    return { ...BY_CODE.RequestTimeTooSkewed!, shouldRetry: true }
  if (error instanceof CredentialsError && error.isConfigured) return FAILING_SOURCE
  const byCode = Object.hasOwn(BY_CODE, code) ? BY_CODE[code] : undefined
  if (byCode !== undefined) return byCode
  if (status === undefined) return isDefect(error) ? { code: 'WALRX_INTERNAL' } : RETRY
  // An unreadable answer: incomplete, or not from S3.
  if (status < 300) return RETRY
  if (status === 407) return REFUSED_BY_PROXY
  if (status === 408 || status === 429) return RETRY
  if (status >= 500 && status !== 501 && status !== 505) return RETRY
  if (status === 301 || status === 307) return BY_CODE.PermanentRedirect!
  // A 404 without an S3 code may come from a proxy or a wrong path: it proves nothing about the object.
  if (status === 404)
    return { ...RETRY, hint: 'check that the endpoint is an S3 service: it answered 404 without an S3 error code' }
  if (status === 401 || status === 403) return DENIED
  // Without an S3 code the answer comes from something between here and the store, and proves nothing about the request.
  if (status === 400 && !isReadable(error)) return RETRY
  return { code: 'WALRX_STORAGE_DENIED', hint: 'the store refuses this kind of request: check the S3 settings' }
}

/** True for errors of the program, not of the network. */
function isDefect(error: unknown): boolean {
  return error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError
}

/** True when the answer names a code of S3's, as opposed to HTML, XML that is cut, or nothing. */
function isReadable(error: unknown): boolean {
  const { Code, name } = (error ?? {}) as SdkError
  return typeof Code === 'string' || (name !== undefined && /^[A-Z][A-Za-z]+$/.test(name) && isKnownName(name))
}

/** True for a store that takes no object without a checksum: object lock, and some work-alikes. */
function wantsChecksum(error: unknown): boolean {
  const { message = '' } = (error ?? {}) as SdkError
  return statusOf(error) === 400 && isReadable(error) && /content-md5|x-amz-checksum/i.test(message)
}

function isKnownName(code: string): boolean {
  return code !== 'Unknown' && code !== 'Error' && code !== 'UnknownError'
}

function oneLine(message: string | undefined): string {
  const text = (message ?? '').split('\n')[0]!.trim()
  if (text === 'UnknownError') return ''
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}
