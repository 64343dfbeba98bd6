/**
 * A delta and the backups that it builds on. What is restored from each is WAL-G's rule (docs/walg-format.md, 6.4): all
 * that the delta's table of files lists, and from each backup below only what the one above takes from it, as it is or
 * to change it. So files that were dropped in between do not come back.
 */
import { formatLsn } from '../../postgres/lsn.ts'
import type { BackupArchive } from '../../walg/backup/backup-archive.ts'
import type { FileRecord } from '../../walg/backup/files-metadata.ts'
import type { Sentinel } from '../../walg/backup/sentinel.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { hasCode } from '../../primitives/errors.ts'
import { damaged } from './backup-damage.ts'
import { entryPath, utilityFiles } from './entry-path.ts'

/** A backup's name, with what its sentinel says. */
export interface NamedSentinel {
  readonly name: string
  readonly sentinel: Sentinel
}

/** More steps than anybody makes: WAL-RUS restores 64 at most. */
const stepsMax = 1000

/**
 * Reads the sentinels of a backup and of all that it builds on, the full one last. What counts is DeltaFrom: names of
 * deltas are made up in different ways.
 * @throws WALRX_BACKUP_NOT_FOUND for the backup itself; WALRX_BACKUP_DAMAGED when one below is missing, is not the one
 * that was built on, or builds on one above; WALRX_OBJECT_DAMAGED
 */
export async function readChainOfSentinels(
  archive: BackupArchive,
  name: string,
  options: StorageCallOptions,
): Promise<NamedSentinel[]> {
  const chain: NamedSentinel[] = [{ name, sentinel: await archive.readSentinel(name, options) }]
  for (;;) {
    const child = chain.at(-1) as NamedSentinel
    const parentName = child.sentinel.delta?.parentName
    if (parentName === undefined) return chain
    if (chain.some((each) => each.name === parentName)) {
      throw damaged(`${child.name} says that it builds on ${parentName}, which builds on it`)
    }
    if (chain.length > stepsMax) throw damaged(`${name} builds on more than ${stepsMax} backups`)
    const parent = { name: parentName, sentinel: await readParent(archive, child.name, parentName, options) }
    refuseOther(child, parent)
    chain.push(parent)
  }
}

async function readParent(
  archive: BackupArchive,
  childName: string,
  name: string,
  options: StorageCallOptions,
): Promise<Sentinel> {
  try {
    return await archive.readSentinel(name, options)
  } catch (error) {
    if (!hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
    const hint = 'a delta is nothing without the backups that it builds on: choose another backup'
    throw damaged(`${childName} builds on ${name}, which is not at ${archive.location}`, hint, error)
  }
}

/** A backup that was taken anew under the parent's name is none to build on. */
function refuseOther(child: NamedSentinel, parent: NamedSentinel): void {
  const { startLsn } = parent.sentinel
  const parentLsn = child.sentinel.delta?.parentLsn
  if (startLsn !== undefined && parentLsn !== undefined && startLsn !== parentLsn) {
    const [is, was] = [startLsn, parentLsn].map(formatLsn)
    throw damaged(`${child.name} builds on ${parent.name} as it started at ${was}, and that one started at ${is}`)
  }
  const [own, other] = [child.sentinel.systemIdentifier, parent.sentinel.systemIdentifier]
  if (own !== undefined && other !== undefined && own !== other) {
    throw damaged(`${child.name} is of the cluster ${own}, and ${parent.name}, which it builds on, of ${other}`)
  }
}

/** Files by their paths. */
export type FileTable = ReadonlyMap<string, FileRecord>

/** A table of files by paths. Throws WALRX_BACKUP_DAMAGED for a name that leads out of the data directory. */
export function tableByPath(name: string, files: ReadonlyMap<string, FileRecord>): FileTable {
  const table = new Map<string, FileRecord>()
  for (const [key, record] of files) {
    const path = entryPath(key)
    if (path === undefined) throw damaged(`${name} lists a file by the name "${key}"`)
    table.set(path, record)
  }
  return table
}

/** What one backup of a chain has to give. */
export interface ChainStep {
  /** Files that its tars must hold. */
  readonly files: FileTable
  /** Paths of files that the backup below must give. */
  readonly below: ReadonlySet<string>
}

/**
 * What is taken from a delta.
 * @param table its files; see {@link tableByPath}
 * @param wanted paths that the backup above takes from it; undefined for the delta that is restored
 * @throws WALRX_BACKUP_DAMAGED for a file that it does not list: WAL-G panics
 */
export function stepOfDelta(name: string, table: FileTable, wanted: ReadonlySet<string> | undefined): ChainStep {
  const files = new Map<string, FileRecord>()
  const below = new Set<string>()
  for (const path of wanted ?? table.keys()) {
    const record = table.get(path)
    if (!record) throw damaged(unlisted(name, path), 'the chain cannot be restored: choose another backup')
    if (!record.isSkipped) files.set(path, record)
    if ((record.isSkipped || record.isIncremented) && !utilityFiles.has(path)) below.add(path)
  }
  return { files, below }
}

/**
 * What is taken from a full backup.
 * @param table its files; undefined where it was taken without the table: it has whatever its tars hold
 * @param wanted paths that the backup above takes from it; undefined when it is the one to be restored
 * @returns undefined for all that its tars hold
 * @throws WALRX_BACKUP_DAMAGED for a file that it does not list, or lists as part of a delta
 */
export function filesOfFull(
  name: string,
  table: FileTable | undefined,
  wanted: ReadonlySet<string> | undefined,
): FileTable | undefined {
  if (!table) return wanted && new Map([...wanted].map((path) => [path, wholeFile]))
  const files = new Map<string, FileRecord>()
  for (const path of wanted ?? table.keys()) {
    const record = table.get(path)
    if (!record) throw damaged(unlisted(name, path), 'the chain cannot be restored: choose another backup')
    if (record.isSkipped || record.isIncremented) {
      const what = record.isSkipped ? 'says to skip' : 'has an increment of'
      throw damaged(`${name} is a full backup, and its files_metadata.json ${what} ${path}`)
    }
    files.set(path, record)
  }
  return files
}

const wholeFile: FileRecord = { isIncremented: false, isSkipped: false, mtime: '' }

function unlisted(name: string, path: string): string {
  return `a delta takes ${path} from ${name}, whose files_metadata.json does not list it`
}
