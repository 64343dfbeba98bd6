/**
 * Whenever the power fails during a restore, what is left is nothing, marked as incomplete, or whole; and what a restore
 * has reported is on the disk.
 */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { silentLog } from '../../../src/observe/log.ts'
import { readDocuments } from '../../../src/restore/backup/backup-documents.ts'
import { fetchBackup, fetchFiles } from '../../../src/restore/backup/backup-fetch.ts'
import { DirectorySink } from '../../../src/restore/backup/restore-sink.ts'
import type { RecoveryRequest } from '../../../src/restore/recovery/recovery-request.ts'
import { writeRecoverySettings } from '../../../src/restore/recovery/recovery-settings.ts'
import { BackupArchive } from '../../../src/walg/backup/backup-archive.ts'
import { Random } from '../../harness/random.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { drawChain, type MadeChain, storeChain } from './made-chains.ts'
import { type Left, RecordedDisk } from './recorded-disk.ts'

const signal = new AbortController().signal
const marker = 'walrx_restore_incomplete'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'walrx-power-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

const request: RecoveryRequest = {
  recover: true,
  target: undefined,
  inclusive: true,
  action: 'promote',
  timeline: 'latest',
  restoreCommand: undefined,
  archiveMode: 'off',
}

/** A full backup and deltas on it, with a directory, settings and the signal file of a standby. */
function draw(seed: number, deltas: number): MadeChain {
  const chain = drawChain(new Random(seed), deltas)
  const extra = new Map([
    ['postgresql.auto.conf', Buffer.from("archive_mode = 'on'\n")],
    ['standby.signal', Buffer.alloc(0)],
    ['pg_tblspc/16384/PG_17_202406281/5/99', Buffer.alloc(8192, 1)],
  ])
  for (const { entries, state } of chain.steps) {
    for (const [path, body] of extra) {
      ;(state as Map<string, Buffer>).set(path, body)
      entries.set(path, { kind: 'whole', body })
    }
  }
  return chain
}

/** Where a restore goes to: two levels that have to be made. */
interface Places {
  readonly data: string
  readonly tablespace: string
}

async function restore(chain: MadeChain, places: Places, fsync = true, mask?: (path: string) => boolean) {
  const storage = new MemoryStorage()
  for (const [key, bytes] of storeChain(new Random(1), chain)) storage.objects.set(key, { bytes, lastModifiedMs: 0 })
  const { name } = chain.steps.at(-1)!
  const documents = await readDocuments(storage, new BackupArchive(storage), name, signal)
  const destination = join(root, places.data)
  const rest = { log: silentLog, signal, concurrency: 2, onProgress: () => {} }
  const task = { storage, documents, destination, fsync, ...rest }
  if (mask) return fetchFiles({ ...task, mask })
  return fetchBackup({
    ...task,
    tablespaces: [{ oid: 16384, original: '/was/there', location: join(root, places.tablespace) }],
    writeSettings: () => writeRecoverySettings(destination, request, 'walrx wal-fetch %f %p'),
  })
}

/** What a power cut leaves now of what no fsync has covered: nothing. */
function durable(disk: RecordedDisk): Left {
  let last: Left = new Map()
  for (const { left } of disk.cuts()) last = left
  return last
}

const shown = (left: Left) => [...left].sort().map(([path, what]) => `${path}: ${what}`)

/** Checks all that a power cut can leave of a restore that has ended. */
function assertSafe(disk: RecordedDisk, places: Places): void {
  const whole = shown(disk.present)
  assert.ok(!disk.present.has(join(places.data, marker)))
  const folders = new Set<string>()
  for (const place of Object.values(places) as string[]) {
    place.split('/').forEach((_, index, words) => folders.add(words.slice(0, index + 1).join('/')))
  }
  let cuts = 0
  for (const { call, left } of disk.cuts()) {
    cuts++
    if (left.has(join(places.data, marker)) || [...left.keys()].every((path) => folders.has(path))) continue
    assert.deepEqual(shown(left), whole, `left by a power cut at "${call}"`)
  }
  assert.ok(cuts > 500, `${cuts} cuts`)
  assert.deepEqual(shown(durable(disk)), whole, 'durable at the end')
}

