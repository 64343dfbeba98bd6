/** `--restore-only`: the databases that an operator asks for, and what is said of those that are left out. */
import { valueSeparator } from '../../config/options/option-types.ts'
import type { Logger } from '../../observe/log.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { BackupDocuments } from '../../restore/backup/backup-documents.ts'
import {
  chooseDatabases,
  type DatabaseChoice,
  type NamedDatabase,
  readDatabases,
} from '../../restore/backup/databases/database-choice.ts'
import { LeftOutFiles } from '../../restore/backup/databases/left-out-files.ts'
import type { Storage } from '../../storage/storage.ts'

/** What of a backup's databases is restored. */
export interface ChosenDatabases extends DatabaseChoice {
  readonly files: LeftOutFiles
}

/**
 * Names in one or several options, with commas between; `\,` is a comma in a name.
 * @throws WALRX_USAGE for an empty name
 */
export function databaseNames(text: string): string[] {
  const names = text.split(valueSeparator).flatMap((each) => each.split(/(?<=^(?:[^\\]|\\.)*),/s))
  if (names.includes('')) {
    throw new WalrxError('WALRX_USAGE', '--restore-only has an empty name', {
      hint: 'give the names of databases: --restore-only orders,billing',
    })
  }
  return names.map((name) => name.replace(/\\(.)/gs, '$1'))
}

/**
 * Finds the databases in a backup.
 * @throws WALRX_USAGE for a name that no database has; what reading the backup throws
 */
export async function chooseInBackup(
  names: readonly string[],
  options: {
    readonly storage: Storage
    readonly documents: BackupDocuments
    readonly log: Logger
    readonly signal: AbortSignal
  },
): Promise<ChosenDatabases> {
  const choice = chooseDatabases(await readDatabases({ ...options, concurrency: 1 }), names, options.documents.name)
  return { ...choice, files: new LeftOutFiles(choice.leftOut.map(({ oid }) => oid)) }
}

/** What is to be done after the recovery, as lines of text. */
export function leftOutText({ leftOut }: DatabaseChoice): string[] {
  if (leftOut.length === 0) return ['no database is left out: there is none but those that were asked for']
  return [
    'these databases are files of zeros, to which nobody can connect. Drop them after the recovery, for instance in psql:',
    ...leftOut.map(({ name }) => `  DROP DATABASE ${quotedIdentifier(name)};`),
  ]
}

/** For `--json`. */
export function choiceJson({ leftOut, wanted }: DatabaseChoice): { databases: string[]; databases_left_out: string[] } {
  const names = (databases: readonly NamedDatabase[]) => databases.map(({ name }) => name)
  return { databases: names(wanted), databases_left_out: names(leftOut) }
}

function quotedIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
