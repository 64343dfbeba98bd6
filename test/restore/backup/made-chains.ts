/** Chains of made-up backups, a full one and deltas on it, as WAL-G or WAL-RUS would store them; and what they mean. */
import { posix } from 'node:path'
import { serverTar, type ServerFile } from '../../backup/parts/tars.ts'
import { drawPage, drawPages, nativeBytes, page, wi1Of } from '../../harness/made/increments.ts'
import type { Random } from '../../harness/random.ts'

/** A data directory: contents by path. */
export type State = ReadonlyMap<string, Buffer>

/** One entry of Files, with what its tar entry holds. */
export interface MadeEntry {
  readonly kind: 'whole' | 'skipped' | 'wi1' | 'native'
  /** Empty where it is skipped. */
  readonly body: Buffer
}

/** One backup of a chain. */
export interface MadeStep {
  readonly name: string
  /** The data directory when it was taken, pg_control and backup_label included. */
  readonly state: State
  /** By path. Tests may change them before the chain is stored. */
  readonly entries: Map<string, MadeEntry>
}

/** A chain, the full backup first. */
export interface MadeChain {
  readonly steps: readonly MadeStep[]
  /** WAL-G's names have a slash in front, and its label has a tar of its own; WAL-RUS's have neither. */
  readonly slash: boolean
}

const control = 'global/pg_control'
const label = 'backup_label'
const utilities = new Set([control, label])

/** Draws a chain: relations are made, changed, cut, extended, rewritten and dropped between its backups. */
export function drawChain(random: Random, deltas: number): MadeChain {
  const steps: MadeStep[] = []
  let state = drawState(random)
  for (let step = 0; step <= deltas; step++) {
    if (step > 0) state = changeState(random, state)
    state.set(control, Buffer.alloc(8192, step + 1))
    state.set(label, Buffer.from(`START WAL LOCATION of step ${step}`))
    const before = steps.at(-1)?.state
    const entries = new Map<string, MadeEntry>()
    for (const [path, content] of state)
      if (!utilities.has(path)) entries.set(path, drawEntry(random, before, path, content))
    steps.push({ name: nameOf(steps.at(-1)?.name, step), state: new Map(state), entries })
  }
  return { steps, slash: random.chance(0.5) }
}

const segmentOf = (step: number) =>
  (2 * step + 2).toString(16).toUpperCase().padStart(24, '0').replace(/^0{8}/, '00000001')

function nameOf(parent: string | undefined, step: number): string {
  return `base_${segmentOf(step)}${parent === undefined ? '' : `_D_${parent.slice('base_'.length, 29)}`}`
}

function drawRelation(random: Random): Buffer {
  return Buffer.concat(Array.from({ length: random.int(0, 8) }, () => drawPage(random)))
}

function drawPath(random: Random): string {
  return `${random.pick(['base/1', 'base/5', 'pg_tblspc/16384/PG_17_202406281/5'])}/${random.int(1, 12)}`
}

function drawState(random: Random): Map<string, Buffer> {
  const state = new Map<string, Buffer>([['PG_VERSION', Buffer.from('17\n')]])
  for (let count = random.int(3, 10); count > 0; count--) state.set(drawPath(random), drawRelation(random))
  return state
}

function changeState(random: Random, before: State): Map<string, Buffer> {
  const state = new Map<string, Buffer>()
  for (const [path, content] of before) {
    const change = path === 'PG_VERSION' ? 'none' : random.pick(['none', 'none', 'pages', 'pages', 'rewrite', 'drop'])
    if (change === 'drop') continue
    state.set(
      path,
      change === 'none' ? content : change === 'rewrite' ? drawRelation(random) : changePages(random, content),
    )
  }
  for (let count = random.int(0, 3); count > 0; count--) state.set(drawPath(random), drawRelation(random))
  return state
}

function changePages(random: Random, content: Buffer): Buffer {
  const length = page * random.pick([content.length / page, random.int(0, 12)])
  const changed: Buffer = Buffer.alloc(length)
  content.copy(changed)
  for (const [block, bytes] of drawPages(random, length / page)) bytes.copy(changed, block * page)
  return changed
}

