/** Damage to a backup: how it is said, and the check of an object against walrx.json. */
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { ObjectSum, type StoredObject } from '../../walg/stored/object-sum.ts'

/**
 * Does something with the objects of a backup. One that cannot be read, or is not where the listing had it, is damage to
 * the backup: the codes of single objects have exit statuses that wal-fetch owes to the server, and nobody else.
 */
export async function blamingBackup<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_OBJECT_NOT_FOUND'))
      throw damaged(error.message, error.hint, error)
    if (hasCode(error, 'WALRX_CODEC_UNSUPPORTED')) {
      const hint = error.hint === undefined ? {} : { hint: error.hint }
      throw new WalrxError('WALRX_BACKUP_UNSUPPORTED', error.message, { ...hint, cause: error })
    }
    throw error
  }
}

/** A backup that is not whole. */
export function damaged(what: string, hint?: string, cause?: unknown): WalrxError {
  return new WalrxError('WALRX_BACKUP_DAMAGED', what, {
    ...(hint !== undefined && { hint }),
    ...(cause !== undefined && { cause }),
  })
}

/** Size and CRC-32C of an object while it is read, to be compared to what was stored. */
export class StoredSum extends ObjectSum {
  /**
   * To be called when the object has been read to its end.
   * @param at names it in errors
   * @throws WALRX_BACKUP_DAMAGED
   */
  check(stored: StoredObject, at: string): void {
    if (stored.crc32c === this.crc32c && stored.size === this.size) return
    const [is, was] = [this.crc32c, stored.crc32c].map((crc) => crc.toString(16).padStart(8, '0'))
    throw damaged(
      `${at} was changed: its CRC-32C is ${is} over ${this.size} bytes, and ${was} over ${stored.size} was stored`,
    )
  }
}
