/**
 * All clusters of one process: each with its service and its jobs, and nothing in common but the memory budget, the places
 * for jobs, and the pages that show them.
 */
import { optionTable } from '../config/options/options.ts'
import type { ServedMetrics } from '../observe/cluster-metrics.ts'
import type { Logger } from '../observe/log.ts'
import type { MetricsPage } from '../observe/metrics-page.ts'
import type { Clock, Timer } from '../primitives/clock.ts'
import type { WalrxError } from '../primitives/errors.ts'
import { orAborted } from '../primitives/wait.ts'
import type { ArchiveService } from '../service/archive-service.ts'
import type { GapBackupSettings, ServiceSettings } from '../service/service-settings.ts'
import { ClusterService, type ServiceSnapshot } from './cluster-service.ts'
import type { ClusterPlan, CommandCall } from './configuration/cluster-plan.ts'
import type { Configuration } from './configuration/read-configuration.ts'
import { ClusterJobs, type JobSnapshot, type Launch } from './jobs/cluster-jobs.ts'
import { jobEffects } from './jobs/job-rules.ts'
import { JobSlots } from './jobs/job-slots.ts'
import { JobState } from './jobs/job-state.ts'
import { markOf, waitForMarked } from './jobs/left-process.ts'

/** What the service of a cluster gets from its fleet. */
export interface ServiceParts {
  readonly memoryBytes: number
  readonly log: Logger
  readonly metrics: MetricsPage
  /** For a cluster that takes a base backup after a gap. */
  readonly gapBackup: GapBackupSettings
}

/** What {@link Fleet} needs. */
export interface FleetOptions {
  readonly clock: Clock
  /** Random number in [0, 1), for waits. */
  readonly random: () => number
  readonly log: Logger
  readonly metrics: MetricsPage
  readonly serviceSettings: (plan: ClusterPlan, parts: ServiceParts) => Promise<ServiceSettings>
  /** How a call of walrx is made. */
  readonly launch: (call: CommandCall) => Launch
  /** Opens a service; default that of ArchiveService. */
  readonly openService?: typeof ArchiveService.open
}

/** A cluster as it is now, in plain values. */
export interface ClusterSnapshot {
  readonly name: string
  readonly memoryBytes: number
  readonly service: ServiceSnapshot
  readonly jobs: readonly JobSnapshot[]
}

/** All of them as they are now, in plain values. */
export interface FleetSnapshot {
  readonly memoryBytes: number
  readonly jobsMax: number
  readonly jobsRunning: number
  readonly clusters: readonly ClusterSnapshot[]
}

/** Memory that was not used for so long goes back to the system. */
const trimMs = 30_000

interface Cluster {
  plan: ClusterPlan
  service: ClusterService
  readonly jobs: ClusterJobs
  readonly metrics: ServedMetrics
}

/** See the file's header. */
export class Fleet {
  readonly #options: FleetOptions
  readonly #clusters = new Map<string, Cluster>()
  readonly #slots: JobSlots
  #configuration: Configuration
  #trimTimer: Timer | undefined
  #isClosed = false
  readonly #closing = new AbortController()
  readonly #mark: Readonly<Record<string, string>>
  #earlier: Promise<void> = Promise.resolve()
  #applying: Promise<void> = Promise.resolve()

  /** Nothing is begun yet. */
  constructor(options: FleetOptions, configuration: Configuration) {
    this.#options = options
    this.#configuration = configuration
    this.#slots = new JobSlots(configuration.jobsMax)
    this.#mark = markOf(configuration.stateDirectory)
  }

