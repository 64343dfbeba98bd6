/**
 * Who a cluster is to AWS. Variables of credentials are one group: who sets one of them for a cluster means none of the
 * others that are set above it, in `defaults` or for the machine. Keys of one owner with the token of another open nothing,
 * and a profile would lose against keys that are inherited.
 */

/** The variables that say who somebody is, as the AWS SDK reads them, and the older names that WAL-G knows. */
const identity =
  /^AWS_(ACCESS_KEY(_ID)?|SECRET_(ACCESS_)?KEY|SESSION_TOKEN|PROFILE|ROLE_ARN|ROLE_SESSION_NAME|WEB_IDENTITY_TOKEN_FILE|CONTAINER_\w+)$/

/** Files with profiles. They are of the group, but who names a profile may mean one in the files that are set above. */
const profileFiles = /^AWS_(SHARED_CREDENTIALS_FILE|CONFIG_FILE)$/

/** What the AWS SDK reads from the environment of the process alone: it cannot be another for each cluster. */
const ofProcessAlone = /^AWS_CONTAINER_\w+$/

/** True for a variable that only the environment of walrx itself can set. */
export function isOfProcessAlone(name: string): boolean {
  return ofProcessAlone.test(name)
}

/** True for a variable of the group. */
export function isCredential(name: string): boolean {
  return identity.test(name) || profileFiles.test(name)
}

/**
 * True for a variable that a level does not inherit.
 * @param own names of the variables that the level sets
 */
export function isDropped(name: string, own: readonly string[]): boolean {
  return identity.test(name) && own.some(isCredential)
}

/** The half of a key pair that is missing where the other is set; undefined for a pair, and for none. */
export function missingHalf(
  has: (name: string) => boolean,
): { readonly set: string; readonly missing: string } | undefined {
  const [id, secret, token] = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN']
  if (has(id) && !has(secret)) return { set: id, missing: secret }
  if (has(secret) && !has(id)) return { set: secret, missing: id }
  return has(token) && !has(id) ? { set: token, missing: id } : undefined
}
