/** A restore whose parts are read on threads of their own does what one on the main thread does, errors included. */
import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { silentLog } from '../../../../src/observe/log.ts'
import { readDocuments } from '../../../../src/restore/backup/backup-documents.ts'
import { fetchBackup } from '../../../../src/restore/backup/backup-fetch.ts'
import { readBackup } from '../../../../src/restore/backup/backup-reader.ts'
import { ThreadLanes } from '../../../../src/restore/backup/parts/thread-lane.ts'
import { DirectorySink, nowhere } from '../../../../src/restore/backup/restore-sink.ts'
import { BackupArchive } from '../../../../src/walg/backup/backup-archive.ts'
import { Random } from '../../../harness/random.ts'
import { MemoryStorage } from '../../../harness/store/memory-storage.ts'
import { drawChain, storeChain } from '../made-chains.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'walrx-lanes-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

const seed = 7
const chain = drawChain(new Random(seed), 2)
const { name } = chain.steps.at(-1)!

/** @param chunkBytes of the storage: they go over together, whatever their size */
function storeIn(chunkBytes: number, options: ConstructorParameters<typeof MemoryStorage>[0] = {}): MemoryStorage {
  const storage = new MemoryStorage({ ...options, chunkBytes })
  for (const [key, bytes] of storeChain(new Random(1), chain)) storage.objects.set(key, { bytes, lastModifiedMs: 0 })
  return storage
}

async function restore(
  storage: MemoryStorage,
  destination: string,
  threads: boolean,
  signal = new AbortController().signal,
) {
  const documents = await readDocuments(storage, new BackupArchive(storage), name, signal)
  const lanes = threads ? { openLane: new ThreadLanes(true).open } : {}
  const rest = { log: silentLog, signal, concurrency: 3, onProgress: () => {}, writeSettings: async () => {} }
  return fetchBackup({ storage, documents, destination, tablespaces: [], fsync: true, ...rest, ...lanes })
}

async function filesOf(directory: string): Promise<Map<string, string>> {
  const files = new Map<string, string>()
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isFile()) files.set(path.slice(directory.length), (await readFile(path)).toString('hex'))
  }
  return files
}

describe('lanes with threads', () => {
  for (const chunkBytes of [100, 64 * 1024]) {
    test(`restore a chain, file for file, from chunks of ${chunkBytes} bytes`, async () => {
      const [own, other] = [join(root, 'own'), join(root, 'other')]
      const summaries = [
        await restore(storeIn(chunkBytes), own, false),
        await restore(storeIn(chunkBytes), other, true),
      ]
      assert.deepEqual(summaries[1], summaries[0])
      const files = await filesOf(own)
      assert.ok(files.size > 5)
      assert.deepEqual(await filesOf(other), files)
    })
  }

  test('say the same of a damaged part, and leave the marker', async () => {
    const messages: string[] = []
    for (const threads of [false, true]) {
      const storage = storeIn(1000)
      const keys = [...storage.objects.keys()].filter(
        (key) => key.includes('tar_partitions/part_') && key.includes(name),
      )
      for (const key of keys) {
        const { bytes } = storage.objects.get(key)!
        const changed = Buffer.from(bytes)
        changed[changed.length - 20] = changed[changed.length - 20]! ^ 1
        changed[600] = (changed[600] ?? 0) ^ 1
        storage.objects.set(key, { bytes: changed, lastModifiedMs: 0 })
      }
      const destination = join(root, String(threads))
      await assert.rejects(restore(storage, destination, threads), (error: Error & { code?: string }) => {
        messages.push(`${error.code} ${error.message}`)
        return true
      })
      assert.ok((await readdir(destination)).includes('walrx_restore_incomplete'))
    }
    assert.equal(messages[1], messages[0], `seed ${seed}`)
  })

  test('end with the reason of the signal, and with what the storage throws', async () => {
    const stop = new AbortController()
    const reason = new Error('stopped')
    const aborting = storeIn(1000, {
      before: ({ key, operation }) => {
        if (operation === 'get' && key.includes('tar_partitions/')) stop.abort(reason)
      },
    })
    await assert.rejects(restore(aborting, join(root, 'stopped'), true, stop.signal), reason)
    const failure = Object.assign(new Error('made up'), { code: 'EIO' })
    const failing = storeIn(1000, {
      before: ({ key, operation }) => {
        if (operation === 'get' && key.includes('tar_partitions/part_')) throw failure
      },
    })
    await assert.rejects(restore(failing, join(root, 'failed'), true), failure)
  })

  test('report what cannot be written', async () => {
    const sink = new DirectorySink(join(root, 'data'), true)
    await sink.directory('', 0o700)
    // A directory is where a file should be made.
    const [path] = [...chain.steps[0]!.entries.keys()].filter((each) => each.startsWith('base/'))
    await sink.directory(path!, 0o700)
    const storage = storeIn(1000)
    const signal = new AbortController().signal
    const documents = await readDocuments(storage, new BackupArchive(storage), name, signal)
    const rest = { log: silentLog, signal, concurrency: 2, onProgress: () => {}, beforeControl: async () => {} }
    await assert.rejects(readBackup({ storage, documents, sink, openLane: new ThreadLanes(true).open, ...rest }), {
      code: 'WALRX_RESTORE_FAILED',
      message: /cannot be written: E/,
    })
  })

  test('verify without writing anything', async () => {
    const storage = storeIn(1000)
    const signal = new AbortController().signal
    const documents = await readDocuments(storage, new BackupArchive(storage), name, signal)
    const rest = { log: silentLog, signal, concurrency: 2, onProgress: () => {}, beforeControl: async () => {} }
    const summary = await readBackup({
      storage,
      documents,
      sink: nowhere,
      openLane: new ThreadLanes(false).open,
      ...rest,
    })
    assert.ok(summary.files > 5)
  })
})
