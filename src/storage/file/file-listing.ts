/**
 * Lists the objects below a directory in byte order of their full keys. A directory returns its names in any order, and
 * may have too many of them for memory.
 */
import type { Dirent, Stats } from 'node:fs'
import { join } from 'node:path'
import { abortable } from '../abortable.ts'
import { compareKeys } from '../keys.ts'
import type { ObjectInfo } from '../storage.ts'
import { isTempName } from '../temp-name.ts'
import { type FileLinks, folderPath } from './file-links.ts'
import { type FileSystem, isAbsence, lstatOrNothing, objectInfo } from './file-system.ts'
import { PackedNames } from './packed-names.ts'
import { AheadBudget, readAhead } from './read-ahead.ts'

/**
 * Bytes of the names of one directory that are held at a time, briefly twice as many. A larger directory is read again for
 * each further part of this size; a million segments have 29 MB of names.
 */
const NAME_BYTES_MAX = 32 * 1024 * 1024
/** Directory entries read by one call. */
const READ_ENTRIES = 1024
/** Calls of stat at the same time, for the first files of a directory and later on: few may be wanted. */
const STAT_FIRST = 16
/** Enough to keep the threads of the system calls at work; more would outlive V8's small young generation. */
const STAT_COUNT = 64

/** Selects the objects. */
export interface WalkOptions {
  readonly fs: FileSystem
  readonly root: string
  /** Beginning of the keys. */
  readonly prefix: string
  /** Keys up to and including this one are left out. */
  readonly startAfter: string | undefined
  readonly signal: AbortSignal | undefined
  /** Default {@link NAME_BYTES_MAX}. */
  readonly nameBytes?: number | undefined
  readonly links: FileLinks
  /** See {@link ListOptions.linksAsObjects}. */
  readonly linksAsObjects: boolean
}

/**
 * The objects with keys that begin with `prefix`, in byte order of the keys, some at a time. Folders that can't hold any are
 * not read. Names that are not UTF-8 can't be keys and are left out; so are files that vanish during the listing.
 * @throws the errors of opendir and stat; ENOENT when the folder of the prefix is missing
 */
export async function* walkObjects(options: WalkOptions): AsyncGenerator<readonly ObjectInfo[], void> {
  const folder = options.prefix.slice(0, options.prefix.lastIndexOf('/') + 1)
  if (options.linksAsObjects && options.prefix === folder && folder !== '') {
    const link = await linkObject(options, folder.slice(0, -1))
    if (link) return yield [link]
  }
  yield* walkFolder(options, folder, new AheadBudget())
}

/** A folder by its name with `/` at the end, or files that follow each other. */
type WalkItem = string | readonly string[]

/** `folder`: key of a folder with its `/` at the end, or nothing for the root. */
async function* walkFolder(
  options: WalkOptions,
  folder: string,
  ahead: AheadBudget,
): AsyncGenerator<readonly ObjectInfo[], void> {
  const open = async function* (item: WalkItem): AsyncGenerator<readonly ObjectInfo[], void> {
    if (typeof item === 'string') yield* skipMissing(walkFolder(options, folder + item, ahead))
    else yield await abortable(statAll(options, folder, item), options.signal)
  }
  let after: string | undefined
  do {
    const names = await abortable(readNames(options, folder, after), options.signal)
    yield* readAhead(itemsOf(names), open, ahead)
    after = names.last
  } while (after !== undefined)
}

function* itemsOf(names: PackedNames): Generator<WalkItem, void> {
  let atOnce = STAT_FIRST
  let files: string[] = []
  for (const entry of names.inOrder()) {
    const isFile = !entry.endsWith('/')
    if (isFile && files.push(entry) < atOnce) continue
    if (files.length > 0) yield files
    if (isFile) atOnce = Math.min(2 * atOnce, STAT_COUNT)
    else yield entry
    files = []
  }
  if (files.length > 0) yield files
}

