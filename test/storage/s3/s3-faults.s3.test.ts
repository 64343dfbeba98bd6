import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import type { WalrxError } from '../../../src/primitives/errors.ts'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import type { S3StorageOptions } from '../../../src/storage/s3/s3-options.ts'
import { readObject } from '../../../src/storage/storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { type Bucket, startBucket } from '../../harness/store/bucket.ts'
import {
  type FaultMode,
  type FaultyProxy,
  type ProxiedRequest,
  startFaultyProxy,
} from '../../harness/store/faulty-proxy.ts'
import { isCode, keysOf, seeded } from '../assertions.ts'

const MiB = 1024 * 1024
const KEY = 'wal_005/000000010000000000000001.zst'

let bucket: Bucket
let proxy: FaultyProxy
let storages: S3Storage[] = []
let testCount = 0
let prefix = ''

before(async () => {
  bucket = await startBucket()
  proxy = await startFaultyProxy(bucket.endpoint)
})
beforeEach(async () => {
  await Promise.all(storages.map((storage) => storage.close()))
  storages = []
  proxy.reset()
  prefix = `test-${++testCount}`
})
after(async () => {
  await Promise.all(storages.map((storage) => storage.close()))
  await proxy[Symbol.asyncDispose]()
  await bucket[Symbol.asyncDispose]()
})

function open(options: Partial<S3StorageOptions> = {}): S3Storage {
  const storage = new S3Storage({
    folders: archiveFolders,
    ...bucket,
    endpoint: proxy.endpoint,
    prefix,
    forcePathStyle: true,
    partSizeBytes: 5 * MiB,
    retryDelayFirstMs: 5,
    retryDelayMaxMs: 20,
    ...options,
  })
  storages.push(storage)
  return storage
}

/** What was done to the requests of a kind: `PUT partNumber=2`. */
function treatments(what: (request: ProxiedRequest) => boolean): FaultMode[] {
  return proxy.log.filter(what).map(({ mode }) => mode)
}

async function* pieces(count: number): AsyncGenerator<Buffer, void> {
  for (let index = 0; index < count; index++) yield seeded(index, MiB)
}

const expected = (count: number) => Buffer.concat(Array.from({ length: count }, (_, index) => seeded(index, MiB)))
const isPart = (partNumber: number) => (request: ProxiedRequest) => request.url.includes(`partNumber=${partNumber}&`)
const isAbort = ({ method, url }: ProxiedRequest) => method === 'DELETE' && url.includes('uploadId=')
const isCreation = ({ method, url }: ProxiedRequest) => method === 'POST' && url.includes('uploads')
const isCompletion = ({ method, url }: ProxiedRequest) => method === 'POST' && url.includes('uploadId=')

