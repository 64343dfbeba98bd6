/**
 * Lists the objects below a directory in byte order of their full keys. A directory returns its names in any order, and
 * may have too many of them for memory.
 */
import type { Dirent } from 'node:fs'
import { join } from 'node:path'
import { abortable } from '../abortable.ts'
import { compareKeys, sortKeys } from '../keys.ts'
import type { ObjectInfo } from '../storage.ts'
import { isTempName } from '../temp-name.ts'
import { type FileLinks, folderPath } from './file-links.ts'
import { type FileSystem, isAbsence, lstatOrNothing, objectInfo } from './file-system.ts'

/**
 * Names of one directory that are held at a time, briefly twice as many: about 10 MB. A larger directory is read again
 * for each further page of this size; 65,536 segments of 16 MB are a terabyte of WAL.
 */
const PAGE_NAMES_MAX = 65_536
/** Directory entries read by one call. */
const READ_ENTRIES = 1024
/** Calls of stat at the same time. */
const STAT_COUNT = 32

/** Selects the objects. */
export interface WalkOptions {
  readonly fs: FileSystem
  readonly root: string
  /** Beginning of the keys. */
  readonly prefix: string
  /** Keys up to and including this one are left out. */
  readonly startAfter: string | undefined
  readonly signal: AbortSignal | undefined
  /** Default {@link PAGE_NAMES_MAX}. */
  readonly pageNames?: number | undefined
  readonly links: FileLinks
  /** See {@link ListOptions.linksAsObjects}. */
  readonly linksAsObjects: boolean
}

/**
 * The objects with keys that begin with `prefix`, in byte order of the keys. Folders that can't hold any are not read.
 * Names that are not UTF-8 can't be keys and are left out; so are files that vanish during the listing.
 * @throws the errors of opendir and stat; ENOENT when the folder of the prefix is missing
 */
export async function* walkObjects(options: WalkOptions): AsyncGenerator<ObjectInfo, void> {
  const folder = options.prefix.slice(0, options.prefix.lastIndexOf('/') + 1)
  if (options.linksAsObjects && options.prefix === folder && folder !== '') {
    const link = await linkObject(options, folder.slice(0, -1))
    if (link) return yield link
  }
  yield* walkFolder(options, folder)
}

/** `folder`: key of a folder with its `/` at the end, or nothing for the root. */
async function* walkFolder(options: WalkOptions, folder: string): AsyncGenerator<ObjectInfo, void> {
  let after: string | undefined
  do {
    const page = await abortable(readPage(options, folder, after), options.signal)
    for (let index = 0; index < page.entries.length;) {
      const entry = page.entries[index]!
      if (entry.endsWith('/')) {
        index++
        yield* skipMissing(walkFolder(options, folder + entry))
        continue
      }
      let end = index + 1
      while (end < page.entries.length && end - index < STAT_COUNT && !page.entries[end]!.endsWith('/')) end++
      const files = page.entries.slice(index, end)
      for (const object of await abortable(statAll(options, folder, files), options.signal)) {
        yield object
        options.signal?.throwIfAborted()
      }
      index = end
    }
    after = page.next
  } while (after !== undefined)
}

/** A folder that was removed after its parent was read holds no objects. */
async function* skipMissing(objects: AsyncGenerator<ObjectInfo, void>): AsyncGenerator<ObjectInfo, void> {
  try {
    yield* objects
  } catch (error) {
    if (!isAbsence(error)) throw error
  }
}

interface Page {
  /** File names, and folder names with `/` at the end: so they sort like the keys below them (`a.b` before `a/b`). */
  readonly entries: string[]
  /** The last entry when the directory has more, else undefined. */
  readonly next: string | undefined
}

/**
 * The first entries of a directory, in order, that sort after `after` and may hold a wanted key. `lost+found`, at the root of a
 * file system of the ext family, is no folder of the archive, and root's alone.
 */
async function readPage(options: WalkOptions, folder: string, after: string | undefined): Promise<Page> {
  const path = folderPath(options.root, folder)
  const size = options.pageNames ?? PAGE_NAMES_MAX
  let entries: string[] = []
  let next: string | undefined
  for await (const dirent of await options.fs.opendir(path, { bufferSize: READ_ENTRIES })) {
    options.signal?.throwIfAborted()
    const name = dirent.name
    if (isTempName(name) || (folder === '' && name === 'lost+found')) continue
    if (!isWanted(options, folder + name) && !isWanted(options, `${folder}${name}/`)) continue
    const kind = await kindOf(options, dirent, join(path, name))
    if (kind === 'nothing') continue
    const entry = kind === 'folder' ? `${name}/` : name
    if (after !== undefined && compareKeys(entry, after) <= 0) continue
    if (next !== undefined && compareKeys(entry, next) > 0) continue
    if (!isWanted(options, folder + entry)) continue
    entries.push(entry)
    if (entries.length < 2 * size) continue
    entries = sortKeys(entries).slice(0, size)
    next = entries[size - 1]
  }
  entries = sortKeys(entries)
  if (entries.length > size) {
    entries = entries.slice(0, size)
    next = entries[size - 1]
  }
  return { entries, next }
}

/** True when this key, or for a folder a key inside it, is wanted. */
function isWanted({ prefix, startAfter }: WalkOptions, key: string): boolean {
  if (key.endsWith('/')) {
    if (!key.startsWith(prefix) && !prefix.startsWith(key)) return false
    return startAfter === undefined || startAfter.startsWith(key) || compareKeys(key, startAfter) > 0
  }
  return key.startsWith(prefix) && (startAfter === undefined || compareKeys(key, startAfter) > 0)
}

/** What an entry is. A link is what it leads to; one to a folder that it lies in is nothing, for it would never end. */
async function kindOf(options: WalkOptions, dirent: Dirent, path: string): Promise<'folder' | 'file' | 'nothing'> {
  if (dirent.isDirectory()) return 'folder'
  if (dirent.isFile()) return 'file'
  // A symbolic link, or a file system that doesn't report the type.
  if (options.linksAsObjects && (await options.links.isObject(path))) return 'file'
  const stats = await options.links.stat(path)
  if (!stats?.isDirectory()) return stats ? 'file' : 'nothing'
  return dirent.isSymbolicLink() && (await options.links.isLoop(path, stats)) ? 'nothing' : 'folder'
}

async function statAll(options: WalkOptions, folder: string, names: string[]): Promise<ObjectInfo[]> {
  const all = await Promise.all(
    names.map(async (name) => {
      const link = options.linksAsObjects ? await linkObject(options, folder + name) : undefined
      if (link) return [link]
      const stats = await options.links.stat(join(options.root, folder, name))
      return stats?.isFile() ? [objectInfo(folder + name, stats)] : []
    }),
  )
  return all.flat()
}

/** A link that stands for itself; undefined for anything else. */
async function linkObject({ fs, links, root }: WalkOptions, key: string): Promise<ObjectInfo | undefined> {
  const path = join(root, key)
  const stats = (await links.isObject(path)) ? await lstatOrNothing(fs, path) : undefined
  return stats && { ...objectInfo(key, stats), size: 0, linkTo: await links.target(path) }
}
