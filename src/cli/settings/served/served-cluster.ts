/** The clusters of `walrx serve`, by the commands: what is wrong with their settings, their services, and calls of their jobs. */
import { realpath, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { type Environment, loadSettings, type Settings } from '../../../config/load.ts'
import type { CommandName, OptionSpec } from '../../../config/options/option-types.ts'
import { type OptionValues, optionTable } from '../../../config/options/options.ts'
import { parseS3Prefix } from '../../../config/s3-prefix.ts'
import { knownNames } from '../../../config/setting-names.ts'
import type { Conninfo } from '../../../postgres/connect/conninfo.ts'
import { hasCode, toWalrxError, WalrxError } from '../../../primitives/errors.ts'
import { answered, NoAnswerError, noAnswerText } from '../../../serve/configuration/answered.ts'
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
import { environmentOf } from './cluster-environment.ts'

/** What {@link inspectCluster} is given. */
export interface InspectOptions {
  readonly inherited: Environment
  /** True also reads keys, and runs the commands that print keys: what is wrong with them is no reason not to start. */
  readonly isThorough: boolean
  /** Settings of keys that were looked at, with what is wrong: the same for all clusters of one file, which share keys. */
  readonly checkedKeys: Map<string, WalrxError | undefined>
}

/** Asks the commands about the settings of a cluster. No server and no store is asked. Never throws. */
export async function inspectCluster(
  plan: ClusterPlan,
  { checkedKeys, inherited, isThorough }: InspectOptions,
): Promise<ClusterFacts> {
  const problems: { readonly text: string }[] = []
  const note = (error: WalrxError) => {
    const isMistake = hasCode(error, 'WALRX_USAGE') || hasCode(error, 'WALRX_OPTION_UNSUPPORTED')
    const hint = error.hint === undefined ? '' : `: ${error.hint}`
    if (isThorough || isMistake) problems.push({ text: `${error.message}${hint}` })
  }
  const hanging = await hangingPath(plan.receive)
  if (hanging !== undefined) {
    const problem = { text: `the file system of ${hanging} ${noAnswerText}`, about: hanging }
    return { problems: [problem], servers: [], slot: undefined, archive: undefined, secrets: [] }
  }
  for (const call of [plan.receive, ...plan.jobs.map((job) => job.call)]) {
    const input = { command: call.command, flags: call.flags, environment: environmentOf(call, inherited) }
    const problem = (await startProblem({ ...input, withoutKeys: true })) ?? (await ruleProblem(input))
    const ofKeys = problem === undefined && isThorough ? await keyProblem(input, checkedKeys) : undefined
    for (const each of [problem, ofKeys]) if (each) note(each)
  }
  try {
    const settings = await receiverSettings(plan, inherited)
    const { values } = settings
    const conninfo = conninfoOf({ options: values, settings })
    const { password } = conninfo
    return {
      problems,
      servers: conninfo.hosts.map(addressOf),
      slot: values.slotless ? undefined : values.slotName,
      archive: await archiveOf(values),
      secrets: password === undefined ? [] : [password, encodeURIComponent(password)],
    }
  } catch (error) {
    note(toWalrxError(error))
    return { problems, servers: [], slot: undefined, archive: undefined, secrets: [] }
  }
}

/** What is wrong with the keys of a call. The receiver comes first, which looks at most: what writes also decrypts. */
async function keyProblem(input: RuleInput, checked: InspectOptions['checkedKeys']): Promise<WalrxError | undefined> {
  const setting = keySetting(input.environment)
  if (setting === undefined) return undefined
  if (!checked.has(setting)) checked.set(setting, await startProblem(input))
  return checked.get(setting)
}

const keyNames: ReadonlySet<string> = new Set(
  Object.values<OptionSpec>(optionTable)
    .filter(({ group }) => group === 'Encryption')
    .flatMap(({ env }) => env.slice(0, 1)),
)

/**
 * All that keys are found by, as a text to compare; undefined without keys. A command has the whole environment, but what is
 * peculiar to a cluster there, such as its server, is not what keys depend on.
 */
function keySetting(environment: Environment): string | undefined {
  const known = knownNames()
  const isForeign = (name: string) => !known.has(name) && !/^PG[A-Z]/.test(name)
  const entries = Object.entries(environment)
  if (!entries.some(([name]) => keyNames.has(name))) return undefined
  const relevant = entries.filter(([name]) => keyNames.has(name) || /^AWS_/.test(name) || isForeign(name))
  return JSON.stringify(relevant.sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Paths of files that are looked at below, some by calls that would block all streams. */
const pathNames = [
  'WALG_FILE_PREFIX',
  'PGSERVICEFILE',
  'WALG_LIBSODIUM_KEY_PATH',
  'WALG_PGP_KEY_PATH',
  'S3_CA_CERT_FILE',
]

/** The variable with a path whose file system does not answer; undefined where all do. */
async function hangingPath({ environment }: CommandCall): Promise<string | undefined> {
  for (const name of pathNames) {
    const path = environment[name]
    if (path === undefined) continue
    try {
      await answered(() => stat(path.replace(/^file:\/\/(localhost)?/, '')))
    } catch (error) {
      if (error instanceof NoAnswerError) return name
    }
  }
  return undefined
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
async function archiveOf({
  awsEndpoint,
  filePrefix,
  s3Prefix,
  storagePrefix,
}: OptionValues<'wal-receive'>): Promise<string | undefined> {
  if (filePrefix !== undefined) {
    const path = resolve(filePrefix.replace(/^file:\/\/(localhost)?/, ''), (storagePrefix ?? '').replace(/^\/+/, ''))
    return `file:${await realPath(path)}/`
  }
  if (s3Prefix === undefined) return undefined
  const { bucket, folder } = parseS3Prefix(s3Prefix, storagePrefix)
  const store = (awsEndpoint ?? 'aws')
    .replace(/^https?:\/\//i, '')
    .replace(/\/+$/, '')
    .toLowerCase()
  return `${store}/${bucket}/${folder === '' ? '' : `${folder}/`}`
}

/** A path that cannot be resolved stays as it is. Throws WALRX_USAGE where its file system does not answer. */
async function realPath(path: string): Promise<string> {
  try {
    return await answered(() => realpath(path))
  } catch (error) {
    if (!(error instanceof NoAnswerError)) return path
    throw new WalrxError('WALRX_USAGE', `the directory of WALG_FILE_PREFIX ${noAnswerText}`)
  }
}

function receiverSettings({ receive }: ClusterPlan, inherited: Environment): Promise<Settings<'wal-receive'>> {
  const { flags } = receive
  return loadSettings({ command: 'wal-receive', flags, environment: environmentOf(receive, inherited) })
}

/** The settings of a cluster's service. Throws as wal-receive does for the same settings. */
export async function servedSettings(
  plan: ClusterPlan,
  { gapBackup, log, memoryBytes, metrics }: ServiceParts,
  inherited: Environment,
): Promise<ServiceSettings> {
  const settings = await receiverSettings(plan, inherited)
  for (const { hint, level, message, name } of settings.notices) {
    log[level](message, { name, ...(hint !== undefined && { hint }) })
  }
  const values = serviceSettings({ log, options: settings.values, settings }, metrics, gapBackup)
  const storage = { ...values.storage, keyEnvironment: settings.environment }
  return { ...values, storage, cluster: plan.name, memoryBytes }
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
      WALRX_LOG_LEVEL: logLevel,
      ...environmentOf(call, inherited),
      WALRX_LOG_FORMAT: 'json',
      // Not the one of this user's home: it would add settings to every cluster.
      WALG_CONFIG_PATH: '/dev/null',
    },
  }
}
