/** Lists ranges of keys side by side, and gives their pages out in the order of the keys. */
import type { ListPagesOptions, ObjectInfo } from '../../storage.ts'
import { beginsAnywhere, listObjectPages, type S3ListingPlace } from './s3-listing.ts'

/** The keys after `startAfter`, up to and including `until`. */
export interface KeyRange {
  readonly startAfter: string | undefined
  readonly until: string | undefined
}

type Page = readonly ObjectInfo[]

/** Ranges that are listed at a time: so many times a page comes while the reader works on one. */
const rangesMax = 5
/** Pages that are held of a range: more of it is listed when its turn comes. */
const pagesMax = 8

/**
 * The pages of a prefix: of its ranges where the store can begin a listing anywhere, else as they come.
 * @throws what {@link listObjectPages} does
 */
export async function* listInRanges(
  place: (signal: AbortSignal | undefined) => S3ListingPlace,
  prefix: string,
  { signal, splits = [] }: ListPagesOptions,
): AsyncGenerator<Page, void> {
  const isSplit = splits.length > 0 && (await beginsAnywhere(place(signal), prefix))
  yield* listRanges(isSplit ? splits : [], signal, (range, ofRange) =>
    listObjectPages({ ...place(ofRange), ...range, prefix }),
  )
}

/**
 * The pages of all ranges between the splits, in the order of the keys. Holds 40 pages at most.
 * @param splits keys in their order
 * @param open lists a range; its signal aborts when the reader stops, or another range fails
 * @throws the first failure, in the order of the keys; what `signal` says
 */
export async function* listRanges(
  splits: readonly string[],
  signal: AbortSignal | undefined,
  open: (range: KeyRange, signal: AbortSignal | undefined) => AsyncIterable<Page>,
): AsyncGenerator<Page, void> {
  const ranges = [...splits, undefined].map((until, index): KeyRange => ({ startAfter: splits[index - 1], until }))
  if (ranges.length === 1) return yield* open(ranges[0]!, signal)
  const stop = new AbortController()
  const both = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal
  const running: RangeReader[] = []
  let begun = 0
  try {
    for (let index = 0; index < ranges.length; index++) {
      while (begun < ranges.length && running.length < rangesMax)
        running.push(new RangeReader(open(ranges[begun++]!, both)))
      const reader = running[0]!
      for (let page = await reader.next(); page; page = await reader.next()) yield page
      running.shift()
    }
  } finally {
    stop.abort()
    await Promise.all(running.map((reader) => reader.ended()))
  }
}

/** Reads a range ahead of its turn. */
class RangeReader {
  readonly #pages: Page[] = []
  readonly #reading: Promise<void>
  #failure: { readonly error: unknown } | undefined
  #isDone = false
  #wake: (() => void) | undefined

  constructor(pages: AsyncIterable<Page>) {
    this.#reading = this.#read(pages)
  }

  /** The next page; undefined after the last one. */
  async next(): Promise<Page | undefined> {
    for (;;) {
      const page = this.#pages.shift()
      if (page) {
        this.#wake?.()
        return page
      }
      if (this.#failure) throw this.#failure.error
      if (this.#isDone) return undefined
      await this.#change()
    }
  }

  /** Resolves when nothing is under way; only after the signal has aborted. */
  async ended(): Promise<void> {
    this.#isDone = true
    this.#pages.length = 0
    this.#wake?.()
    await this.#reading
  }

  async #read(pages: AsyncIterable<Page>): Promise<void> {
    try {
      for await (const page of pages) {
        if (this.#isDone) break
        this.#pages.push(page)
        this.#wake?.()
        while (this.#pages.length >= pagesMax && !this.#isDone) await this.#change()
      }
    } catch (error) {
      this.#failure = { error }
    }
    this.#isDone = true
    this.#wake?.()
  }

  /** Reader and listing never wait at the same time: one waits for a page, the other for room. */
  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined
        resolve()
      }
    })
  }
}
