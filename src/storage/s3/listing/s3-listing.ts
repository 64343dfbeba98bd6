/**
 * Lists the keys of a bucket, page by page.
 *
 * Not every store lists what S3 promises. Some answer a listing after a key that does not exist with nothing, some ignore
 * the key, and some mark a page as the last one although there are more keys. A reader that believed them would take
 * such an answer for the end of the archive. So what a store has not proved (in a probe, or here) is checked:
 * - An empty answer to a listing after a key counts only when a listing without the key agrees.
 * - After a page that is marked as the last one, a listing after its last key must be empty. A store that has ever
 *   announced a next page is believed, as long as the page has no more keys than a page of it has proved to hold: some
 *   take their own limit of keys for the end.
 * - A key that does not begin with the prefix that was asked for is an error.
 */
import type { ListObjectsV2CommandOutput } from '@aws-sdk/client-s3'
import { WalrxError } from '../../../primitives/errors.ts'
import { compareKeys } from '../../keys.ts'
import type { ObjectInfo } from '../../storage.ts'
import type { S3ListingTraits } from '../s3-client.ts'
import { md5Of } from '../s3-etag.ts'
import type { S3Retries } from '../s3-retries.ts'
import { type S3Task, describeTask } from '../s3-errors.ts'

/** What is listed, and how. */
export interface S3ListingPlace {
  readonly caller: S3Retries
  readonly bucket: string
  /** Folder of the archive with its `/`, or empty: removed from the keys. */
  readonly root: string
  readonly signal: AbortSignal | undefined
  readonly task: S3Task
  /** What is known of the store; what is learnt is noted there. */
  readonly traits: S3ListingTraits
}

/** Selects the keys. */
export interface S3ListingOptions extends S3ListingPlace {
  /** Beginning of the keys, without the root. */
  readonly prefix: string
  readonly startAfter?: string | undefined
  /** The last key that may be listed, without the root. */
  readonly until?: string | undefined
  readonly firstPageKeys?: number | undefined
}

/** Where a page begins; without either at the first key. */
interface Position {
  readonly token?: string | undefined
  /** Full key. */
  readonly startAfter?: string | undefined
}

/** One page, with full keys. */
interface Page {
  readonly objects: readonly (ObjectInfo & { readonly key: string })[]
  readonly isTruncated: boolean
  readonly token: string | undefined
}

/**
 * The objects with keys that begin with `prefix`, in the byte order that S3 promises. Leaves out keys that walrx never
 * makes (empty, or the marker of a folder, which ends in `/`).
 * @throws WALRX_STORAGE_UNAVAILABLE for a store that lists in another order, since readers rely on it, and for one that
 * cannot list all keys
 */
export async function* listObjects(options: S3ListingOptions): AsyncGenerator<ObjectInfo, void> {
  for await (const page of listObjectPages(options)) {
    for (const object of page) {
      yield object
      options.signal?.throwIfAborted()
    }
  }
}

/**
 * The same in pages, none of them empty.
 * @throws as {@link listObjects}
 */
export async function* listObjectPages(options: S3ListingOptions): AsyncGenerator<readonly ObjectInfo[], void> {
  const { root, signal, startAfter, until } = options
  const after = startAfter === undefined ? undefined : root + startAfter
  for await (const page of new S3Listing(options, after).pages()) {
    const objects: ObjectInfo[] = []
    let isPast = false
    for (const object of page) {
      // A store that ignores StartAfter begins with the first key.
      if (after !== undefined && compareKeys(object.key, after) <= 0) continue
      const key = object.key.slice(root.length)
      isPast = until !== undefined && compareKeys(key, until) > 0
      if (isPast) break
      if (key !== '' && !key.endsWith('/')) objects.push(root === '' ? object : { ...object, key })
    }
    if (objects.length > 0) yield objects
    signal?.throwIfAborted()
    if (isPast) return
  }
}

/**
 * True for a store that can begin a listing after any key: so it was proved, or is now, by a key between the first two.
 * @throws what the store says
 */
export async function beginsAnywhere(place: S3ListingPlace, prefix: string): Promise<boolean> {
  const { traits } = place
  if (traits.startsAfter !== undefined) return traits.startsAfter === 'any key'
  const listing = new S3Listing({ ...place, prefix }, undefined)
  const [first, second] = (await listing.page({}, 2)).objects
  const between = `${first?.key}!`
  if (!first || !second || compareKeys(between, second.key) >= 0) return false
  const found = (await listing.page({ startAfter: between }, 1)).objects[0]?.key
  if (found === second.key) traits.startsAfter = 'any key'
  return found === second.key
}

/** One listing: all keys that the store lists, with the checks of the file's head. */
class S3Listing {
  readonly #options: S3ListingOptions
  readonly #traits: S3ListingTraits
  readonly #prefix: string
  /** The key after which the caller wants to begin, where it is of use. */
  readonly #after: string | undefined
  /** The last key that was listed. */
  #last: string | undefined
  #count = 0

