/** Moves objects to `walrx_005/aside/`, where nothing reads them and nothing deletes them. */
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { asideFolder, walrxFolder } from '../names.ts'
import { copyStored, isSameStored } from '../stored/raw-copy.ts'

/**
 * Moves one object; never over another one that was set aside before.
 * @returns where its bytes are now
 * @throws what the storage says; the object is where it was then, or at both places
 */
export async function setObjectAside(storage: Storage, key: string, options?: StorageCallOptions): Promise<string> {
  const { aside, isThere } = await asideKey(storage, key, options)
  if (!isThere) await copyStored(storage, key, aside, options)
  await storage.delete([key], options)
  return aside
}

/** Where an object can be set aside without replacing another one, or is already. */
async function asideKey(
  storage: Storage,
  key: string,
  options?: StorageCallOptions,
): Promise<{ readonly aside: string; readonly isThere: boolean }> {
  const first = asideFolder + key.replace(walrxFolder, '')
  for (let count = 1; ; count++) {
    const aside = count === 1 ? first : `${first}.${count}`
    if (!(await storage.head(aside, options))) return { aside, isThere: false }
    if (await isSameStored(storage, key, aside, options)) return { aside, isThere: true }
  }
}