describe('a store with a bad connection', () => {
  for (const mode of ['503', 'refuse', 'stall', 'lost'] as const) {
    test(`a put goes through after two requests with ${mode}`, async () => {
      // Longer than a busy machine takes for a put that passes.
      const storage = open({ idleTimeoutMs: 2500 })
      proxy.fail(mode, { count: 2 })
      await storage.put(KEY, seeded(1, 3 * MiB))
      assert.deepEqual(
        treatments(() => true),
        [mode, mode, 'pass'],
      )
      assert.ok((await readObject(storage, KEY)).equals(seeded(1, 3 * MiB)))
    })
  }

  test('every method goes through after a request that failed', async () => {
    const storage = open()
    await storage.put(KEY, Buffer.from('x'))
    const calls = [
      () => storage.put(KEY, Buffer.from('y')),
      () => storage.head(KEY),
      () => readObject(storage, KEY),
      () => keysOf(storage.list('wal_005/')),
      () => storage.putIfAbsent('other', Buffer.from('x')),
      () => storage.probe(),
      () => storage.delete(['other']),
      () => storage.delete([KEY, 'other']),
    ]
    for (const mode of ['503', 'refuse', 'lost', 'cut'] as const) {
      for (const call of calls) {
        proxy.fail(mode)
        await call()
      }
    }
    assert.equal(proxy.log.filter(({ mode }) => mode !== 'pass').length, 4 * calls.length)
  })

  test('403 is not tried again', async () => {
    proxy.mode = '403'
    await assert.rejects(open().put(KEY, Buffer.from('x')), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
    assert.equal(proxy.log.length, 1)
  })

  test('a permanent failure is reported after the retries, and a later put succeeds', async () => {
    const storage = open({ maxRetries: 4 })
    proxy.mode = '503'
    await assert.rejects(storage.put(KEY, Buffer.from('x')), (error: WalrxError) => {
      return isCode(error, 'WALRX_STORAGE_UNAVAILABLE') && error.transient && error.message.includes('503 SlowDown')
    })
    assert.equal(proxy.log.length, 5)
    proxy.mode = 'pass'
    await storage.put(KEY, Buffer.from('x'))
  })

  test('an object that is cut is read to its end by further requests', async () => {
    const storage = open()
    await storage.put('long', seeded(2, 6 * MiB))
    proxy.fail('cut', { count: 3, when: ({ method }) => method === 'GET' })
    assert.ok((await readObject(storage, 'long')).equals(seeded(2, 6 * MiB)))
    assert.deepEqual(
      treatments(({ method }) => method === 'GET'),
      ['cut', 'cut', 'cut', 'pass'],
    )
  })
})

describe('a multipart upload', () => {
  test('goes through although each kind of its requests fails', async () => {
    // Time enough for s3rver to complete an upload on a busy machine: asked twice it answers 500.
    const storage = open({ idleTimeoutMs: 4000 })
    proxy.fail('503', { when: isCreation })
    proxy.fail('lost', { when: isPart(1) })
    proxy.fail('stall', { when: isPart(2) })
    proxy.fail('503', { when: isPart(3), count: 3 })
    proxy.fail('refuse', { when: isCompletion })
    await storage.put('big', pieces(13))
    assert.ok((await readObject(storage, 'big')).equals(expected(13)))
    assert.deepEqual(treatments(isAbort), [])
  })

  test('with a refused part ends there: its parts are removed, and its stream is closed', async () => {
    const storage = open()
    proxy.fail('403', { when: isPart(2), count: Infinity })
    let given = 0
    let isClosed = false
    const source = async function* () {
      try {
        for (;;) yield seeded(given++, MiB)
      } finally {
        isClosed = true
      }
    }
    await assert.rejects(storage.put('big', source()), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
    assert.deepEqual(treatments(isAbort), ['pass'])
    assert.deepEqual(treatments(isCompletion), [])
    assert.ok(isClosed)
    // What two parts in flight, one waiting and one being filled may hold; the stream is without end.
    assert.ok(given < 30, `${given} MiB were taken from the stream`)
    assert.equal(await storage.head('big'), undefined)
  })

  test('with a failing stream is aborted', async () => {
    const storage = open()
    const failure = new Error('the server went away')
    const source = async function* () {
      yield* pieces(12)
      throw failure
    }
    await assert.rejects(storage.put('big', source()), (error) => error === failure)
    assert.deepEqual(treatments(isAbort), ['pass'])
  })

  test('that is aborted ends at once although the store hangs, and its parts are removed by the time of close', async () => {
    const storage = open()
    const controller = new AbortController()
    proxy.fail('stall', { when: isPart(2), count: Infinity })
    const put = storage.put('big', pieces(50), { signal: controller.signal })
    await proxy.saw('stall')
    controller.abort(new Error('no longer wanted'))
    await assert.rejects(put, { message: 'no longer wanted' })
    await storage.close()
    assert.deepEqual(treatments(isAbort), ['pass'])
    assert.equal(await open().head('big'), undefined)
  })

  test('still reports its own error when its parts cannot be removed', async () => {
    const storage = open()
    proxy.fail('403', { when: isPart(2), count: Infinity })
    proxy.fail('503', { when: isAbort, count: Infinity })
    await assert.rejects(storage.put('big', pieces(12)), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
  })

  test('never holds more of its stream than a few parts', async () => {
    const storage = open({ idleTimeoutMs: 4000 })
    const sizes = { given: 0, ahead: 0 }
    proxy.fail('stall', { when: isPart(1), count: 1 })
    const source = async function* () {
      for (let index = 0; index < 40; index++) {
        const sent = proxy.log.filter(({ url, mode }) => url.includes('partNumber=') && mode === 'pass').length
        sizes.given += MiB
        sizes.ahead = Math.max(sizes.ahead, sizes.given - sent * 5 * MiB)
        yield seeded(index, MiB)
      }
    }
    await storage.put('big', source())
    // Two on their way, one ready and one being filled.
    assert.ok(sizes.ahead <= 4 * 5 * MiB, `${sizes.ahead / MiB} MiB ahead of the store`)
  })
})
