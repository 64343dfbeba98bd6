import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { Hash, createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { WalrxError } from '../../../src/primitives/errors.ts'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { readObject } from '../../../src/storage/storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { isCode, seeded } from '../assertions.ts'
import { s3Error, startStub } from './stub-store.ts'

const run = promisify(execFile)
const KEY = 'wal_005/000000010000000000000001.zst'

describe('a new object', () => {
  test('is sent with its length and the SHA-256 of its bytes, and without newer checksums or Expect', async () => {
    await using stub = await startStub(() => ({}))
    const bytes = seeded(1, 3_000_000)
    await stub.open().put(KEY, bytes)
    await stub.open({ partSizeBytes: 5 * 1024 * 1024 }).put(
      KEY,
      (async function* () {
        yield bytes
      })(),
    )
    assert.equal(stub.requests.length, 2)
    for (const { headers, body } of stub.requests) {
      assert.deepEqual(body, bytes)
      assert.equal(headers['content-length'], '3000000')
      assert.equal(headers['x-amz-content-sha256'], createHash('sha256').update(bytes).digest('hex'))
      const surplus = Object.keys(headers).filter((name) => /checksum|trailer|expect|transfer|content-enc/.test(name))
      assert.deepEqual(surplus, [])
    }
  })

  test('of many megabytes is hashed a megabyte at a time, so that it holds up nothing else', async (context) => {
    await using stub = await startStub(() => ({}))
    const bytes = seeded(1, 20 * 1024 * 1024 + 5)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const update = context.mock.method(Hash.prototype, 'update')
    await stub.open().put(KEY, bytes)
    const lengths = update.mock.calls.map(({ arguments: [data] }) => (data as { length: number } | string).length)
    assert.ok(Math.max(...lengths) <= 1024 * 1024)
    assert.equal(stub.requests[0]?.headers['x-amz-content-sha256'], sha256)
  })

  test('carries a CRC32 where that is asked for', async () => {
    await using stub = await startStub(() => ({}))
    await stub.open({ checksums: 'when-supported' }).put(KEY, Buffer.from('x'))
    assert.ok(stub.requests[0]?.headers['x-amz-checksum-crc32'])
  })

  test('carries storage class and encryption, with which others are read as well', async () => {
    await using stub = await startStub(() => ({}))
    await stub.open({ storageClass: 'STANDARD_IA', sse: 'aws:kms', sseKmsKeyId: 'my-key' }).put(KEY, Buffer.from('x'))
    assert.equal(stub.requests[0]?.headers['x-amz-storage-class'], 'STANDARD_IA')
    assert.equal(stub.requests[0].headers['x-amz-server-side-encryption'], 'aws:kms')
    assert.equal(stub.requests[0].headers['x-amz-server-side-encryption-aws-kms-key-id'], 'my-key')
    const key = '0123456789abcdef0123456789abcdef'
    const own = stub.open({ sse: 'AES256', sseCustomerKey: key })
    await own.put(KEY, Buffer.from('x'))
    await own.head(KEY)
    await readObject(own, KEY)
    for (const { headers } of stub.requests.slice(1)) {
      assert.equal(headers['x-amz-server-side-encryption-customer-key'], Buffer.from(key).toString('base64'))
      assert.equal(headers['x-amz-server-side-encryption-customer-algorithm'], 'AES256')
      assert.equal(headers['x-amz-server-side-encryption'], undefined)
    }
  })
})

describe('the place of a bucket', () => {
  test('is the region that the bucket names when none is known', async () => {
    await using stub = await startStub(({ headers }) =>
      String(headers.authorization).includes('/eu-central-1/')
        ? {}
        : s3Error(301, 'PermanentRedirect', { 'x-amz-bucket-region': 'eu-central-1' }),
    )
    await stub.open().put(KEY, Buffer.from('x'))
    assert.equal(stub.requests.length, 2)
  })

  test('must be a URL of http', async () => {
    for (const endpoint of ['localhost:9000', 'ftp://store', 'not a url']) {
      const storage = new S3Storage({
        folders: archiveFolders,
        bucket: 'bucket',
        endpoint,
        accessKeyId: 'key',
        secretAccessKey: 'secret',
      })
      await assert.rejects(storage.head(KEY), (error) => isCode(error, 'WALRX_USAGE'))
      await storage.close()
    }
  })
})

/** Two sources of keys at once, which the SDK would warn about. */
const conflicting = { AWS_PROFILE: 'nobody', AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' }

test('keys that the SDK finds nowhere are WALRX_STORAGE_DENIED with a hint, and nothing is printed', async () => {
  await using stub = await startStub(() => ({}))
  const script = `
    import { S3Storage } from ${JSON.stringify(fileURLToPath(new URL('../../../src/storage/s3/s3-storage.ts', import.meta.url)))}
    const storage = new S3Storage({ folders: { probe: 'probe' }, bucket: 'bucket', endpoint: ${JSON.stringify(stub.endpoint)} })
    await storage.head('x').catch((error) => console.log(error.code, error.hint !== undefined))`
  const env = { PATH: process.env.PATH, HOME: '/nonexistent', AWS_EC2_METADATA_DISABLED: 'true', ...conflicting }
  const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', script], { env })
  assert.equal(stdout, 'WALRX_STORAGE_DENIED true\n')
  assert.equal(stderr, '')
})

/** What STS answers to a web identity: keys for an hour. */
const sessionOfStsRole = `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
  <AccessKeyId>of-the-role</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>
  <Expiration>${new Date(Date.now() + 3600_000).toISOString()}</Expiration>
  </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`

test('storages of one process have the keys of their own profiles and roles, and not those of its environment', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'walrx-aws-'))
  const sessions: string[] = []
  await using stub = await startStub(({ body, key, method }) => {
    if (method !== 'POST' || key !== '') return {}
    sessions.push(body.toString())
    return { body: sessionOfStsRole, headers: { 'content-type': 'text/xml' } }
  })
  try {
    const [config, keys, token] = ['config', 'keys', 'token'].map((name) => join(directory, name)) as string[]
    await writeFile(
      config!,
      `[profile third]\naws_access_key_id = third\n
      aws_secret_access_key = s\n`.replace(/^ +/gm, ''),
    )
    await writeFile(
      keys!,
      `[first]\naws_access_key_id = first\naws_secret_access_key = s\n
      [second]\naws_access_key_id = second\naws_secret_access_key = s\n`.replace(/^ +/gm, ''),
    )
    await writeFile(token!, 'the-token')
    const storages = [
      { profile: 'first', credentialsFile: keys },
      { profile: 'second', credentialsFile: keys },
      { profile: 'third', configFile: config },
      { profile: 'default', webIdentity: { tokenFile: token, roleArn: 'arn:aws:iam::1:role/x', sessionName: 'walrx' } },
    ]
    const script = `
      import { S3Storage } from ${JSON.stringify(fileURLToPath(new URL('../../../src/storage/s3/s3-storage.ts', import.meta.url)))}
      const before = JSON.stringify(process.env)
      const at = { bucket: 'bucket', endpoint: ${JSON.stringify(stub.endpoint)}, forcePathStyle: true }
      const storages = ${JSON.stringify(storages)}.map((options) => new S3Storage({ ...at, ...options }))
      await Promise.all(storages.map((storage, index) => storage.put('object-' + index, new Uint8Array(1))))
      await Promise.all(storages.map((storage) => storage.close()))
      if (JSON.stringify(process.env) !== before) throw new Error('the environment has changed')`
    const env = {
      PATH: process.env.PATH,
      HOME: '/nonexistent',
      AWS_ENDPOINT_URL_STS: stub.endpoint,
      AWS_PROFILE: 'nobody',
      AWS_ACCESS_KEY_ID: 'of-the-process',
      AWS_SECRET_ACCESS_KEY: 's',
    }
    const { stderr } = await run(process.execPath, ['--input-type=module', '-e', script], { env })
    assert.equal(stderr, '')
    const used = stub.requests.filter(({ method }) => method === 'PUT')
    assert.deepEqual(
      used.map(({ headers, key }) => `${key} ${/Credential=([^/]+)/.exec(String(headers.authorization))?.[1]}`).sort(),
      ['object-0 first', 'object-1 second', 'object-2 third', 'object-3 of-the-role'],
    )
    assert.match(sessions.join(), /RoleArn=arn.*role.*RoleSessionName=walrx.*WebIdentityToken=the-token/)
  } finally {
    await rm(directory, { recursive: true })
  }
})

