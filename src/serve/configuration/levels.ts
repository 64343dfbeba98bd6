/** One cluster of a configuration, or its `defaults`, read by the table of shape.ts: what it sets, and where that stands. */
import { knownNames, optionNames } from '../../config/setting-names.ts'
import { isPassedOn, problemOf } from '../../config/load.ts'
import type { OptionSpec } from '../../config/options/option-types.ts'
import { parseOptionText } from '../../config/options/option-values.ts'
import { type OptionKey, optionTable } from '../../config/options/options.ts'
import { keywords } from '../../postgres/connect/conninfo-keywords.ts'
import { editDistance, nearest } from '../../primitives/nearest.ts'
import { isOfProcessAlone } from './credentials.ts'
import type { Place } from './mistakes.ts'
import { expanded, fromFile, type ReferenceSource, type Setting } from './references.ts'
import {
  clusterKeys,
  environmentKey,
  fileEnding,
  type JobName,
  jobTable,
  type KeyShape,
  type SectionShape,
  sections,
  type TriggerName,
  triggerNames,
  variableFileEnding,
} from './shape.ts'
import type { YamlEntry, YamlValue } from './yaml-text.ts'

/** What a section of a job sets. */
export interface JobLevel {
  readonly place: Place
  readonly options: ReadonlyMap<OptionKey, Setting>
  /** `time-zone`, `jitter`, `timeout`. */
  readonly own: ReadonlyMap<string, Setting>
  /** Patterns of cron; `off` alone is none. */
  readonly triggers: ReadonlyMap<TriggerName, readonly Setting[]>
}

/** What a cluster sets, or `defaults`. */
export interface Level {
  readonly place: Place
  readonly options: ReadonlyMap<OptionKey, Setting>
  /** Variables that are no options. */
  readonly variables: ReadonlyMap<string, Setting>
  readonly own: ReadonlyMap<string, Setting>
  readonly jobs: ReadonlyMap<JobName, JobLevel>
}

/** Nothing at all. */
export const emptyLevel: Level = {
  place: { line: 1, column: 1 },
  options: new Map(),
  variables: new Map(),
  own: new Map(),
  jobs: new Map(),
}

/** Names of the options that a variable sets, by its name. */
const optionByVariable: ReadonlyMap<string, OptionKey> = new Map(
  (Object.entries(optionTable) as [OptionKey, OptionSpec][]).flatMap(([key, { env }]) =>
    optionNames(env).map((name) => [name, key] as const),
  ),
)

/** The entries of a map; none where there is nothing, and a mistake where there is something else. */
export function entriesOf(value: YamlValue, what: string, { mistakes }: ReferenceSource): readonly YamlEntry[] {
  if (value.kind === 'map') return value.entries
  if (value.kind !== 'nothing') mistakes.add(value.place, `${what} has to be a map: lines of "key: value"`)
  return []
}

/** Notes a key that a map cannot have. Only known words are shown: what stands there could be a secret. */
export function unknownKey(
  entry: YamlEntry,
  what: string,
  known: Iterable<string>,
  { mistakes }: ReferenceSource,
): void {
  const names = [...known]
  const meant = nearest(entry.key, names)
  const hint = meant === undefined ? `it has ${names.join(', ')}` : `did you mean ${meant}?`
  mistakes.add(entry.place, `${what} has no such key: ${hint}`)
}

/** The text of a value, with its references; undefined where there is none. */
export function textOf({ key, value }: YamlEntry, source: ReferenceSource): Setting | undefined {
  if (value.kind === 'text') return expanded(value.text, value.place, source)
  const what = value.kind === 'nothing' ? 'has no value' : `is a ${value.kind}, and has to be one value`
  source.mistakes.add(value.place, `${shownKey(key)} ${what}`)
  return undefined
}

/** Reads a level. @param what it is called in mistakes: `defaults`, `clusters.orders` */
export function readLevel(value: YamlValue, what: string, source: ReferenceSource): Level {
  const level = {
    place: value.place,
    options: new Map<OptionKey, Setting>(),
    variables: new Map<string, Setting>(),
    own: new Map<string, Setting>(),
    jobs: new Map<JobName, JobLevel>(),
  }
  const known = [...clusterKeys.keys(), ...sections.keys(), environmentKey]
  for (const entry of entriesOf(value, what, source)) {
    const section = sections.get(entry.key)
    const at = `${what}.${entry.key}`
    if (clusterKeys.has(entry.key)) {
      const setting = textOf(entry, source)
      if (setting) level.own.set(entry.key, setting)
    } else if (entry.key === environmentKey) readVariables(entry, level, source)
    else if (!section) unknownKey(entry, what, known, source)
    else if (Object.hasOwn(jobTable, entry.key)) {
      const job = readJob(entry, section, at, source)
      if (job) level.jobs.set(entry.key as JobName, job)
    } else readOptions(entry, section, at, level.options, source)
  }
  return level
}

/** Undefined for what is no map, such as `retention: off`: what would be missing in one is no further mistake. */
function readJob(entry: YamlEntry, section: SectionShape, what: string, source: ReferenceSource): JobLevel | undefined {
  const { kind, place } = entry.value
  if (kind === 'text' || kind === 'list') {
    source.mistakes.add(
      place,
      `${what} has to be a map: lines of "key: value"; for a job that never runs, {schedule: off}`,
    )
    return undefined
  }
  const own = new Map<string, Setting>()
  const options = new Map<OptionKey, Setting>()
  const triggers = new Map<TriggerName, Setting[]>()
  const onOther = (each: YamlEntry) => {
    if ((triggerNames as readonly string[]).includes(each.key)) {
      triggers.set(each.key as TriggerName, patternsOf(each, source))
      return
    }
    const setting = textOf(each, source)
    if (setting) own.set(each.key, setting)
  }
  readOptions(entry, section, what, options, source, onOther)
  return { place: entry.place, options, own, triggers }
}

