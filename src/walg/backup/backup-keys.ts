/** Whether the keys that are set open a backup, before any of it is read. */
import { hasCode, type WalrxError } from '../../primitives/errors.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import type { StoredName } from '../stored/stored-form.ts'
import { lookAtObject } from '../stored/stored-look.ts'
import type { ReadableStorage } from '../stored/stored-reader.ts'

/** How many parts are looked at: damage to the first bytes of one is no matter of keys. */
const partsMax = 4

/**
 * Looks at the smallest part, and at others while the keys don't open them: one writer writes all parts of a backup with the
 * same key. One that opens, or is not encrypted where that is right, decides.
 * @param parts of the backup
 * @throws WALRX_KEY_WRONG, WALRX_KEY_MISSING where none of those that are looked at can be read, and not all are damaged;
 * WALRX_KEY_UNAVAILABLE, and what the storage says
 */
export async function checkKeysOf(
  storage: ReadableStorage,
  parts: readonly (StoredName & { readonly size: number })[],
  options?: StorageCallOptions,
): Promise<void> {
  let refusal: WalrxError | undefined
  for (const part of parts.toSorted((a, b) => a.size - b.size).slice(0, partsMax)) {
    try {
      const look = await lookAtObject(storage, part, options)
      if (look.kind === 'opens' || (look.kind === 'plain' && !look.refusal)) return
      // What is damaged says nothing of keys.
      if (look.kind !== 'damaged') refusal ??= look.refusal
    } catch (error) {
      if (!hasCode(error, 'WALRX_CODEC_UNSUPPORTED') && !hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) throw error
    }
  }
  if (refusal) throw refusal
}
