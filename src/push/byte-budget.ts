/** A bound on the bytes that segments under way hold: who wants more waits for others to be done. */

/** Bytes that were granted. */
export interface Lease {
  /** Gives back all but so many. */
  shrink(bytes: number): void
  /** Gives back the rest. May be called twice. */
  release(): void
}

interface Waiter {
  readonly bytes: number
  readonly grant: () => void
}

/** See the file's header. */
export class ByteBudget {
  readonly #takersMin: number
  #bytesMax: number
  #used = 0
  #waiting: Waiter[] = []

  /** @param takersMin so many of the largest that was asked for always fit, whatever `bytesMax` is */
  constructor(bytesMax: number, takersMin = 1) {
    this.#bytesMax = bytesMax
    this.#takersMin = takersMin
  }

  /** Bytes that are granted now. */
  get used(): number {
    return this.#used
  }

  /**
   * Waits for so many bytes, in the order of the calls.
   * @param isFirst true goes before all that wait
   */
  async take(bytes: number, isFirst = false): Promise<Lease> {
    this.#bytesMax = Math.max(this.#bytesMax, this.#takersMin * bytes)
    if (this.#waiting.length > 0 || !this.#fits(bytes)) {
      await new Promise<void>((grant) => {
        const waiter = { bytes, grant }
        if (isFirst) this.#waiting.unshift(waiter)
        else this.#waiting.push(waiter)
        this.#wake()
      })
    } else this.#used += bytes
    let held = bytes
    const shrink = (to: number) => {
      if (to >= held) return
      this.#used -= held - to
      held = to
      this.#wake()
    }
    return { shrink, release: () => shrink(0) }
  }

  #fits(bytes: number): boolean {
    return this.#used + bytes <= this.#bytesMax
  }

  #wake(): void {
    for (let next = this.#waiting[0]; next && this.#fits(next.bytes); next = this.#waiting[0]) {
      this.#waiting.shift()
      this.#used += next.bytes
      next.grant()
    }
  }
}
