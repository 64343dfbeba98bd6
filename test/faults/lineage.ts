/**
 * The timelines of a cluster as one side of it knows them. Two servers that were promoted apart give the same number to
 * different timelines: then each has a lineage of its own.
 */
import { formatLsn, type Lsn, type Timeline } from '../../src/postgres/lsn.ts'
import { TimelineChain } from '../../src/postgres/wal/timeline-chain.ts'
import type { HistoryEntry } from '../../src/postgres/wal/wal-file.ts'
import { fork, timelineOne, type TimelineWal } from './recorded-wal.ts'

/** See the file's header. */
export class Lineage {
  readonly #wal: Map<Timeline, TimelineWal>
  readonly #histories: Map<Timeline, readonly HistoryEntry[]>
  readonly #chains = new Map<Timeline, TimelineChain>()
  /** What its timelines write differs by this from what others of the same number do. */
  readonly #flavour: number

  /** @param parent what it has in common with another one, up to now */
  constructor(parent?: Lineage) {
    this.#wal = new Map(parent ? parent.#wal : [[1, timelineOne]])
    this.#histories = new Map(parent ? parent.#histories : [[1, []]])
    this.#flavour = parent ? parent.#flavour + 101 : 0
  }

  /** Every timeline. */
  get timelines(): readonly Timeline[] {
    return [...this.#wal.keys()]
  }

  /** A new timeline leaves `old` at `switchpoint`. */
  fork(old: Timeline, timeline: Timeline, switchpoint: Lsn): void {
    this.#chains.clear()
    this.#wal.set(timeline, fork(this.#wal.get(old) as TimelineWal, timeline, switchpoint, this.#flavour))
    this.#histories.set(timeline, [...(this.#histories.get(old) ?? []), { timeline: old, switchpoint }])
  }

  /** The chain that ends in a timeline. */
  chain(timeline: Timeline): TimelineChain {
    const known = this.#chains.get(timeline)
    if (known) return known
    const chain = new TimelineChain(timeline, this.#histories.get(timeline) ?? [])
    this.#chains.set(timeline, chain)
    return chain
  }

  /** WAL bytes of a timeline between two positions; undefined for a timeline that is not its own. */
  wal(timeline: Timeline, start: Lsn, end: Lsn): Buffer | undefined {
    return this.#wal.get(timeline)?.slice(start, end)
  }

  /** Content of a timeline's history file; undefined for the first one, and for those that are not its own. */
  history(timeline: Timeline): Buffer | undefined {
    const entries = this.#histories.get(timeline)
    if (timeline === 1 || !entries) return undefined
    const lines = entries.map(
      (entry) => `${entry.timeline}\t${formatLsn(entry.switchpoint)}\tno recovery target specified\n`,
    )
    return Buffer.from(lines.join('\n'))
  }
}
