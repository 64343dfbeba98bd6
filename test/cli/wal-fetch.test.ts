/** wal-fetch, wal-prefetch and restore-command as processes: exit statuses, signals, and what outlives them. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, readlink, rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import { segmentName } from '../../src/postgres/wal/wal-file.ts'
import { runningProcess } from '../../src/restore/wal/recovery-process.ts'
import { type FakeStartup, startFakeStartup } from '../harness/postgres/fake-startup.ts'
import { madeSegmentSize, makeSegment } from '../harness/made/made-wal.ts'
import { until } from '../harness/time/until.ts'
import { type ProcessEnd, runWalrx, startWalrx } from '../harness/walrx/walrx-process.ts'

const nameOf = (number: number) => segmentName(1, BigInt(number), madeSegmentSize)
const dest = 'pg_wal/RECOVERYXLOG'

let root: string
let dataDir: string
let archive: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'walrx-cli-'))
  dataDir = join(root, 'data')
  archive = join(root, 'archive')
  await mkdir(join(dataDir, 'pg_wal'), { recursive: true })
  await mkdir(join(archive, 'wal_005'), { recursive: true })
})
afterEach(() => rm(root, { recursive: true }))

const put = (number: number) =>
  writeFile(join(archive, 'wal_005', `${nameOf(number)}.zst`), zstdCompressSync(makeSegment(nameOf(number))))

const settings = () => ({ HOME: root, WALG_FILE_PREFIX: archive, WALRX_FETCH_RETRY_TIMEOUT: '300ms' })

/** Runs wal-fetch as a server does. */
const fetch = (args: readonly string[], env: Record<string, string> = {}): Promise<ProcessEnd> =>
  runWalrx(['wal-fetch', ...args], { cwd: dataDir, env: { ...settings(), WALRX_LOG_FORMAT: 'auto', ...env } })

const beStandby = () => writeFile(join(dataDir, 'standby.signal'), '')

describe('the exit status of wal-fetch', () => {
  test('is 0 for a delivered file, in silence', async () => {
    await put(5)
    const { status, stderr, stdout } = await fetch([nameOf(5), dest])
    assert.deepEqual([status, stdout, stderr], [0, '', ''])
    assert.deepEqual(await readFile(join(dataDir, dest)), makeSegment(nameOf(5)))
  })

  test('is 74 at the end of the archive, in silence, for a standby too', async () => {
    await put(5)
    for (const name of [nameOf(6), '00000002.history']) {
      const { status, stderr } = await fetch([name, dest])
      assert.deepEqual([status, stderr], [74, ''], name)
    }
    await beStandby()
    assert.equal((await fetch([nameOf(6), dest])).status, 74)
  })

  test('is 126 for a hole, damage, an outage, an empty archive and bad calls; for a standby 1', async () => {
    await put(5)
    await writeFile(join(archive, 'wal_005', `${nameOf(4)}.zst`), 'damaged')
    const empty = join(root, 'empty')
    await mkdir(empty)
    const calls: [string, readonly string[], Record<string, string>, RegExp][] = [
      ['hole', [nameOf(3), dest], {}, /lacks 000000010000000000000003, although it holds later segments/],
      ['damage', [nameOf(4), dest], {}, /000000010000000000000004\.zst/],
      ['no directory', [nameOf(5), dest], { WALG_FILE_PREFIX: join(root, 'none') }, /does not exist/],
      ['empty', [nameOf(5), dest], { WALG_FILE_PREFIX: empty }, /holds no object at all/],
      ['no archive', [nameOf(5), dest], { WALG_FILE_PREFIX: '' }, /no archive is given/],
      ['no name', ['RECOVERYXLOG', dest], {}, /is not the name of a WAL file/],
      ['no destination', [nameOf(5)], {}, /DEST is missing/],
      ['bad option', [nameOf(5), dest, '--foo'], {}, /has no option --foo/],
      ['bad size', [nameOf(5), dest, '--pg-wal-size=3'], {}, /WALG_PG_WAL_SIZE is 3, and must be a power of two/],
      ['other size', [nameOf(5), dest, '--pg-wal-size=16'], {}, /16777216 bytes were expected/],
      ['unwritable', [nameOf(5), 'none/RECOVERYXLOG'], {}, /cannot create none\/.*ENOENT/],
    ]
    const outcomes = await Promise.all(calls.map(([, args, env]) => fetch(args, env)))
    calls.forEach(([what, , , message], index) => {
      assert.equal(outcomes[index]?.status, 126, what)
      assert.match(outcomes[index].stderr, message, what)
      assert.doesNotMatch(outcomes[index].stderr, /^ {4}at /m, what)
    })
    await beStandby()
    const asked = await Promise.all(calls.map(([, args, env]) => fetch(args, env)))
    assert.deepEqual(
      asked.map(({ status }) => status),
      calls.map(() => 1),
    )
    assert.deepEqual(await readdir(join(dataDir, 'pg_wal')), [])
  })

  test('is 126 for a wrong key, said once at the start and once at the end', async () => {
    const store = createServer((_request, response) => {
      response.writeHead(403, { 'content-type': 'application/xml' })
      response.end('<Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>')
    })
    await once(store.listen(0, '127.0.0.1'), 'listening')
    const { status, stderr } = await fetch([nameOf(5), dest], {
      WALG_FILE_PREFIX: '',
      WALG_S3_PREFIX: 's3://bucket/path',
      AWS_ENDPOINT: `http://127.0.0.1:${(store.address() as AddressInfo).port}`,
      AWS_S3_FORCE_PATH_STYLE: 'true',
      AWS_ACCESS_KEY_ID: 'wrong',
      AWS_SECRET_ACCESS_KEY: 'hush-hush',
    })
    store.close()
    assert.equal(status, 126)
    assert.match(stderr, /^walrx: .*s3:\/\/bucket.*InvalidAccessKeyId/m)
    assert.doesNotMatch(stderr, /hush-hush/)
  })
})

