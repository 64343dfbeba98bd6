/** How AWS is reached, by the settings: one set of credentials does for S3 and for KMS. */
import type { AwsAccess, WebIdentity } from '../aws/aws-access.ts'
import { WalrxError } from '../primitives/errors.ts'
import type { OptionValues } from './options/options.ts'

/** Options that say how AWS is reached. */
export type AwsValues = Pick<
  OptionValues<'wal-show'>,
  | 'awsAccessKeyId'
  | 'awsConfigFile'
  | 'awsProfile'
  | 'awsRegion'
  | 'awsRoleArn'
  | 'awsRoleSessionName'
  | 'awsSecretAccessKey'
  | 'awsSessionToken'
  | 'awsSharedCredentialsFile'
  | 'awsUseDualstackEndpoint'
  | 'awsUseFipsEndpoint'
  | 'awsWebIdentityFile'
  | 'httpProxy'
  | 'httpsProxy'
  | 'noProxy'
  | 's3CaCertFile'
>

/** The access. Throws WALRX_OPTION_UNSUPPORTED for a role without a token to assume it by. */
export function awsAccess(values: AwsValues): AwsAccess {
  return {
    region: values.awsRegion,
    accessKeyId: values.awsAccessKeyId,
    secretAccessKey: values.awsSecretAccessKey,
    sessionToken: values.awsSessionToken,
    // By its name: without one the SDK would first look for keys in the process's environment, and the keys of this
    // archive, wherever they come from, are given here.
    profile: values.awsProfile ?? 'default',
    configFile: values.awsConfigFile,
    credentialsFile: values.awsSharedCredentialsFile,
    webIdentity: webIdentity(values),
    useFipsEndpoint: values.awsUseFipsEndpoint,
    useDualstackEndpoint: values.awsUseDualstackEndpoint,
    caFile: values.s3CaCertFile,
    proxy: { httpsProxy: values.httpsProxy, httpProxy: values.httpProxy, noProxy: values.noProxy },
  }
}

function webIdentity(values: AwsValues): WebIdentity | undefined {
  const { awsRoleArn: roleArn, awsRoleSessionName: sessionName, awsWebIdentityFile: tokenFile } = values
  if (roleArn === undefined) return undefined
  if (tokenFile !== undefined) return { roleArn, sessionName, tokenFile }
  throw new WalrxError(
    'WALRX_OPTION_UNSUPPORTED',
    `AWS_ROLE_ARN is ${roleArn}, and AWS_WEB_IDENTITY_TOKEN_FILE is not set: walrx needs both to assume a role`,
    { hint: 'set AWS_WEB_IDENTITY_TOKEN_FILE too, or set AWS_PROFILE to a profile with role_arn' },
  )
}
