/** The time of a storage, by which its objects are stamped: the clocks of two hosts need not agree. */
import { randomUUID } from 'node:crypto'
import type { Clock } from '../../primitives/clock.ts'
import { hasCode } from '../../primitives/errors.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { intentsPrefix } from '../names.ts'
import { putDocument } from '../stored/stored-writer.ts'

/**
 * The storage's time, by an object that is written for it. Milliseconds since 1970.
 * @throws what the storage says
 */
export async function storageTime(storage: Storage, clock: Clock, call: StorageCallOptions): Promise<number> {
  const key = `${intentsPrefix}.clock-${randomUUID()}`
  await putDocument(storage, key, Buffer.from('{}'), call)
  try {
    return (await storage.head(key, call))?.lastModifiedMs ?? clock.now()
  } finally {
    await storage.delete([key]).catch((error: unknown) => {
      if (!hasCode(error, 'WALRX_STORAGE_DENIED')) throw error
    })
  }
}
