/**
 * A backup as a data directory. In this order, so that a restore that was killed is never taken for a complete one:
 *
 *   the marker file, links of tablespaces, all files but pg_control (each durable before the next step; for a delta those
 *   of the backups below first, then what it changes), checks, settings and signal file of the recovery, backup_manifest,
 *   pg_control under another name, the last checks, its renaming, then the marker goes
 *
 * PostgreSQL does not start without pg_control.
 */
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../../observe/log.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { Storage } from '../../storage/storage.ts'
import { openObject } from '../../walg/stored/stored-reader.ts'
import type { BackupDocuments } from './backup-documents.ts'
import { type ReadSummary, readBackup } from './backup-reader.ts'
import { changedManifest } from './changed-manifest.ts'
import { controlFile } from './entry-path.ts'
import { DirectorySink, type RestoreSink } from './restore-sink.ts'
import { linkTablespaces, type PlacedTablespace, refuseUsedFolders, rewriteTablespaceMap } from './tablespaces.ts'

/** Lies in a data directory that is not whole yet. */
export const incompleteMarker = 'walrx_restore_incomplete'

/** Options of {@link fetchBackup}. */
export interface FetchOptions {
  readonly storage: Storage
  readonly documents: BackupDocuments
  /** The data directory: empty, or not there. */
  readonly destination: string
  readonly tablespaces: readonly PlacedTablespace[]
  readonly concurrency: number
  readonly fsync: boolean
  readonly log: Logger
  readonly signal: AbortSignal
  readonly onProgress: (readBytes: number) => void
  /** Writes the settings of the recovery, when all files but pg_control are there. */
  readonly writeSettings: () => Promise<void>
}

/**
 * Restores.
 * @throws WALRX_RESTORE_FAILED when the destination holds something or cannot be written, and what reading throws
 */
export async function fetchBackup(options: FetchOptions): Promise<ReadSummary> {
  const { destination, documents, tablespaces } = options
  await refuseUsedDestination(destination)
  await refuseUsedFolders(tablespaces)
  await prepare(destination)
  await linkTablespaces(destination, tablespaces)
  const sink = new DirectorySink(destination, options.fsync)
  /** tablespace_map, where it names other folders than the server's. */
  let newMap: Buffer | undefined
  const rewriteMap = (content: Buffer): Buffer => {
    const rewritten = rewriteTablespaceMap(content, tablespaces)
    if (!rewritten.equals(content)) newMap = rewritten
    return rewritten
  }
  const summary = await readBackup({
    ...options,
    sink: holdingControl(sink),
    rewrite: new Map([['tablespace_map', rewriteMap]]),
    beforeControl: async () => {
      // A delta's describes what the server sent, not what has become of it.
      const manifestKey = documents.parents.length === 0 ? documents.manifestKey : undefined
      if (manifestKey !== undefined) await writeManifest(options, manifestKey, sink, newMap)
      await options.writeSettings()
      await sink.sync()
    },
  })
  await sink.rename(heldControlFile, controlFile)
  await sink.sync()
  await fs.rm(join(destination, incompleteMarker), { force: true })
  await new DirectorySink(destination, options.fsync).sync()
  return summary
}

/** pg_control's name until the last object has been read to its end and nothing was found to be wrong. */
const heldControlFile = `${controlFile}.walrx`

/** Takes pg_control under that name. */
function holdingControl(sink: RestoreSink): RestoreSink {
  return {
    directory: (path, mode) => sink.directory(path, mode),
    file: (path, mode) => sink.file(path === controlFile ? heldControlFile : path, mode),
    change: (path) => sink.change(path),
    sync: () => sink.sync(),
  }
}

/**
 * Restores the files that a mask lets through, and nothing else: no settings, no links; files of tablespaces come below
 * `pg_tblspc/<oid>`.
 * @throws as {@link fetchBackup}, and WALRX_USAGE when no file is let through
 */
export async function fetchFiles(
  options: Omit<FetchOptions, 'tablespaces' | 'writeSettings'> & { readonly mask: (path: string) => boolean },
): Promise<ReadSummary> {
  const { destination, documents } = options
  await refuseUsedDestination(destination)
  await prepare(destination)
  const sink = new DirectorySink(destination, options.fsync)
  const summary = await readBackup({ ...options, sink, beforeControl: () => Promise.resolve() })
  await sink.sync()
  await fs.rm(join(destination, incompleteMarker), { force: true })
  if (summary.files === 0) {
    throw new WalrxError('WALRX_USAGE', `no file of ${documents.name} matches the mask`, {
      hint: "a mask is a path as in the data directory: 'base/*/1259*'; * stands for no slash",
    })
  }
  return summary
}

/** Throws WALRX_RESTORE_FAILED for a destination that holds anything. */
export async function refuseUsedDestination(destination: string): Promise<void> {
  let names: string[]
  try {
    names = await fs.readdir(destination)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return
    throw new WalrxError('WALRX_RESTORE_FAILED', `${destination} cannot be used: ${message}`, { cause: error })
  }
  if (names.length === 0) return
  const isOurs = names.includes(incompleteMarker)
  throw new WalrxError('WALRX_RESTORE_FAILED', `${destination} is not empty`, {
    hint: isOurs
      ? 'an earlier restore into it did not come to its end: empty it, and the folders of its tablespaces'
      : 'give a directory that is empty or not there',
  })
}

async function prepare(destination: string): Promise<void> {
  try {
    await fs.mkdir(destination, { recursive: true, mode: 0o700 })
    // PostgreSQL refuses a data directory that others may write to.
    await fs.chmod(destination, 0o700)
    await fs.writeFile(join(destination, incompleteMarker), 'walrx backup-fetch has not come to its end here\n')
  } catch (error) {
    const { message } = error as Error
    throw new WalrxError('WALRX_RESTORE_FAILED', `${destination} cannot be written: ${message}`, { cause: error })
  }
}

/** `backup_manifest`, as pg_basebackup leaves it, so that pg_verifybackup can check the directory. */
async function writeManifest(
  { signal, storage }: FetchOptions,
  key: string,
  sink: DirectorySink,
  newMap: Buffer | undefined,
): Promise<void> {
  const extension = key.slice(key.lastIndexOf('/') + 1).split('.')[1] ?? ''
  const file = await sink.file('backup_manifest', 0o600)
  try {
    const { body } = await openObject(storage, { key, extension }, { signal })
    const source = newMap ? changedManifest(body, 'tablespace_map', newMap) : body
    for await (const chunk of source) await file.write(chunk)
    await file.finish()
  } finally {
    await file.drop()
  }
}
