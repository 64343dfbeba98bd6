/**
 * Whether the keys that are set fit the archive: asked by whatever writes, before it writes. Nobody puts plaintext into an
 * encrypted archive because a variable was lost, and nobody goes on with another key by mistake.
 *
 * The newest objects decide: first segments, then chunks of tails, then a part of the newest backup. What is damaged says
 * nothing, and the next one is asked, so that a torn segment stops no start. An archive without any of them fits.
 *
 *   no key is set   the newest object is encrypted: WALRX_KEY_MISSING
 *   a key is set    it opens one of the newest objects: the others may be of another writer
 *                   the newest object is not encrypted: WALRX_KEY_WRONG, unless that is accepted
 *                   it opens none of them: WALRX_KEY_WRONG
 */
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { BackupArchive } from '../backup/backup-archive.ts'
import { nameOfSentinel } from '../backup/backup-names.ts'
import { listSentinels } from '../backup/backup-listing.ts'
import type { StoredName } from '../stored/stored-form.ts'
import { lookAtObject } from '../stored/stored-look.ts'
import { listTails } from './tail-reader.ts'
import { WalReader } from './wal-reader.ts'

/** Options of {@link checkKeys}. */
export interface KeyCheckOptions extends StorageCallOptions {
  /** The command, where it reads what it has written: a receiver after a crash. Then a public key alone will not do. */
  readonly reader?: string | undefined
}

/** So many segments, chunks and parts are looked at, at most. */
const looksMax = 3

/**
 * Checks the keys. One listing of the sentinels, one of the newest timeline's segments from the newest backup on, and mostly
 * one request for the first bytes of a segment.
 * @throws WALRX_KEY_MISSING, WALRX_KEY_WRONG with the object; WALRX_USAGE, WALRX_KEY_UNAVAILABLE for keys that cannot be used;
 * what the storage says
 */
export async function checkKeys(storage: Storage, options: KeyCheckOptions = {}): Promise<void> {
  const { keyring } = storage
  if (keyring) {
    const { isReadable, writing } = await keyring.prove()
    if (!isReadable && options.reader !== undefined) {
      const what = `${writing.label} (${writing.method}) has no private key, and ${options.reader} reads what it has written`
      throw new WalrxError('WALRX_KEY_MISSING', what, {
        hint: 'set the private key: it reads tails and segments again after a crash, to compare them',
      })
    }
  }
  let refusal: WalrxError | undefined
  for await (const object of newestObjects(storage, options)) {
    const found = await lookAt(storage, object, options)
    // What is older than an object of another key shows of the keys only that it is older.
    if (found === 'fits' || (found === 'not encrypted' && !refusal)) return
    if (found === 'says nothing' || found === 'not encrypted') continue
    // Without a key one encrypted object is enough; with one a plain object is, where it is the newest.
    if (!keyring || (found.isPlain && !refusal)) throw found.refusal
    refusal ??= found.refusal
  }
  if (refusal) throw refusal
}

type Finding = 'fits' | 'not encrypted' | 'says nothing' | { readonly refusal: WalrxError; readonly isPlain: boolean }

async function lookAt(storage: Storage, object: StoredName, options: StorageCallOptions): Promise<Finding> {
  try {
    const look = await lookAtObject(storage, object, options)
    // A public key alone knows what it has encrypted.
    if (look.kind === 'opens' || look.kind === 'sealed') return 'fits'
    if (look.kind === 'plain' && !look.refusal) return 'not encrypted'
    if (look.kind === 'damaged') return 'says nothing'
    return { refusal: look.refusal as WalrxError, isPlain: look.kind === 'plain' }
  } catch (error) {
    // In another codec, or removed since the listing.
    if (hasCode(error, 'WALRX_CODEC_UNSUPPORTED') || hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return 'says nothing'
    throw error
  }
}

/** The newest of each kind first; a later kind is only listed when the ones before were not enough. */
async function* newestObjects(storage: Storage, options: StorageCallOptions): AsyncGenerator<StoredName, undefined> {
  const sentinels = await listSentinels(storage, options)
  sentinels.sort((a, b) => b.lastModifiedMs - a.lastModifiedMs)
  const backup = sentinels[0] && nameOfSentinel(sentinels[0].key)
  // A backup begins in the segment of its name.
  const from = backup?.slice('base_'.length, 'base_'.length + 24)
  yield* await new WalReader(storage).newestSegments(looksMax, from, options)
  let chunks: StoredName[] = []
  for await (const tail of listTails(storage, undefined, options)) chunks = [...tail.chunks]
  yield* chunks.slice(-looksMax).reverse()
  if (backup === undefined) return
  const parts = await new BackupArchive(storage).listParts(backup, options)
  yield* parts.toSorted((a, b) => a.size - b.size).slice(0, looksMax)
}