  constructor(options: S3ListingOptions, after: string | undefined) {
    this.#options = options
    this.#traits = options.traits
    this.#prefix = options.root + options.prefix
    // Every key sorts after what sorts before the prefix. Some stores list nothing then.
    this.#after = after !== undefined && compareKeys(after, this.#prefix) > 0 ? after : undefined
  }

  async *pages(): AsyncGenerator<readonly ObjectInfo[], void> {
    const traits = this.#traits
    const canBegin = traits.startsAfter === undefined || traits.startsAfter === 'any key'
    let position: Position = canBegin ? { startAfter: this.#after } : {}
    /** True while keys may come that have been listed already. */
    let mayRepeat = false
    /** True for the listing after the last key. */
    let isCheck = false
    let lastPageKeys = 0
    let maxKeys = this.#options.firstPageKeys
    for (;;) {
      const page = await this.page(position, maxKeys)
      maxKeys = undefined
      const first = page.objects[0]?.key
      if (position.startAfter !== undefined && first !== undefined && compareKeys(first, position.startAfter) < 0) {
        traits.startsAfter = 'no key'
      }
      const fresh = this.#fresh(page, mayRepeat)
      if (isCheck && fresh.length > 0) traits.announcesPages = false
      // The key itself again: it is ignored, and the page ends there, or it is taken for the first one.
      const isSame = isCheck && fresh.length === 0 && first !== undefined && traits.startsAfter !== 'any key'
      if (fresh.length > 0) yield fresh
      mayRepeat &&= fresh.length === 0
      if (isCheck && first === undefined) proveKeys(traits, lastPageKeys)
      isCheck = false
      if (page.isTruncated) {
        proveKeys(traits, page.objects.length)
        traits.announcesPages ??= true
        position = this.#next(page, position, fresh.length > 0)
        mayRepeat ||= position.token === undefined
        continue
      }
      if (this.#last === undefined) {
        if (position.startAfter === undefined || (await this.#isEmptyAfter(position.startAfter))) return
        position = {}
        continue
      }
      if (isBelieved(traits, page)) return
      if (traits.startsAfter === 'no key' || isSame) return await this.#provePages()
      if (fresh.length === 0) return
      lastPageKeys = page.objects.length
      position = { startAfter: this.#last }
      mayRepeat = isCheck = true
    }
  }

  /** The objects of a page that have not been listed yet. */
  #fresh(page: Page, mayRepeat: boolean): ObjectInfo[] {
    const fresh: ObjectInfo[] = []
    for (const object of page.objects) {
      if (this.#last !== undefined && compareKeys(object.key, this.#last) <= 0) {
        if (mayRepeat) continue
        throw disorder(this.#options.task, this.#last, object.key)
      }
      this.#last = object.key
      this.#count++
      fresh.push(object)
    }
    return fresh
  }

  /** Without a new token the next page begins after the last key; a page without either would repeat for ever. */
  #next({ token }: Page, position: Position, isFresh: boolean): Position {
    if (token !== undefined && token !== position.token) return { token }
    if (isFresh && this.#last !== undefined) return { startAfter: this.#last }
    throw new WalrxError(
      'WALRX_STORAGE_UNAVAILABLE',
      `${describeTask(this.#options.task)} failed: the store announced a next page without a position for it`,
    )
  }

  /**
   * True when nothing comes after a key, after the store has listed nothing there; false when the store cannot begin a
   * listing after such a key.
   */
  async #isEmptyAfter(after: string): Promise<boolean> {
    if (this.#traits.startsAfter === 'any key') return true
    const page = await this.page({})
    const last = page.objects.at(-1)?.key
    const first = page.objects[0]?.key
    if (first === undefined || last === undefined) return true
    let isRight: boolean
    if (compareKeys(last, after) > 0) isRight = false
    else if (page.isTruncated) {
      this.#traits.announcesPages ??= true
      // A key just before the first one, which is not there: the first one must come.
      isRight = (await this.page({ startAfter: first.slice(0, -1) })).objects.length > 0
      if (isRight) this.#traits.startsAfter = 'any key'
    } else if (isBelieved(this.#traits, page)) return true
    else {
      const rest = await this.page({ startAfter: last })
      return !rest.objects.some(({ key }) => compareKeys(key, last) > 0)
    }
    if (!isRight) this.#traits.startsAfter = 'keys that exist'
    return isRight
  }

  /** Throws, unless the store announces the next page where a page is to have one key and there are more. */
  async #provePages(): Promise<void> {
    const { root, task } = this.#options
    if (this.#traits.announcesPages === true) return
    const isAnnounced = async (prefix: string) => {
      const { isTruncated, objects } = await this.page({}, 1, prefix)
      // A store with several keys in such a page has no pages at all.
      return isTruncated || objects.length > 1
    }
    if (this.#traits.announcesPages !== false) {
      // A folder with one object shows nothing: the whole archive may.
      if ((await isAnnounced(this.#prefix)) || (this.#count < 2 && (await isAnnounced(root)))) {
        this.#traits.announcesPages = true
        return
      }
    }
    throw unlistable(task)
  }

  /** One request. `maxKeys` is the most keys of it. */
  async page(position: Position, maxKeys?: number, prefix = this.#prefix): Promise<Page> {
    const { bucket, caller, signal, task } = this.#options
    return await caller.call(task, signal, async ({ sdk, send }) => {
      const answer = await send(
        new sdk.ListObjectsV2Command({
          Bucket: bucket,
          Prefix: prefix,
          // Keys with characters that XML can't hold arrive intact only with this encoding.
          EncodingType: 'url',
          ...(maxKeys !== undefined && { MaxKeys: maxKeys }),
          ...(position.token !== undefined
            ? { ContinuationToken: position.token }
            : position.startAfter !== undefined && { StartAfter: position.startAfter }),
        }),
      )
      const objects = (answer.Contents ?? []).map(({ ETag, Key, LastModified, Size }) => ({
        key: decodeKey(Key ?? '', answer),
        size: Size ?? 0,
        lastModifiedMs: LastModified?.getTime() ?? 0,
        ...md5Of(ETag),
      }))
      const other = objects.find(({ key }) => !key.startsWith(prefix))
      if (other !== undefined) throw otherKey(task, prefix, other.key)
      return { objects, isTruncated: answer.IsTruncated === true, token: answer.NextContinuationToken || undefined }
    })
  }
}

/** True when a page that is marked as the last one is it. */
function isBelieved({ announcesPages, pageKeys }: S3ListingTraits, { objects }: Page): boolean {
  return announcesPages === true && objects.length <= pageKeys
}

/** A page of so many keys had all keys that a page of the store can have, or all that there were. */
function proveKeys(traits: S3ListingTraits, keys: number): void {
  traits.pageKeys = Math.max(traits.pageKeys, keys)
}

/** A store that does not support the encoding does not echo it, and sends keys as they are. */
function decodeKey(key: string, { EncodingType }: ListObjectsV2CommandOutput): string {
  return EncodingType === 'url' && /[%+]/.test(key) ? decodeURIComponent(key.replaceAll('+', ' ')) : key
}

/**
 * The error for a store that keeps a key in another form, as SeaweedFS does with a backslash: it lists an archive under
 * keys that are not its own, and walrx must not take that for an empty archive.
 */
function otherKey(task: S3Task, prefix: string, key: string): WalrxError {
  return new WalrxError(
    'WALRX_STORAGE_UNAVAILABLE',
    `${describeTask(task)} failed: asked for keys that begin with ${prefix}, the store lists ${key}`,
    {
      transient: false,
      hint: 'the store changes characters of keys: use a prefix of letters, digits, - and _ only, or another store',
    },
  )
}

function disorder(task: S3Task, before: string, after: string): WalrxError {
  return new WalrxError(
    'WALRX_STORAGE_UNAVAILABLE',
    `${describeTask(task)} failed: the store lists ${after} after ${before}, which is not the order of S3`,
    { transient: false, hint: 'walrx needs a store that lists keys in the order of their bytes' },
  )
}

/** The error for a store whose listings end early, and that cannot go on after a key either. */
function unlistable(task: S3Task): WalrxError {
  return new WalrxError(
    'WALRX_STORAGE_UNAVAILABLE',
    `${describeTask(task)} failed: the store does not announce the next page of a listing, and ignores where one is to begin`,
    { transient: false, hint: 'walrx cannot see all objects there: use another store, or another version of it' },
  )
}

/**
 * Finds out how a store lists, by two objects that are there, and notes it in the traits.
 * @param first a key below the root
 * @param second a key that begins with `first` and has `-2` after it
 * @returns what the listings lack, for people; undefined for nothing
 * @throws WALRX_STORAGE_UNAVAILABLE for a store that cannot list all keys
 */
export async function testListing(place: S3ListingPlace, first: string, second: string): Promise<string | undefined> {
  const { root, task, traits } = place
  const listing = new S3Listing({ ...place, prefix: first }, undefined)
  const hasSecond = (page: Page) => page.objects.some(({ key }) => key === root + second)
  const page = await listing.page({}, 1)
  const afterAny = await listing.page({ startAfter: `${root}${first}-1` })
  if (afterAny.objects.some(({ key }) => key === root + first)) traits.startsAfter = 'no key'
  else traits.startsAfter = hasSecond(afterAny) ? 'any key' : 'keys that exist'
  traits.announcesPages = page.isTruncated || hasSecond(page)
  const canGoOn = page.token !== undefined || hasSecond(page)
  if (!canGoOn && !hasSecond(await listing.page({ startAfter: root + first }))) throw unlistable(task)
  if (!canGoOn && traits.startsAfter === 'no key') throw unlistable(task)
  const problems = [
    ...(traits.startsAfter === 'any key' ? [] : ['it cannot begin a listing after a key that does not exist']),
    ...(traits.announcesPages ? [] : ['it ends a listing although there are more keys']),
  ]
  return problems.length === 0 ? undefined : problems.join(', and ')
}
