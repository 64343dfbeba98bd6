/** Lists objects and folders of a storage, one after the other: nothing is held, however many there are. */
import type { ObjectInfo, Storage, StorageCallOptions } from '../storage/storage.ts'
import type { ObjectPattern } from './object-pattern.ts'

/** An object, or a folder: its name ends with a slash. */
export type ListedEntry =
  | { readonly type: 'obj'; readonly name: string; readonly info: ObjectInfo }
  | { readonly type: 'dir'; readonly name: string }

/** Objects of a folder that are read past before the listing is begun again after it. */
const leapAfter = 1000

/**
 * What lies in a folder, in the order of the keys.
 * @param folder ends with a slash; empty for the root. Names are relative to it
 */
export async function* listFolder(
  storage: Pick<Storage, 'list'>,
  folder: string,
  options?: StorageCallOptions,
): AsyncGenerator<ListedEntry, undefined> {
  let startAfter: string | undefined
  for (let isMore = true; isMore;) {
    isMore = false
    let inside: string | undefined
    let passed = 0
    const listOptions = startAfter === undefined ? options : { ...options, startAfter }
    for await (const info of storage.list(folder, listOptions)) {
      if (inside !== undefined && info.key.startsWith(inside)) {
        if (++passed < leapAfter) continue
        // '0' is the successor of '/': after everything in this folder.
        startAfter = `${inside.slice(0, -1)}0`
        isMore = true
        break
      }
      const name = info.key.slice(folder.length)
      const slash = name.indexOf('/')
      inside = undefined
      passed = 0
      if (slash < 0) yield { type: 'obj', name, info }
      else {
        inside = info.key.slice(0, folder.length + slash + 1)
        yield { type: 'dir', name: name.slice(0, slash + 1) }
      }
    }
  }
}

/** Every object below a folder, at any depth. */
export async function* listBelow(
  storage: Pick<Storage, 'list'>,
  folder: string,
  options?: StorageCallOptions,
): AsyncGenerator<ListedEntry, undefined> {
  for await (const info of storage.list(folder, options))
    yield { type: 'obj', name: info.key.slice(folder.length), info }
}

/** Objects and folders that match a pattern, by their whole names. */
export async function* listMatching(
  storage: Pick<Storage, 'list'>,
  pattern: ObjectPattern,
  options?: StorageCallOptions,
): AsyncGenerator<ListedEntry, undefined> {
  const known = pattern.prefix.slice(0, pattern.prefix.lastIndexOf('/') + 1)
  yield* matchingBelow(storage, known, pattern, options)
}

async function* matchingBelow(
  storage: Pick<Storage, 'list'>,
  folder: string,
  pattern: ObjectPattern,
  options?: StorageCallOptions,
): AsyncGenerator<ListedEntry, undefined> {
  const depth = folder.split('/').length
  for await (const entry of listFolder(storage, folder, options)) {
    const name = folder + entry.name
    const bare = entry.type === 'dir' ? name.slice(0, -1) : name
    if (depth === pattern.depth) {
      if (pattern.matches(bare)) yield { ...entry, name }
    } else if (entry.type === 'dir') yield* matchingBelow(storage, name, pattern, options)
  }
}
