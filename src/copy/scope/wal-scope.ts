/** Which WAL a copy takes: all of an archive, or the segments of a window on every timeline, as ranges of keys. */
import type { Timeline } from '../../postgres/lsn.ts'
import { parseSegmentName, segmentName } from '../../postgres/wal/wal-file.ts'
import { asideFolder, divergedFolder, gapFolder, walFolder } from '../../walg/names.ts'
import type { KeyRange } from '../compare/merged-listing.ts'
import type { WalRuns } from './wal-runs.ts'

/** Numbers of segments, both included; without `last` all from the first on. */
export interface SegnoInterval {
  readonly first: bigint
  readonly last: bigint | undefined
}

/** A window of WAL. */
export interface WalWindow {
  /** Bytes of one segment. */
  readonly segmentSize: number
  /** First segment of the window, on every timeline. */
  readonly first: bigint
  /** Last segment by timeline; undefined: there is no end. A timeline that is not in it has nothing in the window. */
  readonly lastOf: ((timeline: Timeline) => bigint | undefined | 'none') | undefined
  /** What backups from before the window need. */
  readonly more: readonly SegnoInterval[]
}

/** Segments that one map of changed blocks, or one object of metadata, of WAL-G's is for. */
const groupSize = 16n

/** So many holes of a timeline are looked at one by one. */
const holesMax = 20

/** See the file's header. */
export class WalScope {
  readonly #window: WalWindow | undefined

  /** @param window undefined: everything */
  constructor(window: WalWindow | undefined) {
    this.#window = window
  }

  /** True for the whole archive. */
  get isWhole(): boolean {
    return this.#window === undefined
  }

  /** True where WAL that comes later belongs to it. */
  get isOpen(): boolean {
    return this.#window === undefined || this.#window.lastOf === undefined
  }

  /** What it takes of a timeline, in order, without overlaps; undefined: all of it. */
  intervalsOf(timeline: Timeline): SegnoInterval[] | undefined {
    const window = this.#window
    if (!window) return undefined
    const last = window.lastOf?.(timeline)
    const own = last === 'none' ? [] : [{ first: window.first, last }]
    const sorted = [...window.more, ...own].sort((a, b) => (a.first < b.first ? -1 : 1))
    const merged: { first: bigint; last: bigint | undefined }[] = []
    for (const { first, last: end } of sorted) {
      const before = merged.at(-1)
      if (!before || (before.last !== undefined && first > before.last + 1n)) merged.push({ first, last: end })
      else if (before.last !== undefined && (end === undefined || end > before.last)) before.last = end
    }
    return merged
  }

  /** True for an object that has a segment in its name, if it is of that segment or of its group. */
  has(name: string): boolean {
    const window = this.#window
    if (!window) return true
    const [digits = ''] = /^[0-9A-F]{23,24}/.exec(name) ?? []
    const id = parseSegmentName(digits.padEnd(24, '0'), window.segmentSize)
    if (!id) return false
    const isGroup = digits.length === 23 || name.startsWith('_delta', digits.length)
    const end = isGroup ? id.segno + groupSize - 1n : id.segno
    return (this.intervalsOf(id.timeline) ?? []).some(
      ({ first, last }) => end >= first && (last === undefined || id.segno <= last),
    )
  }

  /**
   * The ranges of keys of WAL files.
   * @param timelines those that the source has
   */
  walRanges(timelines: readonly Timeline[]): KeyRange[] {
    const window = this.#window
    if (!window) return [{ prefix: walFolder }]
    return timelines.flatMap((timeline) => {
      const prefix = walFolder + hex8(timeline)
      const histories = { prefix: `${prefix}.history` }
      const segments = (this.intervalsOf(timeline) ?? []).map((interval) => ({
        prefix,
        ...keysOf(interval, timeline, window.segmentSize),
        has: (key: string) => this.has(key.slice(walFolder.length)),
      }))
      return [histories, ...segments]
    })
  }

  /**
   * The ranges of what may have come since: histories, what a hole lacks, what lies before the first segment or after the last
   * one. Segments are uploaded several at a time, so that one before the last that is known may come after it.
   * @param runs the segments that are known
   */
  newWalRanges(timelines: readonly Timeline[], runs: WalRuns, segmentSize: number): KeyRange[] {
    return timelines.flatMap((timeline) => {
      const prefix = walFolder + hex8(timeline)
      const has = (key: string) => this.isWhole || this.has(key.slice(walFolder.length))
      const at = (segno: bigint) => walFolder + segmentName(timeline, segno, segmentSize)
      const intervals = this.intervalsOf(timeline)
      const histories = { prefix: `${prefix}.history` }
      if (intervals?.length === 0) return [histories]
      const begin = intervals?.[0]?.first ?? 0n
      const end = intervals?.at(-1)?.last
      const lower = begin > 0n ? { after: at(begin - 1n) } : {}
      const upper = end === undefined ? {} : { until: at(end + 1n) }
      const first = runs.byTimeline.get(timeline)?.[0]?.first
      const last = runs.lastOf(timeline)
      if (first === undefined || last === undefined) return [histories, { prefix, has, ...lower, ...upper }]
      const holes = runs.holesOf(timeline, intervals)
      const [oldest] = holes
      const before = { prefix, has, ...lower, until: at(first) }
      const rest = { prefix, has, ...upper }
      // Each range is a listing of both sides; where there are many, one listing of all that follows is cheaper.
      if (oldest && holes.length > holesMax) return [histories, before, { ...rest, after: at(oldest.first - 1n) }]
      const filled = holes.map((hole) => ({ prefix, has, after: at(hole.first - 1n), until: at(hole.last + 1n) }))
      return [histories, before, ...filled, { ...rest, after: at(last) }]
    })
  }

  /** The ranges of walrx's own objects, but tails and what belongs to work that is under way. */
  ownRanges(): KeyRange[] {
    const diverged = { prefix: divergedFolder, has: (key: string) => this.has(key.slice(divergedFolder.length)) }
    return [{ prefix: gapFolder }, diverged, ...(this.isWhole ? [{ prefix: asideFolder }] : [])]
  }
}

/** From a group before the first segment on: its name begins with that of the group. {@link WalScope.has} leaves out the rest. */
function keysOf(
  { first, last }: SegnoInterval,
  timeline: Timeline,
  segmentSize: number,
): Pick<KeyRange, 'after' | 'until'> {
  const after = first < groupSize ? {} : { after: walFolder + segmentName(timeline, first - groupSize, segmentSize) }
  // '~' sorts after everything that follows a name.
  return last === undefined ? after : { ...after, until: `${walFolder}${segmentName(timeline, last, segmentSize)}~` }
}

function hex8(timeline: Timeline): string {
  return timeline.toString(16).toUpperCase().padStart(8, '0')
}
