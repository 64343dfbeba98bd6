/**
 * A cluster with a backup in a bucket. Each trial has a copy of both: it loses the server, its disk and walrx in the same
 * instant, recovers from the bucket alone, and counts what is missing.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { readObject } from '../../../src/storage/storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { type Bucket, environmentBucket, startBucket } from '../../harness/store/bucket.ts'
import { type FaultyProxy, startFaultyProxy } from '../../harness/store/faulty-proxy.ts'
import { copyTree, makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { openAndStart, type PgMajor, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import type { Random } from '../../harness/random.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { until } from '../../harness/time/until.ts'
import { runWalrx, startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'
import { CommitClients, createTables, type LoadPlan, type Loss } from './commit-clients.ts'

/** A process that is still there after so long hangs. */
const hangMs = 60_000

/** How a server lives, until it is lost with walrx. */
interface Life extends LoadPlan {
  /** From the start of the load, or from what `early` names. */
  readonly killAfterMs: number
  /** It is lost before any client comes: soon after walrx has logged this. */
  readonly early: 'start position chosen' | 'the timeline ended' | undefined
  /** When walrx alone is killed and started again. */
  readonly restartAfterMs: number | undefined
  /** What the store takes longer for each request. */
  readonly storeDelayMs: number
}

/** What happens in a trial. */
export interface TrialPlan {
  /** walrx is the synchronous standby: no commit is acknowledged before the bucket has it. */
  readonly synchronous: boolean
  /** The second one is that of the server that was recovered, on the next timeline of the same archive. */
  readonly lives: readonly Life[]
}

/** Draws a trial: few small commits, as many as go, large ones that fill segments, or some and then none. */
export function drawTrial(random: Random, synchronous: boolean): TrialPlan {
  const lives = Array.from({ length: random.chance(0.25) ? 2 : 1 }, (_, index): Life => {
    const isEarly = index > 0 && random.chance(0.5)
    const early = isEarly ? random.pick(['start position chosen', 'the timeline ended'] as const) : undefined
    const kind = random.pick(['quiet', 'busy', 'bulky', 'then quiet'] as const)
    // What is written while walrx is away, asynchronously, is no measure of its pace.
    const restartAfterMs = synchronous && !early && random.chance(0.3) ? random.int(50, 2000) : undefined
    const killAfterMs = (restartAfterMs ?? 0) + (early ? random.int(0, 1000) : random.int(50, 3000))
    return {
      early,
      clients: early ? 0 : kind === 'busy' ? random.int(2, 8) : random.int(1, 3),
      pauseMs: kind === 'busy' ? 0 : random.int(5, 30),
      payloadBytes: kind === 'bulky' ? random.int(10_000, 80_000) : 0,
      busyMs: kind === 'then quiet' ? Math.floor(killAfterMs * random.next()) : Infinity,
      killAfterMs,
      restartAfterMs,
      storeDelayMs: random.pick([0, 0, random.int(1, 60)]),
    }
  })
  return { synchronous, lives }
}

/** See the file's header. */
export class RpoWorld implements AsyncDisposable {
  readonly #major: PgMajor
  readonly #bucket: Bucket
  readonly #proxy: FaultyProxy
  /** Holds the stopped cluster. */
  readonly #directory: string
  readonly #name: string
  #trials = 0

  private constructor(major: PgMajor, bucket: Bucket, proxy: FaultyProxy) {
    this.#major = major
    this.#bucket = bucket
    this.#proxy = proxy
    this.#directory = newServerDirectory(`rpo${major}`)
    this.#name = `rpo${major}-${process.pid}-${Date.now()}`
  }

