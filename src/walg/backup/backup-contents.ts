/**
 * `<name>/walrx.json`: every object that walrx stored for a backup, with its size and checksum as stored, so that any
 * flipped bit and any missing object is found and named; and what the backup does not have. Neither WAL-G nor WAL-RUS
 * reads it.
 *
 *     {"version":1,"objects":[{"name":"tar_partitions/part_001.tar.zst","size":123,"crc32c":305419896},…],
 *      "left_out":["pg_hba.conf"],"outside":{"config_file":"/etc/postgresql/postgresql.conf"},
 *      "tree":{"file_mode":"600","modes":{"postgresql.conf":"644"},"directories":{"":"700","base":"700",…}}}
 */
import { WalrxError } from '../../primitives/errors.ts'
import { formatJson, type JsonValue, parseJson } from '../../primitives/json/json.ts'
import { isJsonObject } from '../json-document.ts'
import type { StoredObject } from '../stored/object-sum.ts'

/** What the server had and the backup does not have. */
export interface LeftOut {
  /** Paths relative to the data directory: symbolic links and special files. */
  readonly paths: readonly string[]
  /** Configuration files outside of the data directory, by the setting that names them. */
  readonly outside: Readonly<Record<string, string>>
}

/** What no list of files says of a data directory. Paths are relative to it. */
export interface BackupTree {
  /** Bits of the mode that most files have. */
  readonly fileMode: number
  /** Of the files that have another mode. */
  readonly modes: ReadonlyMap<string, number>
  /** All directories with their modes; '' is the data directory itself. */
  readonly directories: ReadonlyMap<string, number>
}

/** What the object says. */
export interface BackupContents {
  /** By name below the backup's folder. */
  readonly objects: ReadonlyMap<string, StoredObject>
  readonly leftOut: LeftOut
  /** Undefined in backups of a walrx that did not store it. */
  readonly tree: BackupTree | undefined
}

/** Where nothing is known to be left out. */
export const nothingLeftOut: LeftOut = { paths: [], outside: {} }

/** The object's bytes. */
export function formatContents(
  objects: readonly StoredObject[],
  { outside, paths }: LeftOut = nothingLeftOut,
  tree?: BackupTree,
): Buffer {
  const list = objects.map(({ crc32c, name, size }) => ({ name, size, crc32c }))
  return Buffer.from(
    formatJson({
      version: 1,
      objects: list,
      ...(paths.length > 0 && { left_out: [...paths] }),
      ...(Object.keys(outside).length > 0 && { outside }),
      ...(tree && { tree: treeToJson(tree) }),
    }),
  )
}

function treeToJson({ directories, fileMode, modes }: BackupTree): JsonValue {
  const octals = (map: ReadonlyMap<string, number>) =>
    Object.fromEntries([...map].map(([path, mode]) => [path, mode.toString(8)]))
  return { file_mode: fileMode.toString(8), modes: octals(modes), directories: octals(directories) }
}

/**
 * Reads it.
 * @param key names the object in errors
 * @throws WALRX_OBJECT_DAMAGED
 */
export function parseContents(bytes: Uint8Array, key: string): BackupContents {
  try {
    const value = parseJson(Buffer.from(bytes).toString('utf8')) as { readonly [key: string]: JsonValue }
    if (value['version'] !== 1) throw new SyntaxError(`it has version ${formatJson(value['version'] ?? null)}, not 1`)
    const objects = value['objects'] as unknown as readonly StoredObject[]
    const isRight = (each: StoredObject) =>
      typeof each.name === 'string' && Number.isSafeInteger(each.size) && Number.isSafeInteger(each.crc32c)
    if (!Array.isArray(objects) || !objects.every(isRight))
      throw new SyntaxError('objects is not a list of names, sizes and checksums')
    const leftOut = { paths: textsOf(value['left_out']), outside: outsideOf(value['outside']) }
    const tree = value['tree'] === undefined ? undefined : treeOf(value['tree'])
    return { objects: new Map(objects.map((object) => [object.name, object])), leftOut, tree }
  } catch (error) {
    throw new WalrxError('WALRX_OBJECT_DAMAGED', `${key} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

function textsOf(value: JsonValue | undefined): string[] {
  const list = value ?? []
  const isTexts = Array.isArray(list) && (list as readonly JsonValue[]).every((each) => typeof each === 'string')
  if (!isTexts) throw new SyntaxError('left_out is not a list of paths')
  return list as string[]
}

function outsideOf(value: JsonValue | undefined): Record<string, string> {
  const outside = value ?? {}
  if (
    typeof outside !== 'object' ||
    outside === null ||
    Array.isArray(outside) ||
    textsOf(Object.values(outside)) === undefined
  )
    throw new SyntaxError('outside is not a list of settings')
  return outside as Record<string, string>
}

function treeOf(value: JsonValue): BackupTree {
  const { directories, file_mode: fileMode, modes } = objectOf(value)
  const octals = (map: JsonValue | undefined) =>
    new Map(Object.entries(objectOf(map)).map(([path, mode]) => [path, modeOf(mode)]))
  return { fileMode: modeOf(fileMode), modes: octals(modes), directories: octals(directories) }
}

function objectOf(value: JsonValue | undefined): { readonly [key: string]: JsonValue } {
  if (!isJsonObject(value)) throw new SyntaxError('tree is not a list of modes')
  return value
}

function modeOf(value: JsonValue | undefined): number {
  if (typeof value !== 'string' || !/^[0-7]{1,4}$/.test(value)) throw new SyntaxError('tree has a mode that is none')
  return Number.parseInt(value, 8)
}