  /** Begins all clusters. The directory of the states must be there. */
  start(): void {
    const { clock, log } = this.#options
    this.#earlier = waitForMarked(this.#mark, { clock, log, signal: this.#closing.signal })
    // Jobs that wait for it are closed then.
    this.#earlier.catch(() => {})
    for (const plan of this.#configuration.clusters) this.#add(plan)
    this.#trimLater()
  }

  /**
   * Makes it as another configuration says. What has not changed goes on: a stream ends only for a cluster with other
   * settings of receiving.
   * @returns when clusters that were removed or changed have drained, and the others have begun
   */
  apply(configuration: Configuration): Promise<void> {
    this.#applying = this.#apply(configuration)
    return this.#applying
  }

  /** The present state. */
  snapshot(): FleetSnapshot {
    const { jobsMax, memoryBytes } = this.#configuration
    const clusters = [...this.#clusters].map(([name, { jobs, service }]) => ({
      name,
      memoryBytes: this.#shareOf(name),
      service: service.snapshot(),
      jobs: jobs.snapshot(),
    }))
    return { memoryBytes, jobsMax, jobsRunning: this.#slots.taken, clusters }
  }

  /** Texts of a cluster that must never be printed. */
  secretsOf(name: string): readonly string[] {
    return this.#clusters.get(name)?.plan.secrets ?? []
  }

