/** Moves objects to `walrx_005/aside/`, where nobody reads them and nobody deletes them. */
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { compareStreams } from '../stored-object.ts'
import { asideFolder, walrxFolder } from '../names.ts'

/**
 * Moves one object; never over another one that was set aside before.
 * @returns where its bytes are now
 * @throws what the storage says; the object is where it was then, or at both places
 */
export async function setObjectAside(storage: Storage, key: string, options?: StorageCallOptions): Promise<string> {
  const { aside, isThere } = await asideKey(storage, key, options)
  if (!isThere) await storage.put(aside, contents(storage, key, options), options)
  await storage.delete([key], options)
  return aside
}

/** Opens the object when it is read: what fails before it reads, a put or another get, would leave an open one behind. */
async function* contents(storage: Storage, key: string, options?: StorageCallOptions): AsyncGenerator<Uint8Array> {
  yield* await storage.get(key, options)
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
    const { equal } = await compareStreams(contents(storage, key, options), contents(storage, aside, options))
    if (equal) return { aside, isThere: true }
  }
}
