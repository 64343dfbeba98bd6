/** WAL that the server no longer has: other hosts are asked for it, and what they lack is recorded as a gap. */
import { type Lsn, minLsn } from '../../postgres/lsn.ts'
import type { ReplicationServer } from '../../postgres/protocol/session.ts'
import { endOfHole } from '../source/start-position.ts'
import type { PreparedSource } from '../source/prepared-source.ts'
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

  /** The server lacks what follows `lsn`; the first such position counts until WAL comes again. */
  brokeOffAt(lsn: Lsn): void {
    this.#brokenAt ??= lsn
  }

  /** WAL comes again, or what was missing is filled. */
  isOver(): void {
    this.#brokenAt = undefined
  }

  /**
   * Has other hosts fill what lies between two positions, and records what they lack.
   * @param source the server that lacks it
   * @throws the signal's reason, and what the archive says
   */
  async fill(source: PreparedSource, from: Lsn, to: Lsn, signal: AbortSignal): Promise<void> {
    const { everyHost, gaps } = this.#options
    const repair = everyHost && new GapRepair({ ...this.#options, server: everyHost }, source)
    const reached = repair ? await repair.fill(from, to, signal) : from
    if (reached < to) await gaps.record(source.chain, reached, to, signal)
  }

  /**
   * A run that broke off goes on farther ahead: what lies between may have come from another receiver, and where it did
   * not the archive has a hole, which a look at its end alone does not show.
   * @param startLsn where the next run begins
   * @throws the signal's reason, and what the archive says
   */
  async fillBefore(source: PreparedSource, startLsn: Lsn, signal: AbortSignal): Promise<void> {
    const from = this.#brokenAt
    if (from === undefined || startLsn <= from) return
    const to = minLsn(await endOfHole(source, from, startLsn, this.#options.archive, signal), startLsn)
    if (to > from) await this.fill(source, from, to, signal)
    this.#brokenAt = undefined
  }
}
