/**
 * `npm run bench -- rpo`: the cost of a commit that waits until a bucket has it, by the bucket's latency and the number
 * of clients; compared with a server without a synchronous standby, and with one that waits for pg_receivewal's
 * directory.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { startBucket } from '../test/harness/store/bucket.ts'
import { copyTree, pgBinary } from '../test/harness/postgres/postgres-files.ts'
import { openAndStart, type PostgresOptions, type TestPostgres } from '../test/harness/postgres/postgres.ts'
import { until } from '../test/harness/time/until.ts'
import { type BenchBucket, emptyBucket, findBucket } from './bucket.ts'
import { type CommitTimes, runCommitLoad } from './commit-load.ts'
import { ContenderProcess } from './contender-process.ts'
import { type Contender, findPeers, isPresent, type Target, walrx } from './contenders.ts'
import { type DelayingProxy, startDelayingProxy } from './delaying-proxy.ts'
import { describeMachine, programVersion } from './machine.ts'
import { NoiseMeter, percent } from './noise-meter.ts'
import { prepareCluster } from './prepared-cluster.ts'
import { type RpoRow, writeRpoReport } from './rpo-report.ts'
import { quantile } from './statistics.ts'
import { buildWalrx } from './walrx-build.ts'
import type { WorkDirectory } from './work-directory.ts'

/** Options of the command line. */
export interface RpoBenchOptions {
  readonly work: WorkDirectory
  readonly resultsDirectory: string
  /** Numbers of pgbench clients. */
  readonly clients: readonly number[]
  /** Added latency of the store, in milliseconds. */
  readonly latenciesMs: readonly number[]
  /** Of each cell of the table. */
  readonly seconds: number
  readonly say: (text: string) => void
}

const scale = 20
/** Enough that most pages of the tables have been written since the last checkpoint: their images are in no cell. */
const warmUpSeconds = 15
/** A receiver that lets commits wait for longer has failed. */
const patienceMs = 60_000
const slot = 'walrx_bench_rpo'
const standby = 'walrx'

/** As in production, where it matters to a commit: it is flushed to the server's own disk as well. */
const serverOptions: PostgresOptions = {
  major: 17,
  settings: {
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
    shared_buffers: '512MB',
    max_connections: '250',
    max_wal_size: '16GB',
    checkpoint_timeout: '1h',
    autovacuum: 'off',
    synchronous_standby_names: '',
  },
}

/** What all rows share. */
interface Arena extends RpoBenchOptions {
  readonly server: TestPostgres
  readonly bucket: BenchBucket
  readonly proxy: DelayingProxy
}

/** A row to be measured. */
interface Entry {
  readonly row: RpoRow
  /** Undefined: the server has no synchronous standby. */
  readonly contender: Contender | undefined
}

/** Runs the bench and writes its results. */
export async function benchRpo(options: RpoBenchOptions): Promise<void> {
  const { clients, resultsDirectory, say, seconds, work } = options
  await using store = await openStore()
  await using proxy = await startDelayingProxy(store.environment['AWS_ENDPOINT'] ?? '')
  const bucket = findBucket({ ...store.environment, AWS_ENDPOINT: proxy.endpoint })
  if (!bucket) throw new Error('the environment names no bucket')
  const entries = await listEntries(options)
  const directory = await work.emptied('rpo')
  await copyTree(`${await prepareCluster(work, scale, say)}/data`, `${directory}/data`)
  await using server = await openAndStart(directory, serverOptions)
  const machine = await describeMachine(work.path, await programVersion(pgBinary(17, 'postgres')))
  say(`pgbench: ${warmUpSeconds} s to warm up`)
  await runCommitLoad(server, work, 32, warmUpSeconds)
  const arena: Arena = { ...options, server, bucket, proxy }
  for (const { row, contender } of entries) {
    if (row.reason !== undefined) continue
    try {
      await measureRow(arena, row, contender)
    } catch (error) {
      row.reason = `failed: ${(error as Error).message.split('\n')[0]}`
      process.stderr.write(`${row.name}: ${(error as Error).message}\n`)
    }
  }
  const rows = entries.map(({ row }) => row)
  await writeRpoReport({ machine, store: store.description, scale, seconds, clients, rows }, resultsDirectory, say)
}

interface Store extends AsyncDisposable {
  readonly description: string
  readonly environment: NodeJS.ProcessEnv
}

/** The bucket that the environment names, else an s3rver of our own. */
async function openStore(): Promise<Store> {
  if (findBucket() && process.env['AWS_ENDPOINT']) {
    const nothing = () => Promise.resolve()
    return {
      description: 'the S3 store that the environment names',
      environment: process.env,
      [Symbol.asyncDispose]: nothing,
    }
  }
  const own = await startBucket()
  return {
    description: 'an s3rver, which knows no conditional put',
    environment: {
      WALG_S3_PREFIX: `s3://${own.bucket}`,
      AWS_ENDPOINT: own.endpoint,
      AWS_REGION: own.region,
      AWS_S3_FORCE_PATH_STYLE: 'true',
      AWS_ACCESS_KEY_ID: own.accessKeyId,
      AWS_SECRET_ACCESS_KEY: own.secretAccessKey,
    },
    [Symbol.asyncDispose]: () => own[Symbol.asyncDispose](),
  }
}

