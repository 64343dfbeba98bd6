/**
 * The names of a directory, sorted, as bytes: a million names of segments are 30 MB then, a third of what they are as texts.
 */
import { setImmediate } from 'node:timers/promises'
import { compareKeys, sortKeys } from '../keys.ts'

/** Names that are sorted as texts, and packed then. */
const RUN_NAMES = 8192
/** Names that are freed together once they are read. */
const PIECE_NAMES = 512
/** Names that are merged before other work gets its turn. */
const MERGED_AT_ONCE = 8192

/** Sorted names, each with a NUL after it. */
type Pieces = Buffer[]

/** See the file's header. Names have no NUL. */
export class PackedNames {
  readonly #bytesMax: number
  #runs: Pieces[] = []
  #pending: string[] = []
  #pendingCharacters = 0
  #runBytes = 0
  /** True where the order of UTF-16 is that of the bytes. */
  #isAscii = true
  #last: string | undefined

  /** @param bytesMax how much a cut keeps; briefly twice as much is held */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** The last name that is kept, where there were more; undefined without a cut. */
  get last(): string | undefined {
    return this.#last
  }

  /** True where {@link cut} is due. */
  get isFull(): boolean {
    return this.#runBytes + this.#pendingCharacters > 2 * this.#bytesMax
  }

  /** Takes a name, unless it comes after {@link last}. */
  add(name: string): void {
    if (this.#last !== undefined && compareKeys(name, this.#last) > 0) return
    this.#pendingCharacters += name.length + 1
    if (this.#pending.push(name) === RUN_NAMES) this.#pack()
  }

  /** Keeps the first names only. */
  async cut(): Promise<void> {
    let kept: string[] = []
    const run: Pieces = []
    let bytes = 0
    let merged = 0
    for (const name of this.inOrder()) {
      kept.push(name)
      bytes += Buffer.byteLength(name) + 1
      const isEnough = bytes >= this.#bytesMax
      if (isEnough || kept.length === RUN_NAMES) {
        run.push(...packed(kept))
        kept = []
      }
      if (isEnough) {
        this.#last = name
        break
      }
      if (++merged % MERGED_AT_ONCE === 0) await setImmediate()
    }
    this.#runs = [run]
    this.#runBytes = bytes
  }

  /** The names in byte order, which are gone then. */
  *inOrder(): Generator<string, void> {
    this.#pack()
    const runs = this.#runs
    this.#runs = []
    const heap = new Heap(
      runs.map((run) => new Run(run)),
      this.#isAscii ? compareTexts : compareKeys,
    )
    for (let first = heap.first; first; first = heap.first) {
      yield first.name
      heap.advance()
    }
  }

  #pack(): void {
    if (this.#pending.length === 0) return
    const run = packed(sortKeys(this.#pending))
    const bytes = run.reduce((sum, { length }) => sum + length, 0)
    this.#runs.push(run)
    this.#runBytes += bytes
    this.#isAscii &&= bytes === this.#pendingCharacters
    this.#pending = []
    this.#pendingCharacters = 0
  }
}

function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function packed(names: readonly string[]): Pieces {
  const pieces: Pieces = []
  for (let at = 0; at < names.length; at += PIECE_NAMES)
    pieces.push(Buffer.from(`${names.slice(at, at + PIECE_NAMES).join('\0')}\0`))
  return pieces
}

/** One run while it is read. */
class Run {
  /** The name that it stands at. */
  name = ''
  /** Those that come, the next one last. */
  readonly #coming: Pieces
  #piece: Buffer
  #offset = 0

  constructor(pieces: Pieces) {
    this.#coming = pieces.reverse()
    this.#piece = this.#coming.pop() ?? Buffer.alloc(0)
    this.next()
  }

  /** False at the end. */
  next(): boolean {
    if (this.#offset === this.#piece.length) {
      const piece = this.#coming.pop()
      if (!piece) return false
      this.#piece = piece
      this.#offset = 0
    }
    const end = this.#piece.indexOf(0, this.#offset)
    this.name = this.#piece.toString('utf8', this.#offset, end)
    this.#offset = end + 1
    return true
  }
}

/** Runs with the one of the least name on top. */
class Heap {
  readonly #runs: Run[]
  readonly #compare: (a: string, b: string) => number

  constructor(runs: Run[], compare: (a: string, b: string) => number) {
    this.#compare = compare
    this.#runs = runs.sort((a, b) => compare(a.name, b.name))
  }

  get first(): Run | undefined {
    return this.#runs[0]
  }

  /** Moves the first run to its next name, and takes it out at its end. */
  advance(): void {
    const runs = this.#runs
    if (runs[0]?.next() === false) {
      const last = runs.pop()
      if (last === undefined || runs.length === 0) return
      runs[0] = last
    }
    this.#sink()
  }

  #sink(): void {
    const [runs, compare] = [this.#runs, this.#compare]
    const moving = runs[0]
    if (!moving) return
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      let least = runs[child]
      const other = runs[child + 1]
      if (!least) break
      if (other && compare(other.name, least.name) < 0) [child, least] = [child + 1, other]
      if (compare(moving.name, least.name) <= 0) break
      runs[at] = least
      at = child
    }
    runs[at] = moving
  }
}
