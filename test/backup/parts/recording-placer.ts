/** Where a rewriter's entries go in a test: one tar, with every promise of the contract looked after. */
import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import type { EntryPlacer, EntryTarget } from '../../../src/backup/parts/entry-target.ts'

/** How a call answers: at once, after a microtask, or after a turn of the event loop. */
export type Wait = 0 | 1 | 2

/** See the file's header. */
export class RecordingPlacer implements EntryPlacer {
  /** What was placed, by name and bytes. */
  readonly placed: { readonly name: string | undefined; readonly bytes: number }[] = []
  readonly #pieces: Buffer[] = []
  readonly #waits: Iterator<Wait>
  #isBusy = false
  #bytesLeft = 0

  /** @param waits what each call does, in turn; at once where they have run out */
  constructor(waits: Iterator<Wait> = [][Symbol.iterator]()) {
    this.#waits = waits
  }

  /** Everything that was appended. */
  get tar(): Buffer {
    this.#assertWhole()
    return Buffer.concat(this.#pieces)
  }

  place(name: string | undefined, bytes: number): EntryTarget | Promise<EntryTarget> {
    this.#assertWhole()
    this.placed.push({ name, bytes })
    this.#bytesLeft = bytes
    let isOver = false
    const target: EntryTarget = {
      append: (piece) => {
        assert.equal(isOver, false)
        assert.equal(this.#isBusy, false, 'appended while the target was busy')
        assert.ok(piece.length > 0 && piece.length <= this.#bytesLeft, `${piece.length} of ${this.#bytesLeft} bytes`)
        this.#bytesLeft -= piece.length
        isOver = this.#bytesLeft === 0
        this.#pieces.push(Buffer.from(piece))
        return this.#wait(undefined)
      },
    }
    return this.#wait(target) ?? target
  }

  #assertWhole(): void {
    assert.equal(this.#isBusy, false, 'asked while busy')
    assert.equal(this.#bytesLeft, 0, `${this.#bytesLeft} bytes of ${this.placed.at(-1)?.name} did not come`)
  }

  #wait<T>(value: T): Promise<T> | undefined {
    const wait = this.#waits.next().value as Wait | undefined
    if (!wait) return undefined
    this.#isBusy = true
    const done = () => {
      this.#isBusy = false
      return value
    }
    return wait === 1 ? Promise.resolve().then(done) : setImmediate().then(done)
  }
}
