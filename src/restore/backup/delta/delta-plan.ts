/** What a restore over a data directory keeps, fetches and removes. Making the plan reads files, and changes none. */
import { join } from 'node:path'
import type { Logger } from '../../../observe/log.ts'
import type { ManifestFile } from '../../../postgres/backup/backup-manifest.ts'
import type { BackupPart } from '../../../walg/backup/backup-archive.ts'
import type { BackupDocuments } from '../backup-documents.ts'
import type { PlacedTablespace } from '../tablespaces.ts'
import { ownFolder } from '../tablespaces.ts'
import { type KeptFiles, partsToRead } from '../wanted-parts.ts'
import { type ExpectedFiles, expectedDirectories, expectedFiles } from './expected-files.ts'
import { type AskedFile, compareFiles } from './file-compare.ts'
import { type PresentEntry, type PresentTree, readTree } from './present-tree.ts'
import { type ChangedPlaces, refuseUnwritable } from './writable-directories.ts'

/** Why a file is fetched. */
export type FetchReason =
  | 'missing'
  | 'differs'
  /** The manifest does not say what it becomes: an increment changes it, or the restore writes it again. */
  | 'not in the manifest'
  | 'mode'

/** See the file's header. Paths are relative to the data directory. */
export interface DeltaPlan {
  readonly kept: KeptFiles
  readonly keptBytes: number
  readonly fetched: ReadonlyMap<string, FetchReason>
  /** Objects that are read for them. */
  readonly parts: readonly BackupPart[]
  /** What the backup does not have, each directory after what is in it. */
  readonly removed: readonly PresentEntry[]
  /** Files in the places of those that are fetched. */
  readonly outdated: readonly PresentEntry[]
  /** All directories of the restored cluster, with the bits of their modes. */
  readonly directories: ReadonlyMap<string, number>
  /** Kept files that get another mode. */
  readonly modes: ReadonlyMap<string, number>
  readonly tree: PresentTree
}

/** Options of {@link planDelta}. */
export interface PlanOptions {
  readonly documents: BackupDocuments
  readonly destination: string
  readonly tablespaces: readonly PlacedTablespace[]
  /** Of the tablespaces, those whose links lead there, by oid, with the real directory. */
  readonly linked: ReadonlyMap<number, string>
  readonly walDirectory?: string | undefined
  readonly concurrency: number
  /** True to make durable what is kept. */
  readonly isSynced: boolean
  readonly log: Logger
  readonly signal: AbortSignal
  /** Called with bytes that were read of the files that may be kept, and all of theirs. */
  readonly onCompared: (readBytes: number, totalBytes: number) => void
}

/**
 * Reads the data directory, and all files that may be as in the backup.
 * @throws WALRX_RESTORE_FAILED for what cannot be read, for what this user may not change, and for links that lead elsewhere
 */
export async function planDelta(options: PlanOptions): Promise<DeltaPlan> {
  const { destination, documents, linked, walDirectory } = options
  const expected = expectedFiles(documents)
  const directories = expectedDirectories(documents, expected.paths)
  // These are links.
  for (const { oid } of options.tablespaces) directories.delete(`pg_tblspc/${oid}`)
  const tree = await readTree({
    destination,
    major: Math.floor((documents.sentinel.pgVersion ?? 0) / 10_000),
    linked,
    directories,
    leftOut: new Set(documents.leftOut.paths),
    walDirectory,
  })
  const present = new Map(tree.entries.map((entry) => [entry.path, entry]))
  if (!documents.tree) for (const path of unlistedFolders(tree.entries)) directories.set(path, undefined)
  const isPlace = new Set(linked.values())
  const stays = ({ kind, path }: PresentEntry) =>
    kind === 'directory' && (directories.has(path) || isPlace.has(join(tree.root, path)))
  const isWalMoved = walDirectory !== undefined && !tree.isWalLinked
  const isGone = (path: string) => isWalMoved && /^pg_wal(\/|$)/.test(path)
  const sorted = sortFiles(expected, present, documents, isGone)
  const isFileInPlace = ({ kind, path }: PresentEntry) => kind === 'file' && expected.paths.has(path)
  const totalBytes = sorted.candidates.reduce((sum, { size }) => sum + size, 0)
  const same = await compareFiles(
    sorted.candidates.map((file) => ({ ...file, full: join(destination, file.path) })),
    { ...options, onProgress: (bytes) => options.onCompared(bytes, totalBytes) },
  )
  const kept = new Map<string, ManifestFile>()
  for (const { path } of sorted.candidates) {
    const file = expected.known.get(path)
    if (file && same.has(path)) kept.set(path, file)
    else sorted.fetched.set(path, 'differs')
  }
  const own = present.get('')?.mode ?? 0o700
  const plan: DeltaPlan = {
    kept,
    keptBytes: [...kept.values()].reduce((sum, { size }) => sum + size, 0),
    fetched: new Map([...sorted.fetched].sort(([one], [other]) => (one < other ? -1 : 1))),
    parts: partsToRead(documents, { kept }),
    removed: tree.entries
      .filter((entry) => isGone(entry.path) || (!isFileInPlace(entry) && !stays(entry)))
      .toReversed(),
    outdated: tree.entries.filter((entry) => isFileInPlace(entry) && !kept.has(entry.path) && !isGone(entry.path)),
    directories: new Map([...directories].map(([path, mode]) => [path, mode ?? present.get(path)?.mode ?? own])),
    modes: changedModes(kept, present, documents),
    tree,
  }
  await refuseUnwritable(changedPlaces(plan, present, options))
  return plan
}

