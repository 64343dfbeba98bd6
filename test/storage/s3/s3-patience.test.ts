/** One patience for the store: what passes is waited for and reported, what a readable answer denies ends at once. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import type { WalrxError } from '../../../src/primitives/errors.ts'
import type { S3StorageOptions } from '../../../src/storage/s3/s3-options.ts'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { readObject, type StorageTrouble } from '../../../src/storage/storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import {
  type FaultyS3,
  type FaultyS3Options,
  type S3Fault,
  startFaultyS3,
} from '../../harness/store/faulty-s3/faulty-s3.ts'
import type { S3Action } from '../../harness/store/faulty-s3/s3-request.ts'
import { FastClock } from '../../harness/time/fast-clock.ts'
import { until } from '../../harness/time/until.ts'
import { isCode, keysOf, seeded } from '../assertions.ts'

const MiB = 1024 * 1024
const bytes = Buffer.from('of a segment')

/** A storage on a store, both closed with the test. */
async function open(
  context: TestContext,
  options: Partial<S3StorageOptions> = {},
  traits: FaultyS3Options = {},
): Promise<{ readonly storage: S3Storage; readonly store: FaultyS3; readonly troubles: StorageTrouble[] }> {
  const store = await startFaultyS3(traits)
  const troubles: StorageTrouble[] = []
  const storage = new S3Storage({
    folders: archiveFolders,
    endpoint: store.endpoint,
    bucket: store.bucket,
    accessKeyId: store.accessKeyId,
    secretAccessKey: store.secretAccessKey,
    forcePathStyle: true,
    retryDelayFirstMs: 1,
    retryDelayMaxMs: 5,
    onTrouble: (trouble) => troubles.push(trouble),
    ...options,
  })
  context.after(async () => {
    await storage.close()
    await store[Symbol.asyncDispose]()
  })
  return { storage, store, troubles }
}

/** Every call of a storage that an archive makes. */
async function useAll(storage: S3Storage): Promise<void> {
  await storage.put('a', bytes)
  assert.equal(await storage.putIfAbsent('b', bytes), 'created')
  await storage.put('c', asStream(seeded(1, 11 * MiB)))
  assert.deepEqual(await readObject(storage, 'a'), bytes)
  assert.equal((await storage.head('a'))?.size, bytes.length)
  assert.deepEqual(await keysOf(storage.list('')), ['a', 'b', 'c'])
  await storage.delete(['a'])
  await storage.delete(['b', 'c'])
}

// docker/distribution, wal-g #2570, #742, #583: what stands between walrx and the store answers 400 in its own words.
describe('an answer 400 that names no code of S3', () => {
  const bodies = {
    HTML: '<html><body><h1>400 Bad Request</h1></body></html>',
    'XML that is cut': '<?xml version="1.0"?><Error><Code>Acc',
    'no body': '',
    'XML without a code': '<Error><Message>something</Message></Error>',
    'plain text': 'bad request',
  }
  for (const [what, body] of Object.entries(bodies)) {
    test(`is sent again for each verb: ${what}`, async (context) => {
      const { storage, store } = await open(context, { partSizeBytes: 5 * MiB })
      await storage.probe()
      const failed = new Set<S3Action>()
      store.schedule = ({ action }) => {
        if (failed.has(action)) return undefined
        failed.add(action)
        return { kind: 'answer', status: 400, body }
      }
      await useAll(storage)
      assert.ok(failed.size >= 9, [...failed].join(' '))
    })
  }

  test('is sent again until the patience ends, and its reason is kept', async (context) => {
    const { storage, store } = await open(context, { clock: new FastClock(1000), retryTimeMaxMs: 60_000 })
    store.fail({ fault: { kind: 'answer', status: 400, body: '<html>' }, count: Infinity })
    await assert.rejects(storage.put('a', bytes), (error: WalrxError) => {
      return isCode(error, 'WALRX_STORAGE_UNAVAILABLE') && /put of a at .* failed: HTTP 400/.test(error.message)
    })
    assert.ok(store.log.length > 3)
  })
})

