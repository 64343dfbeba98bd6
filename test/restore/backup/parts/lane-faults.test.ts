/** Whatever fails, and whenever, a restore on threads ends: with that error, with no thread left, and with its marker. */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { silentLog } from '../../../../src/observe/log.ts'
import { readDocuments } from '../../../../src/restore/backup/backup-documents.ts'
import { fetchBackup } from '../../../../src/restore/backup/backup-fetch.ts'
import { ThreadLane, ThreadLanes } from '../../../../src/restore/backup/parts/thread-lane.ts'
import { DirectorySink } from '../../../../src/restore/backup/restore-sink.ts'
import { BackupArchive } from '../../../../src/walg/backup/backup-archive.ts'
import { isFullRun } from '../../../harness/extent.ts'
import { Random } from '../../../harness/random.ts'
import { MemoryStorage } from '../../../harness/store/memory-storage.ts'
import { drawChain, storeChain } from '../made-chains.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'walrx-faults-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

const trials = isFullRun ? 60 : 6
/** Of a restore that is stuck. */
const stuckMs = 60_000

const chain = drawChain(new Random(3), 2)
const { name } = chain.steps.at(-1)!

type Fault = 'get fails' | 'body fails' | 'body is cut' | 'abort at a get' | 'abort in a body' | 'file in the way'
const faults: readonly Fault[] = [
  'get fails',
  'body fails',
  'body is cut',
  'abort at a get',
  'abort in a body',
  'file in the way',
]

const isPart = (key: string) => key.includes('tar_partitions/')

/** Gives a storage its fault, at the `nth` part. */
function arm(storage: MemoryStorage, fault: Fault, random: Random, failure: Error, stop: AbortController): void {
  const nth = random.int(1, 6)
  const after = random.int(0, 3000)
  let gets = 0
  let bodies = 0
  storage.before = ({ key, operation }) => {
    if (operation !== 'get' || !isPart(key) || ++gets !== nth) return
    if (fault === 'get fails') throw failure
    if (fault === 'abort at a get') stop.abort(failure)
  }
  storage.body = (key, chunks) => {
    if (!isPart(key) || ++bodies !== nth || !fault.includes('body')) return chunks
    return faulty(chunks, fault, after, failure, stop)
  }
}

async function* faulty(
  chunks: AsyncIterable<Uint8Array>,
  fault: Fault,
  after: number,
  failure: Error,
  stop: AbortController,
): AsyncGenerator<Uint8Array, undefined> {
  let bytes = 0
  for await (const chunk of chunks) {
    bytes += chunk.length
    if (bytes > after) {
      if (fault === 'body fails') throw failure
      if (fault === 'body is cut') return
      stop.abort(failure)
    }
    yield chunk
  }
}

describe('a restore on threads', () => {
  test('ends with what failed, whatever that is', async (t) => {
    const firstSeed = 100
    t.diagnostic(`seeds from ${firstSeed}`)
    const hit = new Map<string, number>()
    for (let n = 0; n < trials; n++) {
      const random = new Random(firstSeed + n)
      const fault = faults[n % faults.length]!
      const what = `${fault} (seed ${firstSeed + n})`
      const storage = new MemoryStorage({ chunkBytes: random.pick([7, 300, 65_536]) })
      for (const [key, bytes] of storeChain(new Random(n), chain))
        storage.objects.set(key, { bytes, lastModifiedMs: 0 })
      const stop = new AbortController()
      const { signal } = stop
      const documents = await readDocuments(storage, new BackupArchive(storage), name, signal)
      const failure = Object.assign(new Error('made up'), { code: 'EIO' })
      arm(storage, fault, random, failure, stop)
      const destination = join(root, String(n))
      const lanes = new ThreadLanes(true, random.int(0, 3))
      const [path = ''] = [...chain.steps[0]!.entries.keys()].filter((each) => each.startsWith('base/'))
      const onProgress = async () => {
        if (fault === 'file in the way') await mkdir(join(destination, path), { recursive: true }).catch(() => {})
      }
      const rest = { log: silentLog, signal, concurrency: random.int(1, 4), writeSettings: async () => {}, fsync: true }
      const restore = { storage, documents, destination, tablespaces: [], openLane: lanes.open, ...rest }
      const outcome = await Promise.race([
        fetchBackup({ ...restore, onProgress: () => void onProgress() }).then(
          () => 'whole',
          (error: unknown) => error,
        ),
        setTimeout(stuckMs, 'stuck', { ref: false }),
      ])
      await lanes.drop()
      assert.notEqual(outcome, 'stuck', what)
      const isMarked = (await readdir(destination)).includes('walrx_restore_incomplete')
      assert.equal(isMarked, outcome !== 'whole', what)
      if (outcome !== 'whole') hit.set(fault, (hit.get(fault) ?? 0) + 1)
      if (outcome !== 'whole' && fault !== 'body is cut' && fault !== 'file in the way')
        assert.equal(outcome, failure, what)
      // A body is closed a turn later.
      for (let turns = 0; turns < 100 && storage.openBodies > 0; turns++) await setImmediate()
      assert.equal(storage.openBodies, 0, what)
    }
    for (const fault of faults.slice(0, 5)) assert.ok((hit.get(fault) ?? 0) > 0, `"${fault}" never struck`)
  })

  test('has no thread left when its lanes were never used', async () => {
    const lanes = new ThreadLanes(true, 3)
    await lanes.drop()
    const lane = new ThreadLanes(true, 1)
    await lane.open(new DirectorySink(root, true)).drop()
    await lane.drop()
    assert.ok(!process.getActiveResourcesInfo().includes('MessagePort'), process.getActiveResourcesInfo().join())
  })
})

describe('a part for a thread that has died', () => {
  test('is closed, and what opens it zeroed', async () => {
    const lane = new ThreadLane(false)
    await lane.drop()
    const opens = new Uint8Array(52).fill(7)
    let closed = 0
    const handing = { key: 'k', extension: 'zst', at: 'at', bytes: 'libsodium', opens } as const
    const bytes = (async function* () {})()
    const part = { handing, bytes, close: async () => void (await Promise.resolve(closed++)) }
    const host = { plan: () => assert.fail(), done: () => assert.fail() }
    await assert.rejects(lane.read(part, host), /a thread of the restore has ended/)
    assert.equal(closed, 1)
    assert.ok(opens.every((byte) => byte === 0))
  })
})
