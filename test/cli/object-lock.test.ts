/** `walrx delete` in a bucket with versions and locks of objects, and in one without. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  ListObjectVersionsCommand,
  type ListObjectVersionsCommandOutput,
  PutObjectCommand,
  PutObjectLegalHoldCommand,
  PutObjectRetentionCommand,
} from '@aws-sdk/client-s3'
import { sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { Random } from '../harness/random.ts'
import { type Moto, startMoto } from '../harness/store/moto.ts'
import { runWalrx } from '../harness/walrx/walrx-process.ts'
import { makeArchive } from '../retention/made-archive.ts'

interface Deleted {
  readonly total: { readonly objects: number }
  readonly done: { readonly objects: number; readonly refused: number; readonly keeps_versions: boolean }
}

let moto: Moto | string
before(async () => {
  moto = await startMoto()
})
after(async () => {
  if (typeof moto !== 'string') await moto[Symbol.asyncDispose]()
})

const made = makeArchive(new Random(7), { events: 12, isSimple: true })
const [oldest = ''] = made.backups.map(({ name }) => name)
const tomorrow = new Date(Date.now() + 24 * 3600_000)

async function fill({ client }: Moto, bucket: string, isLocked: boolean): Promise<void> {
  await client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: isLocked }))
  for (const [key, { bytes }] of made.storage.objects)
    await client.send(new PutObjectCommand({ Bucket: bucket, Key: `db1/${key}`, Body: bytes }))
}

/** Versions below the archive, without those of walrx's own work. */
async function versionsOf({ client }: Moto, bucket: string): Promise<ListObjectVersionsCommandOutput> {
  const all = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }))
  const isOfArchive = ({ Key = '' }: { Key?: string | undefined }) => !Key.startsWith('db1/walrx_005/')
  return { ...all, Versions: all.Versions?.filter(isOfArchive), DeleteMarkers: all.DeleteMarkers?.filter(isOfArchive) }
}

const deletion = ['delete', 'retain', 'FULL', '1', '--confirm', '--json']

describe('a deletion', () => {
  test('in a bucket with locks hides what is locked and what is not, says so, and can be undone', async (t) => {
    if (typeof moto === 'string') return t.skip(moto)
    const { client } = moto
    const bucket = 'locked'
    await fill(moto, bucket, true)
    const env = moto.environment(bucket)
    const [sentinel, part] = [`db1/${sentinelKey(oldest)}`, `db1/basebackups_005/${oldest}/metadata.json`]
    const retained = { RetainUntilDate: tomorrow, Mode: 'COMPLIANCE' } as const
    await client.send(new PutObjectRetentionCommand({ Bucket: bucket, Key: part, Retention: retained }))
    const held = { Bucket: bucket, Key: sentinel, LegalHold: { Status: 'ON' } } as const
    await client.send(new PutObjectLegalHoldCommand(held))
    const before = await versionsOf(moto, bucket)
    const { status, stderr, stdout } = await runWalrx(deletion, { env })
    assert.equal(status, 0, stderr)
    const { done, total } = JSON.parse(stdout) as Deleted
    assert.deepEqual([done.refused, done.keeps_versions, done.objects], [0, true, total.objects])
    assert.match(stderr, /the bucket keeps the versions of what was deleted/)
    const after = await versionsOf(moto, bucket)
    assert.equal(after.Versions?.length, before.Versions?.length)
    assert.equal(after.DeleteMarkers?.length, done.objects)
    // The lock is a real one: it refuses to remove the version itself.
    for (const key of [sentinel, part]) {
      const VersionId = after.Versions?.find(({ Key }) => Key === key)?.VersionId ?? ''
      const command = new DeleteObjectCommand({ Bucket: bucket, Key: key, VersionId })
      await assert.rejects(client.send(command), { name: 'AccessDenied' })
    }
    const list = async () => (await runWalrx(['backup-list', '--json'], { env })).stdout
    assert.ok(!(await list()).includes(oldest))
    for (const { Key, VersionId } of after.DeleteMarkers ?? [])
      await client.send(new DeleteObjectCommand({ Bucket: bucket, Key, VersionId }))
    assert.ok((await list()).includes(oldest))
    const all = await runWalrx(['delete', 'everything', 'FORCE', '--confirm'], { env })
    assert.equal(all.status, 0, all.stderr)
    assert.match(all.stderr, /the bucket keeps the versions of what was deleted/)
    assert.equal((await versionsOf(moto, bucket)).Versions?.length, before.Versions?.length)
  })

  test('in a bucket without versions says nothing of them', async (t) => {
    if (typeof moto === 'string') return t.skip(moto)
    await fill(moto, 'plain', false)
    const { status, stderr, stdout } = await runWalrx(deletion, { env: moto.environment('plain') })
    assert.deepEqual([status, stderr], [0, ''])
    assert.equal((JSON.parse(stdout) as Deleted).done.keeps_versions, false)
    assert.ok(!(await versionsOf(moto, 'plain')).Versions?.some(({ Key = '' }) => Key.includes(oldest)))
  })
})
