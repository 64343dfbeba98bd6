/** An archive with a full backup and deltas of a real server, and data directories that are restored from it. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { lstat, mkdir, open, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Random } from '../../../harness/random.ts'
import { copyTree, makeServerDirectory } from '../../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../../harness/walrx/test-workspace.ts'
import { type ProcessEnd, runWalrx, startWalrx, type WalrxProcess } from '../../../harness/walrx/walrx-process.ts'

/** The counts of `--json`. */
export interface DeltaCounts {
  readonly kept_files: number
  readonly kept_bytes: number
  readonly removed: number
  readonly read_parts: number
  readonly read_bytes: number
  readonly fetch?: readonly { readonly path: string; readonly reason: string }[]
  readonly parts?: readonly string[]
  readonly remove?: readonly string[]
}

/** Kind, mode and content of all that lies in a directory and where its links lead, by path. */
export type Tree = ReadonlyMap<string, string>

/** See the file's header. */
export class DeltaWorld implements AsyncDisposable {
  readonly root: string
  readonly archive: string
  /** Where the server has its tablespace. */
  readonly place: string
  readonly server: TestPostgres
  /** The full one first. */
  readonly names: string[] = []
  #count = 0

  private constructor(root: string, server: TestPostgres) {
    this.root = root
    this.archive = join(root, 'archive')
    this.place = join(root, 'place')
    this.server = server
  }

  static async open(): Promise<DeltaWorld> {
    const root = newServerDirectory('delta-world')
    await makeServerDirectory(root, 0o755)
    const settings = { summarize_wal: 'on', autovacuum: 'off' }
    const server = await startPostgres({ major: 17, segmentSizeMb: 1, dataChecksums: true, settings })
    const world = new DeltaWorld(root, server)
    await mkdir(world.archive)
    await makeServerDirectory(world.place, 0o700)
    return world
  }

  /** Tables, and backups of them: a full one, and two deltas, each with a few changed tables. */
  async fill(): Promise<void> {
    const { server } = this
    await server.sql(`create tablespace place location '${this.place}'`)
    for (let table = 1; table <= 30; table++) {
      const where = table % 10 === 0 ? 'tablespace place' : ''
      await server.sql(
        `create table t${table} ${where} as select g as id, md5(g::text) as text from generate_series(1, 2000) g`,
      )
    }
    await using receiver = startWalrx(['wal-receive', ...this.prefix, '--dbname', server.conninfo()])
    await receiver.logged('streaming')
    await this.push('--full')
    await server.sql('update t1 set id = -id; insert into t10 select 1, 2')
    await this.push('--delta-max-steps', '5')
    await server.sql('update t2 set id = -id; drop table t3; create table u as select 1 as id')
    await this.push('--delta-max-steps', '5')
    await server.sql('create table after_all as select 7 as id')
    const [row] = await server.sql<{ file: string }>('select pg_walfile_name(pg_switch_wal()) as file')
    await receiver.logged(({ file, msg }) => msg === 'archived' && file === row?.file)
    await receiver.stop()
  }

  get prefix(): string[] {
    return ['--file-prefix', this.archive]
  }

  async push(...args: string[]): Promise<string> {
    const settings = ['--dbname', this.server.conninfo(), '--tar-size-threshold', '1MB', '--json']
    const { status, stderr, stdout } = await runWalrx(['backup-push', ...this.prefix, ...settings, ...args])
    assert.equal(status, 0, stderr)
    const { backup_name: name } = JSON.parse(stdout) as { readonly backup_name: string }
    this.names.push(name)
    return name
  }

  /** A directory for `data`, and `place` for the tablespace. */
  async newDirectory(): Promise<string> {
    const directory = newServerDirectory(`delta-${this.#count++}`)
    await makeServerDirectory(directory, 0o755)
    return directory
  }

  /** The arguments of a restore into such a directory. */
  arguments(directory: string, name: string, ...args: string[]): string[] {
    const mapping = `${this.place}=${join(directory, 'place')}`
    const settings = [...this.prefix, '--tablespace-mapping', mapping]
    return ['backup-fetch', join(directory, 'data'), name, ...settings, ...args]
  }

