/** Two clusters, archived by two services of one process that share nothing but a page of metrics. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { LogFields, Logger } from '../../src/observe/log.ts'
import { MetricsPage } from '../../src/observe/metrics-page.ts'
import { type Lsn, parseLsn } from '../../src/postgres/lsn.ts'
import { decodePageHeader } from '../../src/postgres/wal/wal-page.ts'
import { ArchiveService } from '../../src/service/archive-service.ts'
import { openStatusPage } from '../../src/service/status-page.ts'
import { FileStorage } from '../../src/storage/file/file-storage.ts'
import { S3Storage } from '../../src/storage/s3/s3-storage.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { archiveFolders } from '../../src/walg/names.ts'
import { readWhole } from '../../src/walg/stored/stored-reader.ts'
import { readSystem } from '../../src/walg/wal/system-marker.ts'
import { WalReader } from '../../src/walg/wal/wal-reader.ts'
import { generateWal } from '../harness/made/wal-load.ts'
import { startPostgres, type TestPostgres } from '../harness/postgres/postgres.ts'
import { endOfSwitched } from '../harness/store/archive-check.ts'
import { startBucket } from '../harness/store/bucket.ts'
import { until } from '../harness/time/until.ts'
import { never, nothingLeftSince, resources, settingsFor } from './service-settings.ts'

const MiB = 1024 * 1024
const memoryBytes = 8 * MiB

/** A log that keeps its lines with the fields of their child. */
function keptLog(lines: LogFields[], own: LogFields = {}): Logger {
  const say = (message: string, fields: LogFields = {}) => void lines.push({ message, ...own, ...fields })
  return { debug: say, info: say, warn: say, error: say, child: (more) => keptLog(lines, { ...own, ...more }) }
}

/** Writes a few segments, and waits until the service has them all. */
async function archive(server: TestPostgres, service: ArchiveService): Promise<void> {
  await generateWal(server, { segments: 5, fill: 'full' })
  const end = endOfSwitched(parseLsn(await server.switchWal()), MiB)
  await until('the archive to have it', () => durableOf(service) >= end)
}

function durableOf(service: ArchiveService): Lsn {
  return parseLsn(String(service.readiness().details?.['durableLsn']))
}

/** The system identifier in every segment of an archive, each once, and how many segments there are. */
async function clustersIn(storage: Storage): Promise<{ readonly ids: bigint[]; readonly count: number }> {
  const reader = new WalReader(storage)
  const ids = new Set<bigint>([(await readSystem(storage))?.systemId ?? 0n])
  let count = 0
  for await (const { name } of reader.segments(1, 0n, MiB)) {
    const file = await reader.openWalFile(name)
    assert.ok(file)
    ids.add(decodePageHeader(await readWhole(file))?.long?.systemId ?? 0n)
    count++
  }
  return { ids: [...ids], count }
}

/** The value of a metric of one cluster; undefined where there is none. */
async function metric(url: string, name: string, cluster: string): Promise<number | undefined> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const value = new RegExp(`^${name}\\{cluster="${cluster}"\\} (\\S+)$`, 'm').exec(text)?.[1]
  return value === undefined ? undefined : Number(value)
}

test('two services of one process', { timeout: 180_000 }, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'walrx-two-'))
  await using inDirectory = await startPostgres({ major: 17, segmentSizeMb: 1 })
  await using inBucket = await startPostgres({ major: 16, segmentSizeMb: 1, fresh: true })
  await using bucket = await startBucket()
  assert.notEqual(inDirectory.systemId, inBucket.systemId)
  // Keys of the process, which the bucket refuses.
  process.env['AWS_ACCESS_KEY_ID'] = 'of-the-process'
  process.env['AWS_SECRET_ACCESS_KEY'] = 'of-the-process'
  const environmentBefore = JSON.stringify(process.env)
  const before = resources()

  const lines: LogFields[] = []
  const log = keptLog(lines)
  const metrics = new MetricsPage('1')
  const inS3 = {
    WALG_S3_PREFIX: `s3://${bucket.bucket}/two`,
    AWS_ENDPOINT: bucket.endpoint,
    AWS_S3_FORCE_PATH_STYLE: 'true',
    AWS_ACCESS_KEY_ID: bucket.accessKeyId,
    AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey,
  }
  const open = async (cluster: string, environment: Record<string, string>, server: TestPostgres, budget: number) =>
    ArchiveService.open(
      await settingsFor(environment, server.conninfo(), {
        cluster,
        metrics,
        log: log.child({ cluster }),
        memoryBytes: budget,
      }),
    )
  const one = await open('one', { WALG_FILE_PREFIX: directory }, inDirectory, memoryBytes)
  const two = await open('two', inS3, inBucket, 2 * memoryBytes)
  const services = [one, two]
  const status = await openStatusPage({ host: '127.0.0.1', port: 0 }, services, metrics)
  const runs = services.map((service) => service.run(never(), never()))
  await until('both to stream', async () => (await fetch(`${status.url}/readyz`)).status === 200)

  await Promise.all([archive(inDirectory, one), archive(inBucket, two)])
  assert.deepEqual(
    services.map((service) => service.readiness().details?.['poolCapacity']),
    [6, 12],
    'each has its own memory',
  )
  for (const cluster of ['one', 'two']) {
    assert.ok(((await metric(status.url, 'walrx_receive_segments_total', cluster)) ?? 0) >= 5, cluster)
    assert.equal(await metric(status.url, 'walrx_receive_connected', cluster), 1)
  }

  await one.close()
  await runs[0]
  services.shift()
  assert.equal(await metric(status.url, 'walrx_receive_connected', 'one'), undefined)
  assert.equal(await metric(status.url, 'walrx_receive_reconnects_total', 'two'), 0)
  await archive(inBucket, two)
  assert.equal((await fetch(`${status.url}/readyz`)).status, 200)

  await status.close()
  await two.close()
  await runs[1]
  assert.equal(JSON.stringify(process.env), environmentBefore)
  await nothingLeftSince(before)
  const clusters = new Set(lines.map(({ cluster }) => cluster))
  assert.deepEqual(clusters, new Set(['one', 'two']))

  const file = new FileStorage({ root: directory, folders: archiveFolders, fsync: false })
  const s3 = new S3Storage({ ...bucket, folders: archiveFolders, prefix: 'two', forcePathStyle: true })
  try {
    const [ofOne, ofTwo] = [await clustersIn(file), await clustersIn(s3)]
    assert.deepEqual([ofOne.ids, ofTwo.ids], [[inDirectory.systemId], [inBucket.systemId]])
    assert.ok(ofOne.count >= 6 && ofTwo.count >= 12)
  } finally {
    await s3.close()
    await rm(directory, { recursive: true })
  }
})