describe('SIGTERM', () => {
  for (const [standby, expected] of [
    [false, 126],
    [true, 1],
  ] as const) {
    test(`ends a wal-fetch that waits at once with ${expected}, ${standby ? 'beside' : 'without'} standby.signal`, async () => {
      if (standby) await beStandby()
      const args = ['wal-fetch', nameOf(5), dest, '--fetch-retry-timeout=1h', '--file-prefix', join(root, 'none')]
      await using walrx = startWalrx(args, { cwd: dataDir, env: { HOME: root } })
      await walrx.logged('WAL file not delivered yet, trying again')
      const { signal, status } = await walrx.stop('SIGTERM')
      assert.deepEqual([status, signal], [expected, null])
    })
  }
})

describe('prefetching', () => {
  let startup: FakeStartup
  let folder: string
  beforeEach(async () => {
    startup = await startFakeStartup(dataDir)
    folder = join(dataDir, 'pg_wal', '.walrx', String(startup.pid))
  })
  afterEach(async () => {
    await startup.end()
    await until('the folder to go', async () => !(await readdir(join(dataDir, 'pg_wal'))).includes('.walrx'))
  })

  const pidArguments = () => ['--recovery-pid', String(startup.pid)]
  const ready = async () => (await readdir(folder).catch(() => [])).filter((file) => file.startsWith('0000')).sort()
  const prefetcher = async () => {
    const owner = JSON.parse(await readFile(join(folder, 'owner'), 'utf8')) as { prefetcher: { pid: number } }
    return owner.prefetcher.pid
  }

  test('starts with the first segment, outlives the call, and ends with its recovery', async () => {
    for (let number = 1; number <= 9; number++) await put(number)
    const flags = ['--prefetch-size=3MB', '--file-prefix', archive]
    assert.equal((await fetch([...pidArguments(), ...flags, nameOf(1), dest], { WALG_FILE_PREFIX: '' })).status, 0)
    await until('three segments', async () => String(await ready()) === String([2, 3, 4].map(nameOf)))
    const pid = await prefetcher()
    const running = runningProcess(pid)
    assert.ok(running)
    assert.notEqual(running.parentPid, process.pid)
    assert.equal(await readlink(`/proc/${pid}/cwd`), dataDir)
    for (const standard of [0, 1, 2]) assert.equal(await readlink(`/proc/${pid}/fd/${standard}`), '/dev/null')
    await rename(join(folder, nameOf(2)), join(dataDir, dest))
    await until('the next', async () => String(await ready()) === String([3, 4, 5].map(nameOf)))
    // What lies ready is taken by a wal-fetch, too, and no second prefetcher starts.
    assert.equal((await fetch([...pidArguments(), nameOf(3), dest])).status, 0)
    assert.deepEqual(await readFile(join(dataDir, dest)), makeSegment(nameOf(3)))
    assert.equal(await prefetcher(), pid)
    await startup.end()
    await until('its end', () => runningProcess(pid) === undefined, 2_000)
  })

  test('happens neither at the end of the archive nor when it is turned off', async () => {
    for (let number = 1; number <= 3; number++) await put(number)
    assert.equal((await fetch([...pidArguments(), nameOf(3), dest])).status, 0)
    assert.equal((await fetch([nameOf(1), dest])).status, 0)
    assert.equal((await fetch([...pidArguments(), '--download-concurrency=1', nameOf(1), dest])).status, 0)
    assert.equal((await fetch([...pidArguments(), '00000002.history', dest])).status, 74)
    assert.deepEqual(await readdir(join(dataDir, 'pg_wal')), ['RECOVERYXLOG'])
  })

  test('begins with what earlier recoveries left being removed', async () => {
    await put(1)
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, nameOf(1)), 'stale')
    await mkdir(join(dataDir, 'pg_wal', '.walrx', '1', 'running'), { recursive: true })
    await writeFile(join(dataDir, 'pg_wal', '.RECOVERYXLOG.walrx-999999999'), 'of a killed one')
    assert.equal((await fetch([...pidArguments(), '00000002.history', dest])).status, 74)
    assert.deepEqual(await ready(), [])
    assert.deepEqual(await readdir(join(dataDir, 'pg_wal')), [])
  })
})

