/**
 * `<name>/walrx.json`: every object that walrx stored for a backup, with its size and checksum as stored, so that any
 * flipped bit and any missing object is found and named. Neither WAL-G nor WAL-RUS reads it.
 *
 *     {"version":1,"objects":[{"name":"tar_partitions/part_001.tar.zst","size":123,"crc32c":305419896},…]}
 */
import { WalrxError } from '../../primitives/errors.ts'
import { formatJson, type JsonValue, parseJson } from '../../primitives/json.ts'
import type { StoredObject } from '../stored/object-sum.ts'

/** The object's bytes. */
export function formatContents(objects: readonly StoredObject[]): Buffer {
  const list = objects.map(({ crc32c, name, size }) => ({ name, size, crc32c }))
  return Buffer.from(formatJson({ version: 1, objects: list }))
}

/**
 * Reads the list; by name.
 * @param key names the object in errors
 * @throws WALRX_OBJECT_DAMAGED
 */
export function parseContents(bytes: Uint8Array, key: string): ReadonlyMap<string, StoredObject> {
  try {
    const value = parseJson(Buffer.from(bytes).toString('utf8')) as { readonly [key: string]: JsonValue }
    if (value['version'] !== 1) throw new SyntaxError(`it has version ${formatJson(value['version'] ?? null)}, not 1`)
    const objects = value['objects'] as unknown as readonly StoredObject[]
    const isRight = (each: StoredObject) =>
      typeof each.name === 'string' && Number.isSafeInteger(each.size) && Number.isSafeInteger(each.crc32c)
    if (!Array.isArray(objects) || !objects.every(isRight))
      throw new SyntaxError('objects is not a list of names, sizes and checksums')
    return new Map(objects.map((object) => [object.name, object]))
  } catch (error) {
    throw new WalrxError('WALRX_OBJECT_DAMAGED', `${key} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}
