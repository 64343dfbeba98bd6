/**
 * Real PostgreSQL servers for the tests, from the `pg14` … `pg18` packages. Every server is a child of the test
 * process, has its own directory, port and unix socket, and is gone when the process is.
 *
 *   await using server = await startPostgres({ major: 17 })
 *   await server.sql('select 1')
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from 'pg'
import { freePort, isPortFree } from '../ports.ts'
import { descendants, isRunning, stopProcess } from '../walrx/processes.ts'
import { newServerDirectory } from '../walrx/test-workspace.ts'
import { type ServerConfig, writeServerConfig } from './postgres-config.ts'
import {
  clusterTemplate,
  copyTree,
  giveToServer,
  initCluster,
  makeServerDirectory,
  pgBinary,
  type PgMajor,
  readSystemId,
  serverEnvironment,
  serverIdentity,
  superuser,
} from './postgres-files.ts'

export { majorSkip, nextMajor, type PgMajor, pgMajors } from './postgres-files.ts'

/** Options of {@link startPostgres}. */
export interface PostgresOptions extends ServerConfig {
  readonly major: PgMajor
  /** Default 16. */
  readonly segmentSizeMb?: 1 | 16 | 64
  /** Default false. */
  readonly dataChecksums?: boolean
  /** True for a cluster with a system identifier of its own; others of the same layout share one. */
  readonly fresh?: boolean
  /** Added to the server's environment, and so to its restore_command's. */
  readonly env?: Readonly<Record<string, string>>
}

/** A stop mode of pg_ctl's; each is one signal to the postmaster. */
export type StopMode = 'smart' | 'fast' | 'immediate'

const stopSignals = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const

/** Long enough for the slowest machine; a healthy server needs a tenth of a second. */
const startTimeoutMs = 60_000

/** Starts a server on a new cluster and waits until it answers. */
export async function startPostgres(options: PostgresOptions): Promise<TestPostgres> {
  const { major, fresh } = options
  const layout = { major, segmentSizeMb: options.segmentSizeMb ?? 16, dataChecksums: options.dataChecksums ?? false }
  const directory = newServerDirectory(`pg${major}`)
  const dataDir = join(directory, 'data')
  await makeServerDirectory(directory, 0o755)
  if (fresh) await initCluster(layout, dataDir)
  else await copyTree(await clusterTemplate(layout), dataDir)
  return openAndStart(directory, options)
}

/** How often another port is tried when somebody took ours between probing and starting. */
const portAttempts = 3

/**
 * Configures and starts a server on the cluster in `<directory>/data`.
 * @param wait false to return as soon as the postmaster runs
 */
export async function openAndStart(directory: string, options: PostgresOptions, wait = true): Promise<TestPostgres> {
  for (let attempt = 1; ; attempt++) {
    const server = await TestPostgres.open(directory, options)
    try {
      await server.start({ wait })
      return server
    } catch (error) {
      if (attempt < portAttempts && !(await isPortFree(server.port))) continue
      await server[Symbol.asyncDispose]()
      throw error
    }
  }
}

/** One server. Starts and stops as often as a test likes, always on the same port. */
export class TestPostgres {
  readonly major: PgMajor
  /** Holds `data`, `socket` and the log. */
  readonly directory: string
  readonly dataDir: string
  readonly socketDir: string
  /** TCP port on 127.0.0.1, and number of the unix socket. */
  readonly port: number
  readonly systemId: bigint
  readonly #env: Readonly<Record<string, string>>
  #child: ChildProcess | undefined
  #wasKilled = false

  private constructor(directory: string, options: PostgresOptions, port: number, systemId: bigint) {
    this.major = options.major
    this.directory = directory
    this.dataDir = join(directory, 'data')
    this.socketDir = join(directory, 'socket')
    this.port = port
    this.systemId = systemId
    this.#env = options.env ?? {}
  }

