/** How AWS is reached, and by whom: what S3 and KMS have in common. `undefined` means the default. */
import type { ProxySettings } from './proxy.ts'

/** A role that is assumed by a token of somebody else (AssumeRoleWithWebIdentity). */
export interface WebIdentity {
  /** File with the token; it is read again for every session. */
  readonly tokenFile: string
  readonly roleArn: string
  /** Default one that the SDK makes up. */
  readonly sessionName: string | undefined
}

/** See the file's header. */
export interface AwsAccess {
  /** Default what the SDK finds: AWS_REGION, profile. */
  readonly region?: string | undefined
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
  /** PEM file of trusted certificate authorities. */
  readonly caFile?: string | undefined
  /** Proxies on the way. Default none. */
  readonly proxy?: ProxySettings | undefined
}