  /** Makes the cluster and its backup, in the bucket that the environment names or in an s3rver. */
  static async open(major: PgMajor): Promise<RpoWorld> {
    const fromEnvironment = environmentBucket()
    const bucket = typeof fromEnvironment === 'string' ? await startBucket() : fromEnvironment
    // s3rver keeps what a killed walrx has sent of an object.
    const world = new RpoWorld(major, bucket, await startFaultyProxy(bucket.endpoint, { whole: true }))
    try {
      await world.#prepare()
      return world
    } catch (error) {
      await world[Symbol.asyncDispose]()
      throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#removeArchive('base')
    await this.#proxy[Symbol.asyncDispose]()
    await this.#bucket[Symbol.asyncDispose]()
    await rm(this.#directory, { recursive: true, force: true })
  }

  /** Runs a trial from beginning to end. Returns what was lost with each server. */
  async run({ lives, synchronous }: TrialPlan): Promise<Loss[]> {
    const run = `trial${++this.#trials}`
    await this.#copyArchive(run)
    let server = await this.#startCopy(run)
    const loads: CommitClients[] = []
    let losses: Loss[] = []
    try {
      for (const [index, life] of lives.entries()) {
        loads.push(await this.#lose(run, server, life, { synchronous, index }))
        // The disk as well.
        await server[Symbol.asyncDispose]()
        server = await this.#recover(run)
        const now: Loss[] = []
        for (const load of loads) now.push(await load.compare(server))
        assert.deepEqual(now.slice(0, -1), losses, 'commits are lost that had been recovered once')
        losses = now
      }
      return losses
    } finally {
      await server[Symbol.asyncDispose]()
      await this.#removeArchive(run)
    }
  }

  async #prepare(): Promise<void> {
    await makeServerDirectory(join(this.#directory, 'cache'), 0o755)
    await using server = await startPostgres({ major: this.#major })
    await server.sql(createTables)
    await using receiver = this.#receive('base', server, [])
    await receiver.logged('streaming')
    const pushed = await runWalrx(['backup-push', '--dbname', server.conninfo()], { env: this.#env('base') })
    assert.equal(pushed.status, 0, pushed.stderr)
    await receiver.stop()
    await server.stop('fast')
    await copyTree(server.dataDir, join(this.#directory, 'data'))
  }

  async #startCopy(run: string): Promise<TestPostgres> {
    const directory = newServerDirectory(`rpo${this.#major}-${run}`)
    await makeServerDirectory(directory, 0o755)
    // A tenth of what copyTree takes.
    await promisify(execFile)('cp', ['-a', join(this.#directory, 'data'), directory])
    return openAndStart(directory, { major: this.#major })
  }

  /** Lets clients commit until server and walrx are killed. Returns what the clients know. */
  async #lose(
    run: string,
    server: TestPostgres,
    life: Life,
    { index, synchronous }: { readonly index: number; readonly synchronous: boolean },
  ): Promise<CommitClients> {
    const { early, killAfterMs, restartAfterMs, storeDelayMs } = life
    const receive = () => this.#receive(run, server, synchronous ? ['--synchronous'] : [])
    await using first = receive()
    if (early) {
      await first.logged(early)
    } else {
      // It goes through the timeline before, where that server had not ended its last segment.
      await first.logged(({ msg, timeline }) => msg === 'streaming' && timeline === index + 1)
      if (synchronous) await beSynchronous(server)
    }
    this.#proxy.delayMs = storeDelayMs
    const load = await CommitClients.start(server, life, index)
    const isLoaded = delay(killAfterMs)
    if (restartAfterMs !== undefined) {
      await delay(restartAfterMs)
      await first.stop('SIGKILL')
    }
    await using last = restartAfterMs === undefined ? first : receive()
    await isLoaded
    assert.ok(!last.hasEnded, `walrx has ended by itself: ${last.stderr}`)
    await killAtOnce(server, last)
    await load.ended()
    this.#proxy.delayMs = 0
    return load
  }

  async #recover(run: string): Promise<TestPostgres> {
    const directory = newServerDirectory(`rpo${this.#major}-${run}-recovered`)
    await makeServerDirectory(directory, 0o755)
    const env = this.#env(run)
    const fetch = ['backup-fetch', join(directory, 'data'), 'LATEST', '--recover', '--disable-fsync']
    const fetched = await runWalrx(fetch, { env })
    assert.equal(fetched.status, 0, fetched.stderr)
    // Compiled code, which every server's first restore_command would else make again.
    return startRestored(directory, this.#major, [], { ...env, XDG_CACHE_HOME: join(this.#directory, 'cache') })
  }

  #receive(run: string, server: TestPostgres, flags: readonly string[]): WalrxProcess {
    const process = startWalrx(['wal-receive', '--dbname', server.conninfo(), ...flags], { env: this.#env(run) })
    const timer = setTimeout(() => process.child.kill('SIGQUIT'), hangMs)
    void process.ended.then(() => clearTimeout(timer))
    return process
  }

  #env(run: string): Record<string, string> {
    const { accessKeyId, bucket, region, secretAccessKey } = this.#bucket
    return {
      WALG_S3_PREFIX: `s3://${bucket}/${this.#name}/${run}`,
      AWS_ENDPOINT: this.#proxy.endpoint,
      AWS_S3_FORCE_PATH_STYLE: 'true',
      AWS_REGION: region,
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
    }
  }

  #storage(run: string): S3Storage {
    const { accessKeyId, bucket, endpoint, region, secretAccessKey } = this.#bucket
    const prefix = `${this.#name}/${run}`
    return new S3Storage({
      folders: archiveFolders,
      bucket,
      prefix,
      endpoint,
      region,
      accessKeyId,
      secretAccessKey,
      forcePathStyle: true,
    })
  }

  async #copyArchive(run: string): Promise<void> {
    const [from, to] = [this.#storage('base'), this.#storage(run)]
    await Promise.all((await keysOf(from)).map(async (key) => to.put(key, await readObject(from, key))))
    await Promise.all([from.close(), to.close()])
  }

  async #removeArchive(run: string): Promise<void> {
    const storage = this.#storage(run)
    const keys = await keysOf(storage)
    if (keys.length > 0) await storage.delete(keys)
    await storage.close()
  }
}

async function keysOf(storage: S3Storage): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of storage.list('')) keys.push(key)
  return keys
}

async function beSynchronous(server: TestPostgres): Promise<void> {
  await server.configure({ settings: { synchronous_standby_names: 'walrx' } })
  await server.reload()
  const query = `select sync_state from pg_stat_replication where application_name = 'walrx'`
  await until('walrx to be the synchronous standby', async () => {
    return (await server.sql<{ sync_state: string }>(query))[0]?.sync_state === 'sync'
  })
}

/** Neither gets a moment more than the other: it all happens in one turn of the event loop. */
async function killAtOnce(server: TestPostgres, receiver: WalrxProcess): Promise<void> {
  const { pid } = server
  // Freezes the postmaster before anything else, so that it starts no new processes.
  const killed = server.kill9()
  receiver.child.kill('SIGKILL')
  for (const child of readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean)) {
    try {
      process.kill(Number(child), 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
  await Promise.all([killed, receiver.ended])
}
