/** A store that is slower than wal_sender_timeout, refuses for a while, or loses answers: nothing is lost, nothing grows. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, beforeEach, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { addBytes, type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { endOfSwitched } from '../../harness/store/archive-check.ts'
import { type Bucket, environmentBucket, startBucket } from '../../harness/store/bucket.ts'
import { isFullRun } from '../../harness/extent.ts'
import { type FaultyProxy, startFaultyProxy } from '../../harness/store/faulty-proxy.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'
import { WireTap } from '../../harness/postgres/wire-tap.ts'

const segmentSize = 1024 * 1024
const fromEnvironment = environmentBucket()

/** How long an outage lasts beyond the moment when the pool is full and the connection closed, in seconds. */
const outageSeconds = Number(process.env['WALRX_TEST_OUTAGE_SECONDS'] ?? 0)

for (const store of ['s3rver', 'the store of the environment'] as const) {
  const isGiven = typeof fromEnvironment !== 'string'
  const isOther =
    !isFullRun && store === 's3rver' && isGiven && 'the store of the environment is enough; WALRX_TEST_ALL=1'
  const skip = store !== 's3rver' && !isGiven ? fromEnvironment : isOther
  describe(`with ${store}`, { skip }, () => {
    let server: TestPostgres
    let bucket: Bucket
    let proxy: FaultyProxy
    let tap: WireTap
    let storage: S3Storage
    /** Flush positions that were reported before their segments were in the bucket. */
    let tooEarly: string[]
    let looking: Promise<unknown>[]
    let prefix = 0

    before(async () => {
      server = await startPostgres({ major: 17, segmentSizeMb: 1, settings: { wal_sender_timeout: '1s' } })
      bucket = typeof fromEnvironment === 'string' || store === 's3rver' ? await startBucket() : fromEnvironment
      proxy = await startFaultyProxy(bucket.endpoint)
      tap = await WireTap.open({ host: '127.0.0.1', port: server.port })
    })

    after(async () => {
      await tap[Symbol.asyncDispose]()
      await proxy[Symbol.asyncDispose]()
      await bucket[Symbol.asyncDispose]()
      await server[Symbol.asyncDispose]()
    })

    beforeEach(() => {
      proxy.reset()
      tap.flushes.length = 0
      tooEarly = []
      looking = []
      storage = new S3Storage({
        folders: archiveFolders,
        ...bucket,
        prefix: `run-${process.pid}-${Date.now()}-${++prefix}`,
      })
      tap.onStatus = ({ flush }) => {
        if (flush === 0n) return
        const name = segmentNameAt(1, addBytes(flush, -1), segmentSize)
        looking.push(
          storage.head(`wal_005/${name}.zst`).then((info) => {
            if (!info) tooEarly.push(name)
          }),
        )
      }
    })

    function start(): WalrxProcess {
      const location = storage.location
      return startWalrx(
        ['wal-receive', '--dbname', `${server.conninfo()} port=${tap.port}`, '--slotname', `s${prefix}`],
        {
          env: {
            WALG_S3_PREFIX: location,
            AWS_ENDPOINT: proxy.endpoint,
            AWS_S3_FORCE_PATH_STYLE: 'true',
            AWS_REGION: bucket.region,
            AWS_ACCESS_KEY_ID: bucket.accessKeyId,
            AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey,
            S3_MAX_RETRIES: '2',
            WALRX_MEMORY: '8MB',
          },
        },
      )
    }

    /** Everything up to the present end becomes durable; no flush was ahead of the bucket. */
    async function catchesUp(): Promise<Lsn> {
      const end = endOfSwitched(parseLsn(await server.switchWal()), segmentSize)
      await server.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
      await tap.flushed(end)
      await Promise.all(looking)
      assert.deepEqual(tooEarly, [], 'a flush position was ahead of the bucket')
      return end
    }

    test(
      'a put that takes longer than wal_sender_timeout does not cost the connection',
      { timeout: 120_000 },
      async () => {
        await using receiver = start()
        await receiver.logged('streaming')
        proxy.fail('stall', { count: 2, when: ({ method, url }) => method === 'PUT' && url.includes('wal_005') })
        await generateWal(server, { segments: 4 })
        await proxy.saw('stall')
        const from = tap.statusCount
        await delay(4_000)
        assert.ok(tap.statusCount - from >= 8, 'walrx did not report to the server often enough')
        assert.equal(receiver.lines.filter(({ msg }) => msg === 'the stream broke').length, 0)
        await receiver.stop('SIGKILL')
        proxy.reset()
        await using again = start()
        await again.logged('streaming')
        await catchesUp()
      },
    )

    for (const mode of ['503', '403'] as const) {
      test(
        `a store that answers ${mode} for a while: memory stays, and all is archived afterwards`,
        { timeout: 120_000 + outageSeconds * 1000 },
        async () => {
          await using receiver = start()
          await receiver.logged('streaming')
          await generateWal(server, { segments: 3 })
          await catchesUp()
          proxy.mode = mode
          await generateWal(server, { segments: 40, fill: 'full' })
          await receiver.logged('could not archive, trying again')
          const early = residentMb(receiver)
          await receiver.logged(
            'no buffer became free: the connection is closed until the storage takes segments again',
          )
          await delay(outageSeconds * 1000)
          const late = residentMb(receiver)
          assert.ok(late < early * 1.3, `${early} MB became ${late} MB during the outage`)
          proxy.mode = 'pass'
          await catchesUp()
          assert.equal((await receiver.stop()).status, 0)
        },
      )
    }

    test('answers that are lost: what is there already is compared and counts', { timeout: 120_000 }, async () => {
      await using receiver = start()
      await receiver.logged('streaming')
      proxy.fail('lost', { count: 3, when: ({ method, url }) => method === 'PUT' && url.includes('wal_005') })
      await generateWal(server, { segments: 6 })
      await catchesUp()
      const outcomes = receiver.lines.filter(({ msg }) => msg === 'archived').map(({ outcome }) => outcome)
      assert.ok(outcomes.includes('same'), 'no put met its own object')
    })
  })
}

/** Resident memory in MB. */
function residentMb(receiver: WalrxProcess): number {
  const status = readFileSync(`/proc/${receiver.child.pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024
}
