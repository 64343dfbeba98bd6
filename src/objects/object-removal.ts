/**
 * Removes objects as WAL-G's `st rm` does: an object of this name, else all of a folder of it. What the archive is made of is
 * refused unless it is forced: a single part or segment less makes backups useless, and nothing would show it until a
 * restore. Of backups the sentinels go first, so that none is left that looks like one.
 */
import { WalrxError } from '../primitives/errors.ts'
import type { ObjectInfo, Storage, StorageCallOptions } from '../storage/storage.ts'
import { nameOfSentinel } from '../walg/backup/backup-names.ts'
import { archiveFolders, basebackupsFolder, walFolder, walrxFolder } from '../walg/names.ts'
import { kindOf } from '../walg/stored/object-kinds.ts'
import { listMatching } from './object-listing.ts'
import { parsePattern } from './object-pattern.ts'

/** What is to be removed. */
export interface RemovalRequest {
  /** Without a slash at its beginning. */
  readonly path: string
  /** True: the path is a pattern. */
  readonly glob: boolean
  readonly force: boolean
  readonly dryRun: boolean
}

/** What was removed, or would be. */
export interface RemovedObjects {
  readonly objects: number
  readonly bytes: number
}

/** Keys of one request. */
const batchMax = 1000

/**
 * Removes objects.
 * @param onObject called with each, before it is removed
 * @throws WALRX_USAGE where there is nothing of this name, or the archive needs it; what the storage says
 */
export async function removeObjects(
  storage: Storage,
  request: RemovalRequest,
  onObject: (info: ObjectInfo) => void,
  options?: StorageCallOptions,
): Promise<RemovedObjects> {
  const roots = await rootsOf(storage, request, options)
  if (!request.force) for (const root of roots) await refuseArchive(storage, root, options)
  let [objects, bytes] = [0, 0]
  const remove = async (isSentinel: boolean) => {
    for (const root of roots) {
      let batch: ObjectInfo[] = []
      const flush = async () => {
        for (const info of batch) onObject(info)
        if (!request.dryRun)
          await storage.delete(
            batch.map(({ key }) => key),
            options,
          )
        objects += batch.length
        bytes += batch.reduce((sum, { size }) => sum + size, 0)
        batch = []
      }
      for await (const info of objectsOf(storage, root, options)) {
        if ((nameOfSentinel(info.key) !== undefined) === isSentinel) batch.push(info)
        if (batch.length === batchMax) await flush()
      }
      if (batch.length > 0) await flush()
    }
  }
  if (roots.some((root) => mayHoldSentinels(root))) await remove(true)
  await remove(false)
  return { objects, bytes }
}

/** An object by its key, or a folder, whose name ends with a slash. */
type Root = string

async function rootsOf(
  storage: Storage,
  { glob, path }: RemovalRequest,
  options?: StorageCallOptions,
): Promise<Root[]> {
  const roots: Root[] = []
  if (glob) for await (const { name } of listMatching(storage, parsePattern(path), options)) roots.push(name)
  else {
    const found = await rootOf(storage, path, options)
    if (found !== undefined) roots.push(found)
  }
  if (roots.length > 0) return roots
  throw new WalrxError('WALRX_USAGE', `there is no object and no folder ${path} at ${storage.location}`, {
    hint: 'walrx st ls shows what is there; only whole names of objects and folders count, or patterns with --glob',
  })
}

async function rootOf(storage: Storage, path: string, options?: StorageCallOptions): Promise<Root | undefined> {
  if (!path.endsWith('/') && (await storage.head(path, options))) return path
  const folder = path.endsWith('/') ? path : `${path}/`
  for await (const _ of storage.list(folder, { ...options, linksAsObjects: true })) return folder
  return undefined
}

function objectsOf(storage: Storage, root: Root, options?: StorageCallOptions): AsyncIterable<ObjectInfo> {
  return root.endsWith('/') ? storage.list(root, { ...options, linksAsObjects: true }) : single(storage, root, options)
}

async function* single(storage: Storage, key: string, options?: StorageCallOptions) {
  const info = await storage.head(key, options)
  if (info) yield info
}

function mayHoldSentinels(root: Root): boolean {
  return root.endsWith('/') ? basebackupsFolder.startsWith(root) : nameOfSentinel(root) !== undefined
}

async function refuseArchive(storage: Storage, root: Root, options?: StorageCallOptions): Promise<void> {
  for await (const { key } of objectsOf(storage, root, options)) {
    if (!isOfArchive(key)) continue
    const what = kindOf(key) ?? 'part of a backup, or of the WAL'
    throw new WalrxError('WALRX_USAGE', `${key} belongs to the archive (${what}): nothing was removed`, {
      hint: 'without such objects backups cannot be restored; to remove them all the same, add --force',
    })
  }
}

/** True for what WAL-G, WAL-RUS and walrx keep an archive in. */
export function isOfArchive(key: string): boolean {
  if (key.startsWith(`${archiveFolders.probe}/`)) return false
  return [walFolder, basebackupsFolder, walrxFolder].some((folder) => key.startsWith(folder))
}
