/** What every client of the AWS SDK is configured with here: it prints nothing, and takes its keys from the options. */
import { X509Certificate } from 'node:crypto'
import type { AgentOptions } from 'node:http'
import type { S3ClientConfig } from '@aws-sdk/client-s3'
import { WalrxError } from '../primitives/errors.ts'
import { readRegular } from '../primitives/regular-file.ts'
import type { AwsAccess } from './aws-access.ts'
import { credentialChain } from './credentials.ts'
import { proxyAgents } from './proxy.ts'

/** Settings of a client that are not peculiar to one service. */
export type ClientSettings = Pick<
  S3ClientConfig,
  'credentials' | 'customUserAgent' | 'logger' | 'retryMode' | 'useDualstackEndpoint' | 'useFipsEndpoint'
>

/** The options of the SDK's HTTP handler, from the type of a client's configuration. */
export type HandlerOptions = Extract<NonNullable<S3ClientConfig['requestHandler']>, { httpAgent?: unknown }>

/**
 * A logger that prints nothing. With the SDK's own NoOpLogger some of its modules fall back to the console.
 */
const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {} }

/** The settings by which a client signs and prints. */
export async function clientSettings(access: AwsAccess): Promise<ClientSettings> {
  const { accessKeyId, secretAccessKey, sessionToken } = access
  return {
    credentials:
      accessKeyId !== undefined && secretAccessKey !== undefined
        ? { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) }
        : await credentialChain(chainSettings(access)),
    ...chainSettings(access),
    ...(access.useFipsEndpoint !== undefined && { useFipsEndpoint: access.useFipsEndpoint }),
    ...(access.useDualstackEndpoint !== undefined && { useDualstackEndpoint: access.useDualstackEndpoint }),
    logger: silent,
    retryMode: 'standard',
    customUserAgent: 'walrx',
  }
}

/**
 * What the SDK's credential chain would otherwise take from the process's environment, by the names of its providers'
 * options (credential-provider-ini, credential-provider-web-identity). So two storages of one process can have different
 * keys. The client gets them too: it takes the region from the profile.
 */
function chainSettings({ configFile, credentialsFile, profile, webIdentity }: AwsAccess): S3ClientConfig {
  const settings = {
    profile,
    configFilepath: configFile,
    filepath: credentialsFile,
    webIdentityTokenFile: webIdentity?.tokenFile,
    roleArn: webIdentity?.roleArn,
    roleSessionName: webIdentity?.sessionName,
  }
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined))
}

/**
 * The agents of the SDK's HTTP handler, with proxies and authorities.
 * @param ca the only authorities that are trusted; undefined for Node's own
 * @throws WALRX_USAGE for a proxy that walrx cannot use
 */
export async function agentsFor(
  { proxy = {} }: AwsAccess,
  agent: AgentOptions,
  ca: Buffer | undefined,
): Promise<Pick<HandlerOptions, 'httpAgent' | 'httpsAgent'>> {
  const tls = ca === undefined ? {} : { ca }
  return (await proxyAgents(proxy, agent, tls)) ?? { httpAgent: agent, httpsAgent: { ...agent, ...tls } }
}

/** The authorities in a PEM file. Throws WALRX_USAGE where it holds no certificate. */
export async function readAuthorities(caFile: string): Promise<Buffer> {
  try {
    const ca = await readRegular(caFile)
    // Node accepts any bytes as an authority, and then trusts no certificate.
    new X509Certificate(ca)
    return ca
  } catch (cause) {
    const problem = `the CA file ${caFile} holds no readable certificate`
    throw new WalrxError('WALRX_USAGE', `${problem}: ${(cause as Error).message}`, { cause })
  }
}

/**
 * An endpoint that is an http(s) URL without keys in it; else throws WALRX_USAGE.
 * @param service names it in messages: `S3`
 */
export function checkedEndpoint(endpoint: string, service: string): string {
  const url = URL.parse(endpoint)
  const shown = endpoint.replace(/^([a-z0-9+.-]*:\/\/|)[^/]*@/i, '$1…@')
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') {
    throw new WalrxError('WALRX_USAGE', `the ${service} endpoint ${shown} is not an http:// or https:// URL`)
  }
  if (url.username !== '' || url.password !== '') {
    throw new WalrxError(
      'WALRX_USAGE',
      `the ${service} endpoint ${shown} has text before an @: keys have no place there`,
      { hint: 'put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY' },
    )
  }
  return endpoint
}

/** True where a client has a region, from its options, the environment or a profile. */
export async function knowsRegion(client: { readonly config: { region: () => Promise<unknown> } }): Promise<boolean> {
  try {
    await client.config.region()
    return true
  } catch {
    return false
  }
}
