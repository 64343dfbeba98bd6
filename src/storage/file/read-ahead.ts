/**
 * Folders and files that are read before their turn, side by side: a folder takes several system calls, one after the other,
 * and an archive has two folders a backup.
 */

/** What is read ahead at the same time, in all of a listing. */
const AHEAD_MAX = 4
/** Objects of a folder that are held before its turn; it is read on when that comes. */
const HELD_MAX = 256

/** Objects of a folder, or of some files. */
type Pages<T> = AsyncGenerator<readonly T[], void>

/** How much of one listing may still be read ahead. */
export class AheadBudget {
  #free = AHEAD_MAX

  /** False where there are enough. */
  take(): boolean {
    if (this.#free === 0) return false
    this.#free--
    return true
  }

  /** For what has had its turn, or nobody wants. */
  give(): void {
    this.#free++
  }
}

/** Pages that are read from now on, up to {@link HELD_MAX} objects. */
class HeldPages<T> {
  readonly #pages: Pages<T>
  readonly #beginning: Promise<{ readonly held: (readonly T[])[]; readonly isAll: boolean }>

  constructor(pages: Pages<T>) {
    this.#pages = pages
    this.#beginning = this.#read()
    // It is thrown when its turn comes.
    this.#beginning.catch(() => {})
  }

  async #read(): Promise<{ held: (readonly T[])[]; isAll: boolean }> {
    const held: (readonly T[])[] = []
    for (let count = 0; count < HELD_MAX;) {
      const { done, value } = await this.#pages.next()
      if (done === true) return { held, isAll: true }
      held.push(value)
      count += value.length
    }
    return { held, isAll: false }
  }

  async *all(): Pages<T> {
    const { held, isAll } = await this.#beginning
    yield* held
    if (!isAll) yield* this.#pages
  }

  /** Ends it where nobody waits for it. */
  drop(): void {
    void this.#pages.return().catch(() => {})
  }
}

/**
 * The pages of all items in their order. Nothing is read ahead at first, for a reader may want a few objects; then more and
 * more is.
 * @param open begins an item; nothing is read before its first page is asked for
 */
export async function* readAhead<Item, T>(
  items: Iterable<Item>,
  open: (item: Item) => Pages<T>,
  budget: AheadBudget,
): Pages<T> {
  const coming = items[Symbol.iterator]()
  const ahead: HeldPages<T>[] = []
  let [count, isEnd] = [0, false]
  const fill = () => {
    while (!isEnd && ahead.length < count && budget.take()) {
      const { done, value } = coming.next()
      isEnd = done === true
      if (done === true) budget.give()
      else ahead.push(new HeldPages(open(value)))
    }
  }
  try {
    for (;;) {
      fill()
      const held = ahead.shift()
      if (held) {
        budget.give()
        yield* held.all()
      } else {
        const { done, value } = coming.next()
        if (done === true) return
        yield* open(value)
      }
      count = Math.min(AHEAD_MAX, 2 * count + 1)
    }
  } finally {
    for (const held of ahead) {
      budget.give()
      held.drop()
    }
  }
}
