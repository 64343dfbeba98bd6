/**
 * `walrx_005/deletion.json`: the backups that a walrx delete is removing. It is there before the first sentinel goes, so
 * that the next walrx delete knows the parts that a killed one has left for its own leftovers: without a sentinel they
 * look like a backup that another tool is writing.
 */
import { hasCode } from '../../primitives/errors.ts'
import { formatJson, type JsonValue } from '../../primitives/json/json.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { JsonDocument } from '../../walg/json-document.ts'
import { deletionKey } from '../../walg/names.ts'
import { readDocument } from '../../walg/stored/stored-reader.ts'
import { putDocument } from '../../walg/stored/stored-writer.ts'

/** A backup of the record. */
export interface DeletionEntry {
  readonly name: string
  /** Since when the record has it, by the clock of the storage: what is newer is not of that backup. Milliseconds since 1970. */
  readonly writtenMs: number
  /** What it builds on; undefined for a full one, and where nobody knows. */
  readonly parentName: string | undefined
}

/** A backup to be recorded; without a time it is new, and the time of the record counts. */
export type NewEntry = Pick<DeletionEntry, 'name' | 'parentName'> & { readonly writtenMs: number | undefined }

/** The record by name; empty where there is none, or none that can be read. Throws what the storage says. */
export async function readDeletion(
  storage: Storage,
  options: StorageCallOptions,
): Promise<ReadonlyMap<string, DeletionEntry>> {
  try {
    const info = await storage.head(deletionKey, options)
    if (!info) return new Map()
    const where = `${storage.location}/${deletionKey}`
    const document = JsonDocument.parse(await readDocument(storage, deletionKey, options), where)
    const list = document.take('Backups')
    const entries = Array.isArray(list) ? list.map((each) => parseEntry(each as JsonValue, info.lastModifiedMs)) : []
    if (!Array.isArray(list) || entries.includes(undefined)) throw document.wrong('Backups', list, 'a list of backups')
    return new Map(entries.flatMap((entry) => (entry ? [[entry.name, entry]] : [])))
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND') || hasCode(error, 'WALRX_OBJECT_DAMAGED')) return new Map()
    throw error
  }
}

/** A name, or a name with a time and a parent. */
function parseEntry(value: JsonValue, recordMs: number): DeletionEntry | undefined {
  if (typeof value === 'string') return { name: value, writtenMs: recordMs, parentName: undefined }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const { Name: name, Parent: parent, Time: time } = value as Readonly<Record<string, JsonValue>>
  const writtenMs = typeof time === 'string' ? Date.parse(time) : recordMs
  if (typeof name !== 'string' || Number.isNaN(writtenMs)) return undefined
  return { name, writtenMs, parentName: typeof parent === 'string' ? parent : undefined }
}

/** Writes the record. */
export async function writeDeletion(
  storage: Storage,
  entries: readonly NewEntry[],
  options: StorageCallOptions,
): Promise<void> {
  const list = entries.map(({ name, parentName, writtenMs }) => ({
    Name: name,
    ...(writtenMs !== undefined && { Time: new Date(writtenMs).toISOString() }),
    ...(parentName !== undefined && { Parent: parentName }),
  }))
  await putDocument(storage, deletionKey, Buffer.from(`${formatJson({ Backups: list })}\n`), options)
}
