/**
 * A server that is moved from WAL-G or WAL-RUS to walrx and back by the commands of docs/from-walg.md, as they stand there,
 * while it is written to. What differs on this machine is put in the place of what the page names: the file of settings, the
 * directory and port of the proof. `systemctl` is the test's own: it starts and stops the programs of the units.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { chmodSync, closeSync, openSync } from 'node:fs'
import { readFile, symlink, writeFile } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Client } from 'pg'
import { freePort } from '../../harness/ports.ts'
import { type RunningLoad, startLoad } from '../../harness/made/wal-load.ts'
import { clientTool } from '../../harness/postgres/client-tools.ts'
import { makeServerDirectory, pgBinary, serverIdentity, superuser } from '../../harness/postgres/postgres-files.ts'
import { type PgMajor, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { stopProcess } from '../../harness/walrx/processes.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import type { ShellBlock } from './page-steps.ts'

const main = fileURLToPath(new URL('../../../src/main.ts', import.meta.url))

/** Who archives when the move begins. */
export type Former = 'wal-g' | 'wal-rus'

/** Options of {@link startMovingWorld}. */
export interface MovingOptions {
  readonly former: Former
  /** Path of its program. */
  readonly binary: string
  readonly major: PgMajor
  readonly by: 'archive_command' | 'wal-receive'
  /** Settings of the storage in addition, or those of a directory where there are none. */
  readonly storage?: Readonly<Record<string, string>>
  /** What the units add to the command of `walrx wal-receive`. */
  readonly receiverFlags?: readonly string[]
}

/** How long a command of the page may take. */
const patienceMs = 120_000

/** How often a segment is ended while the load runs. */
const switchMs = 3000

/** A server with its archive, a load, and a shell of the user `postgres` on its machine. */
export class MovingWorld implements AsyncDisposable {
  readonly server: TestPostgres
  readonly root: string
  readonly former: Former
  /** The directory that the page calls `/srv/proof`. */
  readonly proof: string
  readonly #proofPort: number
  readonly #env: Readonly<Record<string, string>>
  readonly #units: Readonly<Record<string, readonly string[]>>
  readonly #running = new Map<string, ChildProcess>()
  #load: RunningLoad | undefined
  #switching: NodeJS.Timeout | undefined