async function listEntries({ latenciesMs, say, work }: RpoBenchOptions): Promise<Entry[]> {
  const main = await buildWalrx(work, say)
  const version = await programVersion(process.execPath, [main, '--version'])
  const peer = (await findPeers([])).find(({ name }) => name === 'pg_receivewal')
  const row = (name: string, more: Partial<RpoRow> = {}): RpoRow => ({ name, version: '', cells: [], ...more })
  const entries: Entry[] = [{ row: row('no synchronous standby'), contender: undefined }]
  const peerName = 'pg_receivewal --synchronous'
  if (peer && isPresent(peer)) entries.push({ row: row(peerName, { version: peer.version }), contender: peer })
  else entries.push({ row: row(peerName, { reason: peer?.reason }), contender: undefined })
  for (const latencyMs of latenciesMs) {
    const contender = walrx(main, version, { codec: 'zstd' })
    entries.push({ row: row('walrx --synchronous', { version, latencyMs }), contender })
  }
  return entries
}

async function measureRow(arena: Arena, row: RpoRow, contender: Contender | undefined): Promise<void> {
  const { bucket, proxy, server, say, work } = arena
  const meter = new NoiseMeter(server.pid ?? 0)
  await delay(1000)
  row.noise = meter.read()
  say(`${label(row)}: others have ${percent(row.noise.otherShare)} of the CPU`)
  if (contender === undefined) return measureCells(arena, row, undefined)
  const run = `rpo-${process.pid}-${Date.now()}`
  const archive = bucket.open(run)
  const stateDirectory = await work.emptied('rpo-state')
  let target: Target
  try {
    if (row.latencyMs === undefined) {
      target = { kind: 'file', directory: await work.emptied('rpo-archive') }
    } else {
      proxy.delayMs = row.latencyMs
      row.putMs = await timePut(bucket, `${run}-put`)
      say(`${label(row)}: a PUT takes ${row.putMs.toFixed(1)} ms`)
      target = { kind: 's3', prefix: bucket.prefix(run), environment: bucket.environment }
    }
    await server.sql(`select pg_create_physical_replication_slot('${slot}', true)`)
    const task = { port: server.port, slot, target, stateDirectory, home: await work.made('home'), endLsn: undefined }
    const { command, args, environment } = await contender.launch(task)
    await using receiver = new ContenderProcess(
      { command, args: [...args, '--synchronous'], environment: { ...environment, PGAPPNAME: standby } },
      stateDirectory,
    )
    await measureCells(arena, row, receiver)
  } finally {
    proxy.delayMs = 0
    await dropSlot(server)
    await emptyBucket(archive)
    await archive.close()
    for (const name of ['rpo-state', 'rpo-archive']) await work.remove(name)
  }
}

/** The median time of a small PUT that nothing else is in the way of. */
async function timePut(bucket: BenchBucket, run: string): Promise<number> {
  const storage = bucket.open(run)
  const times: number[] = []
  for (let index = 0; index < 41; index++) {
    const start = performance.now()
    await storage.put(`object-${index}`, Buffer.alloc(8192, index))
    times.push(performance.now() - start)
  }
  await emptyBucket(storage)
  await storage.close()
  // The first ones open the connection and warm the client up.
  return quantile(times.slice(10), 0.5)
}

async function measureCells(arena: Arena, row: RpoRow, receiver: ContenderProcess | undefined): Promise<void> {
  const { clients, say, seconds, server, work } = arena
  const failed = receiver?.ended.then((end) => Promise.reject(new Error(`it ended with ${end}: ${receiver.logTail}`)))
  failed?.catch(() => {})
  try {
    if (receiver && failed) await Promise.race([beSynchronous(server), failed])
    for (const count of clients) {
      const load = runCommitLoad(server, work, count, seconds)
      load.catch(() => {})
      const tooLate = delay(seconds * 1000 + patienceMs, undefined, { ref: false }).then(() =>
        Promise.reject(new Error(`commits have waited for ${patienceMs} ms: ${receiver?.logTail}`)),
      )
      tooLate.catch(() => {})
      try {
        const times = await Promise.race([load, tooLate, ...(failed ? [failed] : [])])
        row.cells.push(times)
        say(`${label(row)}: ${describe(times)}`)
      } catch (error) {
        // Releases the waiting commits, or pgbench would never end.
        await nameStandby(server, '')
        await load.catch(() => {})
        throw error
      }
    }
  } finally {
    await nameStandby(server, '')
  }
}

async function beSynchronous(server: TestPostgres): Promise<void> {
  await nameStandby(server, standby)
  const query = `select sync_state from pg_stat_replication where application_name = '${standby}'`
  await until('the receiver to become synchronous', async () => {
    return (await server.sql<{ sync_state: string }>(query))[0]?.sync_state === 'sync'
  })
}

async function nameStandby(server: TestPostgres, name: string): Promise<void> {
  await server.configure({ settings: { synchronous_standby_names: name } })
  await server.reload()
}

async function dropSlot(server: TestPostgres): Promise<void> {
  const rows = () =>
    server.sql<{ active: boolean }>(`select active from pg_replication_slots where slot_name = '${slot}'`)
  await until('the slot to be free', async () => (await rows())[0]?.active !== true)
  await server.sql(`select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '${slot}'`)
}

function label({ latencyMs, name }: RpoRow): string {
  return latencyMs === undefined ? name : `${name}, store + ${latencyMs} ms`
}

function describe({ clients, commitMs, meanMs, p50Ms, p99Ms, perSecond }: CommitTimes): string {
  const times = [commitMs, meanMs, p50Ms, p99Ms].map((ms) => ms.toFixed(1)).join(', ')
  return `${clients} clients: commit, mean, p50, p99 ${times} ms; ${perSecond.toFixed(0)} commits/s`
}