test('nothing is printed on stderr, whatever goes wrong, and no handle keeps the process', async () => {
  await using stub = await startStub(({ method, key }, index) => {
    if (key === 'hang') return { hang: true }
    if (index % 3 === 0) return s3Error(503, 'SlowDown')
    if (index % 7 === 0) return { status: 500, body: '<html><br></html>' }
    if (method === 'GET' && key === '') return { body: '<ListBucketResult><LastModified>x</LastModified>' }
    return index % 5 === 0 ? { body: 'x', cutAfter: 0 } : {}
  })
  const script = `
    import { S3Storage } from ${JSON.stringify(fileURLToPath(new URL('../../../src/storage/s3/s3-storage.ts', import.meta.url)))}
    const storage = new S3Storage({
      folders: { probe: 'probe' },
      bucket: 'bucket', endpoint: ${JSON.stringify(stub.endpoint)}, accessKeyId: 'key', secretAccessKey: 'secret',
      maxSockets: 1, retryDelayFirstMs: 1, retryDelayMaxMs: 2, maxRetries: 3, connectTimeoutMs: 100, requestTimeoutMs: 400,
    })
    async function* stream() { for (let i = 0; i < 30; i++) yield new Uint8Array(1 << 20) }
    const calls = Array.from({ length: 100 }, (_, i) => [
      storage.put('a' + i, new Uint8Array(1000)), storage.head('a'), storage.delete(['a', 'b']),
      storage.get('a').then(async (body) => { for await (const chunk of body); }),
    ]).flat()
    calls.unshift(storage.put('hang', new Uint8Array(1)))
    calls.push(storage.put('stream', stream()), (async () => { for await (const o of storage.list('')); })())
    await Promise.allSettled(calls)
    await storage.close()
    console.log('done')`
  const env = { PATH: process.env.PATH }
  const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', script], { env })
  assert.equal(stdout, 'done\n')
  assert.equal(stderr, '')
})

