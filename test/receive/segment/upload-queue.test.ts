import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { silentLog } from '../../../src/observe/log.ts'
import { addBytes, type Lsn, toLsn } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import { ByteArena } from '../../../src/receive/segment/byte-arena.ts'
import { SegmentPool } from '../../../src/receive/segment/segment-pool.ts'
import { UploadQueue, type UploadQueueOptions, uploadWindow } from '../../../src/receive/segment/upload-queue.ts'
import { Random } from '../../harness/random.ts'
import { VirtualClock } from '../../harness/time/virtual-clock.ts'
import { FakeArchive, RecordingMeter, settle, storageOut, uncheckedSegments } from '../fakes.ts'

const segmentSize = 16 * 1024
const start = toLsn(5n * BigInt(segmentSize))

class Bench {
  readonly clock = new VirtualClock()
  readonly archive = new FakeArchive()
  readonly meter = new RecordingMeter()
  readonly pool: SegmentPool
  readonly arena: ByteArena
  readonly queue: UploadQueue
  readonly durables: Lsn[] = []
  #next = start

  constructor(over: Partial<UploadQueueOptions> & { buffers?: number; arenaBytes?: number } = {}) {
    this.pool = new SegmentPool(segmentSize, over.buffers ?? 8)
    this.arena = new ByteArena(over.arenaBytes ?? 0)
    this.queue = new UploadQueue({
      archive: this.archive,
      pool: this.pool,
      arena: this.arena,
      uploadsMax: 4,
      encodersMax: 4,
      clock: this.clock,
      random: () => 0,
      log: silentLog,
      meter: this.meter,
      segments: uncheckedSegments(this.archive, segmentSize),
      ...over,
    })
    this.queue.startRun(start)
    this.queue.onDurable(() => this.durables.push(this.queue.durableLsn))
    this.archive.isManual = true
  }

