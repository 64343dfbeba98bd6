/** Files of the embedded PostgreSQL servers: binaries, freshly initialised data directories, copies of them. */
import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { chmod, copyFile, lchown, mkdir, open, readdir, readlink, rename, stat, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { newServerDirectory } from '../walrx/test-workspace.ts'

const run = promisify(execFile)

/** The major versions that the tests run against, oldest first. */
export const pgMajors = [14, 15, 16, 17, 18] as const

/** The version that comes next. There is no package of it yet: its programs are in the directory that `PG19_BIN` names. */
export const nextMajor = 19

/** A version of {@link pgMajors}, or {@link nextMajor}. */
export type PgMajor = (typeof pgMajors)[number] | typeof nextMajor

/** Why tests of a version are skipped; false where they are not. */
export function majorSkip(major: PgMajor): string | false {
  const isMissing = major === nextMajor && process.env['PG19_BIN'] === undefined
  return isMissing && 'PG19_BIN names no directory with the programs of PostgreSQL 19'
}

/** What decides how initdb lays a cluster out. */
export interface ClusterLayout {
  readonly major: PgMajor
  readonly segmentSizeMb: 1 | 16 | 64
  readonly dataChecksums: boolean
}

/** PostgreSQL refuses to run as root: there its programs run as `nobody`. */
export const serverIdentity: { uid?: number; gid?: number } = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}

/** The superuser of every cluster of the tests. */
export const superuser = 'postgres'

/** Path of one of `initdb`, `pg_ctl` and `postgres`. */
export function pgBinary(major: PgMajor, name: 'initdb' | 'pg_ctl' | 'postgres'): string {
  const { PG19_BIN } = process.env
  if (major === nextMajor) return join(PG19_BIN ?? '', name)
  return fileURLToPath(new URL(`../../../node_modules/pg${major}/native/bin/${name}`, import.meta.url))
}

/** The environment of a server: ours without what speaks to psql, to initdb or to the test runner. */
export function serverEnvironment(home: string): NodeJS.ProcessEnv {
  // The cache of compiled code stays: a restore_command starts walrx again and again.
  const entries = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG|NODE_(?!COMPILE_CACHE$))/.test(name))
  return { ...Object.fromEntries(entries), LC_ALL: 'C', HOME: home }
}

/** Makes a directory that the server owns. */
export async function makeServerDirectory(path: string, mode: number): Promise<void> {
  await mkdir(path, { recursive: true })
  await chmod(path, mode)
  await giveToServer(path)
}

/** Makes the server the owner of a file, directory or link. */
export async function giveToServer(path: string): Promise<void> {
  if (serverIdentity.uid !== undefined) await lchown(path, serverIdentity.uid, serverIdentity.gid ?? -1)
}

/** Runs initdb in `dataDir`, which must not exist. Takes about a second. */
export async function initCluster(layout: ClusterLayout, dataDir: string): Promise<void> {
  const { dataChecksums, major, segmentSizeMb } = layout
  await makeServerDirectory(dirname(dataDir), 0o755)
  const options = ['--username', superuser, '--auth', 'trust', '--no-sync', '--encoding', 'UTF8', '--locale', 'C']
  options.push(`--wal-segsize=${segmentSizeMb}`)
  // 18 turned checksums on by default, and knows the option to turn them off again.
  if (dataChecksums) options.push('--data-checksums')
  else if (major >= 18) options.push('--no-data-checksums')
  const home = dirname(dataDir)
  await run(pgBinary(major, 'initdb'), ['--pgdata', dataDir, ...options], {
    ...serverIdentity,
    cwd: home,
    env: serverEnvironment(home),
  })
}

const templates = new Map<string, Promise<string>>()

/**
 * A data directory of this layout that nobody may start, only copy: initdb runs once per layout and test process, or
 * once per test run where the runner names a common directory in `WALRX_TEST_TEMPLATES`. Copies share the system
 * identifier.
 */
export function clusterTemplate(layout: ClusterLayout): Promise<string> {
  const key = `${layout.major}-${layout.segmentSizeMb}${layout.dataChecksums ? '-checksums' : ''}`
  const known = templates.get(key)
  if (known) return known
  const made = makeTemplate(layout, key)
  templates.set(key, made)
  return made
}

async function makeTemplate(layout: ClusterLayout, key: string): Promise<string> {
  const shared = process.env['WALRX_TEST_TEMPLATES']
  const finished = shared === undefined ? undefined : join(shared, key)
  if (finished !== undefined && (await exists(finished))) return join(finished, 'data')
  const directory = shared === undefined ? newServerDirectory('template') : join(shared, `${key}.${process.pid}`)
  await initCluster(layout, join(directory, 'data'))
  if (finished === undefined) return join(directory, 'data')
  // Another process may have been faster: a directory that is not empty is never replaced.
  await rename(directory, finished).catch(async (error: unknown) => {
    if (!(await exists(finished))) throw error
  })
  return join(finished, 'data')
}

/** True when there is something at `path`. */
export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

/**
 * Copies a directory with everything below it, owned by the server. Files that vanish meanwhile are left out: a
 * running server removes some.
 * @param skip true for a path relative to `from` that is left out; a directory that is left out is not entered
 */
export async function copyTree(from: string, to: string, skip?: (relativePath: string) => boolean): Promise<void> {
  await makeServerDirectory(to, (await stat(from)).mode & 0o777)
  await copyBelow(from, to, '', skip ?? (() => false))
}

async function copyBelow(from: string, to: string, below: string, skip: (path: string) => boolean): Promise<void> {
  for (const entry of await readdir(join(from, below), { withFileTypes: true }).catch(ignoreMissing)) {
    const path = join(below, entry.name)
    if (skip(path)) continue
    const target = join(to, path)
    if (entry.isDirectory()) {
      await makeServerDirectory(target, 0o700)
      await copyBelow(from, to, path, skip)
    } else if (entry.isSymbolicLink()) {
      await symlink(await readlink(join(from, path)), target)
      await giveToServer(target)
    } else if (entry.isFile()) {
      const copied = await copyFile(join(from, path), target, constants.COPYFILE_FICLONE).then(
        () => [true],
        ignoreMissing,
      )
      if (copied.length > 0) await giveToServer(target)
    }
  }
}

function ignoreMissing(error: unknown): [] {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
  throw error
}

/**
 * The cluster's system identifier: the first eight bytes of global/pg_control, in the machine's byte order
 * (ControlFileData in catalog/pg_control.h).
 */
export async function readSystemId(dataDir: string): Promise<bigint> {
  const file = await open(join(dataDir, 'global/pg_control'))
  try {
    const { buffer } = await file.read(Buffer.alloc(8), 0, 8, 0)
    return buffer.readBigUInt64LE(0)
  } finally {
    await file.close()
  }
}
