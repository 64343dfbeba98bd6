/** The tail of a segment that the archive lacks as a whole, as wal-fetch delivers it to a server. */
import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { type Logger, silentLog } from '../../../src/observe/log.ts'
import { type ErrorCode, hasCode } from '../../../src/primitives/errors.ts'
import type { WalFetchOptions } from '../../../src/restore/wal/wal-fetch.ts'
import { tailKey } from '../../../src/walg/names.ts'
import { FastClock } from '../../harness/time/fast-clock.ts'
import { madeSegmentSize, makeSegment } from '../../harness/made/made-wal.ts'
import { MemoryStorage, unavailable } from '../../harness/store/memory-storage.ts'
import { fetchOnce } from './fetch-once.ts'

const name = '000000010000000000000003'
const later = '000000010000000000000004'
const whole = makeSegment(name)

let directory: string
let dest: string
let storage: MemoryStorage
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walrx-tail-'))
  dest = join(directory, 'RECOVERYXLOG')
  storage = new MemoryStorage()
})
afterEach(async () => {
  assert.equal(storage.openBodies, 0, 'a body was left open')
  const left = (await readdir(directory)).filter((file) => file.includes('.walrx-'))
  assert.deepEqual(left, [], 'a temporary file is left')
  await rm(directory, { recursive: true })
})

const chunk = (from: number, to: number, content: Uint8Array = whole.subarray(from, to), segment = name) =>
  storage.seed(tailKey(segment, { from, to }, ''), content)
const history = (timeline: number, text: string) =>
  storage.seed(`wal_005/${timeline.toString(16).padStart(8, '0').toUpperCase()}.history`, text)

const fetch = (options: Partial<WalFetchOptions> = {}) =>
  fetchOnce({ storage, name, dest, dataDir: directory, ...options })

const fails = (promise: Promise<unknown>, code: ErrorCode) =>
  assert.rejects(promise, (error) => {
    assert.ok(hasCode(error, code), `${code} expected: ${String(error)}`)
    return true
  })

/** The delivered file is this much of the segment, padded with zeros. */
async function assertDelivered(length: number): Promise<void> {
  const file = await readFile(dest)
  assert.equal(file.length, madeSegmentSize)
  assert.ok(file.subarray(0, length).equals(whole.subarray(0, length)), 'its tail')
  assert.ok(file.subarray(length).equals(Buffer.alloc(madeSegmentSize - length)), 'zeros')
}

