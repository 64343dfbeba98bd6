/**
 * Stores whose listings are not as S3 promises: seaweedfs #11321 (nothing after some keys), #10652 and #3166 (pages that
 * end early), rustfs #1165 (the key itself), versitygw #250 and #138 (keys that are ignored, or must exist).
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type WalrxError } from '../../../src/primitives/errors.ts'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { type FaultyS3, type FaultyS3Options, startFaultyS3 } from '../../harness/store/faulty-s3/faulty-s3.ts'
import { keysOf } from '../assertions.ts'
import { listingTests } from '../contract-listing.ts'

const quick = { retryDelayFirstMs: 1, retryDelayMaxMs: 2, retryTimeMaxMs: 200, forcePathStyle: true }
const storageOn = (store: FaultyS3, prefix = 'p/archive', bucket = store.bucket) =>
  new S3Storage({ ...store, folders: archiveFolders, ...quick, prefix, bucket })

const lies: readonly (FaultyS3Options & { readonly what: string; readonly problem: RegExp | undefined })[] = [
  { what: 'nothing after a key that is not there', startAfter: 'empty', problem: /cannot begin a listing/ },
  { what: 'the key to begin after is ignored', startAfter: 'ignored', problem: /cannot begin a listing/ },
  { what: 'the key to begin after comes too', startAfter: 'inclusive', problem: undefined },
  { what: 'the position of the next page is lost', losesTokens: true, problem: undefined },
  { what: 'the position of the next page is empty', losesTokens: 'empty', problem: undefined },
  { what: 'pages end early', endsPagesEarly: true, problem: /ends a listing although/ },
  { what: 'pages of one key, none announced', endsPagesEarly: true, pageSize: 2, problem: /ends a listing although/ },
  { what: 'pages end at a limit that the store keeps to itself', hidesPageSize: true, problem: undefined },
  {
    what: 'a limit of its own, and nothing after a key that is not there',
    hidesPageSize: true,
    startAfter: 'empty',
    problem: /cannot begin a listing/,
  },
  {
    what: 'both',
    endsPagesEarly: true,
    startAfter: 'empty',
    problem: /cannot begin a listing .*, and it ends a listing/,
  },
]

for (const { what, problem, ...traits } of lies) {
  for (const isProbed of [true, false]) {
    const pageSize = traits.pageSize ?? 90
    describe(`listings of a store that lies: ${what}${isProbed ? ', after a probe' : ''}`, () => {
      listingTests({
        traits: { conditionalPut: true, atomicCreate: true, atomicPut: true, byteOrder: true },
        async open() {
          const store = await startFaultyS3({ ...traits, pageSize })
          const storages: S3Storage[] = []
          const reopen = () => storages[storages.push(storageOn(store)) - 1]!
          const storage = reopen()
          if (isProbed) {
            const { listingProblem } = await storage.probe()
            if (problem) assert.match(listingProblem ?? '', problem)
            else assert.equal(listingProblem, undefined)
          }
          const missing = () => storages[storages.push(storageOn(store, 'p', 'walrx-no-such-bucket')) - 1]!
          return {
            storage,
            reopen,
            missing,
            [Symbol.asyncDispose]: async () => {
              await Promise.all(storages.map((one) => one.close()))
              await store[Symbol.asyncDispose]()
            },
          }
        },
      })
    })
  }
}

describe('a store that cannot list all keys', () => {
  const hopeless: readonly FaultyS3Options[] = [
    { endsPagesEarly: true, pageSize: 2, startAfter: 'ignored' },
    { losesTokens: true, pageSize: 2, startAfter: 'ignored' },
    { listsInDisorder: true },
  ]
  for (const traits of hopeless) {
    test(`is refused, not believed: ${JSON.stringify(traits)}`, async () => {
      await using store = await startFaultyS3(traits)
      const storage = storageOn(store)
      for (const key of ['a2', 'b1', 'c0']) await storage.put(key, Buffer.from(key))
      await assert.rejects(keysOf(storage.list('')), { code: 'WALRX_STORAGE_UNAVAILABLE' })
      await assert.rejects(keysOf(storage.list('', { startAfter: 'a9' })), { code: 'WALRX_STORAGE_UNAVAILABLE' })
      await storage.close()
    })
  }

  test('is refused by a probe, for good, with what is wrong', async () => {
    await using store = await startFaultyS3({ endsPagesEarly: true, startAfter: 'ignored' })
    const storage = storageOn(store)
    await assert.rejects(storage.probe(), (error: WalrxError) => {
      assert.match(error.message, /does not announce the next page of a listing, and ignores where one is to begin/)
      return !error.transient
    })
    await storage.close()
  })
})

describe('a store that keeps keys in another form', () => {
  // SeaweedFS makes a slash of a backslash.
  for (const isProbed of [true, false]) {
    test(`is refused where the prefix is concerned${isProbed ? ', by the probe' : ''}`, async () => {
      await using store = await startFaultyS3({ turnsBackslashes: true })
      const storage = storageOn(store, 'db\\1')
      await storage.put('a', Buffer.from('a'))
      const expected = {
        code: 'WALRX_STORAGE_UNAVAILABLE',
        message: /that begin with db\\1\/.*, the store lists db\/1\//,
        transient: false,
      }
      await assert.rejects(isProbed ? storage.probe() : keysOf(storage.list('')), expected)
      await storage.close()
    })
  }

  test('is as good as any where walrx makes all the characters', async () => {
    await using store = await startFaultyS3({ turnsBackslashes: true })
    const storage = storageOn(store, 'db1')
    await storage.put('a', Buffer.from('a'))
    assert.equal((await storage.probe()).conditionalPut, true)
    assert.deepEqual(await keysOf(storage.list('')), ['a'])
    await storage.close()
  })
})

describe('a sound store', () => {
  test('is asked once for each page after a probe, and once more where nothing is known, or no page was as large', async () => {
    await using store = await startFaultyS3()
    const storage = storageOn(store)
    for (const key of ['a', 'b', 'c']) await storage.put(key, Buffer.from(key))
    const listings = async (options?: { startAfter: string }) => {
      store.log.length = 0
      await keysOf(storage.list('', options))
      return store.log.length
    }
    assert.equal(await listings(), 2)
    assert.equal(await listings({ startAfter: 'aa' }), 2)
    await storage.probe()
    assert.equal(await listings(), 1)
    await storage.put('d', Buffer.from('d'))
    assert.equal(await listings(), 2, 'the first page of this size')
    assert.equal(await listings(), 1)
    assert.equal(await listings({ startAfter: 'aa' }), 1)
    assert.equal(await listings({ startAfter: 'x' }), 1)
    await storage.close()
  })
})