/** A folder that was removed after its parent was read holds no objects. */
async function* skipMissing<T>(objects: AsyncGenerator<T, void>): AsyncGenerator<T, void> {
  try {
    yield* objects
  } catch (error) {
    if (!isAbsence(error)) throw error
  }
}

/**
 * The first entries of a directory that sort after `after` and may hold a wanted key: file names, and folder names with `/`
 * at the end, so that they sort like the keys below them (`a.b` before `a/b`). `lost+found`, at the root of a file system of
 * the ext family, is no folder of the archive, and root's alone.
 */
async function readNames(options: WalkOptions, folder: string, after: string | undefined): Promise<PackedNames> {
  const path = folderPath(options.root, folder)
  const names = new PackedNames(options.nameBytes ?? NAME_BYTES_MAX)
  for await (const dirent of await options.fs.opendir(path, { bufferSize: READ_ENTRIES })) {
    options.signal?.throwIfAborted()
    const name = dirent.name
    if (isTempName(name) || (folder === '' && name === 'lost+found')) continue
    const kind = kindByEntry(dirent) ?? (await kindByStats(options, folder, dirent))
    if (kind === 'nothing') continue
    const entry = kind === 'folder' ? `${name}/` : name
    if (after !== undefined && compareKeys(entry, after) <= 0) continue
    if (!isWanted(options, folder + entry)) continue
    names.add(entry)
    if (names.isFull) await names.cut()
  }
  return names
}

/** True when this key, or for a folder a key inside it, is wanted. */
function isWanted({ prefix, startAfter }: WalkOptions, key: string): boolean {
  if (key.endsWith('/')) {
    if (!key.startsWith(prefix) && !prefix.startsWith(key)) return false
    return startAfter === undefined || startAfter.startsWith(key) || compareKeys(key, startAfter) > 0
  }
  return key.startsWith(prefix) && (startAfter === undefined || compareKeys(key, startAfter) > 0)
}

type EntryKind = 'folder' | 'file' | 'nothing'

/** Undefined for a symbolic link, and where a file system doesn't report the type. */
function kindByEntry(dirent: Dirent): EntryKind | undefined {
  return dirent.isFile() ? 'file' : dirent.isDirectory() ? 'folder' : undefined
}

/** A link is what it leads to; one to a folder that it lies in is nothing, for it would never end. */
async function kindByStats(options: WalkOptions, folder: string, dirent: Dirent): Promise<EntryKind> {
  const { name } = dirent
  if (!isWanted(options, folder + name) && !isWanted(options, `${folder}${name}/`)) return 'nothing'
  const path = join(options.root, folder, name)
  if (options.linksAsObjects && (await options.links.isObject(path))) return 'file'
  const stats = await options.links.stat(path)
  if (!stats?.isDirectory()) return stats ? 'file' : 'nothing'
  return dirent.isSymbolicLink() && (await options.links.isLoop(path, stats)) ? 'nothing' : 'folder'
}

async function statAll(options: WalkOptions, folder: string, names: readonly string[]): Promise<ObjectInfo[]> {
  const path = folderPath(options.root, folder)
  const objectOf = (name: string, stats: Stats | undefined) =>
    stats?.isFile() ? objectInfo(folder + name, stats) : undefined
  const all = options.linksAsObjects
    ? names.map(
        async (name) =>
          (await linkObject(options, folder + name)) ?? objectOf(name, await options.links.stat(`${path}/${name}`)),
      )
    : names.map((name) =>
        options.fs.stat(`${path}/${name}`).then(
          (stats) => objectOf(name, stats),
          // It finds out what is wrong.
          async () => objectOf(name, await options.links.stat(`${path}/${name}`)),
        ),
      )
  return (await Promise.all(all)).filter((object) => object !== undefined)
}

/** A link that stands for itself; undefined for anything else. */
async function linkObject({ fs, links, root }: WalkOptions, key: string): Promise<ObjectInfo | undefined> {
  const path = join(root, key)
  const stats = (await links.isObject(path)) ? await lstatOrNothing(fs, path) : undefined
  return stats && { ...objectInfo(key, stats), size: 0, linkTo: await links.target(path) }
}
