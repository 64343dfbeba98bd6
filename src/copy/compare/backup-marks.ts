/**
 * The marks of permanence of a backup and its copy. They are the only thing of a backup that changes after it was written. A
 * copy gets the mark of its source, and keeps its own: a mark that somebody set on the copy alone is never taken away.
 */
import { formatJson } from '../../primitives/json/json.ts'
import { hasCode } from '../../primitives/errors.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { JsonDocument } from '../../walg/json-document.ts'
import { readDocument } from '../../walg/stored/stored-reader.ts'

/** How two documents of a backup compare: in their marks alone, or in more. */
export type MarkComparison = 'same' | 'only source' | 'only target' | 'differ'

/**
 * Compares a sentinel, or a metadata.json, of two storages.
 * @throws what the storages say
 */
export async function compareMarks(
  source: Storage,
  target: Storage,
  key: string,
  { signal }: StorageCallOptions,
): Promise<MarkComparison> {
  const options = signal && { signal }
  try {
    const ours = split(await readDocument(source, key, options), key)
    const theirs = split(await readDocument(target, key, options), key)
    if (ours.rest !== theirs.rest) return 'differ'
    if (ours.isPermanent === theirs.isPermanent) return 'same'
    return ours.isPermanent ? 'only source' : 'only target'
  } catch (error) {
    // It has gone since it was listed.
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return 'same'
    if (hasCode(error, 'WALRX_OBJECT_DAMAGED')) return 'differ'
    throw error
  }
}

function split(bytes: Buffer, key: string): { readonly isPermanent: boolean; readonly rest: string } {
  const fields = JsonDocument.parse(bytes, key)
  const isPermanent = [fields.flag('IsPermanent'), fields.flag('is_permanent')].includes(true)
  const rest = Object.entries(fields.rest()).sort(([a], [b]) => (a < b ? -1 : 1))
  return { isPermanent, rest: formatJson(Object.fromEntries(rest)) }
}