describe('a readable denial', () => {
  for (const [status, code] of [
    [403, 'AccessDenied'],
    [400, 'InvalidArgument'],
    [400, 'EntityTooLarge'],
    [403, 'InvalidAccessKeyId'],
    [404, 'XAdminUserNotFound'],
  ] as const) {
    test(`ends at once: ${status} ${code}`, async (context) => {
      const { storage, store, troubles } = await open(context)
      const body = `<Error><Code>${code}</Code><Message>no</Message></Error>`
      store.fail({ fault: { kind: 'answer', status, body }, count: Infinity })
      await assert.rejects(storage.put('a', bytes), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
      assert.equal(store.log.length, 1)
      assert.deepEqual(troubles, [])
    })
  }
})

// wal-g #1948, #1578: a store that is out for minutes.
describe('a store that is out', () => {
  const outages: readonly S3Fault[] = [
    { kind: 'refuse' },
    { kind: 'answer', status: 503, body: '<Error><Code>SlowDown</Code></Error>' },
    { kind: 'lost' },
  ]
  for (const fault of outages) {
    test(`for longer than a minute is waited for, with a report: ${fault.kind}`, async (context) => {
      const clock = new FastClock(2000)
      const { storage, store, troubles } = await open(context, {
        clock,
        retryTimeMaxMs: 15 * 60_000,
        retryDelayFirstMs: 100,
        retryDelayMaxMs: 10_000,
      })
      const untilMs = clock.now() + 150_000
      store.schedule = () => (clock.now() < untilMs ? fault : undefined)
      await storage.put('a', bytes)
      assert.deepEqual(await readObject(storage, 'a'), bytes)
      const [first] = troubles
      assert.ok(first?.kind === 'waiting' && first.reason.startsWith('put of a at s3://'), JSON.stringify(troubles))
      assert.equal(troubles.at(-1)?.kind, 'over')
      assert.ok(troubles.length <= 5, `${troubles.length} reports`)
    })
  }

  test('in the middle of a body is waited for as well', async (context) => {
    const clock = new FastClock(2000)
    const { storage, store } = await open(context, { clock, retryTimeMaxMs: 900_000, retryDelayMaxMs: 10_000 })
    const object = seeded(3, 300_000)
    await storage.put('a', object)
    store.fail({ fault: { kind: 'cut', bytes: 100_000 }, actions: ['GetObject'] })
    // Headers come, and no byte.
    store.fail({ fault: { kind: 'cut', bytes: 0 }, actions: ['GetObject'], count: 8 })
    assert.deepEqual(await readObject(storage, 'a'), object)
  })

  test('beyond the number of attempts that is set is given up', async (context) => {
    const { storage, store } = await open(context, { maxRetries: 3 })
    store.fail({ fault: { kind: 'refuse' }, count: Infinity })
    await assert.rejects(storage.put('a', bytes), (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
    assert.equal(store.log.length, 4)
  })
})

// docker-volume-backup #727, s3cmd #1177: buckets with object lock.
test('a store that demands checksums gets them from then on, in parts too', async (context) => {
  const { storage, store } = await open(context, { partSizeBytes: 5 * MiB }, { wantsChecksums: true })
  await useAll(storage)
  const refused = store.log.filter(({ status }) => status === 400)
  assert.equal(refused.length, 1)
})

test('a store that demands checksums refuses requests that were under way, and gets them all', async (context) => {
  const { storage, store } = await open(context, {}, { wantsChecksums: true })
  const keys = ['a', 'b', 'c', 'd']
  await Promise.all(keys.map((key) => storage.put(key, bytes)))
  assert.deepEqual([...store.store.objects.keys()].toSorted(), keys)
})

// Alluxio #14464, aws-sdk-js-v3 #7729: slow completions, and answers that are lost.
describe('the completion of a multipart upload', () => {
  test('may take longer than a connection may be silent', async (context) => {
    const { storage, store } = await open(context, { partSizeBytes: 5 * MiB, idleTimeoutMs: 200 })
    store.fail({ fault: { kind: 'late', ms: 1000 }, actions: ['CompleteMultipartUpload'] })
    const object = seeded(4, 11 * MiB)
    await storage.put('c', asStream(object))
    assert.ok((await readObject(storage, 'c')).equals(object))
    assert.equal(store.log.filter(({ action }) => action === 'CompleteMultipartUpload').length, 1)
  })

  test('whose answer is lost is settled by what the store has, whatever its ETag', async (context) => {
    const { storage, store } = await open(context, { partSizeBytes: 5 * MiB })
    store.fail({ fault: { kind: 'lost' }, actions: ['CompleteMultipartUpload'] })
    const object = seeded(5, 11 * MiB)
    await storage.put('c', asStream(object))
    assert.ok(store.store.objects.get('c')?.body.equals(object))
    assert.equal(store.log.filter(({ action }) => action === 'CreateMultipartUpload').length, 1)
  })

  test('of an upload that the store no longer has fails with that reason, and not with that of the look', async (context) => {
    const { storage, store } = await open(context, { partSizeBytes: 5 * MiB })
    store.fail({
      fault: { kind: 'late', ms: 0 },
      actions: ['CompleteMultipartUpload'],
      when: () => {
        store.store.uploads.clear()
        return true
      },
    })
    await assert.rejects(storage.put('c', asStream(seeded(5, 11 * MiB))), (error: WalrxError) => {
      return isCode(error, 'WALRX_STORAGE_UNAVAILABLE') && error.message.includes('NoSuchUpload')
    })
    assert.equal(store.log.filter(({ action }) => action === 'CompleteMultipartUpload').length, 1)
  })

  test('is not taken for done when the object is another one of the same size', async (context) => {
    const { storage, store } = await open(context, { partSizeBytes: 5 * MiB })
    store.fail({ fault: { kind: 'lost' }, actions: ['CompleteMultipartUpload'] })
    store.fail({
      fault: { kind: 'late', ms: 0 },
      actions: ['HeadObject'],
      when: () => {
        store.store.objects.set('c', { body: seeded(6, 11 * MiB), etag: '"other"', modifiedMs: 0 })
        return true
      },
    })
    await assert.rejects(storage.put('c', asStream(seeded(5, 11 * MiB))), (error) =>
      isCode(error, 'WALRX_STORAGE_UNAVAILABLE'),
    )
  })
})

// aws-sdk-js-v3 #3396, aws-sdk-js #2351, aws-sdk-js-v3 #4867, #4679.
describe('keys from the chain of the AWS SDK', () => {
  const credentials = (key: string) => `[default]\naws_access_key_id = ${key}\naws_secret_access_key = s\n`

  /** Runs a test with a folder for the files of the chain, and nothing of it in the environment. */
  async function withChain(context: TestContext, set: (home: string) => Record<string, string>): Promise<string> {
    const home = await mkdtemp(join(tmpdir(), 'walrx-keys-'))
    const saved = { ...process.env }
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name]
    Object.assign(process.env, { HOME: home, AWS_EC2_METADATA_DISABLED: 'true' }, set(home))
    context.after(async () => {
      for (const name of Object.keys(process.env)) if (!(name in saved)) delete process.env[name]
      Object.assign(process.env, saved)
      await rm(home, { recursive: true, force: true })
    })
    return home
  }

  const chain = { accessKeyId: undefined, secretAccessKey: undefined }

  for (const [status, code] of [
    [400, 'ExpiredToken'],
    [403, 'InvalidAccessKeyId'],
  ] as const) {
    test(`are read again from a file that was replaced: ${code}`, async (context) => {
      const home = await withChain(context, (folder) => ({ AWS_SHARED_CREDENTIALS_FILE: join(folder, 'keys') }))
      await writeFile(join(home, 'keys'), credentials('OLD'))
      const { storage, store, troubles } = await open(context, chain)
      await storage.put('a', bytes)
      let old = 0
      store.schedule = ({ headers }) => {
        if (!headers.authorization?.includes('OLD')) return undefined
        old++
        return { kind: 'answer', status, body: `<Error><Code>${code}</Code></Error>` }
      }
      await writeFile(join(home, 'new'), credentials('NEW'))
      await rename(join(home, 'new'), join(home, 'keys'))
      await storage.put('b', bytes)
      assert.equal(old, 1)
      assert.deepEqual(
        troubles.map(({ kind }) => kind),
        ['credentials'],
      )
      assert.ok(store.store.objects.has('b'))
    })
  }

  test('are read again where a HEAD is refused, whose answer has no code', async (context) => {
    const home = await withChain(context, (folder) => ({ AWS_SHARED_CREDENTIALS_FILE: join(folder, 'keys') }))
    await writeFile(join(home, 'keys'), credentials('OLD'))
    const { storage, store, troubles } = await open(context, chain)
    await storage.put('a', bytes)
    store.schedule = ({ headers, method }) => {
      if (!headers.authorization?.includes('OLD')) return undefined
      return { kind: 'answer', status: 400, body: method === 'HEAD' ? '' : '<Error><Code>ExpiredToken</Code></Error>' }
    }
    await writeFile(join(home, 'keys'), credentials('NEW'))
    assert.equal((await storage.head('a'))?.size, bytes.length)
    assert.deepEqual(
      troubles.map(({ kind }) => kind),
      ['credentials'],
    )
  })

  test('that were never right end a stream at once, too', async (context) => {
    const home = await withChain(context, (folder) => ({ AWS_SHARED_CREDENTIALS_FILE: join(folder, 'keys') }))
    await writeFile(join(home, 'keys'), credentials('WRONG'))
    const { storage, store } = await open(context, chain)
    const body = '<Error><Code>InvalidAccessKeyId</Code></Error>'
    store.fail({ fault: { kind: 'answer', status: 403, body }, count: Infinity })
    await assert.rejects(storage.put('a', asStream(bytes)), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
    assert.equal(store.log.length, 1)
  })

  test('do not hold an abort up while their source is silent', { timeout: 30_000 }, async (context) => {
    const home = await withChain(context, (folder) => ({ AWS_CONFIG_FILE: join(folder, 'config') }))
    await writeFile(join(home, 'config'), `[default]\ncredential_process = /bin/sh ${join(home, 'source')}\n`)
    await writeFile(join(home, 'source'), `echo >> ${join(home, 'asked')}; exec sleep 3\n`)
    const { storage } = await open(context, chain)
    const abort = new AbortController()
    const put = storage.put('a', bytes, { signal: abort.signal })
    put.catch(() => {})
    await until('the source to be asked', () => existsSync(join(home, 'asked')))
    abort.abort(new Error('no longer wanted'))
    await assert.rejects(put, { message: 'no longer wanted' })
  })

  test('that were never right end at once', async (context) => {
    const home = await withChain(context, (folder) => ({ AWS_SHARED_CREDENTIALS_FILE: join(folder, 'keys') }))
    await writeFile(join(home, 'keys'), credentials('WRONG'))
    const { storage, store } = await open(context, chain)
    const body = '<Error><Code>InvalidAccessKeyId</Code></Error>'
    store.fail({ fault: { kind: 'answer', status: 403, body }, count: Infinity })
    await assert.rejects(storage.put('a', bytes), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
    assert.equal(store.log.length, 1)
  })

  test('whose source fails for a while are waited for, also at the start', async (context) => {
    const home = await withChain(context, (folder) => ({ AWS_CONFIG_FILE: join(folder, 'config') }))
    const script = `/bin/sh ${join(home, 'source')}`
    await writeFile(join(home, 'config'), `[default]\ncredential_process = ${script}\n`)
    await writeFile(join(home, 'source'), 'echo the vault is sealed >&2; exit 3\n')
    const clock = new FastClock(100)
    const { storage } = await open(context, { ...chain, clock, retryTimeMaxMs: 900_000, retryDelayMaxMs: 1000 })
    const timer = clock.setTimer(45_000, () => {
      const keys = '{"Version":1,"AccessKeyId":"A","SecretAccessKey":"B"}'
      void writeFile(join(home, 'source'), `echo '${keys}'\n`)
    })
    context.after(() => timer.cancel())
    assert.equal((await storage.probe()).conditionalPut, true)
  })

  test("whose source fails for good end with the source's own words", async (context) => {
    const home = await withChain(context, (folder) => ({ AWS_CONFIG_FILE: join(folder, 'config') }))
    const command = '/bin/sh /no/such/program --token=hunter2'
    await writeFile(join(home, 'config'), `[default]\ncredential_process = ${command}\n`)
    const { storage } = await open(context, { ...chain, clock: new FastClock(1000), retryTimeMaxMs: 20_000 })
    await assert.rejects(storage.probe(), (error: WalrxError) => {
      assert.doesNotMatch(error.message, /hunter2/)
      return isCode(error, 'WALRX_STORAGE_UNAVAILABLE') && error.message.includes('/no/such/program')
    })
  })

  for (const [what, environment] of [
    ['', {}],
    [
      ', where the instance has no metadata either',
      { AWS_EC2_METADATA_DISABLED: 'false', AWS_EC2_METADATA_SERVICE_ENDPOINT: 'http://127.0.0.1:1' },
    ],
  ] as const) {
    test(`that nobody has configured end at once${what}`, async (context) => {
      await withChain(context, () => environment)
      const { storage, store } = await open(context, chain)
      await assert.rejects(storage.probe(), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
      assert.equal(store.log.length, 0)
    })
  }
})

async function* asStream(object: Buffer): AsyncGenerator<Uint8Array> {
  await Promise.resolve()
  for (let at = 0; at < object.length; at += MiB) yield object.subarray(at, at + MiB)
}
