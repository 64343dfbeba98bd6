/**
 * Whenever the power fails during a restore over a data directory, what is left is what was there before, or marked as
 * incomplete, or whole; and never does a directory start that is anything else than the first or the last.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLog } from '../../../../src/observe/log.ts'
import { readDocuments } from '../../../../src/restore/backup/backup-documents.ts'
import { fetchBackup } from '../../../../src/restore/backup/backup-fetch.ts'
import { fetchOver } from '../../../../src/restore/backup/delta/delta-fetch.ts'
import { linkedTablespaces } from '../../../../src/restore/backup/delta/usable-destination.ts'
import { DirectorySink } from '../../../../src/restore/backup/restore-sink.ts'
import { BackupArchive } from '../../../../src/walg/backup/backup-archive.ts'
import { Random } from '../../../harness/random.ts'
import { MemoryStorage } from '../../../harness/store/memory-storage.ts'
import { drawChain, type State, storeChain } from '../made-chains.ts'
import { type Left, RecordedDisk } from '../recorded-disk.ts'

const signal = new AbortController().signal
const control = 'data/global/pg_control'

/** A manifest as the server writes it. */
function manifestOf(state: State): Buffer {
  const files = [...state].map(([path, content]) => {
    const sum = createHash('sha256').update(content).digest('hex')
    return `{ "Path": "${path}", "Size": ${content.length}, "Checksum-Algorithm": "SHA256", "Checksum": "${sum}" }`
  })
  const text = `{ "PostgreSQL-Backup-Manifest-Version": 2,\n"Files": [\n${files.join(',\n')}\n],\n`
  return Buffer.from(`${text}"Manifest-Checksum": "${createHash('sha256').update(text).digest('hex')}"}\n`)
}

/** A full backup that has a manifest and a system identifier. */
function storedBackup(seed: number): { readonly storage: MemoryStorage; readonly name: string; readonly state: State } {
  const chain = { ...drawChain(new Random(seed), 0), slash: true }
  const [step] = chain.steps
  assert.ok(step)
  const objects = storeChain(new Random(seed), chain)
  const sentinel = `basebackups_005/${step.name}_backup_stop_sentinel.json`
  const text = objects.get(sentinel)?.toString() ?? ''
  objects.set(sentinel, Buffer.from(text.replace('"PgVersion"', '"SystemIdentifier":72340172838076673,"PgVersion"')))
  objects.set(`basebackups_005/${step.name}/backup_manifest`, manifestOf(step.state))
  const storage = new MemoryStorage()
  for (const [key, bytes] of objects) storage.objects.set(key, { bytes, lastModifiedMs: 0 })
  return { storage, name: step.name, state: step.state }
}

/** Without what the lock and the modes of directories make of it. */
const shown = (left: Left) =>
  [...left]
    .filter(([path]) => path !== 'data/postmaster.pid')
    .map(([path, what]) => `${path}: ${what.startsWith('directory') ? 'directory' : what}`)
    .sort()

test('a power cut leaves what was there, or a marked directory, or the whole', async () => {
  for (let seed = 1; seed <= 4; seed++) {
    const root = await mkdtemp(join(tmpdir(), 'walrx-delta-power-'))
    try {
      await tryPower(root, seed)
    } finally {
      await rm(root, { recursive: true, force: true })
    }
  }
})

async function tryPower(root: string, seed: number): Promise<void> {
  using disk = new RecordedDisk(root)
  const { name, state, storage } = storedBackup(seed)
  const documents = await readDocuments(storage, new BackupArchive(storage), name, signal)
  const destination = join(root, 'data')
  const tablespaces = [{ oid: 16384, original: '/was/there', location: join(root, 'ts') }]
  const rest = { log: silentLog, signal, concurrency: 2, fsync: true, onProgress: () => {} }
  const writeSettings = async () => {}
  const task = { storage, documents, destination, tablespaces, writeSettings, ...rest }
  await fetchBackup(task)
  // Another cluster's life: some files are others, some are gone, some are more.
  const sink = new DirectorySink(destination, true)
  const paths = [...state.keys()].filter((path) => /^(base|pg_tblspc)\//.test(path))
  assert.ok(paths.length > 2)
  await sink.remove(paths[0] ?? '')
  for (const path of [paths[1] ?? '', 'base/77/1', 'pg_wal/000000010000000000000001', 'stray']) {
    const file = await sink.file(path, 0o600)
    await file.write(Buffer.from('another'))
    await file.finish()
  }
  await sink.sync()
  const before = [...disk.cuts()].length
  const linked = await linkedTablespaces(destination, tablespaces)
  const { plan } = await fetchOver({ ...task, linked, onCompared: () => {}, onPlan: () => {} })
  assert.ok(plan.kept.size > 1 && plan.removed.length >= 4, `seed ${seed}`)
  const whole = shown(disk.present)
  const cuts = [...disk.cuts()].slice(before - 1)
  const first = shown(cuts[0]?.left ?? new Map())
  assert.notDeepEqual(first, whole)
  let marked = 0
  for (const { call, left } of cuts) {
    const isMarked = left.has('data/walrx_restore_incomplete')
    if (isMarked) marked++
    // What may start is the old cluster, or the new one.
    if (isMarked && !left.has(control)) continue
    const found = shown(left).filter((line) => !line.startsWith('data/walrx_restore_incomplete'))
    const expected = JSON.stringify(found) === JSON.stringify(first) ? first : whole
    assert.deepEqual(found, expected, `seed ${seed}, left by a power cut at "${call}"`)
  }
  assert.ok(cuts.length > 100 && marked > 50, `${cuts.length} cuts, ${marked} of them marked`)
  assert.deepEqual(shown(cuts.at(-1)?.left ?? new Map()), whole, 'durable at the end')
}
