/** The two requests to AWS KMS that encryption makes. The SDK is loaded with the first of them. */
import { createSecretKey, type KeyObject } from 'node:crypto'
import { rootCertificates } from 'node:tls'
import type { KMSClient, KMSClientConfig } from '@aws-sdk/client-kms'
import type { AwsAccess } from '../../aws/aws-access.ts'
import { agentsFor, checkedEndpoint, clientSettings, knowsRegion, readAuthorities } from '../../aws/client-settings.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { explainKmsFailure, isNoCiphertext } from './kms-errors.ts'

/** Which key of AWS KMS, and how it is reached. */
export interface KmsOptions {
  /** ID, ARN, or alias of a symmetric key, as KMS takes it: `alias/backups`. */
  readonly keyId: string
  /** Region of the key. Default the one in an ARN, else {@link AwsAccess.region}. */
  readonly region?: string | undefined
  /** URL of KMS, for an endpoint of a private network. Default AWS's for the region. */
  readonly endpoint?: string | undefined
  /** See {@link Crypter.label}: `WALG_CSE_KMS_ID=alias/backups`. */
  readonly label: string
  /** The access of the S3 storage. Its authorities are trusted beside Node's own. */
  readonly access: AwsAccess
  /** Attempts of one request. Default 5. */
  readonly attempts?: number | undefined
}

/** Bytes of a data key. */
export const dataKeyBytes = 32

const connectTimeoutMs = 10_000
const requestTimeoutMs = 30_000
const regionOfEndpoint = 'us-east-1'

interface Connection {
  readonly sdk: typeof import('@aws-sdk/client-kms')
  readonly client: KMSClient
}

/** KMS has answered that it has not encrypted the bytes. */
class NoCiphertext extends Error {}

/** See the file's header. */
export class KmsClient {
  readonly #options: KmsOptions
  #connection: Promise<Connection> | undefined

  constructor(options: KmsOptions) {
    this.#options = options
  }

  /**
   * Has KMS encrypt a data key (kms:Encrypt).
   * @throws WALRX_KEY_UNAVAILABLE, WALRX_USAGE
   */
  async wrap(dataKey: Buffer): Promise<Buffer> {
    const { keyId: KeyId } = this.#options
    const { CiphertextBlob } = await this.#ask('kms:Encrypt', ({ sdk, client }) =>
      client.send(new sdk.EncryptCommand({ KeyId, Plaintext: dataKey })),
    )
    return Buffer.from(CiphertextBlob ?? [])
  }

  /**
   * Has KMS decrypt a data key (kms:Decrypt). KMS finds its own key by the bytes, as for WAL-G, so that objects stay readable
   * when another key is set for writing.
   * @returns undefined for what is no data key that KMS has encrypted
   * @throws WALRX_KEY_UNAVAILABLE, WALRX_USAGE
   */
  async unwrap(wrapped: Buffer): Promise<KeyObject | undefined> {
    try {
      const { Plaintext } = await this.#ask('kms:Decrypt', ({ sdk, client }) =>
        client.send(new sdk.DecryptCommand({ CiphertextBlob: wrapped })),
      )
      if (Plaintext?.length !== dataKeyBytes) return undefined
      const key = createSecretKey(Plaintext)
      Plaintext.fill(0)
      return key
    } catch (error) {
      if (error instanceof NoCiphertext) return undefined
      throw error
    }
  }

  async #ask<T>(action: 'kms:Decrypt' | 'kms:Encrypt', send: (connection: Connection) => Promise<T>): Promise<T> {
    this.#connection ??= this.#connect().catch((error: unknown) => {
      this.#connection = undefined
      throw error
    })
    const connection = await this.#connection
    try {
      return await send(connection)
    } catch (error) {
      if (isNoCiphertext(error)) throw new NoCiphertext()
      const region = await connection.client.config.region()
      throw explainKmsFailure(error, { action, label: this.#options.label, region })
    }
  }

  async #connect(): Promise<Connection> {
    const { access, endpoint, label } = this.#options
    const region = this.#region()
    const sdk = await import('@aws-sdk/client-kms')
    const config: KMSClientConfig = {
      ...(await clientSettings(access)),
      ...(region !== undefined && { region }),
      ...(endpoint !== undefined && { endpoint: checkedEndpoint(endpoint, 'KMS') }),
      // AWS_ENDPOINT_URL is the endpoint of the S3 storage.
      ignoreConfiguredEndpointUrls: true,
      requestHandler: {
        connectionTimeout: connectTimeoutMs,
        requestTimeout: requestTimeoutMs,
        throwOnRequestTimeout: true,
        ...(await agentsFor(access, { keepAlive: true, maxSockets: 16 }, await authorities(access))),
      },
      maxAttempts: this.#options.attempts ?? 5,
    }
    const client = new sdk.KMSClient(config)
    if (await knowsRegion(client)) return { sdk, client }
    throw new WalrxError('WALRX_USAGE', `no region is set for ${label}`, {
      hint: 'set WALG_CSE_KMS_REGION or AWS_REGION, or write the ARN of the key',
    })
  }

  #region(): string | undefined {
    const { access, endpoint, keyId, region } = this.#options
    const ofArn = /^arn:[^:]+:kms:([^:]+):/.exec(keyId)?.[1]
    return region ?? ofArn ?? access.region ?? (endpoint === undefined ? undefined : regionOfEndpoint)
  }
}

/** The CA file is that of the store, which may be another one than AWS. */
async function authorities({ caFile }: AwsAccess): Promise<Buffer | undefined> {
  if (caFile === undefined) return undefined
  return Buffer.concat([await readAuthorities(caFile), Buffer.from(`\n${rootCertificates.join('\n')}\n`)])
}
