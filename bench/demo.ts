/**
 * `npm run demo`: backs a live PostgreSQL up and archives its WAL, kills it in the middle of its work, deletes its data
 * directory, restores it to the last archived record and to a moment of one's choice, and shows that nothing archived
 * is missing. Needs nothing but Node and npm; removes everything at the end unless `--keep` is given.
 */
import { access, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { formatLsn, type Lsn, toLsn } from '../src/postgres/lsn.ts'
import { giveToServer, makeServerDirectory } from '../test/harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../test/harness/postgres/postgres.ts'
import { startRestored } from '../test/harness/postgres/restored-server.ts'
import { newServerDirectory } from '../test/harness/walrx/test-workspace.ts'
import { compareWithServer, readArchive } from './demo-archive.ts'
import { createTables, DemoLoad, inspectLoad } from './demo-load.ts'
import { grouped, Story } from './demo-story.ts'
import { RunningReceiver, runWalrx, walrxCommand } from './demo-walrx.ts'

/** The server is killed when so many segments have been archived: about ten seconds of work. */
const segmentsBeforeKill = 8

/** And when so many more rows are written, which are in a segment that will never be full. */
const rowsBeforeKill = 10_000

/** Longer than this, and something hangs. */
const demoTimeoutMs = 180_000

/** What the steps hand on. */
interface Scene {
  readonly story: Story
  readonly server: TestPostgres
  readonly archive: string
  /** The environment of every walrx. */
  readonly environment: NodeJS.ProcessEnv
  /** How walrx reaches the server. */
  readonly conninfo: string
}

/** A moment to go back to. */
interface Moment {
  /** As the server's clock had it. */
  readonly time: string
  readonly lastRow: number
}

async function setTheScene(story: Story): Promise<Scene> {
  story.title('walrx: back a live PostgreSQL up, kill it, delete it, get it back')
  story.step('A PostgreSQL server of our own')
  const settings = { shared_buffers: '128MB', max_wal_size: '4GB' }
  const server = await startPostgres({ major: 17, dataChecksums: true, settings })
  const [version] = await server.sql<{ server_version: string }>('show server_version')
  story.fact(`PostgreSQL ${version?.server_version} listens at 127.0.0.1:${server.port}, with segments of 16 MB`)
  await createTables(server)
  await server.sql('create role walrx login replication')
  story.fact('created a role for walrx: LOGIN and REPLICATION are all that it needs')

  const archive = newServerDirectory('archive')
  await makeServerDirectory(archive, 0o755)
  const environment = { PATH: process.env['PATH'], HOME: archive + '-home', WALG_FILE_PREFIX: archive }
  await makeServerDirectory(environment.HOME, 0o755)
  return { story, server, archive, environment, conninfo: `host=127.0.0.1 port=${server.port} user=walrx` }
}

/** Backs the server up while it works, writes until enough segments are archived, then kills it. */
async function archiveAndKill(scene: Scene): Promise<{ readonly load: DemoLoad; readonly moment: Moment }> {
  const { archive, conninfo, environment, server, story } = scene
  story.step('walrx streams the WAL into a directory')
  story.command(`alias walrx='${walrxCommand}'; export WALG_FILE_PREFIX=${archive}`)
  story.command(`walrx wal-receive --dbname "${conninfo}"`)
  await using receiver = new RunningReceiver(['--dbname', conninfo], environment)
  await receiver.line('connected')
  const [slot] = await server.sql<{ slot_name: string; restart_lsn: string }>(
    'select slot_name, restart_lsn::text from pg_replication_slots',
  )
  story.fact(`connected; its slot "${slot?.slot_name}" keeps all WAL from ${slot?.restart_lsn} on`)

  const load = await DemoLoad.start(server)
  await backUp(scene, load)
  story.step('Load, and what of it is safe after each segment')
  let moment: Moment | undefined
  await followSegments(story, receiver, load, async () => {
    moment = await load.whilePaused(async () => {
      const [now] = await server.sql<{ time: string }>('select clock_timestamp()::text as time')
      return { time: now?.time ?? '', lastRow: load.lastRow }
    })
    story.fact(`it is ${moment.time}, and ${grouped(moment.lastRow)} rows are written: we shall come back here`)
  })

  story.step('Kill the server in the middle of it, and delete its data directory')
  await load.reaches(load.lastRow + rowsBeforeKill)
  story.command(`kill -9 ${server.pid}`)
  await server.kill9()
  await load.ended()
  story.fact(`the last row that it acknowledged was ${grouped(load.lastRow)}`)
  const flushed = toLsn(BigInt(await receiver.metric('walrx_receive_flush_lsn_bytes')))
  const status = await receiver.stop()
  story.check(status === 0, `walrx finishes its uploads at SIGTERM and ends with status ${status}`)
  await checkArchive(story, { archive, flushed, pgWal: server.pgWal() })
  story.command(`rm -r ${server.dataDir}`)
  await rm(server.dataDir, { recursive: true, force: true })
  if (!moment) throw new Error('there is no moment to come back to')
  return { load, moment }
}

async function backUp({ conninfo, environment, story }: Scene, load: DemoLoad): Promise<void> {
  story.step('A base backup over the network, while the server works')
  await load.reaches(rowsBeforeKill)
  story.command(`walrx backup-push --dbname "${conninfo}"`)
  story.quote(await runWalrx(['backup-push', '--dbname', conninfo], environment))
  story.command('walrx backup-list')
  story.quote(await runWalrx(['backup-list'], environment))
  story.command('walrx backup-verify LATEST')
  story.quote(await runWalrx(['backup-verify', 'LATEST'], environment))
}

/** Reports every archived segment until there are enough. */
async function followSegments(
  story: Story,
  receiver: RunningReceiver,
  load: DemoLoad,
  inTheMiddle: () => Promise<void>,
): Promise<void> {
  let count = 0
  let isLive = false
  let middle: Promise<void> | undefined
  const enough = Promise.withResolvers<void>()
  receiver.follow((line) => {
    const { bytes, file, msg } = line
    if (msg !== 'archived' || typeof file !== 'string' || typeof bytes !== 'number' || file.length !== 24) return
    // Those from before the backup are no news.
    if (!isLive) return
    count++
    if (count === segmentsBeforeKill / 2) {
      middle = inTheMiddle()
      middle.catch(enough.reject)
    }
    const megabytes = (bytes / 1e6).toFixed(1)
    story.fact(`${file} archived as ${megabytes} MB; ${grouped(load.lastRow)} rows are written`)
    if (count === segmentsBeforeKill) enough.resolve()
  })
  isLive = true
  // Rejects when walrx ends before.
  await Promise.race([enough.promise, receiver.line('never logged').then(() => {})])
  await middle
}

async function checkArchive(
  story: Story,
  { archive, flushed, pgWal }: { archive: string; flushed: Lsn; pgWal: string },
): Promise<void> {
  const { objects, endLsn } = await readArchive(archive)
  story.check(
    flushed <= endLsn,
    `walrx reported flush position ${formatLsn(flushed)} to the server, and the archive reaches ${formatLsn(endLsn)}`,
  )
  const { compared, different } = await compareWithServer(archive, objects, pgWal)
  story.check(
    compared > 0 && different.length === 0,
    `all ${compared} archived segments that the killed server still has are the same, byte for byte`,
  )
}

async function showArchive({ story, environment }: Scene): Promise<void> {
  story.step('What is in the archive')
  story.command('walrx wal-show')
  story.quote(await runWalrx(['wal-show'], environment))
}

/** Restores a backup and recovers it. */
async function restore({ environment, story }: Scene, name: string, args: readonly string[]): Promise<TestPostgres> {
  const directory = newServerDirectory(name)
  await makeServerDirectory(directory, 0o755)
  await giveToServer(directory)
  const words = ['backup-fetch', join(directory, 'data'), 'LATEST', ...args]
  story.command(`walrx ${words.map((word) => (word.includes(' ') ? `'${word}'` : word)).join(' ')}`)
  const startedAtMs = performance.now()
  story.quote(await runWalrx(words, environment))
  const server = await startRestored(directory, 17, [], {
    WALG_FILE_PREFIX: String(environment['WALG_FILE_PREFIX']),
    HOME: String(environment['HOME']),
  })
  const seconds = (performance.now() - startedAtMs) / 1000
  story.fact(`restored, recovered and writable again after ${seconds.toFixed(1)} s`)
  return server
}

/** Restores to the last archived record and compares. */
async function restoreToTheEnd(scene: Scene, load: DemoLoad): Promise<TestPostgres> {
  const { archive, story } = scene
  story.step('Restore it, to the last archived record')
  const restored = await restore(scene, 'restored', ['--recover'])

  story.step('Is everything there?')
  const { endLsn } = await readArchive(archive)
  const safe = load.lastRowBefore(endLsn)
  const found = await inspectLoad(restored)
  story.check(
    safe > 0 && found.lastRow >= safe,
    `rows up to ${grouped(safe)} were in whole segments; restored: up to ${grouped(found.lastRow)}`,
  )
  story.check(found.rowCount === found.lastRow, `${grouped(found.rowCount)} rows without a gap`)
  story.check(found.wrongRows === 0, 'every row has the content that was written')
  story.check(
    found.accountSum === found.rowCount,
    `no transaction is torn: the accounts add up to ${grouped(found.accountSum)}`,
  )
  const lost = load.lastRow - found.lastRow
  const inTail = found.lastRow - safe
  if (inTail > 0)
    story.fact(`${grouped(inTail)} of them were in the unfinished segment: walrx sends what is new in it every second`)
  if (lost > 0) story.fact(`${grouped(lost)} rows of the last moment went with the server: they were not sent yet`)
  else story.fact('no row that the server acknowledged is lost')
  return restored
}

/** Restores to the moment that was chosen, and compares. */
async function restoreToMoment(scene: Scene, { lastRow, time }: Moment): Promise<void> {
  const { story } = scene
  story.step('And once more, to the moment that we chose')
  await using restored = await restore(scene, 'moment', ['--target-time', time, '--target-action', 'promote'])
  const found = await inspectLoad(restored)
  story.check(
    found.lastRow === lastRow && found.rowCount === lastRow,
    `${grouped(lastRow)} rows were written then; restored: ${grouped(found.rowCount)}`,
  )
  story.check(found.wrongRows === 0 && found.accountSum === found.rowCount, 'all of them whole')
}

/** Moves what is to be kept out of what is removed at the end. */
async function keep(story: Story, archive: string, restored: TestPostgres): Promise<void> {
  await restored.stop()
  const kept = join(tmpdir(), `walrx-demo-${process.pid}`)
  await rename(restored.directory, kept)
  await rename(archive, join(kept, 'archive'))
  story.fact(`kept in ${kept}: archive, and data (the restored data directory)`)
  story.command(`WALG_FILE_PREFIX=${join(kept, 'archive')} ${walrxCommand} wal-show`)
}

async function demo(): Promise<boolean> {
  const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false } } })
  const story = new Story()
  const scene = await setTheScene(story)
  await using server = scene.server
  const { load, moment } = await archiveAndKill(scene)
  await showArchive(scene)
  await using restored = await restoreToTheEnd(scene, load)
  await restoreToMoment(scene, moment)
  if (values.keep) await keep(story, scene.archive, restored)
  else
    story.fact(
      'the servers and the archive are removed; npm run demo -- --keep keeps the archive and what was restored',
    )
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