function drawEntry(random: Random, before: State | undefined, path: string, content: Buffer): MadeEntry {
  const older = before?.get(path)
  const isPaged = content.length % page === 0 && path !== 'PG_VERSION'
  const kind = older && random.pick(['whole', 'skipped', 'wi1', 'wi1', 'native', 'native'])
  if (kind === 'skipped' && older?.equals(content)) return { kind, body: Buffer.alloc(0) }
  if (older && isPaged && kind === 'wi1') {
    return { kind, body: wi1Of(content.length / page, listed(random, older, content, content.length / page)) }
  }
  if (older && isPaged && kind === 'native') {
    const truncation = random.pick([content.length / page, random.int(0, content.length / page)])
    return { kind, body: nativeBytes({ truncation, pages: listed(random, older, content, truncation) }) }
  }
  return { kind: 'whole', body: content }
}

/** The pages that an increment must list, and some that it need not. */
function listed(random: Random, older: Buffer, content: Buffer, kept: number): Map<number, Buffer> {
  const blocks = content.length / page
  const pages = new Map<number, Buffer>()
  for (let block = 0; block < blocks; block++) {
    const bytes = content.subarray(block * page, (block + 1) * page)
    const held = block < kept ? older.subarray(block * page, (block + 1) * page) : Buffer.alloc(0)
    const isSame = bytes.equals(held.length === page ? held : Buffer.alloc(page))
    const isLength = block === blocks - 1 && kept < blocks
    if (!isSame || isLength || random.chance(0.2)) pages.set(block, bytes)
  }
  return pages
}

/** The objects of a chain, by key. @param partsMax of one backup */
export function storeChain(random: Random, chain: MadeChain, partsMax = 3): Map<string, Buffer> {
  const objects = new Map<string, Buffer>()
  for (const [index, step] of chain.steps.entries()) {
    const folder = `basebackups_005/${step.name}`
    const key = (path: string) => (chain.slash ? `/${path}` : path)
    const named = (path: string, content: Buffer): ServerFile => ({
      name: key(path),
      kind: 'file',
      content,
      mode: 0o600,
    })
    const parts: ServerFile[][] = Array.from({ length: random.int(1, partsMax) }, () => [])
    const directories = [...new Set([...step.state.keys()].flatMap(directoriesOf))].sort()
    for (const name of directories) parts[0]!.push({ name: key(name), kind: 'directory', mode: 0o700 })
    const files: Record<string, object> = {}
    const record = (path: string, kind: MadeEntry['kind']) => {
      const isIncremented = kind === 'wi1' || kind === 'native'
      files[key(path)] = { IsIncremented: isIncremented, IsSkipped: kind === 'skipped', MTime: '2026-01-01T00:00:00Z' }
    }
    for (const [path, { body, kind }] of step.entries) {
      record(path, kind)
      if (kind !== 'skipped') random.pick(parts).push(named(path, body))
    }
    const labelFile: ServerFile = { name: label, kind: 'file', content: step.state.get(label)!, mode: 0o600 }
    if (chain.slash) objects.set(`${folder}/tar_partitions/backup_label.tar`, serverTar([labelFile]))
    else {
      record(label, 'whole')
      parts[0]!.push(labelFile)
    }
    for (const [number, part] of parts.entries()) {
      objects.set(`${folder}/tar_partitions/part_00${number + 1}.tar`, serverTar(part))
    }
    const controlTar = serverTar([
      { name: `/${control}`, kind: 'file', content: step.state.get(control)!, mode: 0o600 },
    ])
    objects.set(`${folder}/tar_partitions/pg_control.tar`, controlTar)
    objects.set(`${folder}/files_metadata.json`, Buffer.from(JSON.stringify({ Files: files })))
    objects.set(`${folder}_backup_stop_sentinel.json`, sentinelOf(chain.steps, index))
  }
  return objects
}

function directoriesOf(path: string): string[] {
  const folder = posix.dirname(path)
  return folder === '.' ? [] : [...directoriesOf(folder), folder]
}

function sentinelOf(steps: readonly MadeStep[], index: number): Buffer {
  const parent = steps[index - 1]
  const delta = parent && {
    DeltaLSN: 1000 * index,
    DeltaFrom: parent.name,
    DeltaFullName: steps[0]!.name,
    DeltaCount: index,
  }
  const sentinel = {
    LSN: 1000 * (index + 1),
    ...delta,
    FinishLSN: 1000 * (index + 1) + 500,
    PgVersion: 170005,
    Version: 2,
  }
  return Buffer.from(JSON.stringify(sentinel))
}
