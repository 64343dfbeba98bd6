/**
 * The jobs of one cluster: never two at a time, each when its schedule says, once for all times that were missed. What
 * fails in a way that may pass is tried again; what a stop interrupts runs again after the start.
 */
import type { ServedMetrics } from '../../observe/cluster-metrics.ts'
import type { Logger } from '../../observe/log.ts'
import type { Clock, Timer } from '../../primitives/clock.ts'
import { toWalrxError } from '../../primitives/errors.ts'
import { orAborted } from '../../primitives/wait.ts'
import type { CommandCall, JobPlan } from '../configuration/cluster-plan.ts'
import { type JobName, jobNames } from '../configuration/shape.ts'
import { lookAtSchedules, nextRun } from './due-runs.ts'
import { type JobEnd, runJobProcess } from './job-process.ts'
import { type EndedRun, type JobRecord, newRecord, type PendingRun } from './job-record.ts'
import { JobLog } from './job-log.ts'
import { afterFailure, again, callFor, interrupted, mayPass, withDue } from './job-rules.ts'
import type { JobSlots } from './job-slots.ts'
import type { JobRecords, JobState } from './job-state.ts'
import { processStart, waitForLeft } from './left-process.ts'

/** Program, arguments and environment of a call. */
export interface Launch {
  readonly command: readonly [string, ...string[]]
  readonly environment: Readonly<Record<string, string | undefined>>
}

/** What {@link ClusterJobs} needs. */
export interface ClusterJobsOptions {
  readonly cluster: string
  readonly jobs: readonly JobPlan[]
  readonly secrets: readonly string[]
  readonly state: JobState
  readonly slots: JobSlots
  readonly launch: (call: CommandCall) => Launch
  /** Priority of the processes, asked for each. */
  readonly nice: () => number
  readonly clock: Clock
  /** Random number in [0, 1), for the waits between attempts. */
  readonly random: () => number
  readonly log: Logger
  /** Ends when no job of an earlier walrx runs any more: none begins before. */
  readonly earlier?: Promise<void>
  /** Why a job may not begin now; default none. {@link ClusterJobs.wake} when that has changed. */
  readonly holdOf?: (job: JobName) => string | undefined
  readonly metrics: Pick<ServedMetrics, 'jobRuns'>
}

/** A job as it is now, in plain values. */
export interface JobSnapshot {
  readonly job: JobName
  readonly state: 'idle' | 'waiting' | 'running'
  readonly schedules: readonly string[]
  /** Why it does not begin although it is due. */
  readonly held?: string | undefined
  /** Milliseconds since 1970; undefined for never. */
  readonly nextMs: number | undefined
  readonly record: JobRecord
}

/** A look at the clock at least so often: it may be set, and machines sleep. */
const lookMsMax = 60_000

/** See the file's header. */
export class ClusterJobs {
  readonly #options: ClusterJobsOptions
  #jobs: readonly JobPlan[]
  #secrets: readonly string[]
  #log: Logger
  #records: JobRecords = {}
  #opened: Promise<void> | undefined
  #isOpen = false
  #running: Promise<void> | undefined
  #timer: Timer | undefined
  readonly #stop = new AbortController()
  #suspended = new AbortController()
  readonly #report = new JobLog(() => this.#log)
  #waiters: { readonly job: JobName; readonly resolve: (status: number | undefined) => void }[] = []

  constructor(options: ClusterJobsOptions) {
    this.#options = options
    this.#jobs = options.jobs
    this.#secrets = options.secrets
    this.#log = options.log
  }

