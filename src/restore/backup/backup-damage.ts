/** Damage to a backup: its errors, and the check of an object against walrx.json. */
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { ObjectSum, type StoredObject } from '../../walg/stored/object-sum.ts'

/**
 * Does something with the objects of a backup. Reports an object that cannot be read, or that has gone since the
 * listing, as damage to the backup: the exit statuses of the codes for single objects are made for wal-fetch and the
 * server.
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

/** The error for a damaged backup. */
export function damaged(what: string, hint?: string, cause?: unknown): WalrxError {
  return new WalrxError('WALRX_BACKUP_DAMAGED', what, {
    ...(hint !== undefined && { hint }),
    ...(cause !== undefined && { cause }),
  })
}

/** Size and CRC-32C of an object while it is read, to be compared to what was stored. */
export class StoredSum extends ObjectSum {
  /**
   * Call this when the object has been read to its end.
   * @param at names it in errors
   * @throws WALRX_BACKUP_DAMAGED
   */
  check(stored: StoredObject, at: string): void {
    if (stored.crc32c === this.crc32c && stored.size === this.size) return
    const [is, was] = [this.crc32c, stored.crc32c].map((crc) => crc.toString(16).padStart(8, '0'))
    throw damaged(
      `${at} was changed after the backup: it has CRC-32C ${is} over ${this.size} bytes instead of ${was} over ${stored.size}`,
    )
  }
}