  /**
   * Ends all: receivers archive what is whole, jobs clean up.
   * @param now drops everything
   * @returns the first error of a drain that was not complete
   */
  async close(now: AbortSignal): Promise<WalrxError | undefined> {
    this.#isClosed = true
    this.#closing.abort()
    this.#trimTimer?.cancel()
    const ends = [...this.#clusters.values()].map(async ({ jobs, metrics, service }) => {
      const [failure] = await Promise.all([service.close(now), orAborted(jobs.close(), now).catch(() => {})])
      metrics.close()
      return failure
    })
    const failures = await Promise.all(ends)
    await this.#applying
    return failures.find((failure) => failure !== undefined)
  }

  /** What a busy hour of one cluster took is there for others: a quiet cluster keeps one buffer. */
  #trimLater(): void {
    this.#trimTimer = this.#options.clock.setTimer(trimMs, () => {
      for (const { service } of this.#clusters.values()) service.trimMemory()
      this.#trimLater()
    })
  }

  #shareOf(name: string): number {
    return this.#configuration.shares.get(name) ?? 0
  }

  #logOf({ name, secrets }: ClusterPlan): Logger {
    return this.#options.log.child({ cluster: name }, secrets)
  }

  #add(plan: ClusterPlan): void {
    const { clock, launch, metrics, random } = this.#options
    const { name } = plan
    const log = this.#logOf(plan)
    const served = metrics.addServed(name)
    const jobs = new ClusterJobs({
      cluster: name,
      jobs: plan.jobs,
      secrets: plan.secrets,
      state: new JobState(this.#configuration.stateDirectory, name, log),
      slots: this.#slots,
      launch: (call) => {
        const { command, environment } = launch(call)
        return { command, environment: { ...environment, ...this.#mark } }
      },
      earlier: this.#earlier,
      nice: () => this.#configuration.nice,
      clock,
      random,
      log,
      holdOf: (job) => this.#clusters.get(name)?.service.holdOf(jobEffects[job]),
      metrics: served,
    })
    const cluster: Cluster = { plan, jobs, metrics: served, service: this.#service(plan, jobs, served) }
    served.onRead = () => this.#setGauges(name, cluster)
    this.#clusters.set(name, cluster)
    cluster.service.start()
    void jobs.open()
  }

  #service(plan: ClusterPlan, jobs: ClusterJobs, served: ServedMetrics): ClusterService {
    const { clock, metrics, openService, random, serviceSettings } = this.#options
    const log = this.#logOf(plan)
    const take = (signal: AbortSignal) => jobs.ask('backup', signal)
    return new ClusterService({
      cluster: plan.name,
      settings: () =>
        serviceSettings(plan, { memoryBytes: this.#shareOf(plan.name), log, metrics, gapBackup: { take } }),
      clock,
      random,
      log,
      onFailure: () => served.failures.inc(),
      onHold: () => jobs.wake(),
      ...(openService && { open: openService }),
    })
  }

  /**
   * Everything that is to end ends before anything begins: under another name, the same archive, server or slot may be
   * among both.
   */
  async #apply(configuration: Configuration): Promise<void> {
    const { log } = this.#options
    if (this.#isClosed) return
    this.#configuration = configuration
    this.#slots.resize(configuration.jobsMax)
    const wanted = new Map(configuration.clusters.map((plan) => [plan.name, plan]))
    const gone = [...this.#clusters].filter(([name]) => !wanted.has(name))
    const ends = gone.map(([name, cluster]) => this.#end(name, cluster))
    const changed: (readonly [Cluster, ClusterPlan])[] = []
    for (const [name, cluster] of this.#clusters) {
      const plan = wanted.get(name)
      if (!plan || this.#adjust(cluster, plan)) continue
      changed.push([cluster, plan])
      ends.push(this.#interrupt(cluster, plan))
    }
    await Promise.all(ends)
    // A stop has come meanwhile.
    if (this.#isClosed) return
    for (const [name, { metrics }] of gone) {
      metrics.close()
      this.#clusters.delete(name)
    }
    for (const [cluster, plan] of changed) this.#beginAgain(cluster, plan)
    for (const plan of configuration.clusters) if (!this.#clusters.has(plan.name)) this.#add(plan)
    log.info('the configuration is applied', { clusters: this.#clusters.size })
  }

  async #end(name: string, { jobs, service }: Cluster): Promise<void> {
    this.#options.log.info('the cluster is gone from the configuration: its receiver ends', { cluster: name })
    await Promise.all([service.close(), jobs.close()])
  }

  /** Returns false where the receiver must begin again for it. */
  #adjust(cluster: Cluster, plan: ClusterPlan): boolean {
    if (receiving(cluster.plan) !== receiving(plan)) return false
    cluster.plan = plan
    cluster.jobs.update(plan.jobs, plan.secrets, this.#logOf(plan))
    cluster.service.resizeMemory(this.#shareOf(plan.name))
    cluster.service.retry()
    return true
  }

  /** A job goes on, unless the cluster leaves the archive that it works on. */
  async #interrupt({ jobs, plan: old, service }: Cluster, plan: ClusterPlan): Promise<void> {
    this.#options.log.info('the settings of the cluster have changed: its receiver begins again', {
      cluster: plan.name,
    })
    const isMoved = archiveText(old) !== archiveText(plan)
    await Promise.all([service.close(), ...(isMoved ? [jobs.suspend()] : [])])
  }

  #beginAgain(cluster: Cluster, plan: ClusterPlan): void {
    const { jobs, metrics } = cluster
    cluster.plan = plan
    cluster.service = this.#service(plan, jobs, metrics)
    cluster.service.start()
    jobs.update(plan.jobs, plan.secrets, this.#logOf(plan))
    jobs.resume()
  }

  #setGauges(name: string, { jobs, metrics, service }: Cluster): void {
    metrics.ready.set(service.snapshot().ready ? 1 : 0)
    metrics.memory.set(this.#shareOf(name))
    for (const gauge of [metrics.jobRunning, metrics.jobWaiting, metrics.jobNext]) gauge.reset()
    for (const { job, nextMs, record, state } of jobs.snapshot()) {
      metrics.jobRunning.set(state === 'running' ? 1 : 0, { job })
      metrics.jobWaiting.set(state === 'waiting' ? 1 : 0, { job })
      metrics.jobNext.set(nextMs === undefined ? NaN : nextMs / 1000, { job })
      metrics.jobLastSuccess.set((record.lastSuccessMs ?? 0) / 1000, { job })
      const { last } = record
      metrics.jobLastDuration.set(last ? (last.endedMs - last.startedMs) / 1000 : 0, { job })
    }
  }
}

/** All that a receiver is made of, as a text to compare. */
function receiving({ receive }: ClusterPlan): string {
  const environment = Object.entries(receive.environment).sort(([a], [b]) => (a < b ? -1 : 1))
  return JSON.stringify([environment, [...receive.flags].sort(([a], [b]) => (a < b ? -1 : 1))])
}

/** The settings that say where the archive is, as a text to compare. */
function archiveText({ receive }: ClusterPlan): string {
  const keys = ['filePrefix', 's3Prefix', 'storagePrefix', 'awsEndpoint'] as const
  return JSON.stringify(keys.map((key) => receive.environment[optionTable[key].env[0]] ?? null))
}