  /** Reads what was due before, waits for what still runs, and begins. Never throws. */
  open(): Promise<void> {
    this.#opened ??= this.#open().catch((error: unknown) => {
      this.#log.error('no job of the cluster will run', { error: toWalrxError(error) })
    })
    return this.#opened
  }

  /** Takes other schedules and settings. What runs goes on as it was begun. */
  update(jobs: readonly JobPlan[], secrets: readonly string[], log: Logger): void {
    this.#jobs = jobs
    this.#secrets = secrets
    this.#log = log
    for (const [name, record] of Object.entries(this.#records) as [JobName, JobRecord][]) {
      const isKept = jobs.some((job) => job.name === name)
      if (!isKept && record.pending) this.#set(name, { ...record, pending: undefined })
    }
    this.#tick()
  }

  /**
   * Runs a job as soon as it can.
   * @returns the exit status; undefined where a signal ended it, or the job is no longer configured
   * @throws the signal's reason; the run goes on then
   */
  async ask(job: JobName, signal: AbortSignal): Promise<number | undefined> {
    // What was due before belongs to the same record.
    await orAborted(this.open(), signal)
    const { promise, resolve } = Promise.withResolvers<number | undefined>()
    const waiter = { job, resolve }
    this.#waiters.push(waiter)
    const nowMs = this.#options.clock.now()
    const record = this.#records[job] ?? newRecord
    this.#set(job, { ...record, pending: withDue(record.pending, { name: 'asked', dueMs: nowMs }, nowMs) })
    this.#tick()
    try {
      return await orAborted(promise, signal)
    } finally {
      this.#waiters = this.#waiters.filter((each) => each !== waiter)
    }
  }

  /** The jobs as they are now. */
  snapshot(): JobSnapshot[] {
    const nowMs = this.#options.clock.now()
    return this.#jobs.map((plan) => {
      const record = this.#records[plan.name] ?? newRecord
      return {
        job: plan.name,
        state: record.running ? 'running' : record.pending ? 'waiting' : 'idle',
        schedules: plan.triggers.map(({ name, text }) => (name === 'schedule' ? text : `${name}: ${text}`)),
        nextMs: nextRun(plan, record, nowMs, this.#what(plan.name))?.atMs,
        held: record.pending && !record.running ? this.#holdOf(plan.name) : undefined,
        record,
      }
    })
  }

  /** Ends the job under way, which runs again, and begins no other until {@link ClusterJobs.resume}. */
  async suspend(): Promise<void> {
    this.#suspended.abort()
    await this.#running
  }

  /** See {@link ClusterJobs.suspend}. */
  resume(): void {
    this.#suspended = new AbortController()
    this.#tick()
  }

  /** Looks again at what is due: a job that was held may begin now. */
  wake(): void {
    this.#tick()
  }

  /** Ends the job under way, which cleans up, and begins no other. */
  async close(): Promise<void> {
    this.#stop.abort()
    this.#timer?.cancel()
    await this.#opened
    await this.#running
    for (const { resolve } of this.#waiters) resolve(undefined)
    await this.#options.state.write(this.#records)
  }

  async #open(): Promise<void> {
    const { clock, earlier, state } = this.#options
    if (earlier) await orAborted(earlier, this.#stop.signal).catch(() => {})
    try {
      this.#records = await state.read()
    } catch (error) {
      this.#log.error('the state of the jobs cannot be read: nothing counts as missed', { error: toWalrxError(error) })
    }
    for (const [job, record] of Object.entries(this.#records) as [JobName, JobRecord][]) {
      if (record.running) await this.#takeOver(job, record).catch(() => {})
    }
    this.#isOpen = !this.#stop.signal.aborted
    for (const { name } of this.#jobs) {
      const { pending } = this.#records[name] ?? newRecord
      if (pending)
        this.#log.info('a job was due before the start', { job: name, due: new Date(pending.dueMs).toISOString() })
    }
    this.#records = Object.fromEntries(
      (Object.entries(this.#records) as [JobName, JobRecord][]).map(([name, record]) => [
        name,
        { ...record, pending: record.pending && { ...record.pending, notBeforeMs: clock.now() } },
      ]),
    )
    this.#tick()
  }

  /** A run that was under way when an earlier walrx ended: it is waited for, and runs again. */
  async #takeOver(job: JobName, record: JobRecord): Promise<void> {
    const { clock } = this.#options
    const { running } = record
    if (!running) return
    if (running.pid !== undefined) {
      const left = { pid: running.pid, started: running.processStart }
      await waitForLeft(left, { clock, log: this.#log.child({ job }), signal: this.#stop.signal })
    }
    this.#set(job, interrupted(record, running, clock.now()))
    this.#log.warn('a job was interrupted when walrx ended: it runs again', { job })
  }

  #what(job: JobName): string {
    return `${this.#options.cluster}/${job}`
  }

  #set(job: JobName, record: JobRecord): void {
    this.#records = { ...this.#records, [job]: record }
  }

  /** Looks at the schedules, begins what is due, and comes back when something else is. */
  #tick(): void {
    this.#timer?.cancel()
    if (!this.#isOpen || this.#stop.signal.aborted) return
    const { clock, state } = this.#options
    const before = this.#records
    for (const plan of this.#jobs) this.#look(plan, clock.now())
    for (const { name } of this.#jobs) this.#report.held(name, this.#records[name]?.pending && this.#holdOf(name))
    if (before !== this.#records) void state.write(this.#records)
    if (!this.#running && this.#nextPending()) {
      this.#running = this.#runNext().finally(() => {
        this.#running = undefined
        this.#tick()
      })
    }
    this.#timer = clock.setTimer(this.#waitMs(), () => this.#tick())
  }

  #look(plan: JobPlan, nowMs: number): void {
    const { name } = plan
    const old = this.#records[name] ?? newRecord
    const look = lookAtSchedules(plan, old, nowMs, this.#what(name))
    let { pending } = old
    for (const due of look.due) {
      const mode = old.running?.mode
      if (mode === due.name || mode === 'full') {
        this.#report.leftOut(name)
      } else pending = withDue(pending, due, nowMs)
    }
    const record = { ...look.record, pending }
    if (JSON.stringify(record) !== JSON.stringify(old)) this.#set(name, record)
  }

  #holdOf(job: JobName): string | undefined {
    return this.#suspended.signal.aborted ? 'the settings of the cluster change' : this.#options.holdOf?.(job)
  }

  #waitMs(): number {
    const nowMs = this.#options.clock.now()
    const times = this.#jobs.flatMap((plan) => {
      const record = this.#records[plan.name] ?? newRecord
      const { pending } = record
      const due = nextRun(plan, record, nowMs, this.#what(plan.name))?.atMs
      return [
        ...(due === undefined ? [] : [due]),
        ...(pending && !this.#running && this.#holdOf(plan.name) === undefined ? [pending.notBeforeMs] : []),
      ]
    })
    return Math.min(lookMsMax, Math.max(10, Math.min(...times, nowMs + lookMsMax) - nowMs))
  }

  /** The pending run that is next, of those that may begin. */
  #nextPending(): { readonly plan: JobPlan; readonly pending: PendingRun } | undefined {
    const nowMs = this.#options.clock.now()
    const ready = this.#jobs.flatMap((plan) => {
      const pending = this.#records[plan.name]?.pending
      return pending && pending.notBeforeMs <= nowMs && this.#holdOf(plan.name) === undefined ? [{ plan, pending }] : []
    })
    const rank = ({ plan }: { readonly plan: JobPlan }) => jobNames.indexOf(plan.name)
    return ready.sort((a, b) => a.pending.dueMs - b.pending.dueMs || rank(a) - rank(b))[0]
  }

  #runSignal(): AbortSignal {
    return AbortSignal.any([this.#stop.signal, this.#suspended.signal])
  }

  async #runNext(): Promise<void> {
    let giveBack: () => void
    try {
      giveBack = await this.#options.slots.take(this.#runSignal())
    } catch {
      return
    }
    try {
      // Meanwhile the configuration may have changed.
      const next = this.#nextPending()
      if (next && !this.#stop.signal.aborted) await this.#run(next.plan, next.pending)
    } finally {
      giveBack()
    }
  }

  async #run(plan: JobPlan, pending: PendingRun): Promise<void> {
    const { clock, launch, nice, state } = this.#options
    const { name } = plan
    const startedMs = clock.now()
    const { attempts, dueMs, mode } = pending
    const running = { mode, dueMs, startedMs, attempts, pid: undefined, processStart: undefined }
    this.#set(name, { ...(this.#records[name] ?? newRecord), pending: undefined, running })
    // Before the process: whatever happens from here on, the run is not forgotten.
    await state.write(this.#records)
    this.#report.started(name, pending)
    const end = await runJobProcess({
      ...launch(callFor(plan.call, mode)),
      nice: nice(),
      timeoutMs: plan.timeoutMs,
      clock,
      log: this.#log.child({ job: name }),
      secrets: this.#secrets,
      onStarted: (pid) => void this.#noteProcess(name, pid),
      signal: this.#runSignal(),
    })
    await this.#ended(name, { mode, dueMs, attempts, notBeforeMs: 0 }, startedMs, end)
  }

  async #noteProcess(job: JobName, pid: number): Promise<void> {
    const started = await processStart(pid)
    const record = this.#records[job]
    if (!record?.running) return
    this.#set(job, { ...record, running: { ...record.running, pid, processStart: started } })
    await this.#options.state.write(this.#records)
  }

  async #ended(job: JobName, run: PendingRun, startedMs: number, end: JobEnd): Promise<void> {
    const { clock, metrics, random, state } = this.#options
    const endedMs = clock.now()
    const outcome = end.status === 0 ? 'succeeded' : end.isStopped ? 'stopped' : 'failed'
    const { error, status } = end
    const record = this.#records[job] ?? newRecord
    const last: EndedRun = { mode: run.mode, startedMs, endedMs, outcome, status, error }
    let { pending } = record
    if (outcome === 'stopped') pending ??= again(run, endedMs)
    const isRetried = outcome === 'failed' && mayPass(status, end.code) && run.mode !== 'asked' && !pending
    if (isRetried) pending = afterFailure(run, endedMs, random)
    const lastSuccessMs = outcome === 'succeeded' ? endedMs : record.lastSuccessMs
    this.#set(job, { ...record, running: undefined, pending, last, lastSuccessMs })
    metrics.jobRuns.inc(1, { job, outcome })
    this.#report.ended(job, last, isRetried ? pending : undefined)
    await state.write(this.#records)
    for (const waiter of this.#waiters.filter((each) => each.job === job)) waiter.resolve(status)
  }
}
