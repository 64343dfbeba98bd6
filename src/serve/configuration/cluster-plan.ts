/** A cluster as its configuration has it, with what it inherits: calls of commands, and when they are due. */
import { optionsOf, secretTexts } from '../../config/load.ts'
import type { CommandName, OptionSpec } from '../../config/options/option-types.ts'
import { parseBytes, parseDurationMs } from '../../config/options/option-values.ts'
import { type OptionKey, optionTable } from '../../config/options/options.ts'
import { isSecretName } from '../../observe/redact.ts'
import { localTimeZone, Schedule, scheduleProblem, timeZoneProblem } from '../schedule/schedule.ts'
import { isDropped, missingHalf } from './credentials.ts'
import { type JobLevel, type Level, ownProblem } from './levels.ts'
import type { Mistakes, Place } from './mistakes.ts'
import type { Setting } from './references.ts'
import { type JobName, jobNames, jobTable, sections, type TriggerName, triggerNames } from './shape.ts'

/** A call of a command of walrx. */
export interface CommandCall {
  readonly command: CommandName
  /** Settings by the names of their variables: secrets are here and never among the flags. */
  readonly environment: Readonly<Record<string, string>>
  /** Options that have no variable. */
  readonly flags: ReadonlyMap<OptionKey, string>
  /** Arguments by position, and flags without a value. */
  readonly words: readonly string[]
}

/** One reason for a job to run. */
export interface Trigger {
  readonly name: TriggerName
  readonly schedule: Schedule
  /** As it was written, with the time zone: another text is another schedule. */
  readonly text: string
}

/** A job of a cluster. */
export interface JobPlan {
  readonly name: JobName
  readonly call: CommandCall
  /** None for a job that only runs when it is asked for. */
  readonly triggers: readonly Trigger[]
  readonly timeZone: string
  readonly jitterMs: number
  readonly timeoutMs: number
}

/** A cluster. */
export interface ClusterPlan {
  readonly name: string
  readonly place: Place
  readonly receive: CommandCall
  readonly jobs: readonly JobPlan[]
  /** Its own share of the memory; undefined for an even one. */
  readonly memoryBytes: number | undefined
  /** Texts that must never be printed. */
  readonly secrets: readonly string[]
  /** Where each setting stands, by the names of its variables and its flag with its dashes. */
  readonly places: ReadonlyMap<string, Place>
}

const timeoutDefaultMs = 24 * 3600_000

/** Puts the levels together. Notes what is wrong with the whole. */
export function planCluster(name: string, own: Level, defaults: Level, mistakes: Mistakes): ClusterPlan {
  const options = mergedOptions(own, defaults)
  const variables = new Map([...defaults.variables, ...own.variables])
  requireWholeKeys(options, own.place, mistakes)
  const jobs = jobNames.flatMap((job) => {
    const level = mergedJob(own.jobs.get(job), defaults.jobs.get(job), own.place)
    const isOnDemand = job === 'backup' && isOn(options.get('backupAfterGap'))
    return level || isOnDemand ? [{ job, level: level ?? emptyJob(own.place), isOnDemand }] : []
  })
  const timeZone = own.own.get('time-zone') ?? defaults.own.get('time-zone')
  const memory = options.get('memoryBytes')
  const receiving = new Map([...options].filter(([key]) => key !== 'memoryBytes'))
  requireServer(options, variables, own.place, mistakes)
  requireStorage(options, own.place, mistakes)
  return {
    name,
    place: own.place,
    receive: callOf('wal-receive', receiving, variables),
    jobs: jobs.flatMap(({ isOnDemand, job, level }) =>
      planJob({ job, level, isOnDemand, options, variables, timeZone, mistakes }),
    ),
    memoryBytes: memory === undefined ? undefined : parseBytes(memory.text),
    secrets: secretsOf([options, ...jobs.map(({ level }) => level.options)], variables),
    places: placesOf([options, ...jobs.map(({ level }) => level.options)], variables),
  }
}

