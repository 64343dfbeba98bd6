/** A whole configuration: what `walrx serve` is to run, or all that is wrong with it. */
import { totalmem } from 'node:os'
import { isAbsolute } from 'node:path'
import { parseBytes } from '../../config/options/option-values.ts'
import { redactText } from '../../observe/redact.ts'
import { type ClusterPlan, planCluster } from './cluster-plan.ts'
import { divideMemory } from './memory-shares.ts'
import { emptyLevel, entriesOf, type Level, ownProblem, readLevel, textOf, unknownKey } from './levels.ts'
import type { Mistake, Mistakes, Place } from './mistakes.ts'
import type { ReferenceSource, Setting } from './references.ts'
import { type ReadFileValue, SecretFiles } from './secret-files.ts'
import { clusterNamePattern, topKeys } from './shape.ts'
import { foreignBytes, readYaml, type YamlEntry, type YamlValue } from './yaml-text.ts'

/** What is to run. */
export interface Configuration {
  /** Address of the status page as it was written. */
  readonly listen: string
  readonly memoryBytes: number
  readonly jobsMax: number
  readonly nice: number
  readonly stateDirectory: string
  readonly clusters: readonly ClusterPlan[]
  /** Bytes for WAL of each cluster, by its name. */
  readonly shares: ReadonlyMap<string, number>
}

/** What a cluster's settings say beyond the text of each: asked of those who know the commands. */
export interface ClusterFacts {
  readonly problems: readonly { readonly text: string; readonly about?: string }[]
  /** `host:port` of each host. */
  readonly servers: readonly string[]
  /** Undefined without one. */
  readonly slot: string | undefined
  /** The place of the archive, in one writing; ends with a slash. Undefined where it cannot be read. */
  readonly archive: string | undefined
  /** More texts that must never be printed. */
  readonly secrets: readonly string[]
}

/** What {@link readConfiguration} needs. */
export interface ReadInput {
  /** The file, as text or as its bytes. */
  readonly text: string | Buffer
  /** Variables of the process, for `${NAME}`. */
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly inspect: (plan: ClusterPlan) => Promise<ClusterFacts>
  /** Reads a file with a value, for tests; default {@link readFileValue}. */
  readonly readFile?: ReadFileValue
}

/** The configuration, or the mistakes in the order of the file; never both. */
export type ReadOutcome =
  | { readonly configuration: Configuration; readonly mistakes?: undefined }
  | { readonly configuration?: undefined; readonly mistakes: readonly Mistake[] }

/** Reads a configuration. Never throws for what the text holds. */
export async function readConfiguration({ environment, inspect, readFile, text }: ReadInput): Promise<ReadOutcome> {
  const foreign = typeof text === 'string' ? undefined : foreignBytes(text)
  if (foreign) return { mistakes: [foreign] }
  const { mistakes, root } = readYaml(text.toString())
  const source = { environment, mistakes, found: new Set<string>(), files: new SecretFiles() }
  if (!root || root.kind === 'nothing') {
    if (mistakes.list().length === 0) mistakes.add({ line: 1, column: 1 }, 'the file is empty: it needs clusters')
    return { mistakes: mistakes.list() }
  }
  // The first reading only shows which files there are.
  readParts(root, { ...source, mistakes: mistakes.apart() })
  await source.files.read(readFile)
  const { defaults, levels, parts } = readParts(root, source)
  if (root.kind !== 'map') return { mistakes: mistakes.list() }
  const plans = levels.map(({ level, name }) => planCluster(name, level, defaults, mistakes))
  const numberOf = (key: string, fallback: number) => Number(parts.values.get(key)?.text ?? fallback)
  const memory = memoryOf(parts.values.get('memory'))
  const shares = divideMemory(plans, memory, parts.values.get('memory')?.place ?? root.place, mistakes)
  const state = stateOf(parts.values.get('state'), environment, mistakes)
  // What is wrong already would be found again, in other words.
  if (mistakes.list().length > 0) return { mistakes: mistakes.list() }
  const clusters = await inspected(plans, { inspect, mistakes, found: source.found })
  if (mistakes.list().length > 0) return { mistakes: mistakes.list() }
  return {
    configuration: {
      listen: parts.values.get('listen')?.text.trim() ?? '127.0.0.1:8432',
      memoryBytes: memory,
      jobsMax: numberOf('jobs', 2),
      nice: numberOf('nice', 10),
      stateDirectory: state,
      clusters,
      shares,
    },
  }
}

interface Parts {
  readonly parts: Top
  readonly defaults: Level
  readonly levels: readonly { readonly name: string; readonly level: Level }[]
}

function readParts(root: YamlValue, source: ReferenceSource): Parts {
  const parts = readTop(root, source)
  if (root.kind !== 'map') return { parts, defaults: emptyLevel, levels: [] }
  const defaults = parts.defaults ? readLevel(parts.defaults.value, 'defaults', source) : emptyLevel
  const levels = clusterEntries(parts.clusters, root.place, source).map(({ key, place, value }) => {
    return { name: key, level: { ...readLevel(value, `clusters.${key}`, source), place } }
  })
  return { parts, defaults, levels }
}

interface Top {
  readonly values: ReadonlyMap<string, Setting>
  readonly defaults: YamlEntry | undefined
  readonly clusters: YamlEntry | undefined
}

