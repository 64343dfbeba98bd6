import { randomBytes } from 'node:crypto'
import { after, before } from 'node:test'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { type Bucket, environmentBucket, startBucket } from '../../harness/store/bucket.ts'
import { keysOf } from '../assertions.ts'
import { type Subject, testStorageContract } from '../contract.ts'

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
testStorageContract(
  'the bucket of the environment',
  {
    traits: {
      conditionalPut: true,
      // versitygw on a directory looks for the object before it takes in the body: two at the same time may both create.
      atomicCreate: !process.env.WALRX_TEST_S3_RACY_CREATE,
      atomicPut: true,
      byteOrder: true,
    },
    open: () => Promise.resolve(openSubject(given as Bucket)),
  },
  typeof given === 'string' && given,
)
