/**
 * Notices WAL that was written with wal_level=minimal: no recovery passes the record with which it begins. It is recorded
 * before the segment with that record is stored, so that nothing archived looks recoverable that is not.
 *
 * A server writes that record when it starts, and a start ends every connection. So only WAL that is older than the
 * connection to a primary is searched; in a stream that runs nothing is. A standby's stream lives on when its primary is
 * started again: there every segment is searched.
 */
import { addBytes, type Lsn, maxLsn } from '../../postgres/lsn.ts'
import { ParameterChangeFinder } from '../../postgres/wal/parameter-change.ts'
import { orAborted } from '../../primitives/wait.ts'
import type { PassingSegment, SegmentArchiverOptions, SegmentObserver } from '../../walg/wal/segment-archiver.ts'
import type { PreparedSource } from '../source/prepared-source.ts'
import type { GapRecorder } from './gap-recorder.ts'

/** See the file's header. */
export class WalLevelWatch {
  readonly #gaps: Pick<GapRecorder, 'recordBreak'>
  readonly #finder = new ParameterChangeFinder()
  readonly #stopped = new AbortController()
  /** WAL before it is searched; undefined for all. */
  #until: Lsn | undefined
  /** Settles when everything that was found is recorded. */
  #recorded: Promise<void> = Promise.resolve()

  constructor(gaps: Pick<GapRecorder, 'recordBreak'>) {
    this.#gaps = gaps
  }

  /** A connection was made: what the server has written before may hold a start of it. */
  connected({ serverEnd, session }: Pick<PreparedSource, 'serverEnd' | 'session'>): void {
    this.#until = session.inRecovery ? undefined : maxLsn(this.#until ?? serverEnd, serverEnd)
  }

  /**
   * What an archiver of segments needs to be watched.
   * @param next looks at every segment afterwards
   */
  observers(next: SegmentObserver | undefined): Pick<SegmentArchiverOptions, 'beforeStore' | 'onSegment'> {
    return {
      onSegment: (segment) => {
        this.#look(segment)
        next?.(segment)
      },
      beforeStore: (options) => this.#settled(options?.signal),
    }
  }

  #look({ bytes, startLsn, timeline }: PassingSegment): void {
    if (this.#until !== undefined && startLsn >= this.#until) return
    for (const { lsn, walLevel } of this.#finder.find(bytes, startLsn)) {
      if (walLevel !== 0) continue
      const before = this.#recorded
      const range = { timeline, startLsn: lsn, endLsn: addBytes(lsn, 1) }
      this.#recorded = before.then(() => this.#gaps.recordBreak(range, this.#stopped.signal))
      // What stores a segment sees the failure.
      this.#recorded.catch(() => {})
    }
  }

  /** Resolves when everything that was found so far is recorded. */
  #settled(signal: AbortSignal | undefined): Promise<void> {
    return signal ? orAborted(this.#recorded, signal) : this.#recorded
  }

  /** Gives up what is not recorded yet. */
  destroy(): void {
    this.#stopped.abort()
  }
}
