/**
 * Chunks that could not be stored, and that nobody tries again: the WAL in them is a hole in the tail until a larger
 * chunk or the whole segment is durable.
 */
import type { Lsn } from '../../postgres/lsn.ts'
import type { WalrxError } from '../../primitives/errors.ts'

/** The bytes `[from, to)` of the segment that begins at `startLsn`. */
export interface TailHole {
  readonly startLsn: Lsn
  readonly from: number
  readonly to: number
  /** Why the chunk could not be stored. */
  readonly failure: WalrxError
}

/** See the file's header. */
export class TailHoles {
  #holes: TailHole[] = []

  /** True where nothing is missing. */
  get isEmpty(): boolean {
    return this.#holes.length === 0
  }

  /** A chunk will not come. */
  add(hole: TailHole): void {
    this.#holes.push(hole)
  }

  /** Why a chunk of the segment that begins at `startLsn` is missing; undefined where none is. */
  failureIn(startLsn: Lsn): WalrxError | undefined {
    return this.#holes.find((hole) => hole.startLsn === startLsn)?.failure
  }

  /**
   * The bytes `[from, to)` of the segment that begins at `startLsn` have become durable.
   * @returns true when there is a hole less
   */
  fill(startLsn: Lsn, from: number, to: number): boolean {
    const before = this.#holes.length
    this.#holes = this.#holes.filter((hole) => hole.startLsn !== startLsn || hole.from < from || hole.to > to)
    return this.#holes.length < before
  }

  /** Another run begins. */
  clear(): void {
    this.#holes = []
  }
}
