/** `delete everything`: all objects below the prefix, of any tool; sentinels first, so that no half backup shows. */
import type { Clock } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { ObjectInfo, Storage, StorageCallOptions } from '../../storage/storage.ts'
import { nameOfSentinel } from '../../walg/backup/backup-names.ts'
import { basebackupsFolder } from '../../walg/names.ts'
import type { ArchivedBackup, UnfinishedBackup } from '../contents/archived-backup.ts'
import { timeNow } from '../contents/archive-contents.ts'
import { type Removed, removeListed } from './bulk-deletion.ts'
import type { DeletionOutcome } from './carry-out.ts'
import type { Refusals } from './refusals.ts'
import { sweep } from './unfinished-files.ts'

/** Objects of one folder of the archive. */
export interface FolderTotal {
  /** `wal_005/`, or empty for objects that lie in none. */
  readonly folder: string
  objects: number
  bytes: number
}

/**
 * Refuses where somebody wants to keep something.
 * @throws WALRX_DELETE_REFUSED
 */
export function checkEverything(
  backups: readonly Pick<ArchivedBackup, 'isMarkKnown' | 'isPermanent' | 'name'>[],
  unfinished: readonly Pick<UnfinishedBackup, 'name' | 'state'>[],
): void {
  const hint = 'walrx delete everything FORCE removes it as well'
  const permanent = backups.find(({ isPermanent }) => isPermanent)
  if (permanent) throw new WalrxError('WALRX_DELETE_REFUSED', `${permanent.name} is permanent`, { hint })
  const unknown = backups.find(({ isMarkKnown }) => !isMarkKnown)
  if (unknown) {
    const message = `${unknown.name} may be permanent: its metadata.json, which says so, is missing or cannot be read`
    throw new WalrxError('WALRX_DELETE_REFUSED', message, { hint })
  }
  const running = unfinished.find(({ state }) => state === 'running' || state === 'young')
  if (running) throw new WalrxError('WALRX_DELETE_REFUSED', `${running.name} is being written`, { hint })
}

/** What there is, by folder, in the order of keys. One listing. */
export async function countEverything(
  storage: Pick<Storage, 'list'>,
  options: StorageCallOptions,
): Promise<FolderTotal[]> {
  const totals = new Map<string, FolderTotal>()
  for await (const { key, size } of storage.list('', { ...options, linksAsObjects: true })) {
    const folder = key.slice(0, key.indexOf('/') + 1)
    const total = totals.get(folder) ?? { folder, objects: 0, bytes: 0 }
    total.objects++
    total.bytes += size
    totals.set(folder, total)
  }
  return [...totals.values()]
}

/** Removes all. Throws what the storage says, but for what it refuses. */
export async function deleteEverything(
  storage: Storage,
  options: StorageCallOptions & { readonly refusals: Refusals; readonly clock: Clock },
): Promise<Removed & Pick<DeletionOutcome, 'unfinishedFiles'>> {
  const call = { ...(options.signal && { signal: options.signal }), linksAsObjects: true }
  const isSentinel = ({ key }: ObjectInfo) => (nameOfSentinel(key) === undefined ? 'keep' : 'remove')
  const sentinels = await removeListed(storage, storage.list(basebackupsFolder, call), {
    ...options,
    judge: isSentinel,
  })
  const rest = await removeListed(storage, storage.list('', call), options)
  const nowMs = storage.sweepUnfinished ? await timeNow(storage, { ...options, asksTime: true }) : 0
  return {
    unfinishedFiles: await sweep(storage, nowMs, options),
    objects: sentinels.objects + rest.objects,
    bytes: sentinels.bytes + rest.bytes,
    refused: sentinels.refused + rest.refused,
  }
}
