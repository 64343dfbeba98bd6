/** The prefetcher as a process: how it begins, ends, and what it leaves. */
import assert from 'node:assert/strict'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { silentLog } from '../../../src/observe/log.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import { type Clock, systemClock } from '../../../src/primitives/clock.ts'
import { runPrefetcher } from '../../../src/restore/prefetch/prefetch-run.ts'
import { type Owner, type ReadyFolder } from '../../../src/restore/prefetch/ready-folder.ts'
import { runningProcess } from '../../../src/restore/wal/recovery-process.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { madeSegmentSize, makeSegment } from '../../harness/made/made-wal.ts'
import type { FakeStartup } from '../../harness/postgres/fake-startup.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { until } from '../../harness/time/until.ts'
import { openClaimedFolder } from './claimed-folder.ts'

const nameOf = (number: number) => segmentName(1, BigInt(number), madeSegmentSize)

let dataDir: string
let pgWal: string
let startup: FakeStartup
let folder: ReadyFolder
let storage: MemoryStorage
let abort: AbortController
let owner: Owner
beforeEach(async () => {
  ;({ dataDir, folder, owner, pgWal, startup } = await openClaimedFolder())
  storage = new MemoryStorage()
  for (let number = 1; number <= 9; number++) storage.seed(`wal_005/${nameOf(number)}`, makeSegment(nameOf(number)))
  abort = new AbortController()
})
afterEach(async () => {
  abort.abort()
  await startup.end()
  await rm(dataDir, { recursive: true })
})

const bothReady = () =>
  until('two segments', async () => String((await folder.readyNames()).sort()) === String([nameOf(1), nameOf(2)]))
const listens = () =>
  until('the socket', async () => (await readFile('/proc/net/unix', 'latin1')).includes(owner.channel.name))

describe('the prefetcher process', () => {
  const run = (clock: Clock = systemClock) =>
    runPrefetcher({
      clock,
      reader: new WalReader(storage),
      folder: folder.path,
      first: nameOf(1),
      segmentSize: madeSegmentSize,
      windowBytes: 2 * madeSegmentSize,
      concurrency: 2,
      extension: '',
      systems: () => Promise.resolve([]),
      signal: abort.signal,
      log: silentLog,
    })

  test('ends within a second of its recovery, and leaves nothing', async () => {
    const ended = run()
    await bothReady()
    const startMs = performance.now()
    await startup.end()
    assert.equal(await ended, 'recovery over')
    assert.ok(performance.now() - startMs < 1_000)
    assert.deepEqual(await readdir(pgWal), [])
  })

  // patroni #1525, repmgr #697: pg_rewind, which may come next, fails at files that vanish and at files of other kinds.
  test('sees at once that the server stops, and never keeps anything but regular files', async () => {
    await writeFile(join(dataDir, 'postmaster.pid'), '')
    // No tick ever comes.
    const ended = run({ ...systemClock, setTimer: () => ({ cancel: () => {} }) })
    await bothReady()
    await listens()
    const kept = await readdir(join(pgWal, '.walrx'), { recursive: true, withFileTypes: true })
    assert.deepEqual(
      kept.filter((entry) => !entry.isFile() && !entry.isDirectory()),
      [],
    )
    await startup.end()
    await rm(join(dataDir, 'postmaster.pid'))
    assert.equal(await ended, 'recovery over')
    assert.deepEqual(await readdir(pgWal), [])
  })

  test('ends at a signal in the middle of a download, and leaves nothing', async () => {
    storage.before = ({ operation }) => (operation === 'get' ? new Promise(() => {}) : undefined)
    const ended = run()
    await until('a download', () => storage.log.some((call) => call.startsWith('get ')))
    abort.abort()
    assert.equal(await ended, 'stopped')
    assert.deepEqual(await readdir(pgWal), [])
  })

  test('takes over the folder that its starter has claimed, and no other', async () => {
    const starter = runningProcess(process.ppid)
    assert.ok(starter)
    await folder.setPrefetcher(owner, starter)
    const ended = run()
    await until('the take-over', async () => (await folder.owner())?.prefetcher.pid === process.pid)
    abort.abort()
    await ended
    assert.equal(await run(), 'not ours', 'no folder')
    await folder.claim({ ...owner, prefetcher: { pid: startup.pid, startTime: 1 } })
    assert.equal(await run(), 'not ours', "another's folder")
    assert.equal((await folder.owner())?.prefetcher.pid, startup.pid)
  })
})
