/**
 * Files that a server leaves out of a base backup: symbolic links and special files. BASE_BACKUP follows links of
 * tablespaces and of pg_wal, and no others (sendDir in basebackup.c): it warns, and goes on. It warns while it adds the
 * sizes up, and again while it sends.
 */
import { WalrxError } from '../../primitives/errors.ts'
import type { ServerNotice } from './base-backup-sink.ts'

/** The functions of the server with such warnings: their names are not translated. The others skip a tablespace. */
const routines: ReadonlySet<string> = new Set(['sendDir', 'do_pg_backup_start', 'do_pg_start_backup'])

/** The most that are kept. */
const pathsMax = 1000

/** Collects them. */
export class LeftOutFiles {
  readonly #paths = new Set<string>()

  /** Relative to the data directory, in the order of the server's reports, the first 1000. */
  get list(): string[] {
    return [...this.#paths]
  }

  /**
   * Reads a notice; ignores one that reports something else.
   * @throws WALRX_BACKUP_INCOMPLETE where the cluster is nothing without what was left out
   */
  note(notice: ServerNotice): void {
    if (notice['V'] !== 'WARNING' || !routines.has(notice['R'] ?? '')) return
    const path = quotedPath(notice['M'] ?? '')
    if (path === undefined) return
    if (isData(path)) {
      throw new WalrxError('WALRX_BACKUP_INCOMPLETE', `the server leaves ${path} out of its backups: ${notice['M']}`, {
        hint:
          'BASE_BACKUP follows no links but those of tablespaces and of pg_wal: stop the server and put the files themselves ' +
          'in the place of the link, or move the tables to a tablespace',
      })
    }
    if (this.#paths.size < pathsMax) this.#paths.add(path)
  }
}

/** The server writes in its own language, with the quotes of that language. */
function quotedPath(message: string): string | undefined {
  return /["'«»„“”「『]\s*(.+?)\s*["'«»“”」』](?=[^"'«»„“”「」『』]*$)/u.exec(message)?.[1]?.replace(/^\.\//, '')
}

/** Folders and files of the data directory that hold the cluster. A tablespace's files may come with an absolute path. */
const data =
  /^(\/|(base|global|pg_commit_ts|pg_logical|pg_multixact|pg_tblspc|pg_twophase|pg_wal|pg_xact|PG_VERSION)(\/|$))/

function isData(path: string): boolean {
  return data.test(path)
}
