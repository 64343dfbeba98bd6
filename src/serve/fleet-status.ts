/** What the status page shows of a fleet, as JSON for programs: no text in it holds a secret of a cluster. */
import { redactText } from '../observe/redact.ts'
import type { Readiness } from '../status/server.ts'
import type { ClusterSnapshot, FleetSnapshot } from './fleet.ts'
import type { JobSnapshot } from './jobs/cluster-jobs.ts'

/** The configuration that is in force. */
export interface LoadedConfiguration {
  readonly path: string
  readonly loadedMs: number
  /** How many mistakes the file had when it was read last; 0 where it is what is in force. */
  readonly mistakes: number
}

/** Ready means that all clusters are. */
export function fleetReadiness(
  { clusters, jobsMax, jobsRunning, memoryBytes }: FleetSnapshot,
  { loadedMs, mistakes, path }: LoadedConfiguration,
  secretsOf: (cluster: string) => readonly string[],
): Readiness {
  const late = clusters.filter(({ service }) => !service.ready)
  const shown = clusters.map((cluster) => [cluster.name, clean(clusterJson(cluster), secretsOf(cluster.name))] as const)
  const details = {
    configuration: { path, loaded_at: timeText(loadedMs), mistakes },
    memory_bytes: memoryBytes,
    jobs: { running: jobsRunning, max: jobsMax },
    clusters: Object.fromEntries(shown),
  }
  if (late.length === 0) return { ready: true, details }
  const reason = late.map(({ name, service }) => {
    return redactText(`${name}: ${service.reason ?? 'not ready'}`, secretsOf(name))
  })
  return { ready: false, reason: reason.join('; '), details }
}

function clusterJson({ jobs, memoryBytes, service }: ClusterSnapshot): Readonly<Record<string, unknown>> {
  const { code, details, hint, ready, reason, state } = service
  return {
    status: ready ? 'ready' : 'not ready',
    ...(reason !== undefined && { reason }),
    ...(code !== undefined && { code }),
    ...(hint !== undefined && { hint }),
    ...details,
    service: state,
    memory_bytes: memoryBytes,
    jobs: Object.fromEntries(jobs.map((job) => [job.job, jobJson(job)])),
  }
}

function jobJson({ held, nextMs, record, schedules, state }: JobSnapshot): Readonly<Record<string, unknown>> {
  const { last, lastSuccessMs, pending, running } = record
  return {
    state,
    ...(held !== undefined && { held }),
    schedules,
    next: timeText(nextMs),
    running_since: timeText(running?.startedMs),
    due: timeText(pending?.dueMs ?? running?.dueMs),
    failed_attempts: pending?.attempts ?? running?.attempts ?? 0,
    next_attempt: timeText(pending?.notBeforeMs),
    last_success: timeText(lastSuccessMs),
    last: last
      ? {
          outcome: last.outcome,
          started: timeText(last.startedMs),
          ended: timeText(last.endedMs),
          status: last.status ?? null,
          ...(last.error !== undefined && { error: last.error }),
        }
      : null,
  }
}

function timeText(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString()
}

/** The same value without secrets in its texts. */
function clean(value: unknown, secrets: readonly string[]): unknown {
  if (typeof value === 'string') return redactText(value, secrets)
  if (Array.isArray(value)) return value.map((item) => clean(item, secrets))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, clean(item, secrets)]))
}