/** The cluster's own settings go first; one kind of archive, or of credentials, drops others that are inherited. */
function mergedOptions(own: Level, defaults: Level): Map<OptionKey, Setting> {
  const inherited = new Map(defaults.options)
  for (const [one, other] of [
    ['s3Prefix', 'filePrefix'],
    ['filePrefix', 's3Prefix'],
  ] as const) {
    if (own.options.has(one) && !own.options.has(other)) inherited.delete(other)
  }
  const names = [...own.options.keys()].map(variableOf)
  for (const key of defaults.options.keys()) if (isDropped(variableOf(key), names)) inherited.delete(key)
  return new Map([...inherited, ...own.options])
}

/** The variable of an option; empty for one that has none. */
function variableOf(key: OptionKey): string {
  return (optionTable[key] as OptionSpec).env[0] ?? ''
}

function mergedJob(own: JobLevel | undefined, defaults: JobLevel | undefined, place: Place): JobLevel | undefined {
  if (!own && !defaults) return undefined
  return {
    place: own?.place ?? place,
    options: new Map([...(defaults?.options ?? []), ...(own?.options ?? [])]),
    own: new Map([...(defaults?.own ?? []), ...(own?.own ?? [])]),
    // Triggers belong together: those of a cluster take the place of all that are inherited.
    triggers: own && own.triggers.size > 0 ? own.triggers : (defaults?.triggers ?? new Map()),
  }
}

function emptyJob(place: Place): JobLevel {
  return { place, options: new Map(), own: new Map(), triggers: new Map() }
}

function isOn(setting: Setting | undefined): boolean {
  return setting !== undefined && /^(true|t|yes|on|1)$/i.test(setting.text.trim())
}

interface JobInput {
  readonly job: JobName
  readonly level: JobLevel
  readonly isOnDemand: boolean
  readonly options: ReadonlyMap<OptionKey, Setting>
  readonly variables: ReadonlyMap<string, Setting>
  readonly timeZone: Setting | undefined
  readonly mistakes: Mistakes
}

function planJob(input: JobInput): JobPlan[] {
  const { isOnDemand, job, level, mistakes, options, variables } = input
  const { command, words } = jobTable[job]
  const all = new Map([...options, ...level.options])
  const zone = level.own.get('time-zone') ?? input.timeZone
  const timeZone = zone?.text.trim() ?? localTimeZone()
  const problem = zone && timeZoneProblem(timeZone)
  if (zone && problem !== undefined) mistakes.add(zone.place, `time-zone ${problem}`)
  const triggers = triggersOf(level, problem === undefined ? timeZone : 'UTC', mistakes)
  if (level.triggers.size === 0 && !isOnDemand) {
    mistakes.add(level.place, `${job} has no schedule, and would never run: add one, or write schedule: off`)
  }
  const steps = all.get('deltaMaxSteps')
  if (job === 'backup' && triggers.some(({ name }) => name === 'delta') && steps && Number(steps.text) === 0) {
    mistakes.add(steps.place, 'delta-max-steps is 0, so that the schedule of deltas would take full backups only')
  }
  const patterns = [...level.triggers.values()].flat()
  const isOff = patterns.length > 0 && patterns.every(isOffText)
  if (
    job === 'retention' &&
    !isOff &&
    ![...all.keys()].some((key) => key.startsWith('keep') || key === 'recoveryWindow')
  ) {
    mistakes.add(
      level.place,
      'retention says nothing about what to keep: add keep-days, keep-full or another of its keys',
    )
  }
  if (triggers.length === 0 && !isOnDemand) return []
  const durationOf = (key: string, fallback: number) => {
    const setting = level.own.get(key)
    const shape = sections.get(job)?.keys.get(key)
    const wrong = setting && shape && ownProblem(shape, setting)
    if (setting && wrong !== undefined) mistakes.add(setting.place, `${key} ${wrong}`)
    return (setting && parseDurationMs(setting.text)) ?? fallback
  }
  return [
    {
      name: job,
      call: callOf(command, all, variables, words),
      triggers,
      timeZone,
      jitterMs: durationOf('jitter', 0),
      timeoutMs: durationOf('timeout', timeoutDefaultMs),
    },
  ]
}

