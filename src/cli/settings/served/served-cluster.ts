/** The clusters of `walrx serve`, by the commands: what is wrong with their settings, their services, and calls of their jobs. */
import { realpathSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Environment, loadSettings } from '../../../config/load.ts'
import type { CommandName } from '../../../config/options/option-types.ts'
import { type OptionValues, optionTable } from '../../../config/options/options.ts'
import { parseS3Prefix } from '../../../config/s3-prefix.ts'
import { knownNames } from '../../../config/setting-names.ts'
import type { Conninfo } from '../../../postgres/connect/conninfo.ts'
import { hasCode, toWalrxError, type WalrxError } from '../../../primitives/errors.ts'
import type { ClusterPlan, CommandCall } from '../../../serve/configuration/cluster-plan.ts'
import type { ClusterFacts } from '../../../serve/configuration/read-configuration.ts'
import type { ServiceParts } from '../../../serve/fleet.ts'
import type { Launch } from '../../../serve/jobs/cluster-jobs.ts'
import type { ServiceSettings } from '../../../service/service-settings.ts'
import { ownProgram } from '../calls/own-program.ts'
import { deltaRulesOf } from '../delta-rules.ts'
import { serviceSettings } from '../receive-settings.ts'
import { askedDeletion } from '../retention-rule.ts'
import { conninfoOf } from '../server-of.ts'
import { startProblem } from '../start-problem.ts'

/** Variables of a process that are for it alone, and not for what it starts. */
const ofProcess = /^(NOTIFY_SOCKET|WATCHDOG_(USEC|PID)|LISTEN_(FDS|PID|FDNAMES)|STATE_DIRECTORY|NODE_CHANNEL_\w+)$/

/** Variables of settings that a whole machine may have in common: how AWS is reached, and through which proxy. */
const ofMachine = /^AWS_|^(https?|no|all)_proxy$/i

/**
 * What a cluster gets of the process's environment: no setting of an archive or a server, for it would hold for all of
 * them. Those are in the configuration.
 */
export function inheritedEnvironment(environment: Environment): Environment {
  const known = knownNames()
  const isInherited = (name: string) => {
    if (ofProcess.test(name)) return false
    return ofMachine.test(name) || !(known.has(name) || /^(WALG_|WALE_|WALRX_|S3_|GCS_|PG[A-Z])/.test(name))
  }
  return Object.fromEntries(Object.entries(environment).filter(([name]) => isInherited(name)))
}

/** What {@link inspectCluster} is given. */
export interface InspectOptions {
  readonly inherited: Environment
  /** True also reads keys, and runs the commands that print keys: what is wrong with them is no reason not to start. */
  readonly isThorough: boolean
}

/** Asks the commands about the settings of a cluster. No server and no store is asked. Never throws. */
export async function inspectCluster(
  plan: ClusterPlan,
  { inherited, isThorough }: InspectOptions,
): Promise<ClusterFacts> {
  const problems: { readonly text: string }[] = []
  const note = (error: WalrxError) => {
    const isMistake = hasCode(error, 'WALRX_USAGE') || hasCode(error, 'WALRX_OPTION_UNSUPPORTED')
    const hint = error.hint === undefined ? '' : `: ${error.hint}`
    if (isThorough || isMistake) problems.push({ text: `${error.message}${hint}` })
  }
  for (const call of [plan.receive, ...plan.jobs.map((job) => job.call)]) {
    const { command, environment, flags } = call
    const input = { command, flags, environment: { ...inherited, ...environment } }
    const problem = (await startProblem({ ...input, withoutKeys: !isThorough })) ?? (await ruleProblem(input))
    if (problem) note(problem)
  }
  try {
    const { command, environment, flags } = plan.receive
    const input = { command: command as 'wal-receive', flags, environment: { ...inherited, ...environment } }
    const settings = await loadSettings(input)
    const { values } = settings
    const conninfo = conninfoOf({ options: values, settings })
    const { password } = conninfo
    return {
      problems,
      servers: conninfo.hosts.map(addressOf),
      slot: values.slotless ? undefined : values.slotName,
      archive: archiveOf(values),
      secrets: password === undefined ? [] : [password, encodeURIComponent(password)],
    }
  } catch (error) {
    note(toWalrxError(error))
    return { problems, servers: [], slot: undefined, archive: undefined, secrets: [] }
  }
}

interface RuleInput {
  readonly command: CommandName
  readonly flags: CommandCall['flags']
  readonly environment: Environment
}

/** What backups and deletions refuse beyond the text of each option. */
async function ruleProblem({ command, ...input }: RuleInput): Promise<WalrxError | undefined> {
  try {
    if (command === 'backup-push') deltaRulesOf((await loadSettings({ command, ...input })).values)
    if (command === 'delete') {
      const { values } = await loadSettings({ command, ...input })
      askedDeletion({ what: undefined, rest: [], options: values, nowMs: Date.now() })
    }
    return undefined
  } catch (error) {
    return toWalrxError(error)
  }
}

function addressOf({ host, hostaddr, port }: Conninfo['hosts'][number]): string {
  return `${(hostaddr ?? host ?? '').toLowerCase()}:${port}`
}

/** The place of an archive, in one writing, with a slash at its end; undefined for none that can be read. */
function archiveOf({
  awsEndpoint,
  filePrefix,
  s3Prefix,
  storagePrefix,
}: OptionValues<'wal-receive'>): string | undefined {
  if (filePrefix !== undefined) {
    const path = resolve(filePrefix.replace(/^file:\/\/(localhost)?/, ''), (storagePrefix ?? '').replace(/^\/+/, ''))
    return `file:${realPath(path)}/`
  }
  if (s3Prefix === undefined) return undefined
  const { bucket, folder } = parseS3Prefix(s3Prefix, storagePrefix)
  const store = (awsEndpoint ?? 'aws')
    .replace(/^https?:\/\//i, '')
    .replace(/\/+$/, '')
    .toLowerCase()
  return `${store}/${bucket}/${folder === '' ? '' : `${folder}/`}`
}

function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}

/** The settings of a cluster's service. Throws as wal-receive does for the same settings. */
export async function servedSettings(
  plan: ClusterPlan,
  { gapBackup, log, memoryBytes, metrics }: ServiceParts,
  inherited: Environment,
): Promise<ServiceSettings> {
  const { environment, flags } = plan.receive
  const settings = await loadSettings({
    command: 'wal-receive',
    flags,
    environment: { ...inherited, ...environment },
  })
  for (const { hint, level, message, name } of settings.notices) {
    log[level](message, { name, ...(hint !== undefined && { hint }) })
  }
  const values = serviceSettings({ log, options: settings.values, settings }, metrics, gapBackup)
  return { ...values, cluster: plan.name, memoryBytes }
}

/** How a call is made: the same Node and program, its settings in the environment, and no config file. */
export function launchOf(call: CommandCall, inherited: Environment, logLevel: string): Launch {
  const { main, node } = ownProgram()
  const flags = [...call.flags].map(([key, text]) => {
    const spec = optionTable[key]
    return `--${'flag' in spec ? spec.flag : ''}=${text}`
  })
  return {
    command: [node, main, call.command, ...call.words, ...flags],
    environment: {
      ...inherited,
      WALRX_LOG_LEVEL: logLevel,
      ...call.environment,
      WALRX_LOG_FORMAT: 'json',
      // Not the one of this user's home: it would add settings to every cluster.
      WALG_CONFIG_PATH: '/dev/null',
    },
  }
}