function patternsOf(entry: YamlEntry, source: ReferenceSource): Setting[] {
  const { value } = entry
  const items = value.kind === 'list' ? value.items : [value]
  if (items.length === 0) source.mistakes.add(value.place, `${entry.key} is an empty list; write off for never`)
  return items.flatMap((item) => textOf({ ...entry, value: item }, source) ?? [])
}

/** Reads the keys of a section that are options. @param onOther gets those that are not */
function readOptions(
  entry: YamlEntry,
  section: SectionShape,
  what: string,
  options: Map<OptionKey, Setting>,
  source: ReferenceSource,
  onOther: (entry: YamlEntry) => void = () => {},
): void {
  for (const each of entriesOf(entry.value, what, source)) {
    const direct = section.keys.get(each.key)
    const named = direct ?? section.keys.get(each.key.slice(0, -fileEnding.length))
    const isFile = !direct && each.key.endsWith(fileEnding)
    if (!named || (!direct && (!isFile || named.option === undefined)))
      unknownKey(each, what, section.keys.keys(), source)
    else if (named.option === undefined) onOther(each)
    else setOption(named, each, isFile, options, source)
  }
}

function setOption(
  { option }: KeyShape,
  entry: YamlEntry,
  isFile: boolean,
  options: Map<OptionKey, Setting>,
  source: ReferenceSource,
): void {
  const text = textOf(entry, source)
  const setting = text && isFile ? fromFile(text, source) : text
  if (!text || option === undefined) return
  const before = options.get(option)
  if (before) source.mistakes.add(entry.place, `${shownKey(entry.key)} is set in line ${before.place.line} already`)
  const problem = setting && problemOf(optionTable[option], { text: setting.text, source: 'environment' })
  if (problem !== undefined) source.mistakes.add(text.place, `${shownKey(entry.key)} ${problem}`)
  // One with a mistake is set too: that it is missing would be another mistake.
  options.set(option, setting ?? { ...text, text: '' })
}

function readVariables(
  entry: YamlEntry,
  level: { readonly options: Map<OptionKey, Setting>; readonly variables: Map<string, Setting> },
  source: ReferenceSource,
): void {
  for (const each of entriesOf(entry.value, environmentKey, source)) {
    const { isFile, name } = variableNamed(each.key)
    const option = optionByVariable.get(name)
    if (!/^[A-Za-z_]\w*$/.test(each.key)) {
      source.mistakes.add(each.place, `${environmentKey} has a key that is no name of a variable`)
    } else if (option === 'configPath') {
      source.mistakes.add(each.place, 'a cluster has no config file of its own: write its settings here')
    } else if (isOfProcessAlone(name)) {
      source.mistakes.add(
        each.place,
        `${name} counts only in the environment of walrx itself: use AWS_PROFILE or keys here`,
      )
    } else if (option !== undefined) {
      const label = { option, help: '', type: optionTable[option].type }
      setOption(label, { ...each, key: name }, isFile, level.options, source)
    } else {
      const meant = misspelled(name)
      const hint = meant === undefined ? 'docs/reference.md lists all settings' : `did you mean ${meant}?`
      if (meant !== undefined || /^(WALG|WALE|WALRX)_/.test(name)) {
        source.mistakes.add(each.place, `no setting has this name: ${hint}`)
        continue
      }
      const text = textOf(each, source)
      const setting = text && isFile ? fromFile(text, source) : text
      if (setting) level.variables.set(name, setting)
    }
  }
}

/** Variables that libpq has, and what walrx knows besides. */
const known: ReadonlySet<string> = new Set([
  ...knownNames(),
  ...Object.values(keywords).flatMap((keyword) => ('env' in keyword ? [keyword.env] : [])),
])

/** `PGPASSWORD_FILE` is a file with PGPASSWORD; AWS_CONFIG_FILE is a setting of its own. */
function variableNamed(key: string): { readonly name: string; readonly isFile: boolean } {
  const name = key.slice(0, -variableFileEnding.length)
  const isFile = !known.has(key) && key.endsWith(variableFileEnding) && known.has(name)
  return isFile ? { name, isFile } : { name: key, isFile: false }
}

/** The known name that is meant, where all names of a family are known. */
function misspelled(name: string): string | undefined {
  if (known.has(name) || !(isPassedOn(name) || /^(WALG|WALE|WALRX|AWS|S3)_/.test(name))) return undefined
  const meant = nearest(name, known)
  // The AWS SDK reads more variables than are known here.
  const isSure = meant !== undefined && (!/^(AWS|S3)_/.test(name) || editDistance(name, meant) <= 2)
  return isSure ? meant : undefined
}

/** A key in a mistake: those of the table are words, others could be anything. */
function shownKey(key: string): string {
  return /^[A-Za-z_][\w-]{0,60}$/.test(key) ? key : 'this key'
}

/** What is wrong with the text of a key of our own that is read like an option; undefined for nothing. */
export function ownProblem({ type }: KeyShape, { text }: Setting): string | undefined {
  if (type.kind === 'schedule' || type.kind === 'time zone') return undefined
  const parsed = parseOptionText(type, text)
  return 'problem' in parsed ? parsed.problem : undefined
}
