/** Small objects that cannot be read, where all else is to be shown: which one it is, and what to do about it. */
import { hasCode, WalrxError } from '../primitives/errors.ts'
import {
  backupObjects,
  gapFolder,
  intentsPrefix,
  sentinelSuffix,
  systemKey,
  verifiedFolder,
  walFolder,
} from './names.ts'

/**
 * The result; undefined, with a problem noted, for an object that is damaged.
 * @param key of the object that is read
 * @throws whatever else `reading` throws
 */
export async function orProblem<T>(reading: Promise<T>, key: string, problems: WalrxError[]): Promise<T | undefined> {
  try {
    return await reading
  } catch (error) {
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED')) throw error
    problems.push(withRemedy(error, key))
    return undefined
  }
}

/** The error with what to do about the object, where it does not say that itself. */
export function withRemedy(error: WalrxError, key: string): WalrxError {
  const hint = error.hint ?? remedyOf(key)
  return hint === undefined ? error : new WalrxError(error.code, error.message, { hint, cause: error })
}

function remedyOf(key: string): string | undefined {
  const remove = `walrx st rm --force ${key}`
  const name = /([^/]*?)(\.json)?$/.exec(key)?.[1] ?? ''
  if (key === systemKey) return `remove it with ${remove}: the next walrx wal-receive or backup-push writes it again`
  if (key.startsWith(gapFolder)) return `its name says which WAL was lost; where that has come since: ${remove}`
  if (key.startsWith(verifiedFolder)) return `walrx backup-verify ${name} writes it again`
  if (key.startsWith(intentsPrefix)) return `where no walrx writes that backup any more: ${remove}`
  if (key.startsWith(walFolder) && key.includes('.history'))
    return `remove it with ${remove}: the next start of walrx wal-receive archives it again from the server`
  if (key.endsWith(sentinelSuffix)) return 'the backup cannot be restored: take a new one with walrx backup-push'
  if (key.endsWith(`/${backupObjects.metadata}`))
    return `the sentinel says the same, but for a mark of permanence: ${remove}, then walrx backup-mark where it was marked`
  return undefined
}
