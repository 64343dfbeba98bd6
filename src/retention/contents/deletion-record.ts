/**
 * `walrx_005/deletion.json`: the backups that a walrx delete is removing. It is there before the first sentinel goes, so
 * that the next walrx delete knows the parts that a killed one has left for its own leftovers: without a sentinel they
 * look like a backup that another tool is writing.
 */
import { hasCode } from '../../primitives/errors.ts'
import { formatJson, type JsonValue } from '../../primitives/json.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { JsonDocument } from '../../walg/json-document.ts'
import { deletionKey } from '../../walg/names.ts'
import { readDocument } from '../../walg/stored/stored-reader.ts'
import { putDocument } from '../../walg/stored/stored-writer.ts'

/** What the record says. */
export interface DeletionRecord {
  readonly names: readonly string[]
  /** When it was written, by the clock of the storage: what is newer is not of those backups. */
  readonly writtenMs: number
}

/** The record; undefined where there is none, or none that can be read. Throws what the storage says. */
export async function readDeletion(storage: Storage, options: StorageCallOptions): Promise<DeletionRecord | undefined> {
  try {
    const info = await storage.head(deletionKey, options)
    if (!info) return undefined
    const where = `${storage.location}/${deletionKey}`
    const document = JsonDocument.parse(await readDocument(storage, deletionKey, options), where)
    const names = document.take('Backups')
    const isNames = Array.isArray(names) && (names as readonly JsonValue[]).every((name) => typeof name === 'string')
    if (!isNames) throw document.wrong('Backups', names, 'a list of names')
    return { names: names as string[], writtenMs: info.lastModifiedMs }
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND') || hasCode(error, 'WALRX_OBJECT_DAMAGED')) return undefined
    throw error
  }
}

/** Writes the record. */
export async function writeDeletion(
  storage: Storage,
  names: readonly string[],
  options: StorageCallOptions,
): Promise<void> {
  await putDocument(storage, deletionKey, Buffer.from(`${formatJson({ Backups: names })}\n`), options)
}