function readTop(root: YamlValue, source: ReferenceSource): Top {
  const values = new Map<string, Setting>()
  const maps = new Map<string, YamlEntry>()
  for (const entry of entriesOf(root, 'the file', source)) {
    const shape = topKeys.get(entry.key)
    if (entry.key === 'defaults' || entry.key === 'clusters') maps.set(entry.key, entry)
    else if (!shape) unknownKey(entry, 'the file', [...topKeys.keys(), 'defaults', 'clusters'], source)
    else {
      const setting = textOf(entry, source)
      const problem = setting && (entry.key === 'listen' ? listenProblem(setting.text) : ownProblem(shape, setting))
      if (setting && problem !== undefined) source.mistakes.add(setting.place, `${entry.key} ${problem}`)
      else if (setting) values.set(entry.key, setting)
    }
  }
  return { values, defaults: maps.get('defaults'), clusters: maps.get('clusters') }
}

function listenProblem(text: string): string | undefined {
  const match = /^(?:(?:\[[^\]]+\]|[^:[\]]+):)?(\d{1,5})$/.exec(text.trim())
  const isGood = text.trim().toLowerCase() === 'off' || (match && Number(match[1]) <= 65535)
  return isGood ? undefined : 'must be HOST:PORT, for instance 127.0.0.1:8432, or off'
}

function clusterEntries(clusters: YamlEntry | undefined, top: Place, source: ReferenceSource): YamlEntry[] {
  if (!clusters) source.mistakes.add(top, 'the file has no clusters: there is nothing to do')
  const entries = clusters ? entriesOf(clusters.value, 'clusters', source) : []
  if (clusters && entries.length === 0) source.mistakes.add(clusters.place, 'clusters is empty: there is nothing to do')
  return entries.filter(({ key, place }) => {
    const isGood = clusterNamePattern.test(key)
    const text = 'the name of a cluster is up to 63 letters, digits, _, - and ., and begins with a letter or a digit'
    if (!isGood) source.mistakes.add(place, text)
    return isGood
  })
}

function memoryOf(setting: Setting | undefined): number {
  const given = setting && parseBytes(setting.text)
  if (given !== undefined) return given
  const limit = process.constrainedMemory()
  const machine = limit > 0 && limit < totalmem() ? limit : totalmem()
  const MiB = 1024 * 1024
  return Math.max(64 * MiB, Math.floor(machine / 4 / MiB) * MiB)
}

function stateOf(setting: Setting | undefined, environment: ReadInput['environment'], mistakes: Mistakes): string {
  if (setting && !isAbsolute(setting.text)) mistakes.add(setting.place, 'state must be an absolute path')
  // systemd gives several directories with colons between.
  return setting?.text ?? environment['STATE_DIRECTORY']?.split(':', 1)[0] ?? '/var/lib/walrx'
}

/** Asks for what the texts alone do not show, and compares the clusters. */
async function inspected(
  plans: readonly ClusterPlan[],
  { found, inspect, mistakes }: Pick<ReadInput, 'inspect'> & Pick<ReferenceSource, 'found' | 'mistakes'>,
): Promise<ClusterPlan[]> {
  const facts: ClusterFacts[] = []
  for (const plan of plans) facts.push(await inspect(plan))
  const secrets = [
    ...new Set([...found, ...plans.flatMap((plan) => plan.secrets), ...facts.flatMap((fact) => fact.secrets)]),
  ]
  for (const [index, plan] of plans.entries()) {
    for (const { about, text } of facts[index]?.problems ?? []) {
      const place = about === undefined ? undefined : plan.places.get(about)
      mistakes.add(place ?? namedIn(text, plan) ?? plan.place, redactText(text, secrets))
    }
  }
  for (const [later, plan] of plans.entries()) {
    for (let earlier = 0; earlier < later; earlier++) {
      const [one, two] = [facts[earlier], facts[later]]
      const other = plans[earlier]
      if (one && two && other) compare({ plan, other, one, two, mistakes })
    }
  }
  return plans.map((plan, index) => ({ ...plan, secrets: [...plan.secrets, ...(facts[index]?.secrets ?? [])] }))
}

/** The place of the first setting that a message names. */
function namedIn(text: string, { places }: ClusterPlan): Place | undefined {
  for (const [word] of text.matchAll(/--[a-z][\w-]*|[A-Z][A-Z0-9_]{3,}/g)) {
    const place = places.get(word)
    if (place) return place
  }
  return undefined
}

interface Pair {
  readonly plan: ClusterPlan
  readonly other: ClusterPlan
  readonly one: ClusterFacts
  readonly two: ClusterFacts
  readonly mistakes: Mistakes
}

function compare({ mistakes, one, other, plan, two }: Pair): void {
  const at = (...names: readonly string[]) => {
    for (const name of names) if (plan.places.get(name)) return plan.places.get(name) as Place
    return plan.place
  }
  if (one.archive !== undefined && two.archive !== undefined) {
    const place = at('WALG_STORAGE_PREFIX', 'WALG_S3_PREFIX', 'WALG_FILE_PREFIX')
    if (one.archive === two.archive) mistakes.add(place, `the archive is that of ${other.name} too: each needs its own`)
    else if (one.archive.startsWith(two.archive) || two.archive.startsWith(one.archive)) {
      mistakes.add(place, `the archive and that of ${other.name} lie in each other: give each a folder of its own`)
    }
  }
  const shared = two.servers.find((server) => one.servers.includes(server))
  if (shared !== undefined && one.slot !== undefined && one.slot === two.slot) {
    const text = `server and slot are those of ${other.name} too: only one can receive from a slot`
    mistakes.add(at('WALG_SLOTNAME', 'WALRX_DBNAME', '--dbname', 'PGHOST'), text)
  }
}
