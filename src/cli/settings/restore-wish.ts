/** What the options of `backup-fetch` ask for. */
import { isAbsolute, relative, resolve } from 'node:path'
import { valueSeparator } from '../../config/options/option-types.ts'
import type { OptionValues } from '../../config/options/options.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { fileMask } from '../../restore/backup/file-mask.ts'
import { parseMappings } from '../../restore/backup/tablespaces.ts'
import { parseRecoveryRequest, type RecoveryRequest } from '../../restore/recovery/recovery-request.ts'
import { databaseNames } from './database-wish.ts'

/** See the file's header. */
export interface RestoreWish {
  readonly request: RecoveryRequest
  readonly mappings: readonly (readonly [old: string, now: string])[]
  /** Undefined for the whole backup. */
  readonly mask: ((path: string) => boolean) | undefined
  /** Names of databases; undefined for all. */
  readonly databases: readonly string[] | undefined
  /** The directory that pg_wal is to be a link to. */
  readonly walDirectory: string | undefined
}

/**
 * Reads the options.
 * @param destination the data directory
 * @throws WALRX_USAGE for options that contradict each other
 */
export function readRestoreWish(options: OptionValues<'backup-fetch'>, destination: string): RestoreWish {
  const request = parseRecoveryRequest(options)
  const mappings = (options.tablespaceMapping ?? '').split(valueSeparator).flatMap(parseMappings)
  const { walDirectory } = options
  const mask = options.mask === undefined ? undefined : fileMask(options.mask)
  if (mask && (request.recover || mappings.length > 0 || walDirectory !== undefined || options.deltaRestore)) {
    throw new WalrxError('WALRX_USAGE', '--mask restores single files, without a recovery and without tablespaces', {
      hint: 'leave out --mask, or leave out --recover, the target options, --tablespace-mapping, --waldir and --delta',
    })
  }
  const { deltaRestore, restoreOnly } = options
  if (restoreOnly !== undefined && (mask || deltaRestore)) {
    throw new WalrxError('WALRX_USAGE', `--restore-only cannot be used with ${mask ? '--mask' : '--delta'}`, {
      hint: 'leave out one of them',
    })
  }
  if (restoreOnly !== undefined && !request.recover) {
    throw new WalrxError('WALRX_USAGE', '--restore-only needs a recovery, which has to pass over what is left out', {
      hint: 'give --recover, or a target',
    })
  }
  const databases = restoreOnly === undefined ? undefined : databaseNames(restoreOnly)
  return { request, mappings, mask, databases, walDirectory: checkedWalDirectory(walDirectory, destination) }
}

/** As pg_basebackup's --waldir. */
function checkedWalDirectory(text: string | undefined, destination: string): string | undefined {
  if (text === undefined) return undefined
  const inside = relative(destination, text)
  const hint = 'give the absolute path of a directory outside the data directory'
  if (!isAbsolute(text)) throw new WalrxError('WALRX_USAGE', `--waldir ${text} is not an absolute path`, { hint })
  if (!/^\.\.(\/|$)/.test(inside))
    throw new WalrxError('WALRX_USAGE', `--waldir ${text} is in the data directory`, { hint })
  return resolve(text)
}
