/** What is written while the next bytes are decoded: nothing of it is lost, reordered or overtaken, and no error of it. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { silentLog } from '../../../src/observe/log.ts'
import { readDocuments } from '../../../src/restore/backup/backup-documents.ts'
import { fetchBackup } from '../../../src/restore/backup/backup-fetch.ts'
import { readBackup } from '../../../src/restore/backup/backup-reader.ts'
import { DirectorySink, nowhere, type RestoreSink } from '../../../src/restore/backup/restore-sink.ts'
import { BackupArchive } from '../../../src/walg/backup/backup-archive.ts'
import { tarEntries } from '../../../src/walg/backup/tar/tar-entries.ts'
import { serverTar } from '../../backup/parts/tars.ts'
import { Random } from '../../harness/random.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { drawChain, storeChain } from './made-chains.ts'
import { RecordedDisk } from './recorded-disk.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'walrx-writes-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

const errno = (code: string) => Object.assign(new Error(`${code}: made up`), { code })

describe('a file of a restored directory', () => {
  test('gets its bytes in their order, waited for or not', async () => {
    const sink = new DirectorySink(root, true)
    const file = await sink.file('base/5/1', 0o600)
    const pieces = Array.from({ length: 300 }, (_, index) => Buffer.alloc(index * 7 + 1, index))
    const writes = pieces.map((piece) => file.write(piece))
    const finished = file.finish()
    await Promise.all([...writes, finished])
    await sink.sync()
    assert.ok((await readFile(join(root, 'base/5/1'))).equals(Buffer.concat(pieces)))
  })

  test('is not opened again before its last bytes are written', async () => {
    const sink = new DirectorySink(root, true)
    const first = await sink.file('backup_label', 0o600)
    const large = first.write(Buffer.alloc(16 * 1024 * 1024, 1))
    // By now that is a call of its own.
    await turn()
    const writes = [large, first.write(Buffer.alloc(1024 * 1024, 1))]
    const second = sink.file('backup_label', 0o600)
    await Promise.all([...writes, first.finish()])
    const other = await second
    await Promise.all([other.write(Buffer.from('label')), other.finish()])
    await sink.sync()
    assert.equal(await readFile(join(root, 'backup_label'), 'utf8'), 'label')
  })

  test('that cannot be written is closed, and later writes and its end say why', async () => {
    using disk = new RecordedDisk(root)
    disk.before = (call) => {
      if (call === 'writev base/5/1') throw errno('ENOSPC')
    }
    const sink = new DirectorySink(root, true)
    const file = await sink.file('base/5/1', 0o600)
    const refused = { code: 'WALRX_RESTORE_FAILED', message: /base\/5\/1 cannot be written: ENOSPC/ }
    await assert.rejects(file.write(Buffer.alloc(1)), refused)
    await assert.rejects(file.write(Buffer.alloc(1)), refused)
    await assert.rejects(file.finish(), refused)
    await file.drop()
    assert.deepEqual(
      disk.syncs.filter((path) => path === 'base/5/1'),
      [],
    )
  })

  test('begins to go to the disk before its end, and what fails there fails the restore', async () => {
    using disk = new RecordedDisk(root)
    let syncs = 0
    disk.before = (call) => {
      if (call === 'sync base/5/1' && syncs++ === 0) throw errno('EIO')
    }
    const sink = new DirectorySink(root, true)
    const file = await sink.file('base/5/1', 0o600)
    await file.write(Buffer.alloc(64 * 1024 * 1024))
    await file.finish().catch(() => {})
    await assert.rejects(sink.sync(), { code: 'WALRX_RESTORE_FAILED', message: /base\/5\/1 cannot be written: EIO/ })
    assert.equal(syncs, 2)
  })
})

test('a restore ends with the first file that cannot be written, and stays marked', async () => {
  for (const [call, code] of [
    [/^writev data\/base\/\d+\/./, 'ENOSPC'],
    [/^sync data\/base\/\d+\/./, 'EIO'],
    [/^chmod data\/base\/\d+\/./, 'EPERM'],
  ] as const) {
    using disk = new RecordedDisk(root)
    let failing: string | undefined
    disk.before = (each) => {
      if (!call.test(each) || failing !== undefined) return
      failing = each.split(' ')[1] ?? ''
      throw errno(code)
    }
    const chain = drawChain(new Random(1), 0)
    const storage = new MemoryStorage()
    for (const [key, bytes] of storeChain(new Random(1), chain)) storage.objects.set(key, { bytes, lastModifiedMs: 0 })
    const signal = new AbortController().signal
    const documents = await readDocuments(storage, new BackupArchive(storage), chain.steps[0]!.name, signal)
    const rest = { log: silentLog, signal, concurrency: 3, onProgress: () => {}, writeSettings: async () => {} }
    const options = { storage, documents, destination: join(root, 'data'), tablespaces: [], fsync: true, ...rest }
    await assert.rejects(fetchBackup(options), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'WALRX_RESTORE_FAILED')
      assert.match(error.message, new RegExp(`${failing ?? 'none failed'} cannot be written: ${code}`))
      return true
    })
    assert.ok(disk.present.has('data/walrx_restore_incomplete'))
    assert.ok(!disk.present.has('data/global/pg_control'))
    await rm(join(root, 'data'), { recursive: true })
  }
})

test('a backup is not read to its end before all of it is written, and its last write can fail it', async () => {
  const chain = drawChain(new Random(1), 0)
  const storage = new MemoryStorage()
  for (const [key, bytes] of storeChain(new Random(1), chain)) storage.objects.set(key, { bytes, lastModifiedMs: 0 })
  const signal = new AbortController().signal
  const documents = await readDocuments(storage, new BackupArchive(storage), chain.steps[0]!.name, signal)
  const write = Promise.withResolvers<void>()
  let isWriting = false
  const slow = (): Promise<void> => {
    isWriting = true
    return write.promise
  }
  const file = { write: slow, finish: async () => {}, drop: async () => {} }
  const sink: RestoreSink = { ...nowhere, file: () => Promise.resolve(file) }
  let isRead = false
  const beforeControl = async () => {
    await Promise.resolve()
    isRead = true
  }
  const rest = { log: silentLog, signal, concurrency: 3, onProgress: () => {} }
  const reading = readBackup({ storage, documents, sink, beforeControl, ...rest })
  for (let turns = 0; turns < 50 || !isWriting; turns++) await turn()
  write.reject(new Error('too late'))
  await assert.rejects(reading, { message: 'too late' })
  assert.equal(isRead, false)
})

test('a chunk of a tar that is held stays valid, and the memory of others is freed', async () => {
  const bodies = [Buffer.alloc(3000, 1), Buffer.alloc(100, 2), Buffer.alloc(5000, 3)]
  const tar = serverTar(bodies.map((content, index) => ({ name: `file${index}`, kind: 'file', content })))
  const freed: number[] = []
  async function* pieces() {
    for (let at = 0; at < tar.length; at += 1000) {
      const bytes = Buffer.from(tar.subarray(at, at + 1000))
      yield await Promise.resolve({ bytes, free: () => void (freed.push(at), bytes.fill(0xff)) })
    }
  }
  const held: { readonly chunk: Uint8Array; readonly index: number; readonly release: () => void }[] = []
  let index = 0
  for await (const { body, hold } of tarEntries(pieces(), 'a tar')) {
    for await (const chunk of body) held.push({ chunk, index, release: hold!() })
    index++
  }
  for (const each of held) assert.ok(each.chunk.every((byte) => byte === each.index + 1))
  assert.equal(
    held.reduce((sum, { chunk }) => sum + chunk.length, 0),
    8100,
  )
  for (const { release } of held) release()
  assert.equal(new Set(freed).size, freed.length)
  assert.ok(
    freed.length >= Math.floor(tar.length / 1000) - 1,
    `${freed.length} pieces of ${tar.length} bytes were freed`,
  )
})