describe('the tail of a segment', () => {
  test('is delivered padded with zeros to a whole segment', async () => {
    for (const length of [8192, 8192 + 24, 100_000, madeSegmentSize - 1, madeSegmentSize]) {
      storage.objects.clear()
      chunk(0, 5000)
      chunk(5000, length)
      assert.equal(await fetch(), 'delivered')
      await assertDelivered(length)
    }
  })

  test('ends before an incomplete page header: no page begins so', async () => {
    for (const length of [3 * 8192 + 1, 3 * 8192 + 23]) {
      storage.objects.clear()
      chunk(0, length)
      assert.equal(await fetch(), 'delivered')
      await assertDelivered(3 * 8192)
    }
  })

  test('is the partial segment where there are no chunks', async () => {
    const partial = Buffer.alloc(madeSegmentSize)
    partial.set(whole.subarray(0, 8192 * 3 + 4096))
    storage.seed(`wal_005/${name}.partial`, partial)
    assert.equal(await fetch({ isStandby: true }), 'delivered')
    await assertDelivered(8192 * 3 + 4096)
  })

  // cnpg #4990, #10394, patroni #1747
  test('is never delivered to a standby that gets whole segments only', async () => {
    chunk(0, 9000)
    assert.equal(await fetch({ isStandby: true, wholeOnly: true }), 'absent')
    storage.seed(`wal_005/${name}.partial`, whole)
    assert.equal(await fetch({ isStandby: true, wholeOnly: true }), 'absent')
    storage.seed(`wal_005/${name}`, whole)
    assert.equal(await fetch({ isStandby: true, wholeOnly: true }), 'delivered')
    await assertDelivered(madeSegmentSize)
  })

  test('is ignored where the whole segment is there: no chunk is read', async () => {
    chunk(0, 9000, Buffer.alloc(9000, 7))
    storage.seed(`wal_005/${name}`, whole)
    assert.equal(await fetch(), 'delivered')
    await assertDelivered(madeSegmentSize)
    assert.ok(!storage.log.some((call) => call.includes('tail')))
  })

  test('is not delivered where the whole segment is archived meanwhile: the next attempt delivers that', async () => {
    chunk(0, 9000)
    storage.before = ({ key, operation }) => {
      if (operation === 'get' && key.startsWith('walrx_005/tail/')) storage.seed(`wal_005/${name}`, whole)
    }
    await fetch({ retryTimeoutMs: 60_000, clock: new FastClock(50) }).catch(() => {})
    storage.before = undefined
    assert.equal(await fetch(), 'delivered')
    await assertDelivered(madeSegmentSize)
  })

  test('does not exist where the first byte is missing', async () => {
    chunk(1, 9000)
    assert.equal(await fetch(), 'absent')
  })

  test('does not exist for other files: histories, backups', async () => {
    chunk(0, 9000)
    assert.equal(await fetch({ name: '00000002.history' }), 'absent')
    assert.ok(!storage.log.some((call) => call.includes('tail')))
  })
})

describe('an invalid tail', () => {
  test('is an error and never the absence of the segment: damage, contradictions, an outage', async () => {
    chunk(0, 9000, whole.subarray(0, 8999))
    await fails(fetch(), 'WALRX_OBJECT_DAMAGED')
    storage.objects.clear()
    chunk(0, 9000)
    chunk(8000, 9500, Buffer.alloc(1500, 7))
    await fails(fetch(), 'WALRX_ARCHIVE_CONFLICT')
    storage.objects.clear()
    chunk(0, 9000)
    for (const failing of ['list walrx_005/tail/', 'get walrx_005/tail/', 'list wal_005/']) {
      storage.before = ({ key, operation }) => {
        if (`${operation} ${key}`.startsWith(failing)) throw unavailable()
      }
      await fails(fetch(), 'WALRX_STORAGE_UNAVAILABLE')
    }
    assert.deepEqual(await readdir(directory), [])
  })

  test('is detected by its header: another segment, another size, no WAL at all', async () => {
    chunk(0, 9000, makeSegment(later).subarray(0, 9000))
    await fails(fetch(), 'WALRX_OBJECT_DAMAGED')
    chunk(0, 9000, Buffer.alloc(9000, 7))
    await fails(fetch(), 'WALRX_OBJECT_DAMAGED')
    chunk(0, 9000)
    await fails(fetch({ segmentSize: 16 * madeSegmentSize }), 'WALRX_USAGE')
  })

  test('may be valid at the next attempt', async () => {
    chunk(0, 9000, whole.subarray(0, 8999))
    let gets = 0
    storage.before = ({ key, operation }) => {
      if (operation === 'get' && key.startsWith('walrx_005/tail/') && ++gets === 2) chunk(0, 9000)
    }
    assert.equal(await fetch({ retryTimeoutMs: 30_000, clock: new FastClock(20) }), 'delivered')
    await assertDelivered(9000)
  })
})

