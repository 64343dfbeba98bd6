/** A check of stores that misbehave, over a server in memory, and what it leaves there. */
import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { probeStore } from '../../../src/check/storage/probe-store.ts'
import { directoryFindings } from '../../../src/check/storage/directory-findings.ts'
import { storageFindings } from '../../../src/check/storage/storage-findings.ts'
import type { Finding } from '../../../src/check/finding.ts'
import { systemClock } from '../../../src/primitives/clock.ts'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { type FaultyS3, type FaultyS3Options, startFaultyS3 } from '../../harness/store/faulty-s3/faulty-s3.ts'
import { complaints } from '../server/made-facts.ts'

let store: FaultyS3 | undefined
afterEach(async () => {
  await store?.[Symbol.asyncDispose]()
  store = undefined
})

async function findings(options: FaultyS3Options, prepare = (_: FaultyS3) => {}, stepMs = 5_000): Promise<Finding[]> {
  store = await startFaultyS3(options)
  prepare(store)
  const { accessKeyId, bucket, endpoint, region, secretAccessKey } = store
  const access = { accessKeyId, secretAccessKey, region, endpoint, forcePathStyle: true }
  const storage = new S3Storage({ ...access, bucket, prefix: 'db1', folders: archiveFolders, retryTimeMaxMs: 500 })
  const place = { bucket: { name: bucket, folder: 'db1', endpoint }, directory: undefined }
  const facts = await probeStore(storage, place, { clock: systemClock, signal: new AbortController().signal, stepMs })
  await storage.close()
  return storageFindings(facts)
}

const left = () => [...(store?.store.objects.keys() ?? []), ...(store?.store.uploads.keys() ?? [])]

test('a sound store raises no complaint, and nothing is left in it', async () => {
  assert.deepEqual(complaints(await findings({})), [])
  assert.deepEqual(left(), [])
})

test('a store without conditional puts, and one that cannot begin after any key', async () => {
  assert.deepEqual(complaints(await findings({ conditionalPut: false, startAfter: 'empty' })), [
    'storage.conditional_put warning',
    'storage.listing warning',
  ])
  assert.deepEqual(left(), [])
})

test('a store that removes nothing', async () => {
  assert.deepEqual(complaints(await findings({ isWriteOnce: true })), ['storage.delete warning'])
})

test('multipart uploads that are refused leave no upload', async () => {
  const refuse = (faulty: FaultyS3) => {
    const fault = { kind: 'answer', status: 403, body: '<Error><Code>AccessDenied</Code></Error>' } as const
    faulty.fail({ fault, actions: ['CompleteMultipartUpload'], count: 100 })
  }
  assert.deepEqual(complaints(await findings({}, refuse)), ['storage.multipart error'])
  assert.deepEqual(left(), [])
})

test('a store that hangs amid the check is a finding, and what was written is removed', async () => {
  const hang = (faulty: FaultyS3) => faulty.fail({ fault: { kind: 'hang' }, actions: ['GetObject'], count: 100 })
  const found = await findings({}, hang, 1_000)
  assert.deepEqual(complaints(found), ['storage.get error'])
  assert.match(found.find(({ id }) => id === 'storage.get')?.text ?? '', /did not answer within 1 s/)
  assert.match(found.find(({ id }) => id === 'storage.delete')?.text ?? '', /no object can be read/)
  assert.deepEqual(left(), [])
})

test('other bytes than were written', async () => {
  const spoil = (faulty: FaultyS3) => {
    const fault = { kind: 'answer', status: 200, body: 'something else' } as const
    faulty.fail({ fault, actions: ['GetObject'], count: 100 })
  }
  assert.ok(complaints(await findings({}, spoil)).includes('storage.get error'))
})

test('a directory in memory, without space, and without inodes', () => {
  const directory = {
    path: '/archive',
    kind: 0xef53,
    freeBytes: 2 ** 40,
    totalBytes: 2 ** 41,
    freeInodes: 1e6,
    device: 1,
  }
  const of = (spoilt: Partial<typeof directory>) =>
    complaints(directoryFindings({ bucket: undefined, directory: { ...directory, ...spoilt } }))
  assert.deepEqual(of({}), [])
  assert.deepEqual(of({ kind: 0x01021994 }), ['storage.durability warning'])
  assert.deepEqual(of({ freeBytes: 500 * 1024 ** 2 }), ['storage.space warning'])
  assert.deepEqual(of({ freeBytes: 1024 ** 2 }), ['storage.space error'])
  assert.deepEqual(of({ freeInodes: 10 }), ['storage.space error'])
})