  constructor(server: TestPostgres, root: string, port: number, env: Record<string, string>, options: MovingOptions) {
    this.server = server
    this.root = root
    this.former = options.former
    this.proof = join(root, 'proof')
    this.#proofPort = port
    this.#env = env
    this.#units = {
      'walrx@db1': ['walrx', 'wal-receive', ...(options.receiverFlags ?? [])],
      'wal-g-receive': [
        options.former,
        '--config',
        settingsFile(root),
        'wal-receive',
        ...(options.former === 'wal-rus' ? [join(root, 'spool')] : []),
      ],
    }
  }

  /** Small transactions on two connections, and a new segment now and then, until {@link rest}. */
  async write(): Promise<void> {
    this.#load = await startLoad(this.server, { clients: 2, pauseMs: 50 })
    this.#switching = setInterval(() => void this.server.switchWal().catch(() => {}), switchMs)
  }

  /** Ends the load; returns what the server has then. */
  async rest(): Promise<string> {
    clearInterval(this.#switching)
    await this.#load?.stop()
    this.#load = undefined
    return ask(this.server.socketDir, this.server.port, rows)
  }

  /** Runs the commands of a block as they stand there, and returns what they printed. */
  async run(block: ShellBlock): Promise<string> {
    let printed = ''
    let script: string[] = []
    const flush = async () => {
      if (script.length > 0) printed += await this.#shell(script.join('\n'))
      script = []
    }
    for (const line of block.lines) {
      const [, verb = '', unit = ''] = /^sudo systemctl (enable|disable) --now (\S+)$/.exec(line) ?? []
      if (unit === '') {
        script.push(this.#here(line))
        continue
      }
      await flush()
      if (verb === 'enable') this.startUnit(unit)
      else await this.stopUnit(unit)
    }
    await flush()
    return printed
  }

  /** A line with what there is here in place of what it names. */
  #here(line: string): string {
    return line
      .replaceAll('/etc/wal-g/db1.env', settingsFile(this.root))
      .replaceAll('/srv/proof', this.proof)
      .replaceAll('5433', String(this.#proofPort))
      .replaceAll(/\bwal-g (?=--config|backup|wal-|%)/g, `${this.former} `)
  }

  /** Runs a script; what it exports is there in the next one. Fails where a command of it fails. */
  #shell(script: string): Promise<string> {
    const state = join(this.root, 'exported')
    const text = `touch ${state}; . ${state}\nset -eo pipefail\n${script}\nexport -p >${state}\n`
    const options = { ...serverIdentity, cwd: this.root, env: this.#env, timeout: patienceMs }
    return new Promise((resolve, reject) => {
      execFile('bash', ['-c', text], options, (error, stdout, stderr) => {
        if (!error) resolve(stdout)
        else void this.logs().then((logs) => reject(failure(`${script}\nfailed: ${stdout}${stderr}`, logs)))
      })
    })
  }

  /** Starts the program of a unit, with the settings of the file in its environment. */
  startUnit(name: string): void {
    const command = this.#units[name] ?? assert.fail(`no unit ${name}`)
    const log = openSync(join(this.root, `${name}.log`), 'a')
    const text = `set -a; . ${settingsFile(this.root)}; set +a; exec ${command.join(' ')}`
    const env = { ...this.#env, WALRX_STATUS_LISTEN: 'off' }
    const child = spawn('bash', ['-c', text], { ...serverIdentity, cwd: this.root, env, stdio: ['ignore', log, log] })
    closeSync(log)
    this.#running.set(name, child)
  }

  /** Sends SIGTERM, as systemd does, and waits for the end. Fails where the program had ended by itself. */
  async stopUnit(name: string): Promise<void> {
    const child = this.#running.get(name) ?? assert.fail(`${name} was not started`)
    const isThere = child.exitCode === null && child.signalCode === null
    if (!isThere) throw failure(`${name} ended by itself with ${child.exitCode}`, await this.logs())
    assert.ok(await stopProcess(child, 'SIGTERM', patienceMs), `${name} does not stop`)
    if (name.startsWith('walrx')) assert.equal(child.exitCode, 0, await this.logs())
    this.#running.delete(name)
  }

  /** Resolves when so many receivers stream. */
  async streaming(count: number): Promise<void> {
    await until(`${count} receivers to stream`, async () => {
      await delay(50)
      return (
        (await this.query("(select count(*) from pg_stat_replication where state = 'streaming')")) === String(count)
      )
    })
  }

  /** What a unit has logged. */
  logOf(unit: string): Promise<string> {
    return readFile(join(this.root, `${unit}.log`), 'utf8').catch(() => '')
  }

  /** The end of every log. */
  async logs(): Promise<string> {
    const logs = await Promise.all(
      Object.keys(this.#units).map(async (unit) => `${unit}:\n${tail(await this.logOf(unit))}`),
    )
    return [...logs, `server:\n${tail(await this.server.log())}`].join('\n')
  }

  /** Resolves when the archive holds the segment that the server writes now, and has been made to end. */
  async archived(): Promise<void> {
    const [row] = await this.server.sql<{ file: string }>('select pg_walfile_name(pg_switch_wal()) as file')
    const file = row?.file ?? ''
    await until(`${file} to be archived`, async () => {
      await delay(100)
      const shown = JSON.parse(await this.#shell('walrx wal-show --json')) as { readonly end_segment: string }[]
      return shown.some(({ end_segment }) => end_segment >= file)
    })
  }

  /** What the server in the directory of the proof has, when its recovery has ended. */
  async proven(): Promise<string> {
    const { socketDir: host } = this.server
    await until('the end of the recovery', async () => {
      await delay(100)
      return (await ask(host, this.#proofPort, 'not pg_is_in_recovery()')) === 'true'
    })
    return ask(host, this.#proofPort, rows)
  }

  /** The value of an expression on the server, as text. */
  query(expression: string): Promise<string> {
    return ask(this.server.socketDir, this.server.port, expression)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#switching)
    await this.#load?.stop().catch(() => {})
    await this.#shell(`pg_ctl -D ${this.proof} -m immediate stop`).catch(() => {})
    for (const child of this.#running.values()) await stopProcess(child, 'SIGKILL', patienceMs)
    await this.server[Symbol.asyncDispose]()
  }
}

/** Starts the server, with its former archiver at work and a backup of it. */
export async function startMovingWorld(options: MovingOptions): Promise<MovingWorld> {
  const { by, binary, former, major } = options
  const root = newServerDirectory(`from-${former}`)
  for (const path of ['', 'bin', 'archive', 'spool']) await makeServerDirectory(join(root, path), 0o755)
  await symlink(binary, join(root, 'bin', former))
  await symlink(pgBinary(major, 'pg_ctl'), join(root, 'bin', 'pg_ctl'))
  await symlink((await clientTool('psql', 15)) ?? assert.fail('no psql'), join(root, 'bin', 'psql'))
  const program = join(root, 'bin', 'walrx')
  await writeFile(program, `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`)
  chmodSync(program, 0o755)
  const settings: Record<string, string> = {
    WALG_COMPRESSION_METHOD: 'zstd',
    WALG_PREVENT_WAL_OVERWRITE: 'true',
    ...(options.storage ?? { WALG_FILE_PREFIX: join(root, 'archive') }),
  }
  const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`)
  await writeFile(settingsFile(root), lines.join(''))
  const path = [join(root, 'bin'), dirname(process.execPath), process.env['PATH'] ?? ''].join(delimiter)
  const cache = process.env['NODE_COMPILE_CACHE']
  const env = { PATH: path, HOME: root, LC_ALL: 'C', ...(cache !== undefined && { NODE_COMPILE_CACHE: cache }) }
  const archiving = {
    archive_mode: 'on',
    archive_command: `${former} --config ${settingsFile(root)} wal-push %p`,
  }
  const server = await startPostgres({
    major,
    // WAL-RUS without a slot loses what a checkpoint removes.
    settings: by === 'archive_command' ? archiving : { wal_keep_size: '512MB' },
    env: { ...env, PGDATA: '' },
  })
  const place = { PGHOST: server.socketDir, PGPORT: String(server.port), PGUSER: superuser, PGDATABASE: 'postgres' }
  const world = new MovingWorld(server, root, await freePort(), { ...env, ...place, PGDATA: server.dataDir }, options)
  try {
    if (by === 'wal-receive') {
      world.startUnit('wal-g-receive')
      await world.streaming(1)
    }
    await world.write()
    await world.run({ heading: 'before', lines: [`wal-g --config /etc/wal-g/db1.env backup-push ${server.dataDir}`] })
    return world
  } catch (error) {
    await world[Symbol.asyncDispose]()
    throw error
  }
}

function settingsFile(root: string): string {
  return join(root, 'db1.env')
}

function failure(text: string, logs: string): Error {
  return new assert.AssertionError({ message: `${text}\n${logs}` })
}

function tail(text: string): string {
  return text.slice(-2500)
}

/** What tells two states of the load's tables apart: rows and sums by connection. */
const rows = `
  (select string_agg(format('%s: %s rows up to %s', client, count, max), ', ' order by client)
   from (select client, count(*), max(number) from load_history group by client) each)
  || ', ' || (select sum(balance) from load_accounts)`

/** The value of an expression, as text. */
async function ask(host: string, port: number, expression: string): Promise<string> {
  const client = new Client({ host, port, user: superuser, database: 'postgres', ssl: false })
  await client.connect()
  try {
    const result = await client.query<{ text: string }>(`select (${expression})::text as text`)
    return result.rows[0]?.text ?? ''
  } finally {
    await client.end()
  }
}
