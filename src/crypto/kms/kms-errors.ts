/** Translates a failed request to AWS KMS into an error: by KMS's code and errno, never by message. */
import { CredentialsError } from '../../aws/credentials.ts'
import { type ErrorCode, WalrxError } from '../../primitives/errors.ts'

/** A request, for messages. */
export interface KmsTask {
  /** What a policy must allow for it, as IAM calls it. */
  readonly action: 'kms:Decrypt' | 'kms:Encrypt'
  /** See {@link Crypter.label}. */
  readonly label: string
  readonly region: string
}

interface Meaning {
  readonly hint?: string
  /** True where the same request may succeed later. */
  readonly transient?: boolean
}

const keys: Meaning = { hint: 'check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile or role' }
const expired: Meaning = { hint: 'renew the session token' }
const tls: Meaning = {
  hint: 'check the endpoint of KMS; where it has its own certificate authority, put that into S3_CA_CERT_FILE',
}
const usage: Meaning = { hint: 'WALG_CSE_KMS_ID must name a symmetric key for ENCRYPT_DECRYPT' }
const busy: Meaning = { transient: true }

const deniedEncrypt = { hint: 'allow kms:Encrypt on the key, in its policy or in that of the role' }
/** KMS answers so also where it has no such key in the region: nothing shows whether the policy or the key is another one. */
const deniedDecrypt = {
  hint: 'allow kms:Decrypt on the key of the object; for a key of another region set WALG_CSE_KMS_REGION',
}

/** By KMS's code, or errno. */
const byCode: Readonly<Record<string, Meaning>> = {
  NotFoundException: {
    hint: 'check WALG_CSE_KMS_ID and WALG_CSE_KMS_REGION: a key belongs to one region',
  },
  DisabledException: { hint: 'enable the key in AWS KMS' },
  KMSInvalidStateException: { hint: 'look at the state of the key in AWS KMS: its deletion can be cancelled' },
  InvalidKeyUsageException: usage,
  UnsupportedOperationException: usage,
  InvalidArnException: { hint: 'check WALG_CSE_KMS_ID' },
  ValidationException: { hint: 'check WALG_CSE_KMS_ID' },
  CredentialsProviderError: {
    hint: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role that the AWS SDK finds',
  },
  UnrecognizedClientException: keys,
  InvalidClientTokenId: keys,
  InvalidSignatureException: keys,
  IncompleteSignature: keys,
  MissingAuthenticationTokenException: keys,
  ExpiredTokenException: expired,
  ExpiredToken: expired,
  ENOTFOUND: { hint: 'check WALG_CSE_KMS_REGION, which is part of the host name', transient: true },
  ERR_TLS_CERT_ALTNAME_INVALID: tls,
  CERT_HAS_EXPIRED: tls,
  CERT_NOT_YET_VALID: tls,
  DEPTH_ZERO_SELF_SIGNED_CERT: tls,
  SELF_SIGNED_CERT_IN_CHAIN: tls,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: tls,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: tls,
  DependencyTimeoutException: busy,
  KeyUnavailableException: busy,
  KMSInternalException: busy,
  LimitExceededException: busy,
  ThrottlingException: busy,
}

/** An error of the SDK; every field may be missing. */
interface SdkError {
  readonly name?: unknown
  readonly code?: unknown
  readonly message?: string
  readonly $metadata?: { readonly httpStatusCode?: number }
  readonly $response?: { readonly statusCode?: number }
}

/** True where KMS says that bytes are none that it has encrypted, or were changed since. */
export function isNoCiphertext(error: unknown): boolean {
  return (error as SdkError | undefined)?.name === 'InvalidCiphertextException'
}

/**
 * The error of a failed request. It has no cause: an answer that cannot be parsed would be quoted there, and may hold a key.
 * Its text comes from KMS only where the answer has a code of KMS's.
 */
export function explainKmsFailure(error: unknown, { action, label, region }: KmsTask): WalrxError {
  if (error instanceof WalrxError) return error
  const { $metadata, $response, code, message = '', name } = (error ?? {}) as SdkError
  const status = $metadata?.httpStatusCode ?? $response?.statusCode
  const at = `AWS KMS in ${region}`
  const of = `${action} with ${label}`
  if (error instanceof CredentialsError) {
    const { isConfigured: transient } = error
    return unavailable(`${of} has no credentials: ${shortened(message)}`, byCode.CredentialsProviderError, {
      transient,
    })
  }
  if (status !== undefined && status >= 400 && isKmsCode(name)) {
    const words = message === '' || message === 'UnknownError' ? '' : ` (${shortened(message)})`
    const text = `${at} refuses ${of}: ${name}${words}`
    if (name !== 'AccessDeniedException') return unavailable(text, byCode[name], status >= 500 ? busy : {})
    return unavailable(text, action === 'kms:Encrypt' ? deniedEncrypt : deniedDecrypt)
  }
  const errno = typeof code === 'string' ? code : typeof name === 'string' ? name : 'unknown error'
  if (status === undefined) return unavailable(`${at} does not answer ${of}: ${errno}`, byCode[errno] ?? busy)
  return unavailable(`${at} does not answer ${of}: HTTP ${status} without an answer of KMS`, undefined, busy)
}

function unavailable(message: string, { hint, transient }: Meaning = {}, more: Meaning = {}): WalrxError {
  const code: ErrorCode = 'WALRX_KEY_UNAVAILABLE'
  const isTransient = transient ?? more.transient
  return new WalrxError(code, message, {
    ...(hint !== undefined && { hint }),
    ...(isTransient && { transient: true }),
  })
}

function isKmsCode(name: unknown): name is string {
  return typeof name === 'string' && /^[A-Z][A-Za-z]+$/.test(name) && !/^(Syntax|Type|Unknown)?Error$/.test(name)
}

function shortened(message: string): string {
  const text = message.replace(/\s+/g, ' ').trim()
  return text.length > 400 ? `${text.slice(0, 400)}…` : text
}
