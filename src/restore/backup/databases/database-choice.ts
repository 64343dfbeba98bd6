/**
 * Which databases of a backup a restore leaves out, by the names of those that are wanted. The names are in the backup's own
 * pg_database: `global/pg_filenode.map` says which file that is.
 */
import { WalrxError } from '../../../primitives/errors.ts'
import { type DatabaseRow, databaseRelation, databaseRows } from '../../../postgres/relations/pg-database.ts'
import { readRelationMap, sharedRelationMap } from '../../../postgres/relations/relation-map.ts'
import { damaged } from '../backup-damage.ts'
import { type ReadOptions, readBackup } from '../backup-reader.ts'
import { MemorySink } from './memory-sink.ts'

/** A database of the backup. */
export interface NamedDatabase {
  readonly oid: number
  readonly name: string
}

/** Sorted by name. */
export interface DatabaseChoice {
  readonly wanted: readonly NamedDatabase[]
  readonly leftOut: readonly NamedDatabase[]
}

/** The most bytes of pg_database: some hundred thousand databases. */
const catalogBytesMax = 64 * 1024 * 1024

/** Holds the major version, and a line break. */
const versionFile = 'PG_VERSION'

/** FirstNormalObjectId (src/include/access/transam.h): OIDs below it are those of initdb. */
const firstNormalOid = 16384

/**
 * Reads the rows of pg_database from a backup.
 * @throws WALRX_BACKUP_DAMAGED, WALRX_BACKUP_UNSUPPORTED; what reading throws
 */
export async function readDatabases(
  options: Omit<ReadOptions, 'sink' | 'mask' | 'beforeControl' | 'onProgress'>,
): Promise<DatabaseRow[]> {
  const { name, sentinel } = options.documents
  const read = async (paths: ReadonlySet<string>): Promise<MemorySink> => {
    const sink = new MemorySink(catalogBytesMax)
    const mask = (path: string) => paths.has(path)
    await readBackup({ ...options, sink, mask, beforeControl: async () => {}, onProgress: () => {} })
    return sink
  }
  const usual = `global/${databaseRelation}`
  const isVersionKnown = sentinel.pgVersion !== undefined
  const sink = await read(new Set([sharedRelationMap, usual, ...(isVersionKnown ? [] : [versionFile])]))
  const map = sink.content(sharedRelationMap)
  if (!map) throw damaged(`${name} has no ${sharedRelationMap}`)
  const file = readRelationMap(map, `${sharedRelationMap} of ${name}`).get(databaseRelation)
  if (file === undefined) throw damaged(`${sharedRelationMap} of ${name} does not list pg_database`)
  const path = `global/${file}`
  // VACUUM FULL gives it another file.
  const pages = sink.content(path) ?? (await read(new Set([path]))).content(path)
  if (!pages) throw damaged(`${name} has no ${path}, where pg_database is`)
  const major = isVersionKnown ? sentinel.pgVersion / 10000 : Number.parseFloat(String(sink.content(versionFile)))
  return databaseRows(pages, Math.floor(major))
}

/**
 * Chooses. Template and system databases are always wanted. A row may be an old version: every database that has, or had, a
 * wanted name is wanted, and none is left out that has no row.
 * @param names as an operator gives them
 * @param backup names it in errors
 * @throws WALRX_USAGE for a name that no database has
 */
export function chooseDatabases(
  rows: readonly DatabaseRow[],
  names: readonly string[],
  backup: string,
): DatabaseChoice {
  const unknown = names.find((name) => !rows.some((row) => row.name === name))
  if (unknown !== undefined) throw unknownDatabase(unknown, rows, backup)
  const isSystem = ({ isTemplate, name, oid }: DatabaseRow) =>
    isTemplate || oid < firstNormalOid || ['postgres', 'template0', 'template1'].includes(name)
  const wanted = new Set(rows.filter((row) => isSystem(row) || names.includes(row.name)).map(({ oid }) => oid))
  // The last version is the newest one mostly: it names the database.
  const named = [...new Map(rows.map(({ name, oid }) => [oid, { oid, name }])).values()]
  const sorted = named.sort((one, other) => (one.name < other.name ? -1 : 1))
  return {
    wanted: sorted.filter(({ oid }) => wanted.has(oid)),
    leftOut: sorted.filter(({ oid }) => !wanted.has(oid)),
  }
}

/** Names that a message shows. */
const shownMax = 20

function unknownDatabase(name: string, rows: readonly DatabaseRow[], backup: string): WalrxError {
  const all = [...new Set(rows.map((row) => row.name))].sort()
  const shown = `${all.slice(0, shownMax).join(', ')}${all.length > shownMax ? ` and ${all.length - shownMax} more` : ''}`
  const isTable = name.includes('/')
  const hint = isTable
    ? `databases are restored whole, not single tables; they are: ${shown}`
    : `its databases are: ${shown}`
  return new WalrxError('WALRX_USAGE', `--restore-only: ${backup} has no database "${name}"`, { hint })
}
