/** When WAL arrived, to show how old the oldest is that is not durable: the RPO in seconds, as far as we have seen. */
import type { Lsn } from '../../postgres/lsn.ts'
import type { Clock } from '../../primitives/clock.ts'

/** Marks are at least this far apart, and farther where there are many. */
const markMs = 50
/** Marks that are kept: beyond that every two become one, so that hours of outage cost no more than seconds. */
const marksMax = 1024

/** See the file's header. */
export class ArrivalTimes {
  readonly #clock: Clock
  /** WAL up to `lsn` had arrived by `ms`, what comes after a mark arrived later. */
  #marks: { lsn: Lsn; readonly ms: number }[] = []
  /** What comes within this time belongs to the mark before. */
  #spacingMs = markMs

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** WAL up to `received` has arrived now. */
  note(received: Lsn): void {
    const now = this.#clock.now()
    const last = this.#marks.at(-1)
    if (last && received <= last.lsn) return
    // Marked with the time of the first byte after the mark before: too old rather than too young.
    if (last && now - last.ms < this.#spacingMs) last.lsn = received
    else this.#marks.push({ lsn: received, ms: now })
    if (this.#marks.length <= marksMax) return
    this.#marks = this.#halved()
    this.#spacingMs *= 2
  }

  /** Of each two the later position and the earlier time: too old rather than too young. */
  #halved(): { lsn: Lsn; ms: number }[] {
    const first = this.#marks.filter((_, index) => index % 2 === 0)
    return first.map(({ lsn, ms }, index) => ({ lsn: this.#marks[2 * index + 1]?.lsn ?? lsn, ms }))
  }

  /** Milliseconds since the oldest byte after `durable` arrived; 0 when all is durable. */
  age(durable: Lsn): number {
    this.#marks = this.#marks.filter(({ lsn }) => lsn > durable)
    if (this.#marks.length < marksMax / 4) this.#spacingMs = markMs
    const oldest = this.#marks[0]
    return oldest ? Math.max(0, this.#clock.now() - oldest.ms) : 0
  }

  /** Forgets all: another run begins. */
  clear(): void {
    this.#marks = []
    this.#spacingMs = markMs
  }
}