  fetch(directory: string, name: string, ...args: string[]): Promise<ProcessEnd> {
    return runWalrx(this.arguments(directory, name, ...args))
  }

  start(directory: string, name: string, ...args: string[]): WalrxProcess {
    return startWalrx(this.arguments(directory, name, ...args))
  }

  /** A restore with `--delta`, which has to succeed. */
  async over(directory: string, name: string, ...args: string[]): Promise<DeltaCounts> {
    const { status, stderr, stdout } = await this.fetch(directory, name, '--delta', '--json', ...args)
    assert.equal(status, 0, stderr)
    return (JSON.parse(stdout) as { readonly delta: DeltaCounts }).delta
  }

  /** What a restore into an empty directory makes of a backup. */
  async plain(name: string, ...args: string[]): Promise<{ readonly directory: string; readonly tree: Tree }> {
    const directory = await this.newDirectory()
    const { status, stderr } = await this.fetch(directory, name, '--disable-fsync', ...args)
    assert.equal(status, 0, stderr)
    return { directory, tree: await treeOf(directory) }
  }

  /** A copy of such a directory, with its link. */
  async copy(directory: string): Promise<string> {
    const copy = await this.newDirectory()
    for (const part of ['data', 'place']) await copyTree(join(directory, part), join(copy, part))
    return copy
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]()
    await rm(this.root, { recursive: true, force: true })
  }
}

/** Lists `data` and `place` below a directory. */
export async function treeOf(directory: string): Promise<Tree> {
  const tree = new Map<string, string>()
  const walk = async (path: string) => {
    const full = join(directory, path)
    const stat = await lstat(full)
    const mode = (stat.mode & 0o7777).toString(8)
    if (stat.isSymbolicLink()) tree.set(path, `link ${await readlink(full)}`)
    else if (stat.isDirectory()) {
      tree.set(path, `directory ${mode}`)
      for (const name of await readdir(full)) await walk(join(path, name))
    } else
      tree.set(
        path,
        `file ${mode} ${createHash('sha256')
          .update(await readFile(full))
          .digest('hex')}`,
      )
  }
  for (const part of ['data', 'place']) await walk(part)
  return tree
}

/** Both trees are the same. */
export function assertSameTree(found: Tree, expected: Tree, what = ''): void {
  const lines = (tree: Tree) => [...tree].map(([path, is]) => `${path}: ${is}`).sort()
  assert.deepEqual(lines(found), lines(expected), what)
}

/** Changes one byte, and neither size nor time. */
export async function damageSilently(path: string, at: number): Promise<void> {
  const { atime, mtime, size } = await lstat(path)
  await using file = await open(path, 'r+')
  const byte = Buffer.alloc(1)
  await file.read(byte, 0, 1, at)
  byte[0]! ^= 0x10
  await file.write(byte, 0, 1, at)
  await file.utimes(atime, mtime)
  assert.equal((await file.stat()).size, size)
}

/** Damages, removes and adds files all over a data directory, a few of a hundred. */
export async function disturb(directory: string, random: Random): Promise<void> {
  const tree = await treeOf(directory)
  const files = [...tree].filter(([path, is]) => is.startsWith('file') && !path.endsWith('global/pg_control'))
  for (const [path] of files.filter(() => random.chance(0.01))) {
    const full = join(directory, path)
    const { size } = await lstat(full)
    if (size === 0 || random.chance(0.3)) await rm(full)
    else if (random.chance(0.3)) await writeFile(full, 'another content', { mode: 0o600 })
    else await damageSilently(full, random.int(0, size - 1))
  }
  const folders = [...tree].filter(([, is]) => is.startsWith('directory')).map(([path]) => path)
  for (let count = 0; count < 3; count++) {
    const folder = join(directory, random.pick(folders.filter((path) => path !== 'place')))
    await writeFile(join(folder, `stray${count}`), 'stray')
    await mkdir(join(folder, `folder${count}/below`), { recursive: true })
    if (random.chance(0.5)) await writeFile(join(folder, `folder${count}/below/file`), '')
  }
}
