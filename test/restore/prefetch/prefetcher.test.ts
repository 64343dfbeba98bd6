import assert from 'node:assert/strict'
import { readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { silentLog } from '../../../src/observe/log.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import { askForSegment } from '../../../src/restore/prefetch/prefetch-channel.ts'
import { type PrefetchEnd, Prefetcher, type PrefetcherOptions } from '../../../src/restore/prefetch/prefetcher.ts'
import { type Owner, type ReadyFolder } from '../../../src/restore/prefetch/ready-folder.ts'
import { tailKey } from '../../../src/walg/names.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { FastClock } from '../../harness/time/fast-clock.ts'
import type { FakeStartup } from '../../harness/postgres/fake-startup.ts'
import { madeSegmentSize, madeSystemId, makeSegment } from '../../harness/made/made-wal.ts'
import { MemoryStorage, unavailable } from '../../harness/store/memory-storage.ts'
import { until } from '../../harness/time/until.ts'
import { openClaimedFolder } from './claimed-folder.ts'

const nameOf = (number: number, timeline = 1) => segmentName(timeline, BigInt(number), madeSegmentSize)
const names = (from: number, to: number, timeline = 1) =>
  Array.from({ length: to - from + 1 }, (_, index) => nameOf(from + index, timeline))

let dataDir: string
let pgWal: string
let startup: FakeStartup
let folder: ReadyFolder
let storage: MemoryStorage
let abort: AbortController
let running: Promise<PrefetchEnd> | undefined
let owner: Owner
beforeEach(async () => {
  ;({ dataDir, folder, owner, pgWal, startup } = await openClaimedFolder())
  storage = new MemoryStorage()
  abort = new AbortController()
  running = undefined
})
afterEach(async () => {
  abort.abort()
  await running?.catch(() => {})
  assert.equal(storage.openBodies, 0, 'a body was left open')
  await startup.end()
  await rm(dataDir, { recursive: true })
})

/** Archives segments uncompressed: the least work. */
function archive(...segments: string[]): void {
  for (const name of segments) storage.seed(`wal_005/${name}`, makeSegment(name))
}

/** Starts a prefetcher with room for four segments. */
function start(options: Partial<PrefetcherOptions> = {}): Promise<PrefetchEnd> {
  running = new Prefetcher({
    reader: new WalReader(storage),
    folder,
    address: owner.channel,
    first: nameOf(1),
    segmentSize: madeSegmentSize,
    windowBytes: 4 * madeSegmentSize,
    concurrency: 10,
    extension: '',
    systems: () => Promise.resolve([{ systemId: madeSystemId, source: 'the archive is bound to' }]),
    isRecovering: () => true,
    freeBytes: () => Promise.resolve(2 ** 40),
    signal: abort.signal,
    log: silentLog,
    ...options,
  }).run()
  return running
}

const ready = async () => (await folder.readyNames()).sort()
const untilReady = (...expected: string[]) =>
  until(`${expected.join(' ')} ready`, async () => String(await ready()) === String(expected))
const take = (name: string) => rename(folder.ready(name), join(pgWal, 'RECOVERYXLOG'))
const ask = (name: string) => askForSegment(owner.channel, name, abort.signal)
const gets = () =>
  storage.log.filter((call) => call.startsWith('get ')).map((call) => call.slice('get wal_005/'.length))
const listens = () =>
  until('the socket', async () => (await readFile('/proc/net/unix', 'latin1')).includes(owner.channel.name))

describe('the window', () => {
  test('is filled with the segments that the server wants next: whole, checked, for the owner alone, and no more', async () => {
    archive(...names(1, 20))
    void start()
    await untilReady(...names(1, 4))
    for (const name of names(1, 4)) {
      assert.deepEqual(await readFile(folder.ready(name)), makeSegment(name))
      assert.equal((await stat(folder.ready(name))).mode & 0o777, 0o600)
    }
    assert.deepEqual(gets().sort(), names(1, 4))
    assert.deepEqual(await readdir(join(folder.path, 'running')), [])
  })

  test('ends before a segment that has only a tail: only whole segments are asked for', async () => {
    archive(...names(1, 2), nameOf(4))
    const key = tailKey(nameOf(3), { from: 0, to: madeSegmentSize }, '')
    storage.seed(key, makeSegment(nameOf(3)))
    storage.seed(`wal_005/${nameOf(3)}.partial`, makeSegment(nameOf(3)))
    void start()
    // The fourth may be on its way before the answer for the third is there.
    await until('both ready', async () => String((await ready()).slice(0, 2)) === String(names(1, 2)))
    await until('another look', () => gets().filter((name) => name === nameOf(3)).length > 1)
    assert.ok(!(await ready()).includes(nameOf(3)))
    assert.ok(!storage.log.some((call) => call.includes('walrx_005/tail')))
  })

  test('moves with the server, in order, however it takes them', async () => {
    archive(...names(1, 30))
    void start()
    for (let number = 1; number <= 25; number++) {
      await until(nameOf(number), async () => (await ready()).includes(nameOf(number)))
      await take(nameOf(number))
    }
    await untilReady(...names(26, 29))
    assert.equal(gets().length, 29, 'each segment once')
  })

  test('crosses from one group of names to the next', async () => {
    const last = '0000000100000000' + '00000FFF'
    archive(last, '000000010000000100000000', '000000010000000100000001')
    void start({ first: last })
    await untilReady(last, '000000010000000100000000', '000000010000000100000001')
  })

  test('has room for two segments at least, whatever it is set to', async () => {
    archive(...names(1, 5))
    void start({ windowBytes: 1 })
    await untilReady(...names(1, 2))
  })

  test('is filled one after the other when that is asked for', async () => {
    archive(...names(1, 5))
    void start({ concurrency: 1 })
    await untilReady(...names(1, 4))
    assert.deepEqual(gets(), names(1, 4))
  })

  test('goes to where a wal-fetch says that the server is: back, ahead, or on another timeline', async () => {
    archive(...names(1, 40), ...names(1, 40, 2))
    void start({ first: nameOf(10) })
    await untilReady(...names(10, 13))
    assert.equal(await ask(nameOf(20)), false, 'not there: wal-fetch gets it')
    await untilReady(...names(21, 24))
    assert.equal(await ask(nameOf(5)), false)
    await untilReady(...names(6, 9))
    assert.equal(await ask(nameOf(7, 2)), false)
    await untilReady(...names(8, 11, 2))
  })

  test('keeps what it has when the server goes back by a little', async () => {
    archive(...names(1, 40))
    void start({ first: nameOf(10) })
    await untilReady(...names(10, 13))
    await take(nameOf(10))
    await untilReady(...names(11, 14))
    assert.equal(await ask(nameOf(9)), false)
    await untilReady(...names(10, 13))
    assert.deepEqual(gets().filter((name) => name === nameOf(12)).length, 1)
  })
})

describe('a wal-fetch that asks', () => {
  test('gets a ready segment at once', async () => {
    archive(...names(1, 9))
    void start()
    await untilReady(...names(1, 4))
    assert.equal(await ask(nameOf(1)), true)
    assert.equal(await ask(nameOf(3)), true)
    await untilReady(...names(3, 6))
  })

  test('waits for a running download', async () => {
    archive(...names(1, 9))
    const { promise: held, resolve: release } = Promise.withResolvers<void>()
    storage.before = ({ key }) => (key.endsWith(nameOf(1)) ? held : undefined)
    void start()
    await listens()
    let answer: boolean | undefined
    const asked = ask(nameOf(1)).then((isReady) => (answer = isReady))
    await untilReady(...names(2, 4))
    assert.equal(answer, undefined)
    release()
    assert.equal(await asked, true)
    assert.deepEqual(await readFile(folder.ready(nameOf(1))), makeSegment(nameOf(1)))
  })

  test('gets a no for a segment that is damaged, missing, or of another cluster, which never becomes ready', async () => {
    archive(...names(1, 4))
    storage.seed(`wal_005/${nameOf(1)}`, makeSegment(nameOf(1)).subarray(0, 100_000))
    storage.seed(`wal_005/${nameOf(2)}`, makeSegment(nameOf(2), { systemId: 1n }))
    storage.seed(`wal_005/${nameOf(3)}`, makeSegment(nameOf(7)))
    void start()
    await untilReady(nameOf(4))
    for (const number of [1, 2, 3]) assert.equal(await ask(nameOf(number)), false)
    assert.deepEqual(await ready(), [nameOf(4)])
  })

  test('gets a no for a download that stalls, which is tried again', async () => {
    archive(...names(1, 4))
    let isFirst = true
    storage.before = ({ key, operation }) => {
      if (operation !== 'get' || !key.endsWith(nameOf(1)) || !isFirst) return undefined
      isFirst = false
      return new Promise(() => {})
    }
    void start({ clock: new FastClock(20) })
    await listens()
    assert.equal(await ask(nameOf(1)), false)
    assert.equal(await ask(nameOf(0)), false)
    await untilReady(...names(1, 4))
  })
})

describe('the end of the archive', () => {
  test('is checked again and again, with few requests for later segments', async () => {
    archive(...names(1, 2))
    void start()
    await untilReady(...names(1, 2))
    await until('another look', () => gets().filter((name) => name === nameOf(3)).length > 1)
    assert.ok(gets().filter((name) => name === nameOf(4)).length <= 1)
    archive(...names(3, 4))
    await untilReady(...names(1, 4))
  })

  test('is left to the server while it asks for one segment again and again, and the prefetcher ends', async () => {
    archive(nameOf(1))
    const clock = new FastClock(1)
    const ended = start({ clock, first: nameOf(3) })
    await listens()
    assert.equal(await ask(nameOf(2)), false)
    await until('a look at the next segment', () => gets().includes(nameOf(3)))
    assert.equal(await ask(nameOf(2)), false)
    await until('nothing under way', () => storage.openBodies === 0)
    const calls = storage.calls.length
    clock.setFactor(200)
    const startMs = clock.now()
    while (clock.now() - startMs < 55_000) assert.equal(await ask(nameOf(2)), false)
    assert.ok(storage.calls.length - calls <= 2, storage.log.slice(calls).join('\n'))
    assert.equal(await ended, 'idle')
  })

  test('stays when the server wants the next segment', async () => {
    void start({ first: nameOf(3) })
    await listens()
    for (let call = 0; call < 3; call++) assert.equal(await ask(nameOf(2)), false)
    archive(...names(2, 8))
    assert.equal(await ask(nameOf(3)), false)
    await untilReady(...names(4, 7))
  })

  test('ends the prefetcher after a minute in which no segment is taken', async () => {
    archive(nameOf(0))
    const clock = new FastClock(200)
    const startMs = clock.now()
    assert.equal(await start({ clock }), 'idle')
    assert.ok(clock.now() - startMs >= 60_000)
  })

  test('ends it later while segments are ready', async () => {
    archive(nameOf(1))
    const clock = new FastClock(1)
    const ended = start({ clock })
    await untilReady(nameOf(1))
    const startMs = clock.now()
    clock.setFactor(1000)
    assert.equal(await ended, 'idle')
    assert.ok(clock.now() - startMs >= 590_000)
    assert.deepEqual(await ready(), [])
  })
})

describe('an outage', () => {
  test('does not end the prefetcher', async () => {
    archive(...names(1, 4))
    storage.before = () => {
      throw unavailable()
    }
    void start({ clock: new FastClock(20) })
    await until('some failures', () => storage.calls.length > 10)
    storage.before = undefined
    await untilReady(...names(1, 4))
  })
})

describe('a full disk', () => {
  /** Bytes that are free on a file system of so many segments, with `other` of them in use by the server. */
  const freeOf = (segments: number, other: () => number) => async () => {
    const files = [...(await folder.readyNames()), ...(await readdir(join(folder.path, 'running')))]
    return (segments - other() - files.length) * madeSegmentSize
  }

  test('is not filled: the window shrinks, and leaves the server as much as it takes', async () => {
    for (const [segments, kept] of [
      [3, 1],
      [5, 2],
      [6, 3],
      [20, 4],
    ] as const) {
      archive(...names(1, 4))
      const clock = new FastClock(20)
      const ended = start({ clock, freeBytes: freeOf(segments, () => 0), windowBytes: 4 * madeSegmentSize })
      await untilReady(...names(1, kept))
      const from = clock.now()
      await until('some ticks', () => clock.now() - from > 1_000)
      assert.deepEqual(await ready(), names(1, kept), `${segments}`)
      abort.abort()
      await ended
      abort = new AbortController()
    }
  })

  test('gets back what the server wants last, and is used again later', async () => {
    archive(...names(1, 4))
    let other = 0
    void start({ clock: new FastClock(20), freeBytes: freeOf(10, () => other) })
    await untilReady(...names(1, 4))
    other = 6
    await untilReady(...names(1, 2))
    other = 9
    await untilReady(nameOf(1))
    other = 0
    await untilReady(...names(1, 4))
  })

  test('makes it free all disk space, and try again later', async () => {
    archive(...names(1, 9))
    let isFull = false
    let refusals = 0
    storage.body = (_key, chunks) => (isFull ? full(chunks) : chunks)
    async function* full(chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) {
        void chunk
        refusals++
        throw new WalrxError('WALRX_DESTINATION', 'x', { cause: Object.assign(new Error('x'), { code: 'ENOSPC' }) })
      }
      yield Buffer.alloc(0)
    }
    void start({ clock: new FastClock(20) })
    await untilReady(...names(1, 4))
    isFull = true
    await take(nameOf(1))
    await untilReady()
    assert.ok(refusals > 0 && refusals < 5, `${refusals}`)
    isFull = false
    await untilReady(...names(2, 5))
  })
})
