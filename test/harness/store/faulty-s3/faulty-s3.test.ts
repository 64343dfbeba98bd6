import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import { S3Storage } from '../../../../src/storage/s3/s3-storage.ts'
import { readObject } from '../../../../src/storage/storage.ts'
import { archiveFolders } from '../../../../src/walg/names.ts'
import { keysOf } from '../../../storage/assertions.ts'
import { testStorageContract } from '../../../storage/contract.ts'
import { type FaultyS3, type FaultyS3Options, type S3Fault, startFaultyS3 } from './faulty-s3.ts'

const quick = { retryDelayFirstMs: 1, retryDelayMaxMs: 2, forcePathStyle: true }

function storageOn(store: FaultyS3): S3Storage {
  return new S3Storage({ ...store, folders: archiveFolders, ...quick, partSizeBytes: 5 * 1024 * 1024 })
}

for (const conditionalPut of [true, false]) {
  testStorageContract(`the store that fails on demand, ${conditionalPut ? 'with' : 'without'} conditional puts`, {
    traits: { conditionalPut, atomicCreate: conditionalPut, atomicPut: true, byteOrder: true },
    open: async () => {
      const store = await startFaultyS3({ conditionalPut })
      const storages: S3Storage[] = []
      const open = (bucket = store.bucket) => {
        const storage = new S3Storage({
          ...store,
          folders: archiveFolders,
          ...quick,
          bucket,
          prefix: `p/${randomBytes(2).toString('hex')}`,
        })
        storages.push(storage)
        return storage
      }
      const prefix = 'p/archive'
      const reopen = () => {
        const storage = new S3Storage({
          ...store,
          folders: archiveFolders,
          ...quick,
          prefix,
          partSizeBytes: 5 * 1024 * 1024,
          maxSockets: 4,
        })
        storages.push(storage)
        return storage
      }
      return {
        storage: reopen(),
        reopen,
        missing: () => open('walrx-no-such-bucket'),
        [Symbol.asyncDispose]: async () => {
          await Promise.all(storages.map((storage) => storage.close()))
          await store[Symbol.asyncDispose]()
        },
      }
    },
  })
}

describe('the store that fails on demand', () => {
  const passing: readonly S3Fault[] = [
    { kind: 'answer', status: 503, body: '<Error><Code>SlowDown</Code></Error>' },
    { kind: 'lost' },
    { kind: 'refuse' },
    { kind: 'late', ms: 5 },
  ]
  for (const fault of passing) {
    test(`gives the ${fault.kind} fault to one request, and the next one passes`, async () => {
      await using store = await startFaultyS3()
      const storage = storageOn(store)
      store.fail({ fault, actions: ['PutObject'] })
      await storage.put('a', Buffer.from('1'))
      assert.equal((await readObject(storage, 'a')).toString(), '1')
      assert.equal(store.log[0]?.fault, fault.kind)
      assert.equal(store.log.filter(({ action }) => action === 'PutObject').length, fault.kind === 'late' ? 1 : 2)
      await storage.close()
    })
  }

  test('cuts an answer, and the rest is asked for', async () => {
    await using store = await startFaultyS3()
    const storage = storageOn(store)
    await storage.put('a', Buffer.from('0123456789'))
    store.fail({ fault: { kind: 'cut', bytes: 4 }, actions: ['GetObject'] })
    assert.equal((await readObject(storage, 'a')).toString(), '0123456789')
    await storage.close()
  })

  test('allows only the actions in its set', async () => {
    await using store = await startFaultyS3({ allowed: new Set(['PutObject']) })
    const storage = storageOn(store)
    await storage.put('a', Buffer.from('1'))
    await assert.rejects(readObject(storage, 'a'), { code: 'WALRX_STORAGE_DENIED' })
    await storage.close()
  })

  const lies: readonly [string, FaultyS3Options, string[]][] = [
    ['listings after a key that is not there are empty', { startAfter: 'empty' }, ['b', 'c']],
    ['listings after a key begin at the beginning', { startAfter: 'ignored' }, ['b', 'c']],
    ['pages end early', { endsPagesEarly: true, pageSize: 2 }, ['b', 'c']],
  ]
  for (const [what, traits, seen] of lies) {
    test(`lies, and the storage sees through it: ${what}`, async () => {
      await using store = await startFaultyS3(traits)
      const storage = storageOn(store)
      for (const key of ['a', 'b', 'c']) await storage.put(key, Buffer.from(key))
      assert.deepEqual(await keysOf(storage.list('', { startAfter: 'aa' })), seen)
      await storage.close()
    })
  }
})