/** What the plan changes. */
function changedPlaces(
  { directories, fetched, modes, outdated, removed, tree }: DeltaPlan,
  present: ReadonlyMap<string, PresentEntry>,
  { destination, linked, tablespaces, walDirectory }: PlanOptions,
): ChangedPlaces {
  const gone = new Set(removed.map(({ path }) => path))
  const made = [...directories.keys()].filter((path) => present.get(path)?.kind !== 'directory')
  const places = tablespaces.filter(({ oid }) => !linked.has(oid)).map(({ location }) => location)
  const links = new Set([...linked.keys()].map((oid) => `pg_tblspc/${oid}`))
  return {
    destination,
    changed: [...gone, ...outdated.map(({ path }) => path), ...fetched.keys(), ...made],
    moded: [...directories.keys(), ...modes.keys()].filter((path) => !gone.has(path)),
    outside: walDirectory === undefined || tree.isWalLinked ? places : [...places, walDirectory],
    isDirectory: (path) => present.get(path)?.kind === 'directory' || links.has(path),
  }
}

interface SortedFiles {
  readonly candidates: readonly Omit<AskedFile, 'full'>[]
  readonly fetched: Map<string, FetchReason>
}

/** Files that may be kept once they are read, and those that are fetched in any case. */
function sortFiles(
  { known, paths }: ExpectedFiles,
  present: ReadonlyMap<string, PresentEntry>,
  { tree }: BackupDocuments,
  isGone: (path: string) => boolean,
): SortedFiles {
  const candidates: Omit<AskedFile, 'full'>[] = []
  const fetched = new Map<string, FetchReason>()
  for (const path of paths) {
    const there = present.get(path)
    const { algorithm, checksum, size = 0 } = known.get(path) ?? {}
    if (there?.kind !== 'file' || isGone(path)) fetched.set(path, 'missing')
    else if (algorithm === undefined || checksum === undefined) fetched.set(path, 'not in the manifest')
    else if (there.size !== size) fetched.set(path, 'differs')
    // Of a backup that has no list of modes, only a tar shows another one than a server gives to files.
    else if (!tree && !serverModes.includes(there.mode)) fetched.set(path, 'mode')
    else candidates.push({ path, algorithm, checksum, size })
  }
  return { candidates, fetched }
}

/** Without and with access for the group. */
const serverModes = [0o600, 0o640]

/**
 * Empty directories that an operator may have made, such as one of an `include_dir`. A backup without a list of its directories
 * may have them or not; they do no harm. Those in the server's own folders go, because a server stops at some of them.
 */
function unlistedFolders(entries: readonly PresentEntry[]): string[] {
  const used = entries.filter(({ kind }) => kind !== 'directory').map(({ path }) => path)
  const folders = new Set<string>()
  for (const path of used) {
    const words = path.split('/')
    for (let count = 1; count < words.length; count++) folders.add(words.slice(0, count).join('/'))
  }
  return entries
    .filter(({ kind, path }) => {
      if (kind !== 'directory' || path === '') return false
      // The folder of a tablespace that is empty.
      return /^pg_tblspc\/\d+\/PG_[^/]*$/.test(path) || (!folders.has(path) && !ownFolder.test(path))
    })
    .map(({ path }) => path)
}

function changedModes(
  kept: KeptFiles,
  present: ReadonlyMap<string, PresentEntry>,
  { tree }: BackupDocuments,
): Map<string, number> {
  const modes = new Map<string, number>()
  if (!tree) return modes
  for (const path of kept.keys()) {
    const mode = tree.modes.get(path) ?? tree.fileMode
    if (present.get(path)?.mode !== mode) modes.set(path, mode)
  }
  return modes
}
