/** Lists sentinels without listing the parts between them. */
import type { ObjectInfo, Storage, StorageCallOptions } from '../../storage/storage.ts'
import { basebackupsFolder, sentinelSuffix } from '../names.ts'

/**
 * All sentinels in byte order of their keys. What else a backup consists of lies in a folder of its name, and `base_X/`
 * sorts before `base_X_backup_stop_sentinel.json`, so that thousands of parts are leapt over by a new listing.
 */
export async function listSentinels(
  storage: Pick<Storage, 'list'>,
  options?: StorageCallOptions,
): Promise<ObjectInfo[]> {
  const sentinels: ObjectInfo[] = []
  let startAfter: string | undefined
  for (let isMore = true; isMore;) {
    isMore = false
    const listOptions = startAfter === undefined ? options : { ...options, startAfter }
    for await (const info of storage.list(basebackupsFolder, listOptions)) {
      const slash = info.key.indexOf('/', basebackupsFolder.length)
      if (slash === -1) {
        if (info.key.endsWith(sentinelSuffix)) sentinels.push(info)
        continue
      }
      // '0' is the successor of '/': after everything in this folder.
      startAfter = `${info.key.slice(0, slash)}0`
      isMore = true
      break
    }
  }
  return sentinels
}
