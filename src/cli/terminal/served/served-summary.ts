/** What `walrx serve --check` shows of a configuration without mistakes. */
import { formatBytes } from '../../../config/options/option-values.ts'
import { redactText } from '../../../observe/redact.ts'
import type { ClusterPlan, JobPlan } from '../../../serve/configuration/cluster-plan.ts'
import type { Configuration } from '../../../serve/configuration/read-configuration.ts'
import { newRecord } from '../../../serve/jobs/job-record.ts'
import { lookAtSchedules, nextRun } from '../../../serve/jobs/due-runs.ts'

/** How many of the next times of a job are shown. */
const timesShown = 3

/** A few lines for each cluster. @param nowMs the times are those after it */
export function servedSummary(configuration: Configuration, nowMs: number): string {
  const { clusters, jobsMax, listen, memoryBytes, shares, stateDirectory } = configuration
  const head = [
    `clusters      ${clusters.length}`,
    `status page   ${listen}`,
    `memory        ${formatBytes(memoryBytes)} for WAL`,
    `jobs          ${jobsMax} at a time`,
    `state         ${stateDirectory}`,
  ]
  const each = clusters.map((plan) => clusterText(plan, shares.get(plan.name) ?? 0, nowMs))
  return `${[head.join('\n'), ...each].join('\n\n')}\n`
}

function clusterText(plan: ClusterPlan, memoryBytes: number, nowMs: number): string {
  const { environment } = plan.receive
  const prefix = environment['WALG_S3_PREFIX'] ?? environment['WALG_FILE_PREFIX'] ?? ''
  const folder = environment['WALG_STORAGE_PREFIX']
  const server = environment['WALRX_DBNAME'] ?? environment['PGHOST'] ?? environment['PGHOSTADDR'] ?? ''
  const lines = [
    plan.name,
    `  server      ${redactText(server === '' ? `service ${environment['PGSERVICE'] ?? ''}` : server, plan.secrets)}`,
    `  archive     ${redactText(folder === undefined ? prefix : `${prefix} ${folder}`, plan.secrets)}`,
    `  memory      ${formatBytes(memoryBytes)}`,
    ...plan.jobs.map((job) => `  ${job.name.padEnd(10)}  ${jobText(plan.name, job, nowMs)}`),
  ]
  return lines.join('\n')
}

function jobText(cluster: string, plan: JobPlan, nowMs: number): string {
  if (plan.triggers.length === 0) return 'after a gap'
  const what = `${cluster}/${plan.name}`
  let { record } = lookAtSchedules(plan, newRecord, nowMs, what)
  const times: string[] = []
  while (times.length < timesShown) {
    const next = nextRun(plan, record, nowMs, what)
    if (!next) break
    times.push(`${timeText(next.atMs, plan.timeZone)}${next.name === 'schedule' ? '' : ` ${next.name}`}`)
    record = lookAtSchedules(plan, record, next.atMs, what).record
  }
  return times.join(', ')
}

function timeText(ms: number, timeZone: string): string {
  const parts = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'medium' })
  return `${parts.format(new Date(ms))} ${timeZone}`
}
