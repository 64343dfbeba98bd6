/**
 * A backup over a data directory that is there, `--delta`. In this order, so that what is half done neither starts nor is taken
 * for whole, and the same command completes it:
 *
 *   1. the server's lock file; the plan, for which every file that may stay is read; nothing has changed so far
 *   2. the marker of an unfinished restore
 *   3. pg_control goes
 *   4. files that are not to stay go: none is written over, and what a crash leaves is compared by the next run
 *   5. links and directories, then all as in a restore into an empty directory (../backup-fetch.ts)
 *
 * Each of 2, 3 and 5 is durable before the next step begins.
 */
import fs from 'node:fs/promises'
import { join } from 'node:path'
import { mapInParallel } from '../../../catalog/map-in-parallel.ts'
import { type FetchOptions, incompleteMarker, openSink, restoreInto } from '../backup-fetch.ts'
import type { ReadSummary } from '../backup-reader.ts'
import { controlFile } from '../entry-path.ts'
import { cannotWrite, completable } from '../parts/restore-error.ts'
import type { DirectorySink } from '../restore-sink.ts'
import { linkTablespaces } from '../tablespaces.ts'
import { type DeltaPlan, planDelta, type PlanOptions } from './delta-plan.ts'
import { giveToOwnerOf, lockDirectory } from './directory-lock.ts'
import type { PresentEntry } from './present-tree.ts'

/** Options of {@link fetchOver}. */
export interface FetchOverOptions extends FetchOptions, Pick<PlanOptions, 'linked' | 'onCompared'> {
  /** Called with the plan, before anything is changed. */
  readonly onPlan: (plan: DeltaPlan) => void
}

/** What was done. */
export interface DeltaSummary extends ReadSummary {
  readonly plan: DeltaPlan
}

/**
 * Restores.
 * @throws WALRX_RESTORE_FAILED where a server runs, or what is there cannot be read or written; what reading the backup throws
 */
export async function fetchOver(options: FetchOverOptions): Promise<DeltaSummary> {
  const lock = await lockDirectory(options.destination)
  try {
    const plan = await planDelta({ ...options, isSynced: options.fsync })
    options.onPlan(plan)
    for (const [path, directory] of plan.tree.unlinked) {
      options.log.warn(
        'a link of a tablespace does not lead where the backup has it: the link goes, the directory stays',
        {
          link: path,
          directory,
          hint: 'remove what is left in the directory, if no other server uses it',
        },
      )
    }
    options.signal.throwIfAborted()
    await lock.verify()
    const sink = await openSink(options)
    const marker = join(options.destination, incompleteMarker)
    await giveToOwnerOf(options.destination, marker).catch((error: unknown) => {
      throw cannotWrite(marker, error)
    })
    await clear(sink, plan)
    await makeFrame(sink, plan, options)
    const beforeEnd = () => giveToOwner(options, plan)
    const summary = await restoreInto(sink, { ...options, kept: plan.kept, beforeEnd })
    return { ...summary, plan }
  } catch (error) {
    throw completable(error)
  } finally {
    await lock.release()
  }
}

/** Removes what is not to stay. */
async function clear(sink: DirectorySink, { outdated, removed, tree }: DeltaPlan): Promise<void> {
  if (tree.entries.some(({ path }) => path === controlFile)) {
    await sink.remove(controlFile)
    await sink.sync()
  }
  const remove = async ({ kind, path }: PresentEntry) => {
    if (kind === 'directory') await sink.removeDirectory(path)
    else if (path !== controlFile) await sink.remove(path)
  }
  await mapInParallel(outdated, remove)
  await mapInParallel(
    removed.filter(({ kind }) => kind !== 'directory'),
    remove,
  )
  // The deepest first.
  for (const entry of removed.filter(({ kind }) => kind === 'directory')) await remove(entry)
}

/** Links and directories, and the modes of the files that stay. */
async function makeFrame(
  sink: DirectorySink,
  { directories, modes, tree }: DeltaPlan,
  { linked, tablespaces, walDirectory }: FetchOverOptions,
): Promise<void> {
  if (walDirectory !== undefined && !tree.isWalLinked) await sink.link('pg_wal', walDirectory)
  await linkTablespaces(
    sink,
    tablespaces.filter(({ oid }) => !linked.has(oid)),
  )
  // What lies in such a directory belongs to this restore only by the link.
  await sink.sync()
  const byDepth = [...directories].sort(([one], [other]) => (one < other ? -1 : 1))
  for (const [path, mode] of byDepth) await sink.directory(path, mode)
  for (const [path, mode] of modes) await sink.changeMode(path, mode)
  await sink.sync()
}

/**
 * What root has written belongs to root, and a server refuses that: it gets the owner of the data directory, as all that was
 * there has.
 */
async function giveToOwner(
  { destination, tablespaces, walDirectory }: FetchOverOptions,
  { directories, fetched, kept }: DeltaPlan,
): Promise<void> {
  if (process.geteuid?.() !== 0) return
  const { gid, uid } = await fs.stat(destination)
  const links = tablespaces.map(({ oid }) => `pg_tblspc/${oid}`)
  const top = await fs.readdir(destination)
  const give = async (path: string) => {
    const full = join(destination, path)
    try {
      const stat = await fs.lstat(full)
      if (stat.uid !== uid || stat.gid !== gid) await fs.lchown(full, uid, gid)
    } catch (error) {
      // pg_control has another name still, and a tablespace that has nothing no directory.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw cannotWrite(full, error)
    }
  }
  const paths = [...top, ...links, ...directories.keys(), ...fetched.keys(), ...kept.keys(), `${controlFile}.walrx`]
  await mapInParallel(paths, give)
  for (const place of [...tablespaces.map(({ location }) => location), walDirectory ?? destination]) {
    const stat = await fs.stat(place).catch(() => undefined)
    if (stat && (stat.uid !== uid || stat.gid !== gid)) await fs.chown(place, uid, gid)
  }
}
