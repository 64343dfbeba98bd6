/**
 * A backup as a data directory. In this order, so that a restore that was killed, or that lost its power, is never taken
 * for a complete one:
 *
 *   1. the marker file
 *   2. links of tablespaces; all files but pg_control, for a delta those of the backups below first, then what it changes;
 *      checks; backup_manifest, settings and signal file of the recovery; pg_control under another name; the last checks
 *   3. pg_control gets its name
 *   4. the marker goes
 *
 * Each step is durable, names and all, before the next one begins. PostgreSQL does not start without pg_control.
 */
import { join } from 'node:path'
import type { Logger } from '../../observe/log.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { ManifestFile } from '../../postgres/backup/backup-manifest.ts'
import type { Storage } from '../../storage/storage.ts'
import { openObject } from '../../walg/stored/stored-reader.ts'
import type { BackupDocuments } from './backup-documents.ts'
import { type ReadSummary, readBackup } from './backup-reader.ts'
import type { LeftOutFiles } from './databases/left-out-files.ts'
import { controlFile } from './entry-path.ts'
import type { OpenLane } from './parts/lane.ts'
import { contentsOf, DirectorySink, type PlacingSink } from './restore-sink.ts'
import { changedManifest, RestoredSums } from './restored-manifest.ts'
import type { KeptFiles } from './wanted-parts.ts'
import { linkTablespaces, type PlacedTablespace, refuseUsedFolders, rewriteTablespaceMap } from './tablespaces.ts'

/** Name of the marker file in an incomplete data directory. */
export const incompleteMarker = 'walrx_restore_incomplete'

/** Options of {@link fetchBackup}. */
export interface FetchOptions {
  readonly storage: Storage
  readonly documents: BackupDocuments
  /** The data directory: empty or missing. */
  readonly destination: string
  readonly tablespaces: readonly PlacedTablespace[]
  /** The directory that pg_wal is to be a link to; undefined for an ordinary pg_wal. */
  readonly walDirectory?: string | undefined
  readonly concurrency: number
  /** See {@link ReadOptions}. */
  readonly openLane?: OpenLane
  readonly fsync: boolean
  readonly log: Logger
  readonly signal: AbortSignal
  readonly onProgress: (readBytes: number) => void
  /** Files of databases that are not restored. */
  readonly leftOut?: LeftOutFiles | undefined
  /** Writes the settings of the recovery; called when all files but pg_control are there. */
  readonly writeSettings: () => Promise<unknown>
}

/**
 * Restores a backup.
 * @throws WALRX_RESTORE_FAILED when the destination is not empty or cannot be written; what reading throws
 */
export async function fetchBackup(options: FetchOptions): Promise<ReadSummary> {
  const { destination, tablespaces, walDirectory } = options
  await refuseUsedDestination(destination, walDirectory)
  await refuseUsedFolders(tablespaces)
  const sink = await openSink(options)
  if (walDirectory !== undefined) await sink.link('pg_wal', walDirectory)
  await linkTablespaces(sink, tablespaces)
  // By the links --delta knows what an interrupted restore has left elsewhere.
  await sink.sync()
  return restoreInto(sink, options)
}

/** What is done with the sink after the links, and with {@link openSink} before them. */
export interface IntoOptions extends FetchOptions {
  /** Files that are in place already. */
  readonly kept?: KeptFiles | undefined
  /** Called when all is in place but pg_control's name. */
  readonly beforeEnd?: () => Promise<void>
}

/**
 * Restores into a data directory with the marker, in which the links are made; from step 2 of the file's header on.
 * @throws what reading and writing throw
 */