  /** Configures the cluster in `<directory>/data` without starting it. */
  static async open(directory: string, options: PostgresOptions): Promise<TestPostgres> {
    const systemId = await readSystemId(join(directory, 'data'))
    const server = new TestPostgres(directory, options, await freePort(), systemId)
    await makeServerDirectory(server.socketDir, 0o755)
    await server.configure({
      auth: 'trust',
      ...options,
      settings: {
        port: String(server.port),
        listen_addresses: '127.0.0.1',
        unix_socket_directories: server.socketDir,
        fsync: 'off',
        wal_level: 'replica',
        max_wal_senders: '10',
        shared_buffers: '32MB',
        // Nothing in /dev/shm, because a killed server would leave it there.
        dynamic_shared_memory_type: 'mmap',
        log_line_prefix: '%m [%p] %q%a ',
        ...options.settings,
      },
    })
    return server
  }

  /** The postmaster's process id, while it runs. */
  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** Keyword/value connection string over TCP, without TLS unless the test adds it. */
  conninfo(user: string = superuser): string {
    return `host=127.0.0.1 port=${this.port} user=${user} dbname=postgres`
  }

  /** The directory of WAL segments. */
  pgWal(): string {
    return join(this.dataDir, 'pg_wal')
  }

  /** Everything that the server wrote to its log. */
  async log(): Promise<string> {
    return readFile(join(this.directory, 'server.log'), 'utf8').catch(() => '')
  }

  /** Appends to the configuration; later lines win. Takes effect with {@link reload} or the next start. */
  async configure(config: ServerConfig): Promise<void> {
    await writeServerConfig(this.dataDir, config)
  }

  /** Makes a running server read its configuration again; resolves when new connections are judged by it. */
  async reload(): Promise<void> {
    const loadTime = async () => {
      const [row] = await this.sql<{ time: string }>('select pg_conf_load_time()::text as time')
      return row?.time
    }
    // A new backend inherits the postmaster's, which reads pg_hba.conf in the same breath.
    const before = await loadTime()
    await this.sql('select pg_reload_conf()')
    while ((await loadTime()) === before) await delay(2)
  }

