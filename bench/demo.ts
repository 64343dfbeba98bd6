/**
 * `npm run demo`: archives a live PostgreSQL, kills it in the middle of its work, recovers a copy from the archive, and
 * shows that nothing archived is missing. Needs nothing but Node and npm; leaves nothing behind unless `--keep` is given.
 */
import { access, rename } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { formatLsn, type Lsn, toLsn } from '../src/postgres/lsn.ts'
import { copyDataDir, type DataDirCopy, startRecovery } from '../test/harness/postgres-copies.ts'
import { makeServerDirectory } from '../test/harness/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../test/harness/postgres.ts'
import { newServerDirectory } from '../test/harness/test-workspace.ts'
import { compareWithServer, readArchive } from './demo-archive.ts'
import { createTables, DemoLoad, inspectLoad } from './demo-load.ts'
import { grouped, Story } from './demo-story.ts'
import { RunningReceiver, runWalrx } from './demo-walrx.ts'

/** The server is killed when so many segments have been archived: about ten seconds of work. */
const segmentsBeforeKill = 8

/** And when so many rows more are written, which lie in a segment that will never be full. */
const rowsBeforeKill = 10_000

/** Longer than this, and something hangs. */
const demoTimeoutMs = 180_000

/** What the steps hand on. */
interface Scene {
  readonly story: Story
  readonly server: TestPostgres
  readonly copy: DataDirCopy
  readonly archive: string
  /** The environment of every walrx. */
  readonly environment: NodeJS.ProcessEnv
}

async function setTheScene(story: Story): Promise<Scene> {
  story.title('walrx: archive a live PostgreSQL, kill it, recover from the archive')
  story.step('A PostgreSQL server of our own')
  const server = await startPostgres({ major: 17, settings: { shared_buffers: '128MB', max_wal_size: '4GB' } })
  const [version] = await server.sql<{ server_version: string }>('show server_version')
  story.fact(`PostgreSQL ${version?.server_version} listens at 127.0.0.1:${server.port}, with segments of 16 MB`)
  await createTables(server)
  await server.sql('create role walrx login replication')
  story.fact('created a role for walrx: LOGIN and REPLICATION are all that it needs')

  story.step('A copy of the data directory, to recover from')
  await server.stop()
  const copy = await copyDataDir(server, false)
  await server.start()
  story.fact('copied while the server was stopped, without any WAL (walrx makes no base backups yet)')

  const archive = newServerDirectory('archive')
  await makeServerDirectory(archive, 0o755)
  const environment = { PATH: process.env['PATH'], HOME: archive + '-home', WALG_FILE_PREFIX: archive }
  await makeServerDirectory(environment.HOME, 0o755)
  return { story, server, copy, archive, environment }
}

/** Writes until enough segments are archived, then kills the server. */
async function archiveAndKill({ story, server, archive, environment }: Scene): Promise<DemoLoad> {
  story.step('walrx streams the WAL into a directory')
  const conninfo = `host=127.0.0.1 port=${server.port} user=walrx`
  story.command(`walrx wal-receive --dbname "${conninfo}" --file-prefix ${archive}`)
  await using receiver = new RunningReceiver(['--dbname', conninfo], environment)
  await receiver.line('connected')
  const [slot] = await server.sql<{ slot_name: string; restart_lsn: string }>(
    'select slot_name, restart_lsn::text from pg_replication_slots',
  )
  story.fact(`connected; its slot "${slot?.slot_name}" keeps all WAL from ${slot?.restart_lsn} on`)

  story.step('Load, and what of it is safe after each segment')
  const load = await DemoLoad.start(server)
  await followSegments(story, receiver, load)

  story.step('Kill the server in the middle of it')
  await load.reaches(load.lastRow + rowsBeforeKill)
  story.command(`kill -9 ${server.pid}`)
  await server.kill9()
  await load.ended()
  story.fact(`the last row that it acknowledged was ${grouped(load.lastRow)}`)
  const flushed = toLsn(BigInt(await receiver.metric('walrx_receive_flush_lsn_bytes')))
  const status = await receiver.stop()
  story.check(status === 0, `walrx finishes its uploads at SIGTERM and ends with status ${status}`)
  await checkArchive(story, { archive, flushed, pgWal: server.pgWal() })
  return load
}

