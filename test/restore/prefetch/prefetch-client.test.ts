import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { type Logger, silentLog } from '../../../src/observe/log.ts'
import { listenForWanted } from '../../../src/restore/prefetch/prefetch-channel.ts'
import { PrefetchClient, type PrefetchStart } from '../../../src/restore/prefetch/prefetch-client.ts'
import { ReadyFolder } from '../../../src/restore/prefetch/ready-folder.ts'
import { runningProcess } from '../../../src/restore/wal/recovery-process.ts'
import { type FakeStartup, startFakeStartup } from '../../harness/postgres/fake-startup.ts'
import { madeSegmentSize } from '../../harness/made/made-wal.ts'

const segment = '000000010000000000000005'
const dest = 'pg_wal/RECOVERYXLOG'
const { signal } = new AbortController()

let dataDir: string
let before: string
let startup: FakeStartup
let starts: PrefetchStart[]
beforeEach(async () => {
  // A server's paths are relative to the data directory.
  before = process.cwd()
  dataDir = await mkdtemp(join(tmpdir(), 'walrx-client-'))
  await mkdir(join(dataDir, 'pg_wal'))
  process.chdir(dataDir)
  startup = await startFakeStartup(dataDir)
  starts = []
})
afterEach(async () => {
  await startup.end()
  process.chdir(before)
  await rm(dataDir, { recursive: true })
})

/** A client that takes this process for its prefetcher. */
function open(startPrefetcher?: () => Promise<number>, windowBytes = 0, log: Logger = silentLog): PrefetchClient {
  const client = PrefetchClient.open({
    dest,
    startupPid: startup.pid,
    windowBytes,
    log,
    startPrefetcher: (start) => {
      starts.push(start)
      return startPrefetcher ? startPrefetcher() : Promise.resolve(process.pid)
    },
  })
  assert.ok(client)
  return client
}

const folder = () => ReadyFolder.beside(dest, startup.pid)
const address = async () => (await folder().owner())?.channel ?? assert.fail('no owner')

describe('a prefetcher', () => {
  test('is started once for a recovery, for what follows, and has the folder then', async () => {
    const client = open()
    await Promise.all(Array.from({ length: 10 }, () => client.startBehind(segment, madeSegmentSize)))
    await client.startBehind(segment, madeSegmentSize)
    const path = join('pg_wal', '.walrx', String(startup.pid))
    assert.deepEqual(starts, [{ folder: path, first: '000000010000000000000006', segmentSize: madeSegmentSize }])
    const owner = await folder().owner()
    assert.equal(owner?.prefetcher.pid, process.pid)
    assert.equal(owner.recovery.startup.pid, startup.pid)
    assert.equal(owner.recovery.postmaster.pid, process.pid)
  })

  test('is started after the last segment of a group of names, too', async () => {
    await open().startBehind('0000000100000000' + '00000FFF', madeSegmentSize)
    assert.equal(starts[0]?.first, '000000010000000100000000')
  })

  test('that finds little space is announced, because it has no log of its own', async () => {
    const warnings: string[] = []
    const log = { ...silentLog, warn: (message: string) => void warnings.push(message) }
    await open(undefined, 2 ** 52, log).startBehind(segment, madeSegmentSize)
    assert.deepEqual(warnings, ['little space is free on the file system of pg_wal: prefetching fewer segments'])
    await folder().remove()
    await open(undefined, 2 * madeSegmentSize, log).startBehind(segment, madeSegmentSize)
    assert.equal(warnings.length, 1)
  })

  test('that cannot be started leaves no folder', async () => {
    await open(() => Promise.reject(new Error('no memory'))).startBehind(segment, madeSegmentSize)
    await open(() => Promise.resolve(999_999_999)).startBehind(segment, madeSegmentSize)
    assert.equal(starts.length, 2)
    assert.deepEqual(await readdir('pg_wal'), [])
  })

  test('is started again where the last one has ended, in an empty folder', async () => {
    const client = open()
    await client.startBehind(segment, madeSegmentSize)
    await writeFile(folder().ready(segment), 'left over')
    const owner = await folder().owner()
    assert.ok(owner)
    await folder().setPrefetcher(owner, { pid: 999_999_999, startTime: 1 })
    assert.equal(await client.take(segment, signal), false)
    await client.startBehind(segment, madeSegmentSize)
    assert.equal(starts.length, 2)
    assert.deepEqual(await folder().readyNames(), [])
  })
})

