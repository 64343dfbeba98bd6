import { randomBytes } from 'node:crypto'
import { after, before } from 'node:test'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { type Bucket, environmentBucket, startBucket } from '../../harness/store/bucket.ts'
import { keysOf } from '../assertions.ts'
import { type Subject, testStorageContract, type Traits } from '../contract.ts'

/** A subject under a fresh prefix, with few connections so that a leak of them is felt. */
function openSubject(bucket: Bucket): Subject {
  const prefix = `test-${randomBytes(6).toString('hex')}/archive`
  const options = { ...bucket, prefix, forcePathStyle: true, maxSockets: 4, partSizeBytes: 5 * 1024 * 1024 }
  const storages: S3Storage[] = []
  const open = (bucketName = bucket.bucket) => {
    const storage = new S3Storage({ folders: archiveFolders, ...options, bucket: bucketName })
    storages.push(storage)
    return storage
  }
  const storage = open()
  return {
    storage,
    reopen: () => open(),
    missing: () => open('walrx-no-such-bucket'),
    [Symbol.asyncDispose]: async () => {
      await storage.delete(await keysOf(storage.list('')))
      await Promise.all(storages.map((opened) => opened.close()))
    },
  }
}

let local: Bucket
before(async () => {
  local = await startBucket()
})
after(() => local[Symbol.asyncDispose]())

testStorageContract('s3rver', {
  traits: { conditionalPut: false, atomicCreate: false, atomicPut: false, byteOrder: false },
  open: () => Promise.resolve(openSubject(local)),
})

const given = environmentBucket()
/** What the store of the environment lacks, with commas between: see docs/operations.md. */
const lacks = (process.env['WALRX_TEST_S3_LACKS'] ?? '').split(',')
const has = (trait: keyof Traits) => !lacks.includes(trait)

testStorageContract(
  'the bucket of the environment',
  {
    traits: {
      conditionalPut: has('conditionalPut'),
      atomicCreate: has('atomicCreate'),
      atomicPut: has('atomicPut'),
      byteOrder: has('byteOrder'),
      backslashes: has('backslashes'),
      missingBucket: has('missingBucket'),
    },
    open: () => Promise.resolve(openSubject(given as Bucket)),
  },
  typeof given === 'string' && given,
)