describe('a timeline that another one forked from', () => {
  test('ends at the fork: nothing after it is delivered, and nothing at all of later segments', async () => {
    chunk(0, 20_000)
    history(2, '1\t0/301234\tno recovery target specified\n')
    assert.equal(await fetch(), 'delivered')
    await assertDelivered(0x1234)
    history(2, '1\t0/300000\tno recovery target specified\n')
    assert.equal(await fetch(), 'absent')
    history(2, '1\t0/2FFFFF\tno recovery target specified\n')
    assert.equal(await fetch(), 'absent')
  })

  test('ends at the first of several forks, of grandchildren as well', async () => {
    chunk(0, 20_000)
    history(2, '1\t0/303000\tx\n')
    history(3, '1\t0/302000\tx\n')
    history(10, '1\t0/303000\tx\n\n2\t0/400000\tx\n')
    await fetch()
    await assertDelivered(0x2000)
    storage.objects.delete('wal_005/00000003.history')
    storage.objects.delete('wal_005/00000002.history')
    await fetch()
    await assertDelivered(0x3000)
  })

  test('does not end for a fork after its last byte, or of other timelines', async () => {
    chunk(0, 20_000)
    history(2, '1\t0/304E20\tx\n')
    history(4, '3\t0/300010\tx\n')
    await fetch()
    await assertDelivered(20_000)
    history(2, '1\t0/304E1F\tx\n')
    await fetch()
    await assertDelivered(19_999)
  })

  test('is an error where the history cannot be read: the fork may be anywhere', async () => {
    chunk(0, 20_000)
    history(2, 'x\ty\tz\n')
    await assert.rejects(fetch())
    history(2, '1\t0/301234\tx\n')
    storage.before = ({ key, operation }) => {
      if (operation === 'get' && key.endsWith('2.history')) throw unavailable()
    }
    await fails(fetch(), 'WALRX_STORAGE_UNAVAILABLE')
  })
})

describe('a tail with later segments', () => {
  test('is delivered after a wait of ten seconds for the segment, and that is logged', async () => {
    chunk(0, 9000)
    storage.seed(`wal_005/${later}`, makeSegment(later))
    const logged: string[] = []
    const log: Logger = {
      ...silentLog,
      warn: (message) => logged.push(message),
      info: (message) => logged.push(message),
    }
    const clock = new FastClock(50)
    const startMs = clock.now()
    assert.equal(await fetch({ retryTimeoutMs: 60_000, clock, log }), 'delivered')
    assert.ok(clock.now() - startMs >= 10_000, `${clock.now() - startMs} ms`)
    await assertDelivered(9000)
    assert.deepEqual(logged, [
      'WAL file not delivered yet, trying again',
      'the archive has only the tail of this segment, although it holds later segments: recovery ends here',
    ])
  })

  test('that becomes a whole segment meanwhile is delivered whole', async () => {
    chunk(0, 9000)
    storage.seed(`wal_005/${later}`, makeSegment(later))
    let listings = 0
    storage.before = ({ key, operation }) => {
      if (operation === 'list' && key.startsWith('walrx_005/tail/') && ++listings === 2)
        storage.seed(`wal_005/${name}`, whole)
    }
    assert.equal(await fetch({ retryTimeoutMs: 60_000, clock: new FastClock(50) }), 'delivered')
    await assertDelivered(madeSegmentSize)
  })

  test('does not keep a standby waiting for long', async () => {
    chunk(0, 9000)
    storage.seed(`wal_005/${later}`, makeSegment(later))
    const clock = new FastClock(20)
    const startMs = clock.now()
    assert.equal(await fetch({ retryTimeoutMs: 60_000, isStandby: true, clock }), 'delivered')
    const tookMs = clock.now() - startMs
    assert.ok(tookMs >= 500 && tookMs < 5000, `${tookMs} ms`)
  })

  test('is delivered at once where only chunks follow, or segments of other timelines', async () => {
    chunk(0, 9000)
    chunk(0, 9000, makeSegment(later).subarray(0, 9000), later)
    storage.seed('wal_005/000000020000000000000009', 'x')
    const clock = new FastClock(1)
    const startMs = clock.now()
    assert.equal(await fetch({ retryTimeoutMs: 60_000, clock }), 'delivered')
    assert.ok(clock.now() - startMs < 5000)
  })
})
