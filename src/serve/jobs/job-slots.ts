/** The places for jobs of all clusters: the one that has waited longest is next. */

/** See the file's header. */
export class JobSlots {
  #max: number
  #taken = 0
  #waiting: (() => void)[] = []

  /** @param max places */
  constructor(max: number) {
    this.#max = max
  }

  /** Places that are taken. */
  get taken(): number {
    return this.#taken
  }

  /** Changes the number of places. Jobs that run go on. */
  resize(max: number): void {
    this.#max = max
    this.#letIn()
  }

  /**
   * Waits for a place.
   * @returns gives it back; to be called once
   * @throws the signal's reason
   */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    if (this.#taken < this.#max && this.#waiting.length === 0) this.#taken++
    else await this.#turn(signal)
    let isBack = false
    return () => {
      if (isBack) return
      isBack = true
      this.#taken--
      this.#letIn()
    }
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const enter = () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
      const onAbort = () => {
        this.#waiting = this.#waiting.filter((each) => each !== enter)
        reject(signal.reason as Error)
      }
      this.#waiting.push(enter)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  #letIn(): void {
    while (this.#taken < this.#max) {
      const next = this.#waiting.shift()
      if (!next) return
      this.#taken++
      next()
    }
  }
}