describe('walrx restore-command', () => {
  test('prints a line that a shell runs as it is, with the flags given, and what the environment must have', async () => {
    await put(5)
    const { status, stdout, stderr } = await runWalrx(['restore-command', '--fetch-retry-timeout', '90s'], {
      cwd: dataDir,
      env: settings(),
    })
    assert.deepEqual([status, stderr], [0, ''])
    const [note, line] = stdout.trimEnd().split('\n')
    assert.equal(note, "# wal-fetch needs these in the server's environment: WALG_FILE_PREFIX")
    const command = /^restore_command = '(.*)'$/
      .exec(line ?? '')?.[1]
      ?.replaceAll("''", "'")
      .replaceAll('\\\\', '\\')
    assert.ok(
      command !== undefined && command.includes('wal-fetch --fetch-retry-timeout=90s --recovery-pid "$PPID"'),
      stdout,
    )
    const shell = command.replaceAll('%f', nameOf(5)).replaceAll('%p', dest)
    execFileSync('/bin/sh', ['-c', shell], { cwd: dataDir, env: { ...process.env, ...settings() } })
    assert.deepEqual(await readFile(join(dataDir, dest)), makeSegment(nameOf(5)))
    // This process is no startup process that goes on asking: what was begun for it ends with a signal.
    await stopPrefetchers()
  })

  test('refuses settings that a recovery would fail with', async () => {
    const { status, stderr } = await runWalrx(['restore-command'], { cwd: dataDir, env: { HOME: root } })
    assert.equal(status, 2)
    assert.match(stderr, /no archive is given/)
  })
})

/** Ends whatever serves this process as its "startup process". */
async function stopPrefetchers(): Promise<void> {
  const folder = join(dataDir, 'pg_wal', '.walrx', String(process.pid))
  const text = await readFile(join(folder, 'owner'), 'utf8').catch(() => undefined)
  if (text === undefined) return
  process.kill((JSON.parse(text) as { prefetcher: { pid: number } }).prefetcher.pid, 'SIGTERM')
  await until('its end', async () => !(await readdir(join(dataDir, 'pg_wal'))).includes('.walrx'))
}

test('wal-prefetch called by hand says what is wrong, and never ends with more than 1', async () => {
  const without = await runWalrx(['wal-prefetch', nameOf(1), 'pg_wal/.walrx/1'], { cwd: dataDir, env: settings() })
  assert.equal(without.status, 1)
  assert.match(without.stderr, /wal-prefetch needs --pg-wal-size/)
  const args = ['wal-prefetch', '--pg-wal-size=1', nameOf(1), 'pg_wal/.walrx/1']
  assert.equal((await runWalrx(args, { cwd: dataDir, env: settings() })).status, 0)
})

describe('the tail of a segment', () => {
  // cnpg #4990, #10394, patroni #1747
  test('is kept back from a standby, unless an option says so', async () => {
    const folder = join(archive, 'wal_005')
    await writeFile(join(folder, `${nameOf(5)}.partial`), makeSegment(nameOf(5)).subarray(0, 3 * 8192))
    assert.equal((await fetch([nameOf(5), dest])).status, 0)
    await beStandby()
    assert.equal((await fetch([nameOf(5), dest])).status, 74)
    // PostgreSQL takes it for a standby all the same.
    await writeFile(join(dataDir, 'recovery.signal'), '')
    assert.equal((await fetch([nameOf(5), dest])).status, 74)
    // By a script that has gone elsewhere.
    const elsewhere = await runWalrx(['wal-fetch', nameOf(5), join(dataDir, dest)], { cwd: root, env: settings() })
    assert.equal(elsewhere.status, 74, elsewhere.stderr)
    assert.equal((await fetch([nameOf(5), dest, '--standby-tail'])).status, 0)
    assert.equal((await fetch([nameOf(5), dest], { WALRX_STANDBY_TAIL: 'true' })).status, 0)
  })
})