export async function restoreInto(sink: DirectorySink, options: IntoOptions): Promise<ReadSummary> {
  const { documents, kept, leftOut, log, tablespaces } = options
  /** tablespace_map, where it names other folders than the server's. */
  let newMap: Buffer | undefined
  const rewriteMap = (content: Buffer): Buffer => {
    const rewritten = rewriteTablespaceMap(content, tablespaces)
    if (!rewritten.equals(content)) newMap = rewritten
    return rewritten
  }
  const sums = documents.parents.length > 0 && documents.manifestKey !== undefined ? new RestoredSums() : undefined
  for (const [path, file] of kept ?? []) sums?.written(path, file)
  const summary = await readBackup({
    ...options,
    sums,
    sink: holdingControl(sink),
    rewrite: new Map([['tablespace_map', rewriteMap]]),
    beforeControl: async () => {
      // The manifest would not fit the files that are left out.
      if (leftOut) await leftOut.make(sink, documents)
      else await writeManifest(options, sink, await changedFiles(options, sums, newMap))
      await options.writeSettings()
    },
  })
  await options.beforeEnd?.()
  await sink.sync()
  await sink.rename(heldControlFile, controlFile)
  await sink.sync()
  await sink.remove(incompleteMarker)
  await sink.sync()
  for (const directory of sink.unmade) {
    log.warn('a tablespace has nothing in the backup: its directory is not made, and the link to it leads nowhere', {
      directory,
      hint: 'it was so at the original, or the tablespace was empty; make the directory to use it again',
    })
  }
  return summary
}

/** pg_control's name until the last object has been read to its end and all checks have passed. */
const heldControlFile = `${controlFile}.walrx`

/** Writes pg_control under that name. */
function holdingControl(sink: DirectorySink): PlacingSink {
  return {
    directory: (path, mode) => sink.directory(path, mode),
    file: (path, mode) => sink.file(path === controlFile ? heldControlFile : path, mode),
    change: (path) => sink.change(path),
    place: (path, waits) => sink.place(path === controlFile ? heldControlFile : path, waits),
    sync: () => sink.sync(),
  }
}

/**
 * Restores the files that match a mask, and nothing else: no settings, no links. Files of tablespaces are restored
 * below `pg_tblspc/<oid>`.
 * @throws as {@link fetchBackup}, and WALRX_USAGE when no file matches
 */
export async function fetchFiles(
  options: Omit<FetchOptions, 'tablespaces' | 'writeSettings'> & { readonly mask: (path: string) => boolean },
): Promise<ReadSummary> {
  const { destination, documents } = options
  await refuseUsedDestination(destination)
  const sink = await openSink(options)
  const summary = await readBackup({ ...options, sink, beforeControl: () => Promise.resolve() })
  await sink.sync()
  await sink.remove(incompleteMarker)
  await sink.sync()
  if (summary.files === 0) {
    throw new WalrxError('WALRX_USAGE', `no file of ${documents.name} matches the mask`, {
      hint: "a mask is a path relative to the data directory, such as 'base/*/1259*'; * does not match a slash",
    })
  }
  return summary
}

/**
 * Throws WALRX_RESTORE_FAILED for a destination that is not empty, or a `walDirectory` that is not. What a file system
 * needs does not count: `lost+found`, and an empty pg_wal, which is the place of a mount, or a link to an empty directory.
 */
export async function refuseUsedDestination(destination: string, walDirectory?: string): Promise<void> {
  if (walDirectory !== undefined && ((await readable(walDirectory)) ?? []).length > 0) {
    throw new WalrxError('WALRX_RESTORE_FAILED', `${walDirectory} for the WAL is not empty`, {
      hint: 'give --waldir an empty or a new directory',
    })
  }
  const names = (await readable(destination)) ?? []
  if (names.some((name) => name !== 'pg_wal')) {
    const hint = names.includes(incompleteMarker)
      ? 'an earlier restore into it did not finish: complete it with --delta, or empty it and the directories of its tablespaces'
      : 'give an empty or a new directory, or restore over a data directory of the same cluster with --delta'
    throw notEmpty(destination, hint)
  }
  if (names.length > 0) await refuseUsedWal(join(destination, 'pg_wal'), walDirectory)
}

