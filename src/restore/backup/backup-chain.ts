/**
 * A delta and the backups that it builds on. WAL-G's rule (docs/walg-format.md, 6.4) says what is restored from each: all
 * files that the delta's files_metadata.json lists, and from each backup below only the files that the one above takes
 * from it, unchanged or to apply an increment to them. So files that were dropped in between do not come back.
 */
import { formatLsn } from '../../postgres/lsn.ts'
import type { BackupArchive } from '../../walg/backup/backup-archive.ts'
import type { FileRecord } from '../../walg/backup/files-metadata.ts'
import type { Sentinel } from '../../walg/backup/sentinel.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { hasCode } from '../../primitives/errors.ts'
import { damaged } from './backup-damage.ts'
import { entryPath, utilityFiles } from './entry-path.ts'

/** A backup's name and its sentinel. */
export interface NamedSentinel {
  readonly name: string
  readonly sentinel: Sentinel
}

/** More steps than any real chain has: WAL-RUS restores at most 64. */
const stepsMax = 1000

/**
 * Reads the sentinels of a backup and of all backups that it builds on, the full one last. DeltaFrom decides, not the
 * names: tools name deltas in different ways.
 * @throws WALRX_BACKUP_NOT_FOUND for the backup itself; WALRX_BACKUP_DAMAGED when one below is missing, is another
 * backup under the same name, or builds on one above; WALRX_OBJECT_DAMAGED
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
      throw damaged(`${child.name} builds on ${parentName}, which builds on ${child.name}`, chooseAnother)
    }
    if (chain.length > stepsMax) throw damaged(`${name} builds on more than ${stepsMax} backups`, chooseAnother)
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
    const hint = 'a delta cannot be restored without the backups that it builds on: choose another backup'
    throw damaged(`${childName} builds on ${name}, which is missing at ${archive.location}`, hint, error)
  }
}

/** Refuses a parent that is another backup under the same name, or is of another cluster. */
function refuseOther(child: NamedSentinel, parent: NamedSentinel): void {
  const { startLsn } = parent.sentinel
  const parentLsn = child.sentinel.delta?.parentLsn
  if (startLsn !== undefined && parentLsn !== undefined && startLsn !== parentLsn) {
    const [is, was] = [startLsn, parentLsn].map(formatLsn)
    throw damaged(
      `${child.name} builds on a ${parent.name} that started at ${was}, but the archive's started at ${is}`,
      chooseAnother,
    )
  }
  const [own, other] = [child.sentinel.systemIdentifier, parent.sentinel.systemIdentifier]
  if (own !== undefined && other !== undefined && own !== other) {
    throw damaged(
      `${child.name} has system identifier ${own}, but ${parent.name}, which it builds on, has ${other}`,
      chooseAnother,
    )
  }
}

/** Files by their paths. */
export type FileTable = ReadonlyMap<string, FileRecord>

/** The files by path. Throws WALRX_BACKUP_DAMAGED for a name that leads out of the data directory. */
export function tableByPath(name: string, files: ReadonlyMap<string, FileRecord>): FileTable {
  const table = new Map<string, FileRecord>()
  for (const [key, record] of files) {
    const path = entryPath(key)
    if (path === undefined) throw damaged(`${name} lists a file outside the data directory: "${key}"`)
    table.set(path, record)
  }
  return table
}

/** What is restored from one backup of a chain. */
export interface ChainStep {
  /** Files that its parts must hold. */
  readonly files: FileTable
  /** Paths of files that are needed from the backup below. */
  readonly below: ReadonlySet<string>
}

/**
 * What is restored from a delta.
 * @param table its files; see {@link tableByPath}
 * @param wanted paths that the backup above needs from it; undefined for the delta that is restored
 * @throws WALRX_BACKUP_DAMAGED for a file that it does not list: WAL-G panics
 */
export function stepOfDelta(name: string, table: FileTable, wanted: ReadonlySet<string> | undefined): ChainStep {
  const files = new Map<string, FileRecord>()
  const below = new Set<string>()
  for (const path of wanted ?? table.keys()) {
    const record = table.get(path)
    if (!record) throw damaged(unlisted(name, path), chooseAnother)
    if (!record.isSkipped) files.set(path, record)
    if ((record.isSkipped || record.isIncremented) && !utilityFiles.has(path)) below.add(path)
  }
  return { files, below }
}

/**
 * What is restored from a full backup.
 * @param table its files; undefined where it was taken without files_metadata.json: it has the files in its parts
 * @param wanted paths that the backup above needs from it; undefined when it is the backup to restore
 * @returns undefined for all files in its parts
 * @throws WALRX_BACKUP_DAMAGED for a file that it does not list, or lists as skipped or incremented
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
    if (!record) throw damaged(unlisted(name, path), chooseAnother)
    if (record.isSkipped || record.isIncremented) {
      const how = record.isSkipped ? 'skipped' : 'incremented'
      throw damaged(`${name} is a full backup, but its files_metadata.json lists ${path} as ${how}`)
    }
    files.set(path, record)
  }
  return files
}

const chooseAnother = 'this chain of backups cannot be restored: choose another backup'

const wholeFile: FileRecord = { isIncremented: false, isSkipped: false, mtime: '' }

function unlisted(name: string, path: string): string {
  return `a delta needs ${path} from ${name}, but the files_metadata.json of ${name} does not list it`
}
