/**
 * Whether two archives are one, or one lies in the other, however their places are written: by a link, by a bind mount, by
 * another name of the same endpoint. Nothing is written to find out.
 */
import { realpath, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { WalrxError } from '../primitives/errors.ts'
import { type Mount, readMounts } from '../primitives/mounts.ts'
import { errnoOf } from '../storage/file/file-system.ts'
import { archiveFolders } from '../walg/names.ts'
import type { OtherArchive } from './other-archive.ts'

/** An archive, as far as its place goes. */
export type PlacedArchive = Pick<OtherArchive, 'endpoint'> & { readonly storage: { readonly location: string } }

/** How the place of a copy lies to that of its source. */
type Relation = 'same' | 'inside' | 'around'

/**
 * Refuses to copy an archive to its own place, into itself, or to a place that it lies in.
 * @throws WALRX_USAGE, naming both
 */
export async function refuseSamePlace(source: PlacedArchive, target: PlacedArchive): Promise<void> {
  const relation = await relationOf(source, target)
  if (relation === undefined) return
  const [ours, theirs] = [source, target].map((archive) => archive.storage.location)
  const message = {
    same: `the archive ${ours} and the place of its copy, ${theirs}, are the same`,
    inside: `the place of the copy, ${theirs}, lies in the archive ${ours}`,
    around: `the archive ${ours} lies in the place of its copy, ${theirs}`,
  }[relation]
  throw new WalrxError('WALRX_USAGE', `${message}: nothing was copied`, {
    hint: 'name another place by --to, which is not the archive, not in it and not above it',
  })
}

async function relationOf(source: PlacedArchive, target: PlacedArchive): Promise<Relation | undefined> {
  const [ours, theirs] = [directoryOf(source), directoryOf(target)]
  if (ours !== undefined && theirs !== undefined) return betweenDirectories(ours, theirs)
  if (ours !== undefined || theirs !== undefined) return undefined
  if (storeOf(source.endpoint) !== storeOf(target.endpoint)) return undefined
  return betweenPaths(`${source.storage.location}/`, `${target.storage.location}/`)
}

function directoryOf({ storage: { location } }: PlacedArchive): string | undefined {
  return location.startsWith('file://') ? resolve(location.slice('file://'.length)) : undefined
}

/** Both end with a slash. */
function betweenPaths(ours: string, theirs: string): Relation | undefined {
  if (ours === theirs) return 'same'
  if (theirs.startsWith(ours)) return 'inside'
  return ours.startsWith(theirs) ? 'around' : undefined
}

/** One name for a store, however its endpoint is written. Names of buckets are unique in a partition of AWS. */
function storeOf(endpoint: string | undefined): string {
  if (endpoint === undefined) return 'amazonaws.com'
  const text = /^https?:\/\//i.test(endpoint) ? endpoint : `https://${endpoint}`
  if (!URL.canParse(text)) return endpoint
  const { hostname, pathname, port, protocol } = new URL(text)
  const [, partition] = /(?:^|\.)(amazonaws\.com(?:\.cn)?)\.?$/.exec(hostname) ?? []
  if (partition !== undefined) return partition
  const host = /^(localhost|127\.0\.0\.1|\[::1\])$/.test(hostname) ? 'localhost' : hostname.replace(/\.$/, '')
  const effective = port === '' ? (protocol === 'http:' ? '80' : '443') : port
  return `${host}:${effective}${pathname.replace(/\/+$/, '')}`
}

/** Where a directory really is. */
interface Position {
  /** Device and inode of the directory; undefined where it does not exist yet. */
  readonly own: string | undefined
  /** Those of all that it lies in. */
  readonly above: ReadonlySet<string>
  /** Its path within its file system, with a slash at the end; undefined where the system does not say it. */
  readonly inFileSystem: string | undefined
}

/** The directories, and the folders of an archive in them, which may be links to elsewhere. */
async function betweenDirectories(ours: string, theirs: string): Promise<Relation | undefined> {
  const [left, right] = await Promise.all([positionsOf(ours), positionsOf(theirs)])
  for (const a of left) {
    for (const b of right) {
      const relation = between(a, b)
      if (relation !== undefined) return relation
    }
  }
  return undefined
}

async function positionsOf(directory: string): Promise<Position[]> {
  const mounts = await readMounts()
  const folders = archiveFolders.own.map((name) => join(directory, name))
  return Promise.all([directory, ...folders].map((path) => positionOf(path, mounts)))
}

function between(ours: Position, theirs: Position): Relation | undefined {
  if (ours.own !== undefined && ours.own === theirs.own) return 'same'
  if (ours.own !== undefined && theirs.above.has(ours.own)) return 'inside'
  if (theirs.own !== undefined && ours.above.has(theirs.own)) return 'around'
  if (ours.inFileSystem === undefined || theirs.inFileSystem === undefined) return undefined
  return betweenPaths(ours.inFileSystem, theirs.inFileSystem)
}

async function positionOf(path: string, mounts: readonly Mount[]): Promise<Position> {
  let [existing, rest] = [path, '']
  let real = await realOrNothing(existing)
  for (; real === undefined && existing !== dirname(existing); existing = dirname(existing)) {
    rest = `/${basename(existing)}${rest}`
    real = await realOrNothing(dirname(existing))
  }
  const ids: string[] = []
  for (let at = real ?? '/'; ; at = dirname(at)) {
    const { dev, ino } = await stat(at, { bigint: true })
    ids.push(`${dev}:${ino}`)
    if (at === dirname(at)) break
  }
  const own = rest === '' ? ids.shift() : undefined
  return { own, above: new Set(ids), inFileSystem: inFileSystem(`${real ?? ''}${rest}`, mounts) }
}

async function realOrNothing(path: string): Promise<string | undefined> {
  try {
    return await realpath(path)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES'].includes(errnoOf(error) ?? '')) return undefined
    throw error
  }
}

function inFileSystem(path: string, mounts: readonly Mount[]): string | undefined {
  const under = (folder: string) => path === folder || path.startsWith(folder === '/' ? '/' : `${folder}/`)
  const mount = mounts.reduce<Mount | undefined>(
    (best, each) => (under(each.at) && each.at.length >= (best?.at.length ?? 0) ? each : best),
    undefined,
  )
  if (!mount) return undefined
  const rest = mount.at === '/' ? path : path.slice(mount.at.length)
  return `${mount.device}:${mount.root === '/' ? '' : mount.root}${rest === '/' ? '' : rest}/`
}