  /** Queues the next segment; false when there is no buffer for it. */
  push(): boolean {
    const buffer = this.pool.take()
    if (!buffer) return false
    buffer.fill(Number(this.#next / BigInt(segmentSize)), 0, segmentSize)
    this.queue.pushSegment({ timeline: 1, startLsn: this.#next, buffer, length: segmentSize })
    this.#next = addBytes(this.#next, segmentSize)
    return true
  }

  pushPartial(length: number): void {
    const buffer = this.pool.take()
    assert.ok(buffer)
    this.queue.pushPartial({ timeline: 1, startLsn: this.#next, buffer, length })
  }

  get underWay(): string[] {
    return this.archive.pending.map(({ name }) => name)
  }

  put(index: number): FakeArchive['pending'][number] {
    const found = this.archive.pending.find(({ name }) => name.startsWith(nameOf(index)))
    assert.ok(found, `${nameOf(index)} is not under way, but ${this.underWay.join()}`)
    return found
  }

  async succeed(index: number): Promise<void> {
    this.put(index).succeed()
    await settle()
  }

  /** Lets timers of back-off run out until something happens. */
  async pass(ms: number): Promise<void> {
    await this.clock.pass(ms)
    await settle()
  }
}

/** Name of the segment that is `index` after the run's first. */
function nameOf(index: number): string {
  return segmentNameAt(1, end(index), segmentSize)
}

/** Position of the first byte of the segment that is `index` after the run's first. */
function end(index: number): Lsn {
  return addBytes(start, index * segmentSize)
}

describe('the durable end', () => {
  test('moves in WAL order only, however uploads overtake each other', async () => {
    const bench = new Bench()
    bench.push()
    await settle()
    await bench.succeed(0)
    for (let index = 1; index <= 3; index++) bench.push()
    await settle()
    await bench.succeed(3)
    await bench.succeed(2)
    assert.equal(bench.queue.durableLsn, end(1), 'after a segment that is missing nothing counts')
    await bench.succeed(1)
    assert.equal(bench.queue.durableLsn, end(4))
    assert.deepEqual(bench.durables, [end(1), end(4)])
  })

  test('never passes a segment that is not archived, for any order of completions and failures', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer(),
        fc.integer({ min: 1, max: 5 }),
        fc.boolean(),
        async (seed, uploadsMax, isSmall) => {
          const random = new Random(seed)
          const bench = new Bench({
            uploadsMax,
            encodersMax: random.int(1, 4),
            buffers: 5,
            arenaBytes: 3 * segmentSize,
          })
          if (isSmall) bench.archive.encodedLength = (length) => length / random.int(2, 20)
          const check = () => {
            const { durableLsn } = bench.queue
            for (let lsn = start; lsn < durableLsn; lsn = addBytes(lsn, segmentSize)) {
              assert.ok(bench.archive.files.has(segmentNameAt(1, lsn, segmentSize)), 'acknowledged, but not archived')
            }
            assert.equal(bench.archive.aliased, undefined, 'a buffer was used again while it was being put')
            assert.ok(bench.archive.pending.length <= uploadsMax)
          }
          bench.queue.onDurable(check)
          let pushed = 0
          for (let step = 0; step < 60; step++) {
            if (random.chance(0.5) && bench.push()) pushed++
            const put = bench.archive.pending[random.int(0, 4)]
            if (put) random.chance(0.3) ? put.fail(storageOut()) : put.succeed()
            if (random.chance(0.5)) await settle()
            if (random.chance(0.2)) await bench.pass(random.int(1, 11_000))
            check()
          }
          for (let turn = 0; bench.queue.length > 0; turn++) {
            assert.ok(turn < 200, 'the queue does not get empty')
            for (const put of bench.archive.pending) put.succeed()
            await bench.pass(11_000)
            check()
          }
          assert.equal(bench.queue.durableLsn, end(pushed))
          assert.deepEqual([bench.pool.free, bench.arena.used], [5, 0], 'everything that was lent came back')
        },
      ),
      { numRuns: 60 },
    )
  })

  test('nothing else is needed of a segment that is archived, nor beside a partial that nobody can replace', async () => {
    const outcomes = ['created', 'same', 'kept a longer one', 'replaced a shorter one', 'diverged, kept beside']
    for (const outcome of outcomes) {
      const kept: boolean[] = []
      const bench = new Bench({ onArchived: ({ isKept }) => kept.push(isKept) })
      bench.archive.partialOutcome = outcome
      bench.archive.isManual = false
      bench.push()
      bench.pushPartial(1_000)
      await bench.queue.drained()
      assert.deepEqual(kept, [true, outcome === 'created'], outcome)
    }
  })

  test('is not moved by a partial', async () => {
    const bench = new Bench()
    bench.pushPartial(1_000)
    await settle()
    await bench.succeed(0)
    assert.equal(bench.queue.durableLsn, start)
    assert.equal(bench.archive.files.get(`${nameOf(0)}.partial`)?.length, 1_000)
    assert.equal(bench.queue.length, 0)
    assert.equal(bench.pool.free, 8)
  })

  test('belongs to one run: another begins only when nothing is left of it, and continues it exactly', async () => {
    const bench = new Bench()
    bench.push()
    await settle()
    assert.throws(() => bench.queue.startRun(end(1)), /while 1 uploads are unfinished/)
    await bench.succeed(0)
    const buffer = bench.pool.take()
    assert.ok(buffer)
    assert.throws(
      () => bench.queue.pushSegment({ timeline: 1, startLsn: end(3), buffer, length: segmentSize }),
      /segment at 0\/20000 queued, the run ends at 0\/18000/,
    )
    bench.queue.startRun(end(3))
    assert.deepEqual([bench.queue.runStart, bench.queue.durableLsn], [end(3), end(3)])
  })
})

describe('uploading', () => {
  test('the first segment of a run is archived before any other is put', async () => {
    const bench = new Bench()
    for (let index = 0; index < 4; index++) bench.push()
    await settle()
    assert.deepEqual(bench.underWay, [nameOf(0)])
    bench.put(0).fail(storageOut())
    await settle()
    assert.deepEqual(bench.underWay, [], 'not even while it has to be tried again')
    await bench.pass(200)
    await bench.succeed(0)
    assert.deepEqual(bench.underWay, [1, 2, 3].map(nameOf))
  })

  test('goes on in parallel, up to the limit, the oldest first', async () => {
    const bench = new Bench({ uploadsMax: 2 })
    for (let index = 0; index < 6; index++) bench.push()
    await settle()
    await bench.succeed(0)
    assert.deepEqual(bench.underWay, [nameOf(1), nameOf(2)])
    await bench.succeed(2)
    assert.deepEqual(bench.underWay, [nameOf(1), nameOf(3)])
    await bench.succeed(3)
    await bench.succeed(4)
    assert.deepEqual(bench.underWay, [nameOf(1), nameOf(5)])
  })

  test('never runs further ahead of the oldest than the window in which holes are looked for', async () => {
    const uploadsMax = 2
    const bench = new Bench({ uploadsMax, buffers: 20 })
    for (let index = 0; index < 20; index++) bench.push()
    await settle()
    await bench.succeed(0)
    // Segment 1 hangs; whatever can overtake it does.
    for (let turn = 0; turn < 20; turn++) {
      for (const { name, succeed } of bench.archive.pending) if (name !== nameOf(1)) succeed()
      await settle()
    }
    const newest = bench.archive.segmentNames.at(-1)
    assert.equal(newest, nameOf(uploadWindow(uploadsMax)))
    await bench.succeed(1)
    assert.ok(bench.underWay.includes(nameOf(uploadWindow(uploadsMax) + 1)), 'and then it goes on')
  })

  test('what the store refuses is tried again for as long as it takes, with back-off', async () => {
    for (const code of ['WALRX_STORAGE_UNAVAILABLE', 'WALRX_STORAGE_DENIED', 'WALRX_STORAGE_MISSING'] as const) {
      const bench = new Bench()
      bench.push()
      await settle()
      bench.put(0).fail(new WalrxError(code, 'refused'))
      bench.archive.isManual = false
      bench.archive.putFailure = new WalrxError(code, 'refused')
      await bench.pass(600_000)
      assert.ok(bench.meter.failures > 60, `${bench.meter.failures} attempts in ten minutes`)
      assert.ok(bench.meter.failures < 200, `${bench.meter.failures} attempts in ten minutes`)
      assert.equal(bench.queue.durableLsn, start)
      bench.archive.putFailure = undefined
      await bench.pass(10_000)
      assert.equal(bench.queue.durableLsn, end(1))
    }
  })

  test('a segment that fails its checks is not put, and stops everything after it', async () => {
    const invalid = new WalrxError('WALRX_WAL_INVALID', 'bad page')
    const archive = new FakeArchive()
    const segments = uncheckedSegments(archive, segmentSize)
    const bench = new Bench({
      segments: {
        ...segments,
        encode: (segment) => (segment.startLsn === end(1) ? Promise.reject(invalid) : segments.encode(segment)),
      },
    })
    for (let index = 0; index < 3; index++) bench.push()
    await settle()
    assert.equal(bench.queue.failed.aborted, true)
    assert.equal(bench.queue.failed.reason, invalid)
    assert.equal(bench.queue.durableLsn, start)
    assert.ok(!archive.calls.includes(`archive ${nameOf(1)}`))
  })

  test('a contradiction ends the queue: what is under way is aborted, nothing else begins', async () => {
    const bench = new Bench()
    bench.archive.files.set(nameOf(2), Buffer.from('other'))
    for (let index = 0; index < 5; index++) bench.push()
    await settle()
    await bench.succeed(0)
    const drained = assert.rejects(bench.queue.drained(), { code: 'WALRX_ARCHIVE_CONFLICT' })
    await bench.succeed(2)
    await drained
    assert.equal((bench.queue.failed.reason as WalrxError).code, 'WALRX_ARCHIVE_CONFLICT')
    assert.deepEqual(bench.underWay, [])
    bench.push()
    await settle()
    assert.deepEqual(bench.underWay, [])
    assert.equal(bench.queue.durableLsn, end(1))
    await assert.rejects(bench.queue.drained(), { code: 'WALRX_ARCHIVE_CONFLICT' })
  })

  test('an error that is no WalrxError ends it too, as a defect', async () => {
    const bench = new Bench()
    bench.push()
    await settle()
    bench.put(0).fail(new TypeError('x is not a function'))
    await settle()
    assert.equal((bench.queue.failed.reason as WalrxError).code, 'WALRX_INTERNAL')
  })
})

describe('buffers', () => {
  test('come back at once where the compressed bytes have a place of their own', async () => {
    const bench = new Bench({ arenaBytes: segmentSize })
    bench.archive.encodedLength = (length) => length / 4
    for (let index = 0; index < 4; index++) bench.push()
    await settle()
    assert.equal(bench.pool.free, 8)
    assert.equal(bench.arena.used, segmentSize)
    bench.push()
    await settle()
    assert.equal(bench.pool.free, 7, 'the arena is full: this one keeps its buffer')
    for (let index = 0; index < 5; index++) await bench.succeed(index)
    assert.deepEqual([bench.pool.free, bench.arena.used], [8, 0])
  })

  test('are not given back by an upload that failed for good: its request may still read them', async () => {
    const bench = new Bench()
    bench.push()
    bench.push()
    await settle()
    bench.put(0).fail(new WalrxError('WALRX_ARCHIVE_CONFLICT', 'other bytes'))
    await settle()
    assert.equal(bench.pool.free, 6)
  })

  test('that a listener fills at once are another segment: nothing of the one before is lost', async () => {
    const bench = new Bench({ buffers: 1 })
    bench.pool.onFree(() => bench.push())
    bench.push()
    for (let index = 0; index < 5; index++) {
      await settle()
      bench.put(index).succeed()
    }
    await settle()
    assert.equal(bench.archive.aliased, undefined)
    for (let index = 0; index < 5; index++) {
      assert.ok(bench.archive.files.get(nameOf(index))?.equals(Buffer.alloc(segmentSize, 5 + index)), nameOf(index))
    }
  })
})

describe('draining', () => {
  test('is over when everything is durable, the listener having been called before', async () => {
    const bench = new Bench()
    await bench.queue.drained()
    bench.push()
    bench.push()
    const order: string[] = []
    bench.queue.onDurable(() => order.push('durable'))
    const drained = bench.queue.drained().then(() => order.push('drained'))
    await settle()
    await bench.succeed(0)
    assert.deepEqual(order, ['durable'])
    await bench.succeed(1)
    await drained
    assert.deepEqual(order, ['durable', 'durable', 'drained'])
  })

  test('destroy aborts what is under way and all that waits for it, harmlessly twice', async () => {
    const bench = new Bench()
    bench.push()
    bench.push()
    await settle()
    bench.put(0).fail(storageOut())
    await settle()
    const drained = assert.rejects(bench.queue.drained(), { code: 'WALRX_DRAIN_INCOMPLETE', message: /2 files/ })
    bench.queue.destroy()
    bench.queue.destroy()
    await drained
    await assert.rejects(bench.queue.drained(), { code: 'WALRX_DRAIN_INCOMPLETE' })
    await settle()
    assert.deepEqual(bench.underWay, [])
    await assert.rejects(
      bench.clock.run(
        () => false,
        () => false,
        0,
      ),
      /nothing will ever happen again/,
    )
  })
})
