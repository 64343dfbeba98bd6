/** Removes what dead backups have left, after another look: nothing of it may have come to life since the plan was made. */
import { hasCode } from '../../primitives/errors.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { intentKey, sentinelKey } from '../../walg/backup/backup-names.ts'
import { expiryOf, readIntent } from '../../walg/backup/intent-document.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'

/**
 * True where a leftover still is what the plan took it for: it has no sentinel, no object of it is newer, and nobody
 * keeps an intent of that name alive.
 * @throws what the storage says
 */
export async function isStillLeft(
  storage: Storage,
  name: string,
  { nowMs, unfinished }: Pick<ArchiveContents, 'nowMs' | 'unfinished'>,
  call: StorageCallOptions,
): Promise<boolean> {
  const planned = unfinished.find((each) => each.name === name)?.folder
  if (!planned || (await storage.head(sentinelKey(name), call))) return false
  const intent = await storage.head(intentKey(name), call)
  if (intent) {
    const content = await readIntent(storage, name, call.signal).catch((error: unknown) => {
      if (hasCode(error, 'WALRX_OBJECT_DAMAGED')) return undefined
      throw error
    })
    if (nowMs - intent.lastModifiedMs < expiryOf(content)) return false
  }
  for await (const { lastModifiedMs } of new BackupArchive(storage).listObjects(name, call)) {
    if (lastModifiedMs > planned.newestMs) return false
  }
  return true
}
