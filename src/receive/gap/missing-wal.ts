/**
 * WAL that the server no longer has: it is found out how much that is, other hosts are asked for it, and what they lack is
 * recorded as a gap.
 */
import { formatLsn, type Lsn, maxLsn, minLsn, segmentStart } from '../../postgres/lsn.ts'
import type { ReplicationServer } from '../../postgres/protocol/session.ts'
import { orAborted } from '../../primitives/wait.ts'
import { holesBetween } from '../source/archive-holes.ts'
import { oldestWal } from '../source/oldest-wal.ts'
import type { PreparedSource } from '../source/prepared-source.ts'
import { position, type StartPosition } from '../source/start-position.ts'
import { holeWindow as holeWindowOf } from '../segment/upload-queue.ts'
import type { GapRecorder } from './gap-recorder.ts'
import { GapRepair } from './gap-repair.ts'
import type { RepairMeans } from './repair-stream.ts'

/** What {@link MissingWal} needs. */
export interface MissingWalOptions extends RepairMeans {
  /** Every host, standbys included; undefined where there is only one. */
  readonly everyHost?: ReplicationServer | undefined
  readonly gaps: GapRecorder
}

/** See the file's header. Called between two runs only. */
export class MissingWal {
  readonly #options: MissingWalOptions
  /** End of what was received before a server lacked what follows, with no place known to go on at. */
  #brokenAt: Lsn | undefined

  constructor(options: MissingWalOptions) {
    this.#options = options
  }

  /** The server lacks what follows `lsn`; the lowest such position counts until WAL comes again. */
  brokeOffAt(lsn: Lsn): void {
    this.#brokenAt = minLsn(this.#brokenAt ?? lsn, lsn)
  }

  /** WAL comes again, or what was missing is filled. */
  isOver(): void {
    this.#brokenAt = undefined
  }

  /**
   * A run that broke off is to go on farther ahead. What lies between may have come from another receiver; where it did
   * not the archive has holes, which a look at its end alone does not show. What the server still has of them it sends.
   * Other hosts are asked for the WAL before that, and what they lack is recorded as a gap.
   * @param chosen where the next run is to begin
   * @returns where it begins: `chosen`, or another place
   * @throws the signal's reason, and what server and archive say
   */
  async fillBefore(source: PreparedSource, chosen: StartPosition, signal: AbortSignal): Promise<StartPosition> {
    const { archive, uploadConcurrency } = this.#options
    const { chain, segmentSize, serverEnd } = source
    const from = this.#brokenAt
    if (from === undefined || chosen.startLsn <= from) return chosen
    // Even the place that was chosen may be removed by now; the end of the server's WAL is not.
    const to = maxLsn(chosen.startLsn, segmentStart(serverEnd, segmentSize))
    const holeWindow = holeWindowOf(uploadConcurrency)
    const holes = await holesBetween({ chain, segmentSize, from, to, holeWindow }, archive, signal)
    const [first] = holes
    let start = chosen.startLsn
    if (first && first.startLsn < start) {
      const oldest = await this.#oldest(source, first.startLsn, to, signal)
      for (const { endLsn, startLsn } of holes.filter((hole) => hole.startLsn < oldest)) {
        const lostEnd = minLsn(endLsn, oldest)
        await this.#fill(source, startLsn, lostEnd, signal)
        this.#brokenAt = lostEnd
      }
      const next = holes.find((hole) => hole.endLsn > oldest)?.startLsn ?? start
      start = maxLsn(oldest, minLsn(segmentStart(next, segmentSize), start))
    }
    this.#brokenAt = undefined
    return start === chosen.startLsn ? chosen : position(source, start)
  }

  /** Has other hosts fill what lies between two positions, and records what they lack. */
  async #fill(source: PreparedSource, from: Lsn, to: Lsn, signal: AbortSignal): Promise<void> {
    const { everyHost, gaps } = this.#options
    const repair = everyHost && new GapRepair({ ...this.#options, server: everyHost }, source)
    const lost = repair ? await repair.fill(from, to, signal) : [{ startLsn: from, endLsn: to }]
    for (const { endLsn, startLsn } of lost) await gaps.record(source.chain, startLsn, endLsn, signal)
  }

  async #oldest(source: PreparedSource, from: Lsn, to: Lsn, signal: AbortSignal): Promise<Lsn> {
    const { requests, startLsn } = await orAborted(oldestWal(source, from, to), signal)
    const [asked, oldest] = [from, startLsn].map(formatLsn)
    this.#options.log.warn('WAL is gone from the server: found the oldest that it still has', {
      host: source.session.host,
      from: asked,
      oldest,
      requests,
    })
    return startLsn
  }
}
