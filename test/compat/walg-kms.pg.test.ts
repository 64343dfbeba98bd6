/**
 * AWS KMS's envelope, from WAL-G to walrx and back: segments and a base backup. WAL-G knows no setting for an endpoint of KMS: it
 * asks kms.us-east-1.amazonaws.com, and a proxy leads it to moto. Runs where WALG_BIN names its program, and moto_server is
 * installed.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { globSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { openWriteCodec } from '../../src/compression/codecs.ts'
import { encryptSlack, type Crypter } from '../../src/crypto/crypter.ts'
import { kmsCrypter } from '../../src/crypto/kms/kms-crypter.ts'
import { walKey } from '../../src/walg/names.ts'
import { startKms, testCredentials, type TestKms, withoutMoto } from '../harness/aws/kms.ts'
import { decodeStream, encodeCopy, randomBytesOf, walLikeBytes } from '../harness/made/codec-streams.ts'
import { TestAuthority, withoutOpenssl } from '../harness/postgres/certificates.ts'
import { makeServerDirectory, superuser } from '../harness/postgres/postgres-files.ts'
import { startPostgres } from '../harness/postgres/postgres.ts'
import { type HttpProxy, startHttpProxy } from '../harness/store/http-proxy.ts'
import { newServerDirectory } from '../harness/walrx/test-workspace.ts'

const run = promisify(execFile)
const walg = process.env['WALG_BIN']
const skip = walg === undefined ? 'no program of WAL-G given' : (withoutMoto ?? withoutOpenssl ?? false)
const host = 'kms.us-east-1.amazonaws.com'
const segmentBytes = 16 * 1024 * 1024

let root: string
let archive: string
let authority: TestAuthority
let kms: TestKms
let proxy: HttpProxy
let env: NodeJS.ProcessEnv
let open: () => Crypter

async function decrypt(crypter: Crypter, stored: Buffer): Promise<Buffer> {
  assert.equal(await crypter.recognise(stored.subarray(0, crypter.headBytes)), 'opens')
  const output: Uint8Array[] = []
  for await (const chunk of crypter.decrypt(once(stored))) output.push(chunk)
  return Buffer.concat(output)
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, undefined> {
  yield await Promise.resolve(bytes)
}

async function encrypt(crypter: Crypter, content: Buffer): Promise<Buffer> {
  const buffer = Buffer.concat([content, Buffer.alloc(encryptSlack(content.length))])
  return buffer.subarray(0, await crypter.encryptInPlace(buffer, content.length))
}

describe('between WAL-G and walrx, encrypted by AWS KMS', { skip, timeout: 300_000 }, () => {
  before(async () => {
    root = newServerDirectory('walg-kms')
    await makeServerDirectory(root, 0o755)
    archive = join(root, 'archive')
    await mkdir(archive)
    authority = await TestAuthority.create('of AWS')
    kms = await startKms({ moto: true, certificate: await authority.issue(host, `DNS:${host}`) })
    proxy = await startHttpProxy(kms.port)
    const keyId = await kms.createKey()
    const httpsProxy = `http://127.0.0.1:${proxy.port}`
    env = {
      PATH: process.env['PATH'],
      HOME: root,
      WALG_FILE_PREFIX: archive,
      WALG_CSE_KMS_ID: keyId,
      WALG_CSE_KMS_REGION: 'us-east-1',
      AWS_ACCESS_KEY_ID: testCredentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: testCredentials.secretAccessKey,
      AWS_CA_BUNDLE: authority.cert,
      HTTPS_PROXY: httpsProxy,
    }
    const access = { ...testCredentials, caFile: authority.cert, proxy: { httpsProxy } }
    open = () => kmsCrypter({ keyId, label: `WALG_CSE_KMS_ID=${keyId}`, access })
  })
  after(async () => {
    await proxy[Symbol.asyncDispose]()
    await kms[Symbol.asyncDispose]()
    await authority[Symbol.asyncDispose]()
    await rm(root, { recursive: true, force: true })
  })

  for (const [number, method] of (['none', 'lz4'] as const).entries()) {
    test(`a segment, compressed by ${method}`, async () => {
      const codec = openWriteCodec(method)
      const content = number === 0 ? randomBytesOf(1, segmentBytes) : walLikeBytes(2, segmentBytes)
      const data = join(root, `data-${method}`)
      await mkdir(join(data, 'pg_wal/archive_status'), { recursive: true })
      const theirs = `00000001000000000000000${number + 2}`
      await writeFile(join(data, 'pg_wal', theirs), content)
      const settings = { ...env, PGDATA: data, WALG_COMPRESSION_METHOD: method }
      await run(walg!, ['wal-push', join(data, 'pg_wal', theirs)], { env: settings })
      const stored = await readFile(join(archive, walKey(theirs, codec.extension)))
      assert.ok((await decodeStream(codec, [await decrypt(open(), stored)])).equals(content))

      const ours = `00000001000000000000001${number}`
      const key = join(archive, walKey(ours, codec.extension))
      await writeFile(key, await encrypt(open(), await encodeCopy(codec, content)))
      await run(walg!, ['wal-fetch', ours, join(root, ours)], { env: settings })
      assert.ok((await readFile(join(root, ours))).equals(content))
    })
  }

  test('a base backup', async () => {
    await using server = await startPostgres({ major: 17, dataChecksums: true })
    await server.sql('create table t as select g as id, md5(g::text) as text from generate_series(1, 20000) g')
    const place = { PGHOST: server.socketDir, PGPORT: String(server.port), PGUSER: superuser, PGDATABASE: 'postgres' }
    const settings = { ...env, ...place, WALG_COMPRESSION_METHOD: 'lz4', WALG_TAR_SIZE_THRESHOLD: '4000000' }
    await run(walg!, ['backup-push', server.dataDir], { env: settings })
    const [theirs, ours] = [join(root, 'theirs'), join(root, 'ours')]
    await run(walg!, ['backup-fetch', theirs, 'LATEST'], { env: settings })

    const [reader, writer] = [open(), open()]
    const parts = globSync(join(archive, 'basebackups_005/*/tar_partitions/*.lz4'))
    assert.ok(parts.length >= 4, `${parts.length} parts`)
    for (const part of parts) {
      const content = await decrypt(reader, await readFile(part))
      const tar = await decodeStream(openWriteCodec('lz4'), [content])
      assert.equal(tar.toString('latin1', 257, 262), 'ustar', part)
      await writeFile(part, await encrypt(writer, content))
    }
    await run(walg!, ['backup-fetch', ours, 'LATEST'], { env: settings })
    assert.equal((await run('diff', ['-r', theirs, ours])).stdout, '')
  })
})
