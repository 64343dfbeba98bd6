/** What is logged about the jobs of a cluster: how runs end, and, once each, why one does not begin. */
import type { Logger } from '../../observe/log.ts'
import type { JobName } from '../configuration/shape.ts'
import type { EndedRun, PendingRun } from './job-record.ts'

/** See the file's header. */
export class JobLog {
  readonly #log: () => Logger
  /** Why jobs are held, as it was logged last. */
  readonly #held = new Map<JobName, string>()
  readonly #leftOut = new Set<JobName>()

  /** @param log the one in force */
  constructor(log: () => Logger) {
    this.#log = log
  }

  /** A run has begun. */
  started(job: JobName, { attempts, dueMs, mode }: PendingRun): void {
    this.#leftOut.delete(job)
    const log = this.#log().child({ job })
    log.info('job started', { due: new Date(dueMs).toISOString(), mode, attempt: attempts + 1 })
  }

  /** A run has ended, and perhaps is tried again. */
  ended(job: JobName, { endedMs, error, outcome, startedMs, status }: EndedRun, retry: PendingRun | undefined): void {
    const log = this.#log().child({ job })
    const facts = { durationMs: endedMs - startedMs, status }
    if (outcome === 'succeeded') log.info('job succeeded', facts)
    else if (outcome === 'stopped') log.warn('job stopped: it runs again later', facts)
    else if (!retry) log.error('job failed', { ...facts, error })
    else log.error('job failed, trying again', { ...facts, error, at: new Date(retry.notBeforeMs).toISOString() })
  }

  /** A job that is due does not begin for this reason; undefined where it may. */
  held(job: JobName, reason: string | undefined): void {
    if (reason === this.#held.get(job)) return
    if (reason === undefined) this.#held.delete(job)
    else {
      this.#held.set(job, reason)
      this.#log().warn('a job is due, and is held', { job, reason })
    }
  }

  /** A job is due while it runs: once for each run. */
  leftOut(job: JobName): void {
    if (this.#leftOut.has(job)) return
    this.#leftOut.add(job)
    this.#log().warn('a job is due again while it runs: such times are left out', { job })
  }
}
