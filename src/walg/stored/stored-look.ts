/** What the keys can do with an object, by its first bytes alone: nothing is decoded. */
import type { Look } from '../../crypto/keyring.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { HeadedSource } from '../../primitives/headed-source.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { lookUnkeyed } from './plain-form.ts'
import { beginningTest, decodingOf, named, type StoredName } from './stored-form.ts'
import type { ReadableStorage } from './stored-reader.ts'

/**
 * Looks at an object of an encrypted kind: one request, and only the beginning is read.
 * @returns with errors that name the object
 * @throws WALRX_CODEC_UNSUPPORTED for an extension that walrx cannot read and for what only a passphrase opens,
 * WALRX_OBJECT_NOT_FOUND, WALRX_KEY_UNAVAILABLE, and what else the storage says
 */
export async function lookAtObject(
  storage: ReadableStorage,
  name: StoredName,
  options?: StorageCallOptions,
): Promise<Look> {
  const decoding = decodingOf(name, storage)
  const { form, keyring } = decoding
  if (!form.encrypted) throw new WalrxError('WALRX_INTERNAL', `${name.key} is of a kind that nobody encrypts`)
  const source = new HeadedSource(await storage.get(name.key, options))
  try {
    const judge = beginningTest(decoding)
    const look = await (keyring ? keyring.lookAt(source, judge) : lookUnkeyed(source, judge))
    if (look.kind === 'opens' || !look.refusal) return look
    return { ...look, refusal: named(look.refusal, decoding) as WalrxError }
  } catch (error) {
    throw named(error, decoding)
  } finally {
    await source.close()
  }
}
