/** The environment of one cluster: what the machine has in common, and the cluster's own settings. Nothing of another cluster. */
import type { Environment } from '../../../config/load.ts'
import type { CommandCall } from '../../../serve/configuration/cluster-plan.ts'
import { isCredential, isDropped } from '../../../serve/configuration/credentials.ts'

/**
 * Variables that belong to the machine or the user: programs, home, language, time, temporary files, proxies, authorities,
 * and how AWS is reached. All others may be a secret of one cluster, which a `${NAME}` of the file uses.
 */
const ofMachine =
  /^(PATH|HOME|USER|LOGNAME|SHELL|PWD|TZ|TZDIR|LANG|LANGUAGE|LC_\w+|TMPDIR|XDG_\w+|GNUPGHOME|CREDENTIALS_DIRECTORY|LD_LIBRARY_PATH|LD_PRELOAD|MALLOC_\w+|UV_\w+|NODE_\w+|SSL_CERT_(FILE|DIR)|AWS_\w+)$|^(https?|no|all)_proxy$/i

/** The channel to a parent is for one process alone. */
const ofProcess = /^NODE_CHANNEL_/

/** `AWS_SECRET_ACCESS_KEY_ORDERS` is there for a `${…}` of one cluster. */
const looksSecret = /KEY|SECRET|TOKEN|PASS/

/**
 * What clusters get of the process's environment: no setting of an archive or a server, for it would hold for all of them,
 * and no secret, for it would be in the processes of all of them. Those are in the configuration.
 */
export function inheritedEnvironment(environment: Environment): Environment {
  const isInherited = (name: string) =>
    ofMachine.test(name) && !ofProcess.test(name) && (isCredential(name) || !looksSecret.test(name))
  return Object.fromEntries(Object.entries(environment).filter(([name]) => isInherited(name)))
}

/** The variables of a call, by {@link inheritedEnvironment}: credentials of its own take the place of all that are inherited. */
export function environmentOf({ environment }: Pick<CommandCall, 'environment'>, inherited: Environment): Environment {
  const own = Object.keys(environment)
  const kept = Object.entries(inherited).filter(([name]) => !isDropped(name, own))
  return { ...Object.fromEntries(kept), ...environment }
}
