/** Lists sentinels, without listing thousands of parts between them. */
import type { ObjectInfo, Storage, StorageCallOptions } from '../../storage/storage.ts'
import { basebackupsFolder, sentinelSuffix } from '../names.ts'

/**
 * Objects of one backup that are read past before a new listing leaps over the rest. A new listing costs a request to S3,
 * which lists 1000 objects at a time, and in a directory it reads the names of all backups again.
 */
const readPastMax = 1000

/**
 * All sentinels in byte order of their keys. What else a backup consists of lies in a folder of its name, and `base_X/`
 * sorts before `base_X_backup_stop_sentinel.json`. Backups of a few objects are listed as they come: 10,000 of them are 50
 * requests to S3. What is left of a larger one is leapt over by a new listing.
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
    let folder = ''
    let count = 0
    for await (const info of storage.list(basebackupsFolder, listOptions)) {
      const slash = info.key.indexOf('/', basebackupsFolder.length)
      if (slash === -1) {
        if (info.key.endsWith(sentinelSuffix)) sentinels.push(info)
        continue
      }
      const isSame = info.key.startsWith(folder) && folder.length === slash + 1
      if (!isSame) folder = info.key.slice(0, slash + 1)
      count = isSame ? count + 1 : 1
      if (count <= readPastMax) continue
      // '0' is the successor of '/': after everything in this folder.
      startAfter = `${info.key.slice(0, slash)}0`
      isMore = true
      break
    }
  }
  return sentinels
}
