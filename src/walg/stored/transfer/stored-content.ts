/** Compares what objects hold, whatever form each is stored in. */
import type { StorageCallOptions } from '../../../storage/storage.ts'
import { compareStreams } from '../compare-streams.ts'
import type { StoredName } from '../stored-form.ts'
import { openObject, type ReadableStorage } from '../stored-reader.ts'

/**
 * True where two objects, mostly of two storages, decode to the same bytes.
 * @throws WALRX_OBJECT_NOT_FOUND, WALRX_OBJECT_DAMAGED, WALRX_CODEC_UNSUPPORTED, WALRX_KEY_MISSING, WALRX_KEY_WRONG, and what the
 * storages say
 */
export async function isSameContent(
  left: ReadableStorage,
  leftName: StoredName,
  right: ReadableStorage,
  rightName: StoredName,
  options: StorageCallOptions = {},
): Promise<boolean> {
  const ours = await openObject(left, leftName, options)
  const theirs = await openObject(right, rightName, options).catch(async (error: unknown) => {
    await ours.body[Symbol.asyncIterator]().return?.()
    throw error
  })
  return (await compareStreams(ours.body, theirs.body)).equal
}
