/** Real servers recover through the restore_command that walrx prints. */
import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, readlink, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { WriteMethod } from '../../../src/compression/codec.ts'
import { majorsFor, withNext } from '../../harness/extent.ts'
import { startRecovery } from '../../harness/postgres/postgres-copies.ts'
import { majorSkip, nextMajor, type PgMajor, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { isRunning } from '../../harness/walrx/processes.ts'
import { archivedPath, makeRecoveryWorld, type RecoveryWorld } from '../../harness/walrx/recovery-world.ts'
import { until } from '../../harness/time/until.ts'

/** Every codec and every version once. */
const pairs: [PgMajor, WriteMethod][] = [
  [14, 'zstd'],
  [15, 'lz4'],
  [16, 'brotli'],
  [17, 'none'],
  [18, 'zstd'],
  [nextMajor, 'lz4'],
]

/** A server that logs through the collector, as packaged servers do. */
const collected = { logging_collector: 'on', log_directory: 'collected', log_filename: 'server.log' }

async function collectedLog(server: TestPostgres): Promise<string> {
  return readFile(join(server.dataDir, 'collected', 'server.log'), 'utf8').catch(() => '')
}

async function rowsOf(server: TestPostgres): Promise<number> {
  const [row] = await server.sql<{ count: string }>('select count(*) from t')
  return Number(row?.count)
}

async function timelineOf(server: TestPostgres): Promise<number> {
  const [row] = await server.sql<{ timeline: number }>(
    "select ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int as timeline",
  )
  return row?.timeline ?? 0
}

/** The ready folder of a server: path, and process id of the prefetcher. */
async function prefetcherOf(server: TestPostgres): Promise<{ folder: string; pid: number } | undefined> {
  const root = join(server.pgWal(), '.walrx')
  for (const name of await readdir(root).catch(() => [])) {
    const text = await readFile(join(root, name, 'owner'), 'utf8').catch(() => undefined)
    if (text === undefined) continue
    const { prefetcher } = JSON.parse(text) as { prefetcher: { pid: number } }
    return { folder: join(root, name), pid: prefetcher.pid }
  }
  return undefined
}

const isClean = async (server: TestPostgres) =>
  (await readdir(server.pgWal())).every((name) => name !== '.walrx' && !name.includes('.walrx-'))

for (const [major, method] of pairs.filter(([one]) => withNext(majorsFor([14, 18])).includes(one))) {
  test(
    `PostgreSQL ${major} recovers to the last archived record from an archive in ${method}`,
    { skip: majorSkip(major) },
    async () => {
      const world = await makeRecoveryWorld(major, method, 40)
      await using server = await startRecovery({
        copy: await world.copy(),
        restoreCommand: world.command(['--prefetch-size=8MB']),
        settings: collected,
      })
      assert.equal(await rowsOf(server), world.rows)
      assert.equal(await timelineOf(server), 2)
      const log = await collectedLog(server)
      const restored = new Set(log.match(/(?<=restored log file ")[0-9A-F]{24}/g))
      const wanted = world.segments.filter((name) => restored.has(name) || name > [...restored].sort()[0]!)
      assert.equal(restored.size, wanted.length)
      assert.ok(restored.size >= 40)
      const fetched = (await world.calls()).filter((call) => /wal-fetch .* [0-9A-F]{24} /.test(call))
      assert.ok(fetched.length < restored.size / 2, `${fetched.length} of ${restored.size} were no plain mv`)
      await until('the prefetcher to go', () => isClean(server))
      assert.ok((await server.stop('fast')) < 5_000)
      await world.close()
    },
  )
}

describe('a recovery', () => {
  const quick = ['--fetch-retry-timeout=400ms']
  let world: RecoveryWorld
  let away: string
  before(async () => {
    world = await makeRecoveryWorld(17, 'zstd', 20)
    away = `${world.archive}.away`
  })
  after(() => world.close())

  /** A segment in the middle of what has to be restored. */
  const middle = () => world.segments[Math.floor(world.segments.length * 0.6)] ?? ''

  /** Shell text that takes the archive away when the server asks for this segment. */
  const outageAt = (name: string) => `[ "%f" = ${name} ] && mv "${world.archive}" "${away}"; `

  for (const [what, flags] of [
    ['without prefetching', ['--download-concurrency=1']],
    ['with prefetching', ['--prefetch-size=3MB']],
  ] as const) {
    test(`stops when the storage is out, ${what}, and goes on to the end when started again`, async () => {
      await using server = await startRecovery({
        copy: await world.copy(),
        restoreCommand: world.command([...quick, ...flags], outageAt(middle())),
        settings: collected,
        wait: false,
      })
      await server.ended()
      const log = await collectedLog(server)
      assert.match(log, /FATAL: {2}could not restore file "[0-9A-F]{24}" from archive/)
      assert.match(log, /the archive directory .* does not exist/)
      assert.doesNotMatch(log, /archive recovery complete|selected new timeline/)
      await until('the prefetcher to go', () => isClean(server))
      await rename(away, world.archive)
      await server.configure({ settings: { restore_command: world.command([...quick, ...flags]) } })
      await server.start()
      await server.recovered()
      assert.equal(await rowsOf(server), world.rows)
      assert.equal(await timelineOf(server), 2)
    })
  }

  test('stops at a gap and at damage, and continues when they are repaired', async () => {
    const path = archivedPath(world.archive, middle(), 'zstd')
    await rename(path, `${away}.segment`)
    await using server = await startRecovery({
      copy: await world.copy(),
      restoreCommand: world.command(quick),
      settings: collected,
      wait: false,
    })
    await server.ended()
    assert.match(await collectedLog(server), new RegExp(`lacks ${middle()}, although it holds later segments`))
    const other = archivedPath(world.archive, world.segments.at(-1) ?? '', 'zstd')
    await rename(other, path)
    await server.start({ wait: false })
    await server.ended()
    assert.match(await collectedLog(server), new RegExp(`${middle()} holds the page at`))
    assert.doesNotMatch(await collectedLog(server), /archive recovery complete|selected new timeline/)
    await rename(path, other)
    await rename(`${away}.segment`, path)
    await server.start()
    await server.recovered()
    assert.equal(await rowsOf(server), world.rows)
    assert.equal(await timelineOf(server), 2)
  })

  test('that waits for the storage ends promptly when the server is stopped, without promoting it', async () => {
    await using server = await startRecovery({
      copy: await world.copy(),
      restoreCommand: world.command(['--fetch-retry-timeout=1h'], outageAt(middle())),
      settings: collected,
      wait: false,
    })
    await until('the outage', async () => (await collectedLog(server)).includes('trying again'))
    assert.ok((await server.stop('fast')) < 2_000)
    assert.doesNotMatch(await collectedLog(server), /archive recovery complete|selected new timeline/)
    await until('everything of walrx to go', () => isClean(server))
    await rename(away, world.archive)
    await server.configure({ settings: { restore_command: world.command() } })
    await server.start()
    await server.recovered()
    assert.equal(await rowsOf(server), world.rows)
  })

  test('killed in the middle leaves no segment that the next one would take', async () => {
    const copy = await world.copy()
    const stopHere = `[ "%f" = ${middle()} ] && sleep 1000; `
    await using server = await startRecovery({
      copy,
      restoreCommand: world.command([], stopHere),
      wait: false,
    })
    await until('the middle', async () => (await server.log()).includes(`"${segmentBefore(middle())}"`))
    const prefetcher = await until('a prefetcher', () => prefetcherOf(server))
    process.kill(prefetcher.pid, 'SIGKILL')
    await server.kill9()
    await until('its end', async () => !(await isRunning(prefetcher.pid)))
    const left = await readdir(prefetcher.folder)
    assert.ok(left.length > 2, 'segments lie ready for a recovery that is dead')
    // The same process id, as a container's next start may well have.
    await server.configure({ settings: { restore_command: world.command() } })
    await server.start()
    await server.recovered()
    assert.equal(await rowsOf(server), world.rows)
    await until('all of it to go', () => isClean(server))
  })

  /** The segment before. */
  const segmentBefore = (name: string) => world.segments[world.segments.indexOf(name) - 1] ?? ''
})

describe('a standby', () => {
  test('outlives an outage, asks again, and its prefetcher holds nothing of the server', async () => {
    const world = await makeRecoveryWorld(17, 'zstd', 30)
    const late = join(world.archive, '..', 'late')
    await mkdir(late)
    const missing = world.segments.slice(-10)
    const move = async (from: string, to: string) => {
      for (const name of missing) await rename(`${from}/${name}.zst`, `${to}/${name}.zst`)
    }
    await move(join(world.archive, 'wal_005'), late)
    await using server = await startRecovery({
      copy: await world.copy(),
      restoreCommand: world.command(['--prefetch-size=8MB']),
      signal: 'standby',
      settings: { ...collected, wal_retrieve_retry_interval: '200ms', hot_standby: 'on' },
    })
    const last = world.segments.at(-11) ?? ''
    await until('the end of the archive', async () => (await collectedLog(server)).includes(`"${last}"`))
    const prefetcher = await until('a prefetcher', () => prefetcherOf(server))
    const descriptors = await Promise.all(
      (await readdir(`/proc/${prefetcher.pid}/fd`)).map((fd) => readlink(`/proc/${prefetcher.pid}/fd/${fd}`)),
    )
    for (const leadsTo of descriptors) {
      // Its own: event polls, its folder's socket and watch, files of the archive and of itself, Node's pipes to
      // itself.
      const isForeign = leadsTo.startsWith(server.dataDir) && !leadsTo.includes('.walrx')
      assert.ok(!isForeign, `the prefetcher has ${leadsTo} open`)
    }
    for (const standard of [0, 1, 2]) {
      assert.equal(await readlink(`/proc/${prefetcher.pid}/fd/${standard}`), '/dev/null')
    }
    await assertNoSharedPipes(prefetcher.pid, server.pid ?? 0)

    await rename(world.archive, `${world.archive}.away`)
    const outages = async () => ((await collectedLog(server)).match(/does not exist \(tried 2 times/g) ?? []).length
    await until('some vain attempts', async () => (await outages()) >= 2)
    assert.equal((await rowsOf(server)) > 0, true, 'it answers all the while')
    await rename(`${world.archive}.away`, world.archive)
    await move(late, join(world.archive, 'wal_005'))
    await until('the rest', async () => (await rowsOf(server)) === world.rows)
    assert.ok((await server.stop('fast')) < 2_000, 'the log collector waits for a process that holds its pipe')
    await until('the prefetcher to go', () => isClean(server))
    await world.close()
  })
})

/** No pipe or socket of the one is open in the other. */
async function assertNoSharedPipes(a: number, b: number): Promise<void> {
  const open = async (pid: number) => {
    const paths = (await readdir(`/proc/${pid}/fd`)).map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => ''))
    return (await Promise.all(paths)).filter((path) => /^(pipe|socket):/.test(path))
  }
  const theirs = new Set(await open(b))
  assert.deepEqual(
    (await open(a)).filter((path) => theirs.has(path)),
    [],
  )
}