function isOffText({ text }: Setting): boolean {
  return text.trim().toLowerCase() === 'off'
}

function triggersOf({ triggers }: JobLevel, timeZone: string, mistakes: Mistakes): Trigger[] {
  return triggerNames.flatMap((name) => {
    const settings = (triggers.get(name) ?? []).filter((setting) => !isOffText(setting))
    const good = settings.filter(({ place, text }) => {
      const problem = scheduleProblem(text)
      if (problem !== undefined) mistakes.add(place, `${name} ${problem}`)
      return problem === undefined
    })
    if (good.length === 0) return []
    const patterns = good.map(({ text }) => text.trim())
    return [{ name, schedule: new Schedule(patterns, timeZone), text: `${patterns.join('; ')} (${timeZone})` }]
  })
}

function callOf(
  command: CommandName,
  options: ReadonlyMap<OptionKey, Setting>,
  variables: ReadonlyMap<string, Setting>,
  words: readonly string[] = [],
): CommandCall {
  const environment: Record<string, string> = {}
  for (const [name, { text }] of variables) environment[name] = text
  const flags = new Map<OptionKey, string>()
  // What the command does not take is left out: a change of it is then no change of the call.
  const taken = new Set(optionsOf(command).map(([key]) => key))
  for (const [key, { text }] of options) {
    if (!taken.has(key)) continue
    const [name] = optionTable[key].env
    if (name === undefined) flags.set(key, text)
    else environment[name] = text
  }
  return { command, environment, flags, words }
}

const serverVariables = ['PGHOSTADDR', 'PGSERVICE']

function requireServer(
  options: ReadonlyMap<OptionKey, Setting>,
  variables: ReadonlyMap<string, Setting>,
  place: Place,
  mistakes: Mistakes,
): void {
  if (options.has('conninfo') || options.has('pgHost') || serverVariables.some((name) => variables.has(name))) return
  mistakes.add(place, 'no server is named: add server: with dbname or pghost')
}

/** Half a pair was completed by what somebody else has set, or by nothing. */
function requireWholeKeys(options: ReadonlyMap<OptionKey, Setting>, place: Place, mistakes: Mistakes): void {
  const places = new Map([...options].map(([key, setting]) => [variableOf(key), setting.place]))
  const half = missingHalf((name) => places.has(name))
  if (!half) return
  const text = `${half.set} has no ${half.missing} beside it: set both for the cluster, or both in defaults`
  mistakes.add(places.get(half.set) ?? place, text)
}

function requireStorage(options: ReadonlyMap<OptionKey, Setting>, place: Place, mistakes: Mistakes): void {
  if (options.has('s3Prefix') || options.has('filePrefix')) return
  mistakes.add(place, 'no archive is named: add storage: with s3-prefix or file-prefix')
}

/** Values of secret options in all their forms, of variables that are called like secrets, and what came from elsewhere. */
function secretsOf(
  levels: readonly ReadonlyMap<OptionKey, Setting>[],
  variables: ReadonlyMap<string, Setting>,
): string[] {
  const texts = new Set<string>()
  for (const options of levels) {
    const named = [...options].flatMap(([key, { text }]) =>
      optionTable[key].env.slice(0, 1).map((n) => [n, text] as const),
    )
    for (const text of secretTexts(new Map(named))) texts.add(text)
  }
  for (const [name, { text }] of variables) if (isSecretName(name)) texts.add(text)
  for (const settings of [...levels, variables]) {
    for (const { hidden } of settings.values()) for (const text of hidden) texts.add(text).add(text.trim())
  }
  return [...texts].filter((text) => text !== '')
}

function placesOf(
  levels: readonly ReadonlyMap<OptionKey, Setting>[],
  variables: ReadonlyMap<string, Setting>,
): Map<string, Place> {
  const places = new Map([...variables].map(([name, { place }]) => [name, place]))
  for (const options of levels) {
    for (const [key, { place }] of options) {
      const { env, flag } = optionTable[key] as OptionSpec
      for (const name of [...env, ...(flag === undefined ? [] : [`--${flag}`])]) places.set(name, place)
    }
  }
  return places
}
