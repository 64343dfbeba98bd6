/**
 * A copy from a directory to a bucket and back, by processes that are killed at drawn moments while the bucket fails at drawn
 * requests. Every copy is resumed until it ends; what it holds is then the archive, byte for byte.
 */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { after, before, test } from 'node:test'
import { trials } from '../../harness/extent.ts'
import { goldenArchive } from '../../harness/made/golden-backups.ts'
import { Random } from '../../harness/random.ts'
import { archivedKeys } from '../../harness/store/archive-check.ts'
import { type FaultyS3, type S3Fault, startFaultyS3 } from '../../harness/store/faulty-s3/faulty-s3.ts'
import { type ProcessEnd, startWalrx } from '../../harness/walrx/walrx-process.ts'

const source = fileURLToPath(goldenArchive('walg-local-lz4-deltas')).replace(/\/$/, '')

let store: FaultyS3
let root: string
before(async () => {
  store = await startFaultyS3()
  root = await mkdtemp(join(tmpdir(), 'walrx-copies-'))
})
after(async () => {
  await store[Symbol.asyncDispose]()
  await rm(root, { recursive: true })
})

const env = () => ({
  AWS_ENDPOINT: store.endpoint,
  AWS_S3_FORCE_PATH_STYLE: 'true',
  AWS_REGION: store.region,
  AWS_ACCESS_KEY_ID: store.accessKeyId,
  AWS_SECRET_ACCESS_KEY: store.secretAccessKey,
  HOME: root,
})

const faults: readonly S3Fault[] = [
  { kind: 'answer', status: 503, body: '<Error><Code>SlowDown</Code></Error>' },
  { kind: 'lost' },
  { kind: 'refuse' },
  { kind: 'cut', bytes: 200 },
]

/** Runs a copy, and kills it after so many requests of the store; undefined: never. */
async function copyUntil(args: readonly string[], killAfter: number | undefined): Promise<ProcessEnd> {
  await using walrx = startWalrx(['copy', ...args], { env: env() })
  const { schedule } = store
  let requests = 0
  store.schedule = (request) => {
    if (++requests === killAfter) walrx.child.kill('SIGKILL')
    return schedule?.(request)
  }
  try {
    return await walrx.ended
  } finally {
    store.schedule = schedule
  }
}

/** Copies with as many kills as are drawn, then to the end. */
async function copyWithKills(random: Random, kills: number, ...args: string[]): Promise<void> {
  store.schedule = () => (random.chance(0.05) ? random.pick(faults) : undefined)
  for (let kill = 0; kill < kills; kill++) await copyUntil(args, random.int(4, 60))
  const { status, stderr } = await copyUntil(args, undefined)
  assert.equal(status, 0, stderr)
  store.schedule = undefined
}

/** The marker is the copy's own: WAL-G wrote none. */
const isCopied = (key: string) => !key.startsWith('walrx_005/')

const seed = Number(process.env['WALRX_COPY_SEED'] ?? Date.now() % 1_000_000)
for (let trial = 0; trial < trials('WALRX_COPY_TRIALS', 1, 10); trial++) {
  test(
    `a copy to a bucket and back survives kills and faults (WALRX_COPY_SEED=${seed + trial})`,
    { timeout: 300_000 },
    async () => {
      const random = new Random(seed + trial)
      const prefix = `s3://${store.bucket}/copy-${trial}`
      const back = join(root, `back-${trial}`)
      await mkdir(back)
      await copyWithKills(random, 3, '--file-prefix', source, '--to', prefix)
      await copyWithKills(random, 2, '--s3-prefix', prefix, '--to', back)
      const keys = archivedKeys(source)
      assert.deepEqual(archivedKeys(back).filter(isCopied), keys)
      for (const key of keys)
        assert.ok((await readFile(join(source, key))).equals(await readFile(join(back, key))), key)
      const verified = await copyUntil(['--s3-prefix', prefix, '--to', back, '--verify', '--json'], undefined)
      assert.equal(verified.status, 0, verified.stderr)
      const summary = JSON.parse(verified.stdout) as { objects: number; objects_compared: number }
      assert.deepEqual([summary.objects, summary.objects_compared], [0, keys.length])
    },
  )
}

test('stops at a signal, and says that the same command goes on', async () => {
  store.reset()
  const to = `s3://${store.bucket}/stopped`
  await using walrx = startWalrx(['copy', '--file-prefix', source, '--to', to], { env: env() })
  let puts = 0
  store.schedule = ({ action }) => {
    if (action === 'PutObject' && ++puts === 4) walrx.child.kill('SIGTERM')
    return action === 'PutObject' && puts >= 4 ? { kind: 'hang' } : undefined
  }
  const { status, stderr } = await walrx.ended
  assert.equal(status, 143, stderr)
  assert.match(stderr, /the same command goes on where this one ended/)
  store.reset()
  const again = await copyUntil(['--file-prefix', source, '--to', to], undefined)
  assert.equal(again.status, 0, again.stderr)
})