/** Tells of every archived segment until there are enough. */
async function followSegments(story: Story, receiver: RunningReceiver, load: DemoLoad): Promise<void> {
  let count = 0
  const enough = Promise.withResolvers<void>()
  receiver.follow((line) => {
    const { bytes, file, msg } = line
    if (msg !== 'archived' || typeof file !== 'string' || typeof bytes !== 'number' || file.length !== 24) return
    count++
    const megabytes = (bytes / 1e6).toFixed(1)
    story.fact(`${file} archived as ${megabytes} MB; ${grouped(load.lastRow)} rows are written`)
    if (count === segmentsBeforeKill) enough.resolve()
  })
  // Rejects when walrx ends before.
  await Promise.race([enough.promise, receiver.line('never logged').then(() => {})])
}

async function checkArchive(
  story: Story,
  { archive, flushed, pgWal }: { archive: string; flushed: Lsn; pgWal: string },
): Promise<void> {
  const { objects, endLsn } = await readArchive(archive)
  story.check(
    flushed <= endLsn,
    `the server was told "flushed up to ${formatLsn(flushed)}", and the archive reaches ${formatLsn(endLsn)}`,
  )
  const { compared, different } = await compareWithServer(archive, objects, pgWal)
  story.check(
    compared > 0 && different.length === 0,
    `all ${compared} archived segments that the dead server still has are the same, byte for byte`,
  )
}

async function showArchive({ story, environment }: Scene): Promise<void> {
  story.step('What is in the archive')
  story.command('walrx wal-show')
  story.quote(await runWalrx(['wal-show'], environment))
}

/** Recovers the copy and compares. Returns the data directory of the recovered server. */
async function recover({ story, copy, archive, environment }: Scene, load: DemoLoad): Promise<TestPostgres> {
  story.step('Recover the copy from the archive')
  story.command('walrx restore-command >> postgresql.conf')
  const printed = await runWalrx(['restore-command'], environment)
  story.quote(printed)
  const quoted = /^restore_command = '(.*)'$/m.exec(printed)?.[1]
  if (quoted === undefined) throw new Error(`walrx restore-command printed no restore_command:\n${printed}`)
  const startedAtMs = performance.now()
  const recovered = await startRecovery({
    copy,
    restoreCommand: quoted.replaceAll("''", "'"),
    env: { WALG_FILE_PREFIX: archive, HOME: String(environment['HOME']) },
  })
  const { objects, endLsn } = await readArchive(archive)
  const seconds = (performance.now() - startedAtMs) / 1000
  story.fact(`recovered ${objects.length} segments in ${seconds.toFixed(1)} s, up to ${formatLsn(endLsn)}`)

  story.step('Is everything there?')
  const safe = load.lastRowBefore(endLsn)
  const found = await inspectLoad(recovered)
  story.check(
    safe > 0 && found.lastRow >= safe,
    `rows up to ${grouped(safe)} were archived; recovered: ${grouped(found.lastRow)}`,
  )
  story.check(found.rowCount === found.lastRow, `${grouped(found.rowCount)} rows without a gap`)
  story.check(found.wrongRows === 0, 'every row has the content that was written')
  story.check(
    found.accountSum === found.rowCount,
    `no transaction is torn: the accounts add up to ${grouped(found.accountSum)}`,
  )
  const lost = load.lastRow - found.lastRow
  story.fact(
    `${grouped(lost)} rows were in the unfinished segment and went with the server: that is what one segment of loss means`,
  )
  return recovered
}

/** Moves what is to be kept out of what is removed at the end. */
async function keep(story: Story, archive: string, recovered: TestPostgres): Promise<void> {
  await recovered.stop()
  const kept = join(tmpdir(), `walrx-demo-${process.pid}`)
  await rename(recovered.directory, kept)
  await rename(archive, join(kept, 'archive'))
  story.fact(`kept in ${kept}: archive and data (the recovered data directory)`)
}

async function demo(): Promise<boolean> {
  const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false } } })
  const story = new Story()
  const scene = await setTheScene(story)
  await using server = scene.server
  const load = await archiveAndKill(scene)
  await showArchive(scene)
  await using recovered = await recover(scene, load)
  if (values.keep) await keep(story, scene.archive, recovered)
  await server[Symbol.asyncDispose]()
  story.end()
  return story.isHappy
}

// Servers and directories are removed by the workspace's watchdog, walrx by its own exit handler.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
setTimeout(() => {
  process.stderr.write(`the demo was not done after ${demoTimeoutMs / 1000} s\n`)
  process.exit(1)
}, demoTimeoutMs).unref()

try {
  await access(new URL('../node_modules/pg17', import.meta.url)).catch(() => {
    throw new Error('the embedded PostgreSQL is not installed (it exists for Linux on x64): run npm ci')
  })
  process.exitCode = (await demo()) ? 0 : 1
} catch (error) {
  process.stderr.write(`\nthe demo failed: ${(error as Error).message}\n`)
  process.exitCode = 1
}