describe('a power cut', () => {
  for (const [what, seed, deltas] of [
    ['a full backup', 1, 0],
    ['a delta', 2, 1],
    ['a delta on deltas', 3, 3],
  ] as const) {
    test(`during the restore of ${what} leaves nothing that is taken for a whole one`, async () => {
      const places = { data: 'new/data', tablespace: 'other/disk/ts' }
      using disk = new RecordedDisk(root)
      const { files } = await restore(draw(seed, deltas), places)
      assert.ok(files > 5)
      for (const path of ['global/pg_control', 'recovery.signal', 'pg_tblspc/16384'])
        assert.ok(disk.present.has(join(places.data, path)), path)
      assert.ok(!disk.present.has(join(places.data, 'standby.signal')))
      assertSafe(disk, places)
    })
  }

  test('is what only fsync is for: without, none is made of what comes from the backup', async () => {
    const places = { data: 'data', tablespace: 'ts' }
    using disk = new RecordedDisk(root)
    await restore(draw(4, 1), places, false)
    assert.deepEqual(new Set(disk.syncs), new Set(['data', 'data/postgresql.auto.conf.tmp', 'data/recovery.signal']))
    assert.throws(() => assertSafe(disk, places))
  })

  test('during a restore into directories that are there is no different', async () => {
    const places = { data: 'data', tablespace: 'ts' }
    using disk = new RecordedDisk(root)
    for (const place of Object.values(places)) await mkdir(join(root, place))
    await restore(draw(4, 1), places)
    assertSafe(disk, places)
  })

  test('during the restore of single files leaves them marked or whole', async () => {
    const places = { data: 'new/data', tablespace: 'none' }
    using disk = new RecordedDisk(root)
    const isWanted = (path: string) => /^(base|pg_tblspc)\//.test(path)
    const { files } = await restore(draw(5, 2), places, true, isWanted)
    assert.ok(files > 2)
    assertSafe(disk, places)
  })
})

describe('what is durable', () => {
  test('is each single thing that a data directory was made to hold, once it is synced', async () => {
    const steps: readonly (readonly [what: string, (sink: DirectorySink) => Promise<unknown>])[] = [
      ['the data directory', (sink) => sink.directory('', 0o700)],
      ['a link, and what it leads to', (sink) => sink.link('pg_tblspc/1', join(root, 'far/away'))],
      ['a file', async (sink) => (await sink.file('base/1/2', 0o600)).finish()],
      ['a file in a tablespace', async (sink) => (await sink.file('pg_tblspc/1/PG_17/3', 0o600)).finish()],
      ['the mode of a directory', (sink) => sink.directory('base/1', 0o750)],
      ['another name', (sink) => sink.rename('base/1/2', 'base/1/4')],
      ['a removal', (sink) => sink.remove('base/1/4')],
    ]
    using disk = new RecordedDisk(root)
    const sink = new DirectorySink(join(root, 'new/data'), true)
    for (const [what, work] of steps) {
      const before = shown(disk.present)
      await work(sink)
      assert.deepEqual(shown(durable(disk)).length, before.length, `${what} was durable without a sync`)
      await sink.sync()
      assert.deepEqual(shown(durable(disk)), shown(disk.present), what)
    }
  })

  test('are the settings of a recovery, by themselves', async () => {
    using disk = new RecordedDisk(root)
    const sink = new DirectorySink(root, true)
    for (const name of ['standby.signal', 'postgresql.auto.conf']) await (await sink.file(name, 0o600)).finish()
    await sink.sync()
    for (const each of [{ ...request, recover: false }, request]) {
      await writeRecoverySettings(root, each, 'walrx wal-fetch %f %p')
      assert.deepEqual(shown(durable(disk)), shown(disk.present))
    }
    assert.deepEqual([...disk.present.keys()].sort(), ['postgresql.auto.conf', 'recovery.signal'])
  })
})

describe('a directory that cannot be synced', () => {
  const places = { data: 'data', tablespace: 'ts' }
  const errno = (code: string) => Object.assign(new Error(`${code}: made up`), { code })

  test('because its file system has no such thing is no obstacle', async () => {
    using disk = new RecordedDisk(root)
    const refused: string[] = []
    disk.before = (call) => {
      if (call !== 'sync data/base' && call !== 'sync ts') return
      refused.push(call)
      throw errno('EINVAL')
    }
    await restore(draw(4, 1), places)
    assert.deepEqual(new Set(refused), new Set(['sync data/base', 'sync ts']))
  })

  test('because it may not be read is passed over only where nothing was made in it', async () => {
    const refuseParent = (disk: RecordedDisk) => {
      disk.before = (call) => {
        if (call === 'sync .') throw errno('EACCES')
      }
    }
    {
      using disk = new RecordedDisk(root)
      for (const place of Object.values(places)) await mkdir(join(root, place))
      refuseParent(disk)
      await restore(draw(4, 1), places)
    }
    using disk = new RecordedDisk(root)
    refuseParent(disk)
    await assert.rejects(restore(draw(4, 1), { data: 'other', tablespace: 'ts2' }), { code: 'WALRX_RESTORE_FAILED' })
    assert.deepEqual([...disk.present.keys()].sort(), ['other', `other/${marker}`], 'it fails before it reads')
  })

  test('fails the restore, which stays marked', async () => {
    using disk = new RecordedDisk(root)
    disk.before = (call) => {
      if (call === 'sync data/base/5') throw errno('EIO')
    }
    await assert.rejects(restore(draw(4, 1), places), { code: 'WALRX_RESTORE_FAILED', message: /EIO/ })
    assert.ok(disk.present.has(`data/${marker}`))
    assert.ok(!disk.present.has('data/global/pg_control'))
  })
})