/** Throws WALRX_RESTORE_FAILED for a pg_wal that is there and cannot be the restored one. */
async function refuseUsedWal(pgWal: string, walDirectory: string | undefined): Promise<void> {
  if (walDirectory !== undefined) {
    throw new WalrxError('WALRX_RESTORE_FAILED', `${pgWal} is there already, and --waldir is given`, {
      hint: `leave out --waldir to use what is there, or remove ${pgWal}`,
    })
  }
  const names = await readable(pgWal)
  if (!names) {
    throw new WalrxError('WALRX_RESTORE_FAILED', `${pgWal} is a link to a directory that is not there`, {
      hint: 'make that directory, or remove the link and give --waldir',
    })
  }
  if (names.length > 0) throw notEmpty(pgWal, 'empty it, but for lost+found')
}

function notEmpty(directory: string, hint: string): WalrxError {
  return new WalrxError('WALRX_RESTORE_FAILED', `${directory} is not empty`, { hint })
}

/** What is in a directory; undefined where there is none. Throws WALRX_RESTORE_FAILED. */
export async function readable(directory: string): Promise<string[] | undefined> {
  return contentsOf(directory).catch((error: unknown) => {
    const { message } = error as Error
    throw new WalrxError('WALRX_RESTORE_FAILED', `destination ${directory} cannot be read: ${message}`, {
      cause: error,
    })
  })
}

/** The data directory, with the marker in it. PostgreSQL refuses a data directory that others may write to. */
export async function openSink({
  destination,
  documents,
  fsync,
}: Pick<FetchOptions, 'destination' | 'documents' | 'fsync'>): Promise<DirectorySink> {
  const sink = new DirectorySink(destination, fsync)
  await sink.directory('', 0o700)
  const marker = await sink.file(incompleteMarker, 0o644)
  try {
    await marker.write(Buffer.from(markerText(documents.sentinel.systemIdentifier)))
    await marker.finish()
  } finally {
    await marker.drop()
  }
  await sink.sync()
  return sink
}

function markerText(systemIdentifier: bigint | undefined): string {
  const cluster = systemIdentifier === undefined ? '' : `system identifier ${systemIdentifier}\n`
  return `walrx backup-fetch has not come to its end here\n${cluster}`
}

/** The cluster that a marker names; undefined for none: that of an earlier version, or one that a crash left empty. */
export function clusterOfMarker(text: string): bigint | undefined {
  const [, digits] = /^system identifier (\d{1,20})$/m.exec(text) ?? []
  return digits === undefined ? undefined : BigInt(digits)
}

/** Entries of the manifest for the files that are not as the server sent them. */
async function changedFiles(
  { concurrency, destination, documents, signal }: FetchOptions,
  sums: RestoredSums | undefined,
  newMap: Buffer | undefined,
): Promise<ReadonlyMap<string, ManifestFile>> {
  const paths: string[] = []
  if (newMap) paths.push('tablespace_map')
  if (sums) {
    // A delta's manifest describes increments, and the label that the server sent with them.
    paths.push('backup_label')
    for (const [path, { isIncremented, isSkipped }] of documents.files ?? []) {
      if (isIncremented || isSkipped) paths.push(path)
    }
  }
  const [first] = documents.manifest?.values() ?? []
  return (sums ?? new RestoredSums()).measure(destination, paths, first?.algorithm, { concurrency, signal })
}

/** Writes `backup_manifest`, as pg_basebackup and pg_combinebackup do, so that pg_verifybackup can check the directory. */
async function writeManifest(
  { documents, signal, storage }: FetchOptions,
  sink: DirectorySink,
  changes: ReadonlyMap<string, ManifestFile>,
): Promise<void> {
  const { manifestKey: key } = documents
  if (key === undefined) return
  const extension = key.slice(key.lastIndexOf('/') + 1).split('.')[1] ?? ''
  const file = await sink.file('backup_manifest', 0o600)
  try {
    const { body } = await openObject(storage, { key, extension }, { signal })
    const source = changes.size > 0 ? changedManifest(body, changes) : body
    for await (const chunk of source) await file.write(chunk)
    await file.finish()
  } finally {
    await file.drop()
  }
}
