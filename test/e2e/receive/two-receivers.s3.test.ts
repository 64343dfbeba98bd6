/**
 * Two receivers, each with a slot and a codec of its own, write to one bucket: of one server, and of two that have
 * parted. Whatever happens, no segment is there with two contents.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { openObject, readWhole } from '../../../src/walg/stored/stored-reader.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { type Bucket, environmentBucket, startBucket } from '../../harness/store/bucket.ts'
import { copyDataDir } from '../../harness/postgres/postgres-copies.ts'
import { openAndStart, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'

const timeout = 200_000
type Method = 'zstd' | 'lz4'
const settings = { wal_keep_size: '1GB', checkpoint_timeout: '1h' }

let bucket: Bucket
let runs = 0

before(async () => {
  const given = environmentBucket()
  bucket = typeof given === 'string' ? await startBucket() : given
})
after(() => bucket[Symbol.asyncDispose]())

/** One prefix of the bucket. */
class Archive implements AsyncDisposable {
  readonly storage: S3Storage

  constructor() {
    const prefix = `two-receivers-${process.pid}-${Date.now()}-${++runs}`
    this.storage = new S3Storage({ folders: archiveFolders, ...bucket, prefix, forcePathStyle: true })
  }

  /** Starts a receiver with a slot named after its codec. */
  receive(server: TestPostgres, method: Method): WalrxProcess {
    return startWalrx(['wal-receive', '--slotname', `walrx_${method}`, '--dbname', server.conninfo()], {
      env: {
        WALG_S3_PREFIX: this.storage.location,
        WALG_COMPRESSION_METHOD: method,
        AWS_ENDPOINT: bucket.endpoint,
        AWS_S3_FORCE_PATH_STYLE: 'true',
        AWS_REGION: bucket.region,
        AWS_ACCESS_KEY_ID: bucket.accessKeyId,
        AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey,
      },
    })
  }

  /** Contents of every form of every whole segment. */
  async segments(): Promise<Map<string, Buffer[]>> {
    const found = new Map<string, Buffer[]>()
    for await (const { extension, key, kind, name } of new WalReader(this.storage).walObjects()) {
      if (kind !== 'segment') continue
      const content = await readWhole(await openObject(this.storage, { key, extension }))
      found.set(name, [...(found.get(name) ?? []), content])
    }
    return found
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.storage.close()
  }
}

/** Name of the segment that is being written. */
async function presentSegment(server: TestPostgres): Promise<string> {
  await server.sql(`select pg_logical_emit_message(true, 'walrx', 'in the last segment')`)
  const [row] = await server.sql<{ file: string }>('select pg_walfile_name(pg_current_wal_lsn()) as file')
  return row?.file ?? ''
}

describe('two receivers with different codecs', () => {
  test('of one server archive the same, each all of it', { timeout }, async () => {
    await using archive = new Archive()
    await using server = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
    await using one = archive.receive(server, 'zstd')
    await using other = archive.receive(server, 'lz4')
    const receivers = [one, other]
    await Promise.all(receivers.map((receiver) => receiver.logged('streaming')))
    for (let round = 0; round < 4; round++) await generateWal(server, { segments: 6 })
    const last = await presentSegment(server)
    await server.switchWal()
    await server.sql(`select pg_logical_emit_message(true, 'walrx', 'one more')`)
    await Promise.all(
      receivers.map((receiver) => receiver.logged(({ file, msg }) => msg === 'archived' && file === last)),
    )
    for (const receiver of receivers) assert.equal((await receiver.stop()).status, 0)
    const segments = await archive.segments()
    assert.ok(segments.size >= 24)
    for (const [name, forms] of segments) {
      const own = readFileSync(join(server.pgWal(), name))
      for (const form of forms) assert.ok(form.equals(own), `${name} is the server's`)
    }
    assert.ok(
      [...segments.values()].some((forms) => forms.length === 2),
      'both have written',
    )
  })

  test('of two servers that have parted: one stops, and nothing is there twice', { timeout }, async (t) => {
    await using archive = new Archive()
    await using server = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
    await server.stop()
    const copy = await copyDataDir(server, true)
    await server.start()
    await using twin = await openAndStart(copy.directory, { major: 17, segmentSizeMb: 1, settings })
    await using one = archive.receive(server, 'zstd')
    await using other = archive.receive(twin, 'lz4')
    await Promise.all([one, other].map((receiver) => receiver.logged('streaming')))
    for (let round = 0; round < 3; round++) {
      await Promise.all([server, twin].map((each) => generateWal(each, { segments: 3 })))
    }
    const { promise: stopped, resolve } = Promise.withResolvers<void>()
    for (const receiver of [one, other]) void receiver.ended.then(() => resolve())
    await stopped
    const ended = [one, other].filter(({ hasEnded }) => hasEnded)
    for (const receiver of ended) {
      const { status, stderr } = await receiver.ended
      assert.equal(status, 5, stderr)
      assert.match(stderr, /WALRX_ARCHIVE_CONFLICT/)
    }
    t.diagnostic(`${ended.length} stopped`)
    for (const receiver of [one, other]) if (!receiver.hasEnded) await receiver.stop()
    for (const [name, forms] of await archive.segments()) {
      assert.ok(
        forms.every((form) => form.equals(forms[0] as Buffer)),
        `${name} is there with two contents`,
      )
    }
  })
})
