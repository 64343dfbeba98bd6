/**
 * Every example of every `--help` is run, as it is printed, by a shell. What differs on this machine is put in its place:
 * the server, the archive (a directory), and names of backups and segments.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, copyFile, mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { rootExamples } from '../../src/cli/arguments/yargs-arguments.ts'
import { commands } from '../../src/cli/command-loaders.ts'
import { makeDiverged } from '../harness/made/diverged-directories.ts'
import { startPostgres, type TestPostgres } from '../harness/postgres/postgres.ts'
import { newServerDirectory } from '../harness/walrx/test-workspace.ts'
import { runWalrx, startWalrx, type WalrxProcess } from '../harness/walrx/walrx-process.ts'

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

let server: TestPostgres
let root: string
let archive: string
let examples: Map<string, string[]>
/** What stands in an example, and what it is here; the first that fits wins. */
let here: [RegExp, string][]
let restores = 0

before(async () => {
  const settings = { summarize_wal: 'on', wal_keep_size: '64MB' }
  server = await startPostgres({ major: 17, segmentSizeMb: 1, dataChecksums: true, settings })
  await server.sql('create role walrx login replication; create table t (x int)')
  // As docs/deltas.md says, for the sizes of a plan.
  await server.sql('grant execute on function pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean) to walrx')
  root = newServerDirectory('examples')
  archive = join(root, 'archive')
  await mkdir(archive, { recursive: true })
  const program = join(root, 'walrx')
  await writeFile(program, `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`)
  await chmod(program, 0o755)
  await writeFile(join(root, 'walg.yaml'), `WALG_FILE_PREFIX: ${archive}\n`)
  const served = {
    ...{ listen: 'off', state: join(root, 'state') },
    clusters: { db1: { server: { dbname: server.conninfo('walrx') }, storage: { 'file-prefix': archive } } },
  }
  await writeFile(join(root, 'walrx.yaml'), JSON.stringify(served))
  for (const copy of ['copy', 'window', 'mirror']) await mkdir(join(root, copy))
  await writeFile(join(root, 'mirror.yaml'), `WALG_FILE_PREFIX: ${join(root, 'mirror')}\n`)
  await writeFile(join(root, 'notes.txt'), 'a note\n')
  await writeFile(join(root, '.pg_service.conf'), `[db1]\nhost=127.0.0.1\nport=${server.port}\nuser=walrx\n`)
  const each = Object.entries(commands).map(async ([name, { load }]) => {
    return [name, (await load()).examples.map(({ call }) => call)] as const
  })
  examples = new Map([['', rootExamples.map(({ call }) => call)], ...(await Promise.all(each))])
  const [host, port] = ['127.0.0.1', String(server.port)]
  here = [
    [/host=db1 user=walrx/, `host=${host} port=${port} user=walrx`],
    [/walrx@db1,db2\//, `walrx@${host}:${port},${host}:${port}/`],
    [/walrx@db1/, `walrx@${host}:${port}`],
    [/WALG_S3_PREFIX=s3:\/\/backups\/db1/, `WALG_FILE_PREFIX=${archive}`],
    [/--s3-prefix s3:\/\/backups\/db1/, `--file-prefix ${archive}`],
    [/\/srv\/archive|(?<==)\/archive/, archive],
    [/\/etc\/walg.yaml/, join(root, 'walg.yaml')],
    [/\/etc\/walrx.yaml/, join(root, 'walrx.yaml')],
    [/\/tmp\/segment/, join(root, 'segment')],
    [/--to s3:\/\/backups\/db1/, `--to ${join(root, 'copy')}`],
    [/\/srv\/mirror/, join(root, 'window')],
    [/\/etc\/mirror.yaml/, join(root, 'mirror.yaml')],
    [/\/tmp\/today/, join(root, 'today')],
  ]
})
after(() => server[Symbol.asyncDispose]())

/** An example with what it is here in place of what it names. */
function adapt(call: string): string {
  const line = here.reduce((text, [name, value]) => text.replace(name, value), call)
  // Over what the one before has restored.
  if (!call.includes('--delta')) restores++
  return line.replace('/srv/pgdata', () => join(root, `restored-${restores}`))
}

function environment(call: string): Record<string, string> {
  const path = `${root}${delimiter}${process.env['PATH'] ?? ''}`
  // An example that names its archive must do without.
  const named = /_PREFIX=|--(s3|file)-prefix|--config/.test(call)
  const base = { PATH: path, HOME: root, WALRX_STATUS_LISTEN: 'off' }
  return named ? base : { ...base, WALG_FILE_PREFIX: archive }
}

/** Runs an example; fails if it does. Returns what it printed. */
async function example(call: string): Promise<string> {
  const line = adapt(call)
  const options = { cwd: root, env: environment(call), timeout: 60_000 }
  try {
    return (await promisify(execFile)('bash', ['-o', 'pipefail', '-c', line], options)).stdout
  } catch (error) {
    const { code, stderr } = error as { code?: number; stderr?: string }
    return assert.fail(`${line}\nended with ${code}: ${stderr}`)
  }
}

/** Runs all examples of a command, each with a check of what it printed. */
async function runAll(name: string, ...checks: ((printed: string) => unknown)[]): Promise<void> {
  const calls = examples.get(name) ?? []
  assert.equal(calls.length, checks.length, `${name} has ${calls.length} examples`)
  for (const [index, call] of calls.entries()) await checks[index]?.(await example(call))
  examples.delete(name)
}

/** Runs the example of a service until it streams, and stops it. */
async function runService(call: string, sign = 'streaming', meanwhile = async () => {}): Promise<void> {
  const line = adapt(call)
  const assignments = /^(?:(\w+)=(\S+) )?walrx (.*)$/.exec(line) ?? assert.fail(line)
  const [, variable, value, rest = ''] = assignments
  const words = [...rest.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? '')
  const env = { HOME: root, ...(variable !== undefined && { [variable]: value ?? '' }) }
  await using receiver = startWalrx(words, { env })
  await receiver.logged(sign)
  await meanwhile()
  assert.equal((await receiver.stop()).status, 0, line)
}

const flags = () => ['--file-prefix', archive, '--dbname', `${server.conninfo('walrx')}`]

async function startReceiver(): Promise<WalrxProcess> {
  const receiver = startWalrx(['wal-receive', ...flags()])
  await receiver.logged('streaming')
  return receiver
}

/** Makes objects an hour old: wal-finalize waits for a receiver that may still run. */
async function age(folder: string): Promise<void> {
  const hourAgo = Date.now() / 1000 - 3600
  for (const name of await readdir(folder, { recursive: true })) await utimes(join(folder, name), hourAgo, hourAgo)
}

const has = (pattern: RegExp) => (printed: string) => assert.match(printed, pattern)

test('every example of every help does what it says', async (t) => {
  for (const call of examples.get('wal-receive') ?? []) await runService(call)
  examples.delete('wal-receive')
  const [serves = '', ...checks] = examples.get('serve') ?? []
  await runService(serves)
  examples.set('serve', checks)
  await runAll('serve', has(/^db1$/m), has(/^$/))
  // Nobody receives the WAL of this one: it waits for backup-finish.
  const waiting = await runWalrx(['backup-push', ...flags(), '--wal-timeout', '0'])
  const waitingName = /walrx backup-finish (base_\w+)/.exec(waiting.stderr)?.[1] ?? assert.fail(waiting.stderr)
  const [receives = '', pushes = '', fetches = ''] = examples.get('') ?? []
  await runService(receives)
  await using receiver = await startReceiver()
  await server.switchWal()
  here.push([/base_000000010000000000000004/, waitingName])
  await runAll('backup-finish', has(new RegExp(`^${waitingName} is complete$`, 'm')))

  await t.test('of taking backups', async () => {
    const pushed = has(/^base_[0-9A-F]{24} from /)
    // No passing delta builds on a permanent backup: that is another day's.
    const unmarked = async (printed: string) => {
      pushed(printed)
      await example('walrx backup-mark -i LATEST')
    }
    await runAll('backup-push', pushed, unmarked, has(/^base_\w+_D_\w+ on base_/), has(/delta/))
    await runAll('backup-plan', has(/delta/), has(/^\d+$/m))
    await runAll('scrub', has(/no damage/), has(/"status":"OK"/))
    pushed(await example(pushes))
  })

  await server.sql('insert into t select generate_series(1, 1000)')
  const [moment] = await server.sql<{ time: string }>(`select to_char(now(), 'YYYY-MM-DD HH24:MI:SS.USOF') as time`)
  await server.sql('insert into t values (1001)')
  const [row] = await server.sql<{ file: string }>('select pg_walfile_name(pg_current_wal_insert_lsn()) as file')
  const last = row?.file ?? ''
  await server.switchWal()
  await receiver.logged((line) => line.msg === 'archived' && line.file === last)
  here.push([/2026-03-01 12:00:00\+01/, moment?.time ?? ''])
  here.push([/(?<=wal-fetch )0{7}10{15}1/, last])

  await t.test('of a setup', async () => {
    const isAll = has(/^0 errors, /m)
    await runAll('check', isAll, has(/^ {2}ok {7}storage.deep: .*\n[^]*^0 errors, /m), has(/^$/))
  })

  await t.test('of settings', async () => {
    await runAll(
      'config',
      has(/^WALG_FILE_PREFIX .* environment$/m),
      has(/^WALG_SLOTNAME +db1 +flag/m),
      has(/S3_RETENTION/),
    )
    // They write where each shell looks.
    const scripts = [
      '.local/share/bash-completion/completions/walrx',
      'functions/_walrx',
      '.config/fish/completions/walrx.fish',
    ]
    for (const script of scripts) await mkdir(join(root, script, '..'), { recursive: true })
    here.push([/~(?=\/\.)/, root], [/\$\{fpath\[1\]\}/, join(root, 'functions')])
    const isScript = (path: string) => async () =>
      assert.match(await readFile(join(root, path), 'utf8'), /get-yargs-completions/)
    await runAll('completion', ...scripts.map(isScript))
  })

  await t.test('of the archive', async () => {
    await runAll('info', has(/^recovery +any moment from/m), has(/^price +less than 0\.01 a month/m), has(/^\d+$/m))
    await runAll('status', has(/^ {2}recovery +any moment from/m), has(/^$/))
    await runAll('wal-show', has(/restorable on timeline 1/), has(/^\[\]$/m), has(/^\d{4}-\d\d-\d\dT.*Z$/m))
    await runAll('wal-verify', has(/integrity check status: OK[^]*timeline check status: OK/), has(/^OK$/m))
    const [target, source] = [join(root, 'old-primary'), join(root, 'new-primary')]
    const fork = `0/${(parseInt(last.slice(16), 16) + 1).toString(16)}00000`
    await makeDiverged(join(server.dataDir, 'global', 'pg_control'), fork, { target, source })
    here.push([/\/srv\/old-primary/, target], [/\/srv\/new-primary/, source])
    await runAll('wal-restore', has(/^restored [0-9A-F]{24} into .*old-primary\/pg_wal$/m))
    await runAll('backup-list', has(/start_time/), has(/delta_from/), has(/^base_/))
    // The role may not see data_directory: the place is not known, and not the root of the file system.
    assert.equal(await example('walrx backup-list --detail --json | grep -c \'"data_dir":""\''), '1\n')
    await runAll('backup-show', has(/^name/m), has(/"LSN"/))
    await runAll('backup-verify', has(/is whole/))
    here.push([/base_000000010000000000000002/, (await example('walrx backup-list')).split(/\s+/).at(-5) ?? ''])
    await runAll('backup-mark', has(/permanent/), has(/permanent/))
    const hasWindow = has(/^the window that remains: from /m)
    await runAll('delete', hasWindow, hasWindow, hasWindow, hasWindow)
  })

  await t.test('of copies and single objects', async () => {
    const copied = has(/^copied to .*: \d+ backups?, [1-9]\d* objects?/)
    await runAll('copy', copied, has(/^compared byte by byte: \d+ objects, all the same$/m), copied)
    const isFetched = async () => assert.equal(await readFile(join(root, 'today'), 'utf8'), 'a note\n')
    const [system, listed] = [/"SystemIdentifier":\d+/, /^obj +\d+ +\d{4}-\d\d-\d\d .* UTC \S+$/m]
    await runAll(
      'st',
      ...[has(/^dir .* basebackups_005\/$/m), has(listed), has(/backup_stop_sentinel.json$/m)],
      ...[has(listed), has(system), has(/^$/), isFetched, has(/^removed 1 object, /)],
      ...[has(/^Read check OK$/m), has(/^Write check OK$/m)],
    )
  })

  await t.test('of recoveries', async () => {
    await runAll('wal-fetch', () => readFile(join(root, 'segment')), has(/^restore_command = /m))
    await runAll('restore-command', async () => {
      assert.match(await readFile(join(root, 'postgresql.auto.conf'), 'utf8'), /^restore_command = .*walg\.yaml/m)
    })
    const isRestored = () => readFile(join(root, `restored-${restores}`, 'recovery.signal'))
    await runAll('backup-fetch', isRestored, isRestored, async (printed) => {
      assert.match(printed, / is restored over .*: \d+ files, \d+ bytes kept; /)
      await isRestored()
    })
    await example(fetches)
    await isRestored()
    examples.delete('')
  })

  await t.test('of an archive_command', async () => {
    await mkdir(join(root, 'pg_wal'))
    await copyFile(join(server.pgWal(), last), join(root, 'pg_wal', last))
    here.push([/(?<=wal-push (pg_wal\/)?)0{7}10{15}1/, last])
    await runAll('wal-push', (printed) => assert.equal(printed, ''))
    here.unshift([/\/srv\/pgdata/, server.dataDir], [/\/tmp\/walrx.sock/, join(root, 'walrx.sock')])
    const [serves = ''] = examples.get('daemon') ?? []
    await runService(serves, 'the daemon listens', () =>
      runAll(
        'daemon-client',
        (printed) => assert.equal(printed, ''),
        () => readFile(join(server.pgWal(), 'RECOVERYXLOG')),
      ),
    )
    examples.delete('daemon')
  })

  await receiver.stop()
  await age(join(archive, 'walrx_005'))
  await t.test('of an archive without its server', async () => {
    const segments = async () => (await readdir(join(archive, 'wal_005'))).sort()
    const before = await segments()
    const finalized = (printed: string) => /^(\w{24}) (.+), with WAL up to/.exec(printed) ?? assert.fail(printed)
    let last = ''
    const dry = async (printed: string) => {
      last = finalized(printed)[1] ?? ''
      assert.deepEqual(await segments(), before, 'a dry run writes nothing')
    }
    const real = async (printed: string) => {
      assert.equal(finalized(printed)[1], last)
      assert.deepEqual(await segments(), [...before, `${last}.zst`].sort())
    }
    // The last one then finds no other unfinished segment.
    await runAll('wal-finalize', dry, real, (printed) => assert.equal(printed, ''))
  })
  examples.delete('wal-prefetch')
  assert.deepEqual([...examples.keys()], [], 'no command is left out')
})