describe('a segment', () => {
  test('that is ready, or will be, is moved to the destination', async () => {
    const client = open()
    await client.startBehind(segment, madeSegmentSize)
    const channel = await listenForWanted(await address(), async (name) => {
      await writeFile(folder().ready(name), 'segment')
      return true
    })
    await writeFile(dest, 'old')
    assert.equal(await client.take(segment, signal), true)
    assert.equal(await readFile(dest, 'utf8'), 'segment')
    assert.deepEqual(await folder().readyNames(), [])
    channel.close()
  })

  test('is left to wal-fetch when the prefetcher says so, lies, or is not there yet', async () => {
    const client = open()
    await client.startBehind(segment, madeSegmentSize)
    assert.equal(await client.take(segment, signal), false, 'not listening yet')
    let answer = false
    const channel = await listenForWanted(await address(), () => Promise.resolve(answer))
    assert.equal(await client.take(segment, signal), false)
    answer = true
    assert.equal(await client.take(segment, signal), false, 'said ready, but nothing lies there')
    channel.close()
    assert.deepEqual(await readdir('pg_wal'), ['.walrx'])
  })

  test('of a recovery before this one is swept away, not taken', async () => {
    await open().startBehind(segment, madeSegmentSize)
    await writeFile(folder().ready(segment), 'of the recovery before')
    const old = folder().path
    await startup.end()
    startup = await startFakeStartup(dataDir)
    const client = open()
    assert.equal(await client.take(segment, signal), false)
    await assert.rejects(readdir(old), { code: 'ENOENT' })
  })
})

test('nothing is prefetched for a caller that is no server: an absolute destination, or no such process', () => {
  const options = { windowBytes: 0, startPrefetcher: () => Promise.resolve(0), log: silentLog }
  assert.equal(PrefetchClient.open({ ...options, dest: '/tmp/x', startupPid: startup.pid }), undefined)
  assert.equal(runningProcess(999_999_999), undefined)
  assert.equal(PrefetchClient.open({ ...options, dest, startupPid: 999_999_999 }), undefined)
})

// patroni #1525, repmgr #697: pg_rewind -c runs the restore_command, too, and lists and removes files meanwhile.
describe('pg_rewind gets no prefetcher', () => {
  const open = (dest: string, startupPid: number) =>
    PrefetchClient.open({
      dest,
      startupPid,
      windowBytes: 0,
      startPrefetcher: () => assert.fail('was started'),
      log: silentLog,
    })

  test('of the stopped server: there is no postmaster.pid', async () => {
    assert.ok(open(dest, startup.pid))
    await rm('postmaster.pid')
    assert.equal(open(dest, startup.pid), undefined)
  })

  test('that runs elsewhere, with a relative path to the data directory', async () => {
    await mkdir(join('a', 'pg_wal'), { recursive: true })
    assert.equal(open(join('a', dest), startup.pid), undefined, "the postmaster.pid of the working directory isn't its")
    await writeFile(join('a', 'postmaster.pid'), '1\n')
    assert.equal(open(join('a', dest), startup.pid), undefined)
  })

  test('beside a postmaster.pid that a crash has left, and whose process id is that of the shell now', async () => {
    await using other = await startFakeStartup()
    assert.equal(open(dest, other.pid), undefined, 'another program than its parent')
  })
})

test('a failure of the prefetcher never fails the fetch', async () => {
  await writeFile(join('pg_wal', '.walrx'), 'a file in the way')
  const client = open()
  await client.sweep()
  assert.equal(await client.take(segment, signal), false)
  await client.startBehind(segment, madeSegmentSize)
  assert.deepEqual(starts, [])
})
