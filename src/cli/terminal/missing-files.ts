/** What a restored data directory does not have, although the server had it: a server may not start, or let nobody in. */
import type { Logger } from '../../observe/log.ts'
import type { LeftOut } from '../../walg/backup/backup-contents.ts'
import type { BackupDocuments } from '../../restore/backup/backup-documents.ts'

/** A configuration file that no server starts without, and the setting that names it elsewhere. */
const needed = [
  { path: 'postgresql.conf', setting: 'config_file' },
  { path: 'pg_hba.conf', setting: 'hba_file' },
] as const

/** See the file's header. */
export interface MissingFiles extends LeftOut {
  /** Of postgresql.conf and pg_hba.conf, those that the backup does not have; empty where its files are not listed. */
  readonly configuration: readonly string[]
}

/** Finds what is missing, by the documents alone. */
export function missingFiles({ files, leftOut, manifest }: BackupDocuments): MissingFiles {
  const listed = files ?? manifest
  const configuration = listed ? needed.filter(({ path }) => !listed.has(path)).map(({ path }) => path) : []
  return { ...leftOut, configuration }
}

/** What to do about a missing configuration file: it is in no backup. */
function whereConfigurationWas({ outside }: MissingFiles): string {
  const places = needed.flatMap(({ path, setting }) => {
    const place = outside[setting]
    return place === undefined ? [] : [`${path} was ${place} (${setting})`]
  })
  const known = places.length === 0 ? '' : `: on the server that was backed up, ${places.join(', and ')}`
  return `put them into the data directory, or name them when you start the server (-c config_file=…, -c hba_file=…)${known}`
}

/** Two lines at most, before the hours that a restore may take. */
export function sayWhatIsMissing(missing: MissingFiles, log: Logger): void {
  const { configuration, paths } = missing
  if (paths.length > 0) log.warn('the server left files out of the backup: links and special files', { files: paths })
  if (configuration.length === 0) return
  const files = configuration
  log.warn('the backup has no such configuration file', { files, hint: whereConfigurationWas(missing) })
}
