/** A cluster with an archive, watched from outside while backups and restores are killed. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { type Dirent, existsSync, readdirSync, statSync } from 'node:fs'
import { chown, mkdir, rm, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { isTempName } from '../../../src/storage/temp-name.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { makeServerDirectory, pgBinary, serverIdentity } from '../../harness/postgres/postgres-files.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { type ProcessEnd, startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'

/** Rows of the table that makes the cluster large: about 70 MB with everything else. */
const rowCount = 500_000

const intentsFolder = 'walrx_005/backups'

/** A process that is still there then hangs, and its kill fails the trial: none takes longer than a few seconds. */
const hangMs = 90_000

/** See the file's header. */
export class KillWorld implements AsyncDisposable {
  readonly archive: string
  readonly server: TestPostgres
  /** wal-receive. */
  readonly receiver: WalrxProcess
  /** Bytes that a whole backup takes in the archive. */
  backupBytes = 0
  readonly #root: string
  readonly #restored = new Set<string>()
  #directories = 0

  private constructor(root: string, server: TestPostgres, receiver: WalrxProcess) {
    this.#root = root
    this.archive = join(root, 'archive')
    this.server = server
    this.receiver = receiver
  }

  /** Opens it, with one backup made. */
  static async open(): Promise<KillWorld> {
    const root = newServerDirectory('kills')
    await makeServerDirectory(root, 0o755)
    await mkdir(join(root, 'archive'))
    const settings = { autovacuum: 'off', max_wal_size: '4GB', checkpoint_timeout: '1h' }
    const server = await startPostgres({ major: 17, dataChecksums: true, settings })
    await server.sql(`create table t as select g as id, md5(g::text) as text from generate_series(1, ${rowCount}) g`)
    await server.checkpoint()
    const archive = ['--file-prefix', join(root, 'archive')]
    const receiver = startWalrx(['wal-receive', ...archive, '--dbname', server.conninfo()])
    const world = new KillWorld(root, server, receiver)
    try {
      await receiver.logged('streaming')
      const before = world.storedBytes()
      await world.push()
      world.backupBytes = world.storedBytes() - before
      return world
    } catch (error) {
      await world[Symbol.asyncDispose]()
      throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.receiver[Symbol.asyncDispose]()
    await this.server[Symbol.asyncDispose]()
    await rm(this.#root, { recursive: true, force: true })
  }

  /** Starts a backup in small parts, so that some are whole and others unfinished at any moment. */
  startPush(): WalrxProcess {
    const server = ['--dbname', this.server.conninfo()]
    return this.#start(['backup-push', ...this.#prefix(), ...server, '--tar-size-threshold', '8MB', '--json'])
  }

  /** Takes a whole backup. Returns its name. */
  async push(): Promise<string> {
    const { status, stderr, stdout } = await this.startPush().ended
    assert.equal(status, 0, `a backup that nobody disturbs fails: ${stderr}`)
    return (JSON.parse(stdout) as { readonly backup_name: string }).backup_name
  }

  startFetch(destination: string): WalrxProcess {
    return this.#start(['backup-fetch', destination, 'LATEST', '--recover', ...this.#prefix()])
  }

  run(...args: string[]): Promise<ProcessEnd> {
    return this.#start([...args, ...this.#prefix()]).ended
  }

  /** The backups that `walrx backup-list` shows, the oldest first. */
  async listed(): Promise<string[]> {
    const { status, stderr, stdout } = await this.run('backup-list', '--json')
    assert.equal(status, 0, stderr)
    return (JSON.parse(stdout) as readonly { readonly backup_name: string }[]).map((each) => each.backup_name)
  }

  /** LATEST is whole, and (seen once for each backup) PostgreSQL recovers from it. Returns its name. */
  async proveLatest(): Promise<string> {
    const verified = await this.run('backup-verify', 'LATEST', '--json')
    assert.equal(verified.status, 0, verified.stderr)
    const { backup_name: name } = JSON.parse(verified.stdout) as { readonly backup_name: string }
    if (this.#restored.has(name)) return name
    const directory = await this.newDirectory()
    const fetched = await this.startFetch(join(directory, 'data')).ended
    assert.equal(fetched.status, 0, fetched.stderr)
    await this.proveServer(directory)
    this.#restored.add(name)
    return name
  }

  /** PostgreSQL recovers in `<directory>/data`, and has all rows. */
  async proveServer(directory: string): Promise<void> {
    await using restored = await startRestored(directory, 17)
    const [row] = await restored.sql<{ rows: number }>('select count(*)::int as rows from t')
    assert.equal(row?.rows, rowCount)
  }

  /** PostgreSQL refuses to start in a directory. */
  async proveUnusable(data: string): Promise<void> {
    const { gid = 0, uid } = serverIdentity
    if (uid !== undefined) await promisify(execFile)('chown', ['-R', `${uid}:${gid}`, data])
    const failure = await promisify(execFile)(pgBinary(17, 'postgres'), ['-D', data], {
      ...serverIdentity,
      timeout: 100_000,
    }).then(
      () => undefined,
      (error: { readonly code?: number; readonly stderr?: string }) => error,
    )
    assert.ok(typeof failure?.code === 'number' && failure.code > 0, `it starts: ${JSON.stringify(failure)}`)
    // Root owned it before, and a second fetch is tried by root.
    if (uid !== undefined) await chown(data, 0, 0)
  }

  /** A new directory for a restore. */
  async newDirectory(): Promise<string> {
    const directory = newServerDirectory(`kills-restore${this.#directories++}`)
    await makeServerDirectory(directory, 0o755)
    return directory
  }

  /** Names of backups that have an intent. */
  intents(): string[] {
    const folder = join(this.archive, intentsFolder)
    const names = existsSync(folder) ? readdirSync(folder) : []
    return names.filter((name) => /^base_[0-9A-F]+\.json$/.test(name)).map((name) => name.slice(0, -'.json'.length))
  }

  /** Makes all intents look as if their writers had died long ago, two days for one. */
  async ageIntents(seconds: number = 2 * 24 * 3600): Promise<void> {
    const then = Date.now() / 1000 - seconds
    for (const name of this.intents()) await utimes(join(this.archive, intentsFolder, `${name}.json`), then, then)
  }

  /** Backups with any object in the archive, and which objects. */
  objects(): Map<string, string[]> {
    const found = new Map<string, string[]>()
    for (const file of filesBelow(join(this.archive, 'basebackups_005'))) {
      if (isTempName(file)) continue
      const name = /basebackups_005\/(base_[0-9A-F]{24})/.exec(file)?.[1] ?? file
      found.set(name, [...(found.get(name) ?? []), file])
    }
    return found
  }

  /** Files that nobody finished. */
  unfinished(): string[] {
    return filesBelow(join(this.archive, 'basebackups_005')).filter(isTempName)
  }

  /** Bytes of all backups, unfinished files among them. */
  storedBytes(): number {
    return bytesBelow(join(this.archive, 'basebackups_005'))
  }

  #start(args: readonly string[]): WalrxProcess {
    const process = startWalrx(args)
    const timer = setTimeout(() => process.child.kill('SIGQUIT'), hangMs)
    void process.ended.then(() => clearTimeout(timer))
    return process
  }

  #prefix(): string[] {
    return ['--file-prefix', this.archive]
  }
}

function filesBelow(directory: string): string[] {
  let entries: Dirent[]
  try {
    entries = readdirSync(directory, { withFileTypes: true })
  } catch {
    return []
  }
  return entries.flatMap((entry) => {
    const path = join(directory, entry.name)
    return entry.isDirectory() ? filesBelow(path) : [path]
  })
}

/** Bytes of all files below a directory, which may be changing. */
export function bytesBelow(directory: string): number {
  return filesBelow(directory).reduce((sum, path) => sum + (statSync(path, { throwIfNoEntry: false })?.size ?? 0), 0)
}

/** Waits for what reports nothing when it happens. False when the process ended before. */
export async function reached(process: WalrxProcess, look: () => boolean): Promise<boolean> {
  while (!look()) {
    if (process.hasEnded) return false
    await delay(1)
  }
  return !process.hasEnded
}
