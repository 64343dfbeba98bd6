/**
 * Where the keys come from when none are given: the AWS SDK's chain (environment, profile, process, web identity,
 * container, instance). Files are read each time the chain is asked, because the SDK would keep what it has read for as
 * long as the process lives; and where no link has keys, the error has the words of the link that failed.
 */
import type { S3ClientConfig } from '@aws-sdk/client-s3'

type CredentialProvider = Extract<NonNullable<S3ClientConfig['credentials']>, (...args: never[]) => unknown>
type Keys = Awaited<ReturnType<CredentialProvider>>

/** The chain has no keys. */
export class CredentialsError extends Error {
  override readonly name = 'CredentialsProviderError'
  /** True where a source of keys is configured and failed: it may answer later. */
  readonly isConfigured: boolean

  constructor(message: string, isConfigured: boolean, cause: unknown) {
    super(message, { cause })
    this.isConfigured = isConfigured
  }
}

/**
 * What links of the chain log when they are not configured (the texts of `@aws-sdk/credential-provider-*`); whatever else
 * a link logs is a failure. Nobody asks for the instance's metadata by name, so its silence is no failure either.
 */
const notConfigured =
  /^(unable to find environment variable|.*skipping|could not resolve credentials using profile|profile .* could not be found|web identity configuration not specified|ec2 |aws_ec2_metadata_v1_disabled not set|could not load credentials|.*instance metadata|.*169\.254\.169\.254|timeouterror)/i

/**
 * The SDK's chain, asked from its beginning at each call.
 * @param settings options of the SDK's providers, which go before the environment
 * @throws CredentialsError when it is called
 */
export async function credentialChain(settings: object): Promise<CredentialProvider> {
  const { defaultProvider } = await import('@aws-sdk/credential-provider-node')
  /** The last keys: while they are valid, a source that fails does no harm. */
  let last: Keys | undefined
  return async (...args) => {
    const reasons: string[] = []
    const note = (text: unknown) => {
      const reason = /^@smithy\/property-provider (?:->|\(!\)) (.*)/s.exec(String(text))?.[1]
      if (reason !== undefined && !notConfigured.test(reason)) reasons.push(reason)
    }
    const logger = { trace: note, debug: note, info: note, warn: note, error: note }
    try {
      const provider = defaultProvider({ ...settings, ignoreCache: true, logger } as Parameters<
        typeof defaultProvider
      >[0])
      const keys = await withinTime(provider(...(args as Parameters<typeof provider>)))
      last = keys
      return keys
    } catch (error) {
      if (last?.expiration && last.expiration.getTime() > Date.now()) return last
      const { message, name } = error as Error
      // A link that ends the chain throws its own error.
      const own = name === 'CredentialsProviderError' ? [] : [message]
      // Later links know nothing of the one that is configured.
      const reason = [...reasons, ...own][0]
      throw new CredentialsError(readable(reason ?? message), reason !== undefined || last !== undefined, error)
    }
  }
}

/** A source that says nothing for so long has failed: the SDK waits for a credential_process without an end. */
const sourceMaxMs = 60_000

async function withinTime<T>(work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`no keys after ${sourceMaxMs / 1000} s`)), sourceMaxMs)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
  }
}

/** On one line, and without the command line of a credential_process, which may hold a secret. */
function readable(text: string): string {
  return text
    .replace(/^Error: /, '')
    .replace(/^Command failed:[^\n]*/, 'the credential_process failed:')
    .replace(/\s+/g, ' ')
    .trim()
}