/** A certificate for localhost that signs itself; undefined without openssl. */
async function selfSigned(directory: string): Promise<boolean> {
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost']
  const files = ['-keyout', join(directory, 'key.pem'), '-out', join(directory, 'cert.pem')]
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  return await run('openssl', ['req', '-x509', '-days', '2', ...key, ...files, ...subject]).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw error
    },
  )
}

test('TLS is trusted by the CA file alone, and an untrusted certificate is reported at once', async (context) => {
  const directory = await mkdtemp(join(tmpdir(), 'walrx-tls-'))
  try {
    if (!(await selfSigned(directory))) {
      context.skip('openssl is not installed')
      return
    }
    const caFile = join(directory, 'cert.pem')
    const server = createServer({ key: await readFile(join(directory, 'key.pem')), cert: await readFile(caFile) })
    server.on('request', (request, response) => {
      request.resume().on('end', () => response.setHeader('etag', '"tls"').end())
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const endpoint = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
    const keys = { accessKeyId: 'key', secretAccessKey: 'secret' }
    const options = { folders: archiveFolders, bucket: 'bucket', endpoint, ...keys }
    const trusting = new S3Storage({ ...options, caFile })
    await trusting.put(KEY, seeded(1, 3_000_000))
    await trusting.close()
    const distrusting = new S3Storage(options)
    await assert.rejects(distrusting.put(KEY, Buffer.from('x')), (error: WalrxError) => {
      return (
        isCode(error, 'WALRX_STORAGE_UNAVAILABLE') &&
        !error.transient &&
        error.hint?.includes('S3_CA_CERT_FILE') === true
      )
    })
    await distrusting.close()
    await writeFile(join(directory, 'other.pem'), 'no certificate')
    for (const file of ['other.pem', 'missing.pem']) {
      const broken = new S3Storage({ ...options, caFile: join(directory, file) })
      await assert.rejects(broken.put(KEY, Buffer.from('x')), (error) => isCode(error, 'WALRX_USAGE'))
    }
    server.closeAllConnections()
    server.close()
  } finally {
    await rm(directory, { recursive: true })
  }
})
