/**
 * Pages of a proxy with a status of success, in place of the store's answer (wal-g #2570 had one with 400). The SDK alone
 * takes one for a listing without keys, for the bytes of an object, or for an object that was stored.
 */
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, test } from 'node:test'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { readObject } from '../../../src/storage/storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { type FaultyS3, startFaultyS3 } from '../../harness/store/faulty-s3/faulty-s3.ts'
import type { S3Action } from '../../harness/store/faulty-s3/s3-request.ts'
import { keysOf, seeded } from '../assertions.ts'

const MiB = 1024 * 1024

const page = {
  kind: 'answer',
  status: 200,
  body: '<!DOCTYPE html>\n<html><body>Sign in to the network</body></html>',
  headers: { 'content-type': 'text/html; charset=utf-8' },
} as const

function storageOn(store: FaultyS3, retryTimeMaxMs = 5_000): S3Storage {
  const quick = { retryDelayFirstMs: 1, retryDelayMaxMs: 5, retryTimeMaxMs, forcePathStyle: true }
  return new S3Storage({ ...store, folders: archiveFolders, ...quick, partSizeBytes: 5 * MiB })
}

const large = seeded(3, 6 * MiB)

const uses: readonly (readonly [S3Action, (storage: S3Storage) => Promise<unknown>, expected: unknown])[] = [
  ['ListObjectsV2', (storage) => keysOf(storage.list('')), ['a']],
  ['GetObject', async (storage) => (await readObject(storage, 'a')).toString(), 'bytes'],
  ['HeadObject', async (storage) => (await storage.head('a'))?.size, 5],
  ['DeleteObjects', (storage) => storage.delete(['a', 'b']), undefined],
]

describe('a page with status 200 in place of the answer', () => {
  for (const [action, use, expected] of uses) {
    test(`to ${action} is a passing fault`, async () => {
      await using store = await startFaultyS3()
      const storage = storageOn(store)
      await storage.put('a', Buffer.from('bytes'))
      store.fail({ fault: page, actions: [action] })
      assert.deepEqual(await use(storage), expected)
      // A listing without a probe is asked for what comes after its last key, too.
      const faults = store.log.filter((entry) => entry.action === action).map(({ fault }) => fault)
      assert.deepEqual(faults.slice(0, 2), ['answer', undefined])
      await storage.close()
    })
  }

  test('to PutObject is a passing fault, and the object is there afterwards', async () => {
    await using store = await startFaultyS3()
    const storage = storageOn(store)
    store.fail({ fault: page, actions: ['PutObject'] })
    await storage.put('a', Buffer.from('bytes'))
    assert.equal(store.store.objects.get('a')?.body.toString(), 'bytes')
    await storage.close()
  })

  for (const action of ['CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload'] as const) {
    test(`to ${action} is a passing fault, and the object is there afterwards`, async () => {
      await using store = await startFaultyS3()
      const storage = storageOn(store)
      store.fail({ fault: page, actions: [action] })
      await storage.put('a', Readable.from([large]))
      assert.ok(store.store.objects.get('a')?.body.equals(large))
      await storage.close()
    })
  }

  test('to every request is an error that names what came', async () => {
    await using store = await startFaultyS3()
    const storage = storageOn(store, 50)
    store.schedule = () => page
    await assert.rejects(keysOf(storage.list('')), {
      code: 'WALRX_STORAGE_UNAVAILABLE',
      message: /an answer that is not from an S3 store: without ListBucketResult, of type text\/html/,
    })
    await storage.close()
  })
})

describe("an answer whose first element has another name than S3's", () => {
  // moto 5.2 answers CompleteMultipartUploadResponse.
  for (const rootEndsIn of ['Response', 'Output'] as const) {
    test(`is the store's answer: it ends in ${rootEndsIn}`, async () => {
      await using store = await startFaultyS3({ rootEndsIn })
      const storage = storageOn(store)
      await storage.put('a', Readable.from([large]))
      await storage.put('b', Buffer.from('bytes'))
      assert.deepEqual(await keysOf(storage.list('')), ['a', 'b'])
      await storage.delete(['a', 'b'])
      await storage.removeUnfinished('')
      assert.deepEqual(await keysOf(storage.list('')), [])
      await storage.close()
    })
  }
})
