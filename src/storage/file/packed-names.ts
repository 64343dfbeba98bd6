/**
 * The names of a directory, sorted, as bytes: a million names of segments are 30 MB then, a third of what they are as texts.
 */
import { setImmediate } from 'node:timers/promises'
import { compareKeys, sortKeys } from '../keys.ts'

/** Names that are sorted as texts, and packed then. */
const RUN_NAMES = 8192
/** Names that are merged before other work gets its turn. */
const MERGED_AT_ONCE = 8192

/** See the file's header. Names have no NUL. */
export class PackedNames {
  readonly #bytesMax: number
  /** Sorted names, each with a NUL after it. */
  #runs: Buffer[] = []
  #pending: string[] = []
  #pendingCharacters = 0
  #runBytes = 0
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
    const runs: Buffer[] = []
    let bytes = 0
    let merged = 0
    for (const name of this.inOrder()) {
      kept.push(name)
      bytes += Buffer.byteLength(name) + 1
      const isEnough = bytes >= this.#bytesMax
      if (isEnough || kept.length === RUN_NAMES) {
        runs.push(packed(kept))
        kept = []
      }
      if (isEnough) {
        this.#last = name
        break
      }
      if (++merged % MERGED_AT_ONCE === 0) await setImmediate()
    }
    this.#runs = [Buffer.concat(runs)]
    this.#runBytes = bytes
  }

  /** The names in byte order. Nothing may be added afterwards. */
  *inOrder(): Generator<string, void> {
    this.#pack()
    const heap = new Heap(this.#runs.map((run) => new Run(run)))
    for (let first = heap.first; first; first = heap.first) {
      yield first.name
      heap.advance()
    }
  }

  #pack(): void {
    if (this.#pending.length === 0) return
    const run = packed(sortKeys(this.#pending))
    this.#runs.push(run)
    this.#runBytes += run.length
    this.#pending = []
    this.#pendingCharacters = 0
  }
}

function packed(names: readonly string[]): Buffer {
  return Buffer.from(`${names.join('\0')}\0`)
}

/** One run while it is read. */
class Run {
  /** The name that it stands at. */
  name = ''
  readonly #bytes: Buffer
  #offset = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
    this.next()
  }

  /** False at the end. */
  next(): boolean {
    const end = this.#bytes.indexOf(0, this.#offset)
    if (end < 0) return false
    this.name = this.#bytes.toString('utf8', this.#offset, end)
    this.#offset = end + 1
    return true
  }
}

/** Runs with the one of the least name on top. */
class Heap {
  readonly #runs: Run[]

  constructor(runs: Run[]) {
    this.#runs = runs.sort((a, b) => compareKeys(a.name, b.name))
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
    const runs = this.#runs
    const moving = runs[0]
    if (!moving) return
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      let least = runs[child]
      const other = runs[child + 1]
      if (!least) break
      if (other && compareKeys(other.name, least.name) < 0) [child, least] = [child + 1, other]
      if (compareKeys(moving.name, least.name) <= 0) break
      runs[at] = least
      at = child
    }
    runs[at] = moving
  }
}
