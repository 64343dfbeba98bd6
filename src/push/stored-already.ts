/**
 * Whether the archive has a WAL file already: for a writer beside another one, which mostly was faster. It finds out before
 * it sends anything, by one listing or a few lookups; where the other one has encoded the file to the same bytes, the
 * object is not even read.
 */
import { createHash } from 'node:crypto'
import { extensions, unsupportedExtensions } from '../compression/codecs.ts'
import type { Storage, StorageCallOptions } from '../storage/storage.ts'
import { walKey } from '../walg/names.ts'
import type { StoredName } from '../walg/stored/stored-form.ts'
import type { WalArchive } from '../walg/wal/wal-archive.ts'

/** Every form of a name that the archive holds, our own among them. */
export async function formsOf(archive: WalArchive, name: string, options?: StorageCallOptions): Promise<StoredName[]> {
  const { storage } = archive
  if (storage.hasCheapHeads !== true) return archive.find(name, options)
  const forms: StoredName[] = []
  for (const extension of [...Object.values(extensions), ...unsupportedExtensions]) {
    const key = walKey(name, extension)
    if (await storage.head(key, options)) forms.push({ key, extension })
  }
  return forms
}

/**
 * Compares an encoded WAL file with forms of it that were seen.
 * @param forms of {@link formsOf}
 * @returns true when at least one is still there, all that are there are the same, and they are durable
 * @throws WALRX_ARCHIVE_CONFLICT when other bytes are there; see {@link WalArchive.isSame}
 */
export async function isStoredAlready(
  archive: WalArchive,
  forms: readonly StoredName[],
  { encoded, name }: { readonly name: string; readonly encoded: Uint8Array },
  options?: StorageCallOptions,
): Promise<boolean> {
  let isStored = false
  for (const { extension, key } of forms) {
    const isOwn = key === archive.keyOf(name)
    const isSame =
      (isOwn && (await hasSameSum(archive.storage, key, encoded, options))) ||
      (await archive.isSame(key, extension, encoded, options))
    if (!isSame) continue
    await archive.storage.makeDurable?.(key, options)
    isStored = true
  }
  return isStored
}

/**
 * True when the store shows the MD5 of our encoded bytes. Any other sum proves nothing: see {@link ObjectInfo.md5}.
 */
async function hasSameSum(
  storage: Storage,
  key: string,
  encoded: Uint8Array,
  options?: StorageCallOptions,
): Promise<boolean> {
  // A directory has no tags, and what a key encrypts is never the same twice.
  if (storage.hasCheapHeads === true || storage.keyring) return false
  const found = await storage.head(key, options)
  return found?.size === encoded.length && found.md5 !== undefined && found.md5 === md5(encoded)
}

/** Undefined where the machine's policy forbids MD5. */
function md5(bytes: Uint8Array): string | undefined {
  try {
    return createHash('md5').update(bytes).digest('hex')
  } catch {
    return undefined
  }
}