  /** Starts the server; resolves when it accepts connections, or at once with `wait: false`. */
  async start(options: { readonly wait?: boolean } = {}): Promise<void> {
    if (this.#child) throw new Error(`the server in ${this.directory} runs already`)
    const log = openSync(join(this.directory, 'server.log'), 'a')
    const child = spawn(pgBinary(this.major, 'postgres'), ['-D', this.dataDir], {
      ...serverIdentity,
      stdio: ['ignore', log, log],
      env: { ...serverEnvironment(this.directory), ...this.#env },
      cwd: this.directory,
      detached: true,
    })
    closeSync(log)
    // Neither the server nor its end keeps a test process alive.
    child.unref()
    child.once('exit', () => {
      if (this.#child === child) this.#child = undefined
    })
    this.#child = child
    this.#wasKilled = false
    if (options.wait ?? true) await this.ready()
  }

  /** Resolves when the server accepts connections; rejects with the end of its log if it ends instead. */
  async ready(timeoutMs: number = startTimeoutMs): Promise<void> {
    const deadline = performance.now() + timeoutMs
    while (this.#child) {
      // Line 1 is the process id, line 8 the state (miscadmin.h, LOCK_FILE_LINE_PM_STATUS).
      const lines = (await readFile(join(this.dataDir, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')
      if (lines[0] === String(this.pid) && /^(ready|standby)/.test(lines[7] ?? '')) return
      if (performance.now() > deadline) throw await this.#failure(`was not ready after ${timeoutMs} ms`)
      await delay(5)
    }
    throw await this.#failure((await isPortFree(this.port)) ? 'did not start' : 'did not start: its port is taken')
  }

  async #failure(what: string): Promise<Error> {
    return new Error(`the server in ${this.directory} ${what}\n${(await this.log()).slice(-4000)}`)
  }

  /** Resolves when the server has ended by itself. */
  async ended(timeoutMs: number = startTimeoutMs): Promise<void> {
    if (this.#child && !(await stopProcess(this.#child, undefined, timeoutMs))) {
      throw await this.#failure(`still ran after ${timeoutMs} ms`)
    }
  }

  /**
   * Stops the server as `pg_ctl stop -m mode` does.
   * @returns milliseconds until the postmaster was gone; 0 when none ran
   * @throws Error when it still runs after `timeoutMs`
   */
  async stop(mode: StopMode = 'fast', timeoutMs: number = 30_000): Promise<number> {
    const start = performance.now()
    if (!this.#child) return 0
    if (!(await stopProcess(this.#child, stopSignals[mode], timeoutMs))) {
      throw await this.#failure(`did not stop (${mode}) within ${timeoutMs} ms`)
    }
    return performance.now() - start
  }

  async restart(mode: StopMode = 'fast'): Promise<void> {
    await this.stop(mode)
    await this.start()
  }

  /** Kills the postmaster and everything below it with SIGKILL, as a crash of the machine would. */
  async kill9(): Promise<void> {
    const child = this.#child
    if (child?.pid === undefined) return
    // Frozen first, so that it starts no further child while we look.
    process.kill(child.pid, 'SIGSTOP')
    const below = await descendants(child.pid)
    this.#wasKilled = true
    await stopProcess(child, 'SIGKILL', 10_000)
    for (const pid of below) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
      }
    }
    for (const pid of below) while (await isRunning(pid)) await delay(5)
  }

  /**
   * Ends recovery and waits for it, as `pg_ctl promote` does. Not by pg_promote(): its own snapshot can be in the way
   * of what is still to be replayed.
   */
  async promote(timeoutMs: number = startTimeoutMs): Promise<void> {
    const request = join(this.dataDir, 'promote')
    // The server removes it as soon as it looks.
    await writeFile(`${request}.new`, '')
    await giveToServer(`${request}.new`)
    await rename(`${request}.new`, request)
    this.#child?.kill('SIGUSR1')
    await this.recovered(timeoutMs)
  }

  /** Resolves when the server is out of recovery and accepts connections. */
  async recovered(timeoutMs: number = startTimeoutMs): Promise<void> {
    await this.ready(timeoutMs)
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const [row] = await this.sql<{ waiting: boolean }>('select pg_is_in_recovery() as waiting')
      if (row?.waiting === false) return
      if (performance.now() > deadline) throw await this.#failure(`was still in recovery after ${timeoutMs} ms`)
      await delay(10)
    }
  }

  /** Switches to a new segment; returns the end of the one before, `X/X`. */
  async switchWal(): Promise<string> {
    const [row] = await this.sql<{ lsn: string }>('select pg_switch_wal()::text as lsn')
    return row?.lsn ?? ''
  }

  async checkpoint(): Promise<void> {
    await this.sql('checkpoint')
  }

  /** Runs statements as the superuser over the unix socket; returns the rows of the last one. */
  async sql<Row extends object = Record<string, unknown>>(
    text: string,
    user: string = superuser,
    database: string = 'postgres',
  ): Promise<Row[]> {
    const client = await this.client(user, database)
    try {
      const result: unknown = await client.query(text)
      const last = (Array.isArray(result) ? result.at(-1) : result) as { rows: Row[] } | undefined
      return last?.rows ?? []
    } finally {
      await client.end()
    }
  }

  /** A connected client over the unix socket. The test ends it; a server that stops first is no error. */
  async client(user: string = superuser, database: string = 'postgres'): Promise<Client> {
    const client = new Client({ host: this.socketDir, port: this.port, user, database, ssl: false })
    client.on('error', () => {})
    await client.connect()
    return client
  }

  /** Stops at once and removes everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child && !(await stopProcess(this.#child, stopSignals.immediate, 10_000))) await this.kill9()
    if (this.#wasKilled) await this.#removeSharedMemory()
    await rm(this.directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 })
  }

  /** A killed postmaster leaves its System V segment: line 7 of postmaster.pid holds key and id. */
  async #removeSharedMemory(): Promise<void> {
    const lines = (await readFile(join(this.dataDir, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')
    const id = lines[6]?.trim().split(/\s+/)[1]
    if (id === undefined) return
    await new Promise<void>((resolve) => execFile('ipcrm', ['-m', id], () => resolve()))
  }
}
