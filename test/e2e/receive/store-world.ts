/** An archive of its own in a bucket, behind a proxy that fails on demand: the store of the environment, or s3rver. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { zstdDecompressSync } from 'node:zlib'
import { isSegmentName } from '../../../src/postgres/wal/wal-file.ts'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { readObject } from '../../../src/storage/storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { type Bucket, environmentBucket, startBucket } from '../../harness/store/bucket.ts'
import { type FaultyProxy, startFaultyProxy } from '../../harness/store/faulty-proxy.ts'
import type { TestPostgres } from '../../harness/postgres/postgres.ts'
import { runWalrx, startWalrx, type ProcessEnd, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'

let opened = 0

/** See the file's header. */
export class StoreWorld implements AsyncDisposable {
  /** Stands between walrx and the bucket. */
  readonly proxy: FaultyProxy
  /** Looks into the archive past the proxy. */
  readonly storage: S3Storage
  /** What walrx, and a server's restore_command, find the archive by. */
  readonly env: Readonly<Record<string, string>>
  readonly #bucket: Bucket

  private constructor(bucket: Bucket, proxy: FaultyProxy) {
    this.#bucket = bucket
    this.proxy = proxy
    const prefix = `fields-${process.pid}-${Date.now()}-${++opened}`
    this.storage = new S3Storage({ folders: archiveFolders, ...bucket, prefix, forcePathStyle: true })
    this.env = {
      WALG_S3_PREFIX: `s3://${bucket.bucket}/${prefix}`,
      AWS_ENDPOINT: proxy.endpoint,
      AWS_S3_FORCE_PATH_STYLE: 'true',
      AWS_REGION: bucket.region,
      AWS_ACCESS_KEY_ID: bucket.accessKeyId,
      AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey,
      S3_MAX_RETRIES: '2',
    }
  }

  /** Opens it, with nothing in the archive. */
  static async open(): Promise<StoreWorld> {
    const fromEnvironment = environmentBucket()
    const bucket = typeof fromEnvironment === 'string' ? await startBucket() : fromEnvironment
    // s3rver keeps what a killed walrx has sent of an object.
    return new StoreWorld(bucket, await startFaultyProxy(bucket.endpoint, { whole: true }))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const keys = await this.keys()
    if (keys.length > 0) await this.storage.delete(keys)
    await this.storage.close()
    await this.proxy[Symbol.asyncDispose]()
    await this.#bucket[Symbol.asyncDispose]()
  }

  /** The store answers again, also to what it has kept waiting: those connections break. */
  recover(): void {
    this.proxy.reset()
    this.proxy.breakStalled()
  }

  /** Starts a receiver. */
  receive(conninfo: string, flags: readonly string[] = [], env: Readonly<Record<string, string>> = {}): WalrxProcess {
    return startWalrx(['wal-receive', '--dbname', conninfo, ...flags], { env: { ...this.env, ...env } })
  }

  /** Runs a command to its end. */
  run(...args: string[]): Promise<ProcessEnd> {
    return runWalrx(args, { env: this.env })
  }

  /** Keys of all objects, or of those in a folder. */
  async keys(folder = ''): Promise<string[]> {
    const keys: string[] = []
    for await (const { key } of this.storage.list(folder)) keys.push(key)
    return keys
  }

  /** The decoded bytes of a file of `wal_005`. */
  async decoded(name: string): Promise<Buffer> {
    return zstdDecompressSync(await readObject(this.storage, `wal_005/${name}.zst`))
  }

  /** Names of all whole segments, in order. */
  async segments(): Promise<string[]> {
    const names = (await this.keys('wal_005/')).map((key) => key.slice('wal_005/'.length).replace(/\.zst$/, ''))
    return names.filter(isSegmentName).sort()
  }

  /** Every archived segment that the server still has is byte for byte the server's own. Returns their names. */
  async compareWithServer(server: TestPostgres): Promise<string[]> {
    const compared: string[] = []
    for (const name of await this.segments()) {
      const own = join(server.pgWal(), name)
      if (!existsSync(own)) continue
      assert.ok((await this.decoded(name)).equals(readFileSync(own)), `${name} differs from the server's`)
      compared.push(name)
    }
    return compared
  }
}
