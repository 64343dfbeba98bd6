import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { silentLog } from '../../src/observe/log.ts'
import { addBytes, formatLsn, type Lsn, type Timeline } from '../../src/postgres/lsn.ts'
import { TimelineChain } from '../../src/postgres/timeline-chain.ts'
import { partialName, segmentNameAt } from '../../src/postgres/wal-file.ts'
import type { PreparedSource } from '../../src/receive/prepared-source.ts'
import { ReceiveRun, type ReceiveRunOptions } from '../../src/receive/receive-run.ts'
import { firstLsn, fork, segmentSize, systemId, timelineOne, type TimelineWal } from '../faults/recorded-wal.ts'
import { VirtualClock } from '../harness/virtual-clock.ts'
import { FakeArchive, FakeSession, RecordingMeter, settle, storageOut } from './fakes.ts'

const never = new AbortController().signal

/** A position in segments behind the first recorded one: 1.5 is the middle of the second. */
function at(segments: number): Lsn {
  return addBytes(firstLsn, Math.round(segments * segmentSize))
}

const show = ({ timeline, startLsn }: { timeline: Timeline; startLsn: Lsn }): string =>
  `${timeline} ${formatLsn(startLsn)}`
const where = (timeline: Timeline, segments: number): string => show({ timeline, startLsn: at(segments) })

/** Name of the segment that is `index` behind the first recorded one. */
function nameOf(index: number, timeline: Timeline = 1): string {
  return segmentNameAt(timeline, at(index), segmentSize)
}

interface Server {
  readonly slot: number | undefined
  readonly end: number
  readonly timeline?: Timeline
  readonly ends?: readonly [Timeline, number][]
}

function source({ slot, end, timeline = 1, ends = [] }: Server): PreparedSource {
  const entries = ends.map(([ended, switchpoint]) => ({ timeline: ended, switchpoint: at(switchpoint) }))
  return {
    session: new FakeSession(at(end)),
    systemId,
    segmentSize,
    walSenderTimeoutMs: 60_000,
    chain: new TimelineChain(timeline, entries),
    serverEnd: at(end),
    slotRestart: slot === undefined ? undefined : at(slot),
    slotState: slot === undefined ? 'none' : 'found',
  }
}

class Bench {
  readonly archive = new FakeArchive()
  readonly meter = new RecordingMeter()
  readonly clock = new VirtualClock()
  readonly run: ReceiveRun

  constructor(over: Partial<ReceiveRunOptions> = {}, over2: Partial<PreparedSource> = {}) {
    const options: ReceiveRunOptions = {
      archive: this.archive,
      clock: this.clock,
      random: () => 0,
      log: silentLog,
      meter: this.meter,
      slot: 'walrx',
      memoryBytes: 10 * segmentSize,
      uploadConcurrency: 2,
      tailPace: { intervalMs: 0, bytesMax: 64 * 1024, isSynchronous: false },
      ...over,
    }
    this.run = new ReceiveRun(options, { ...source({ slot: 0, end: 1 }), ...over2 })
  }

  async begin(server: Server): Promise<string> {
    return show(await this.run.begin(source(server), never))
  }

  /** The stream brings WAL of a timeline from the run's position up to `end`. */
  async feed(end: number, wal: TimelineWal = timelineOne): Promise<void> {
    const from = this.run.assembler.nextLsn
    const bytes = wal.bytes.subarray(Number(from - firstLsn), Number(at(end) - firstLsn))
    assert.equal(this.run.assembler.write(from, bytes), bytes.length)
    await settle()
  }

  async pass(ms: number): Promise<void> {
    let isOver = false
    this.clock.setTimer(ms, () => (isOver = true))
    await this.clock.run(
      () => isOver,
      () => false,
      ms + 1,
    )
    await settle()
  }

  /** What a session does when a segment has become durable. */
  report(): void {
    this.run.noteReported(this.run.queue.durableLsn)
  }
}

describe('a run', () => {
  test('begins where slot and archive say, and learns what is there under other names first', async () => {
    const bench = new Bench()
    assert.equal(await bench.begin({ slot: 2.3, end: 2.5 }), where(1, 2))
    assert.deepEqual(bench.archive.lookedAhead, [nameOf(2)])
    assert.deepEqual([bench.run.queue.runStart, bench.run.assembler.nextLsn], [at(2), at(2)])
  })

  test('goes on after a broken connection: what is held is kept, and compared with what comes again', async () => {
    const bench = new Bench()
    await bench.begin({ slot: 0, end: 2 })
    await bench.feed(1.5)
    bench.report()
    assert.equal(await bench.begin({ slot: 1, end: 2 }), where(1, 1))
    assert.equal(bench.run.assembler.heldEnd, at(1.5))
    await bench.feed(2.1)
    assert.deepEqual(bench.archive.segmentNames, [nameOf(0), nameOf(1)])
    assert.equal(bench.run.queue.durableLsn, at(2))
    assert.ok(!bench.archive.files.has(partialName(nameOf(1))))
  })

  test('goes on where the server’s history holds all that is held, up to the very byte of the fork', async () => {
    const bench = new Bench()
    await bench.begin({ slot: 0, end: 2 })
    await bench.feed(1.5)
    assert.equal(await bench.begin({ slot: 0, end: 3, timeline: 2, ends: [[1, 1.5]] }), where(1, 1))
    assert.equal(bench.run.assembler.heldEnd, at(1.5))
  })

  test('is settled when bytes are held that the server’s history does not have; they stay on their timeline', async () => {
    const bench = new Bench()
    await bench.begin({ slot: 0, end: 2 })
    await bench.feed(2.5)
    assert.equal(await bench.begin({ slot: undefined, end: 3, timeline: 3, ends: [[1, 1.25]] }), where(3, 1))
    assert.deepEqual(bench.archive.segmentNames, [nameOf(0), nameOf(1)])
    assert.equal(bench.archive.files.get(partialName(nameOf(2)))?.length, segmentSize / 2)
    assert.ok(bench.meter.lines.includes(`past fork ${1.25 * segmentSize}`))
    assert.deepEqual([bench.run.queue.durableLsn, bench.run.assembler.holdsPartial], [at(1), false])
  })

  test('that was settled goes on with the next timeline, through several forks in one segment', async () => {
    const bench = new Bench()
    const ends: [Timeline, number][] = [
      [1, 1.2],
      [2, 1.4],
      [4, 1.6],
    ]
    const server = { slot: 0, end: 3, timeline: 5, ends }
    await bench.begin({ slot: 0, end: 1.2 })
    await bench.feed(1.2)
    let wal = timelineOne
    for (const [index, [timeline, end]] of ends.entries()) {
      const next = ends[index + 1]?.[0] ?? 5
      await bench.run.endTimeline(next, at(end), never)
      assert.ok(bench.archive.files.has(partialName(nameOf(1, timeline))))
      assert.equal(await bench.begin(server), where(next, 1))
      wal = fork(wal, next, at(end))
      await bench.feed(ends[index + 1]?.[1] ?? 2, wal)
    }
    assert.deepEqual(bench.archive.segmentNames, [nameOf(0), nameOf(1, 5)])
    assert.equal(bench.run.queue.durableLsn, at(2))
    assert.deepEqual(
      bench.meter.lines.filter((entry) => entry.startsWith('past')),
      [],
    )
  })

  test('ends at a boundary without a partial, and the next timeline begins right there', async () => {
    const bench = new Bench()
    await bench.begin({ slot: 0, end: 2 })
    await bench.feed(2)
    await bench.run.endTimeline(2, at(2), never)
    assert.equal(await bench.begin({ slot: 0, end: 3, timeline: 2, ends: [[1, 2]] }), where(2, 2))
    assert.deepEqual([...bench.archive.files.keys()], [nameOf(0), nameOf(1)])
  })

  test('is not over before everything of it is archived', async () => {
    const bench = new Bench()
    await bench.begin({ slot: 0, end: 2 })
    bench.archive.isManual = true
    await bench.feed(1.5)
    let isOver = false
    const ended = bench.run.endTimeline(2, at(1.5), never).then(() => (isOver = true))
    await settle()
    assert.ok(!isOver)
    bench.archive.pending[0]?.succeed()
    await settle()
    assert.ok(!isOver, 'the partial is missing')
    bench.archive.pending[0]?.succeed()
    await ended
    assert.equal(bench.run.queue.length, 0)
  })

  test('that is being settled ends the wait when the receiver is stopped; the uploads go on', async () => {
    const bench = new Bench()
    await bench.begin({ slot: 0, end: 2 })
    bench.archive.isManual = true
    await bench.feed(1.5)
    const stop = new AbortController()
    const ended = assert.rejects(bench.run.endTimeline(2, at(1.5), stop.signal), { message: 'stop' })
    stop.abort(new Error('stop'))
    await ended
    assert.equal(bench.run.queue.length, 2, 'the partial is queued as well')
  })
})

describe('a server that has gone back', () => {
  const history: Server = { slot: 3, end: 3.6 }

  async function received(): Promise<Bench> {
    const bench = new Bench()
    await bench.begin({ slot: 0, end: 3.5 })
    await bench.feed(3.5)
    bench.report()
    assert.equal(await bench.begin(history), where(1, 3), 'the same server: nothing to compare')
    return bench
  }

  test('behind what its slot had confirmed is streamed again from one segment before, and compared', async () => {
    const bench = await received()
    assert.equal(await bench.begin({ slot: 1.2, end: 3.6 }), where(1, 2))
    assert.equal(bench.archive.files.get(partialName(nameOf(3)))?.length, segmentSize / 2, 'what was held is kept')
    await bench.feed(3.6)
    assert.equal(bench.run.queue.durableLsn, at(3))
    assert.equal(bench.run.queue.failed.aborted, false, 'the same bytes: carry on')
  })

  test('and goes on with another history under the same timeline is found out', async () => {
    const bench = await received()
    await bench.begin({ slot: 1.2, end: 3.6 })
    await bench.feed(3.6, fork(timelineOne, 1, at(1.4)))
    assert.equal((bench.run.queue.failed.reason as { code?: string }).code, 'WALRX_ARCHIVE_CONFLICT')
    assert.equal(bench.run.queue.durableLsn, at(2), 'nothing of it is acknowledged')
  })

  test('and whose WAL ends before what it had sent is compared from there, slot or none', async () => {
    for (const slot of [undefined, 1]) {
      const bench = await received()
      assert.equal(await bench.begin({ slot, end: 2.5 }), where(1, 1))
      await bench.feed(2.4)
      assert.equal(bench.run.queue.durableLsn, at(2))
    }
  })

  test('is not taken further back by every connection that breaks before anything is confirmed', async () => {
    const bench = await received()
    for (let turn = 0; turn < 3; turn++) assert.equal(await bench.begin({ slot: 0.2, end: 3.6 }), where(1, 2))
  })

  test('is not suspected while nothing was reported to it', async () => {
    const bench = new Bench()
    await bench.begin({ slot: 0.5, end: 3.5 })
    await bench.feed(2.5)
    assert.equal(await bench.begin({ slot: 0.5, end: 3.5 }), where(1, 2))
  })

  test('is no concern of a new timeline: a promoted standby makes its own slot', async () => {
    const bench = await received()
    assert.equal(await bench.begin({ slot: 0.1, end: 5, timeline: 2, ends: [[1, 4]] }), where(1, 3))
    assert.equal(bench.run.assembler.heldEnd, at(3.5), 'and what is held is still held')
  })

  test('whose bytes differ from those held is compared with the archive from its slot on', async () => {
    const bench = await received()
    const from = bench.run.assembler.nextLsn
    assert.throws(() => bench.run.assembler.write(from, Buffer.alloc(8192, 1)), { code: 'WALRX_WAL_DIVERGED' })
    await bench.run.restart(never)
    assert.equal(bench.archive.files.get(partialName(nameOf(3)))?.length, segmentSize / 2)
    assert.equal(await bench.begin({ slot: 1.2, end: 3.6 }), where(1, 1))
  })
})

describe('the newest timeline', () => {
  test('is remembered from the servers that were seen, and from timelines that ended', async () => {
    const bench = new Bench()
    await bench.begin({ slot: 0, end: 2 })
    assert.equal(bench.run.newestTimeline, 1)
    await bench.feed(1.5)
    await bench.run.endTimeline(2, at(1.5), never)
    assert.equal(bench.run.newestTimeline, 2)
    assert.equal(await bench.begin({ slot: 1, end: 3, timeline: 2, ends: [[1, 1.5]] }), where(2, 1))
  })
})

describe('WAL that the server no longer has', () => {
  /** The slot was made anew at 3, the archive ends at 1: there is something to try, and somewhere to go on. */
  async function behindSlot(): Promise<Bench> {
    const bench = new Bench()
    bench.archive.files.set(nameOf(0), timelineOne.bytes.subarray(0, segmentSize))
    assert.equal(await bench.begin({ slot: 3.5, end: 3.6 }), where(1, 1))
    return bench
  }

  test('is a gap, reported with both ends; the next run begins behind it', async () => {
    const bench = await behindSlot()
    assert.ok(bench.run.hasFallback)
    assert.equal(await bench.run.skipRemoved(never), true)
    assert.deepEqual(bench.meter.lines, ['gap 0/600000 0/800000'])
    assert.equal(await bench.begin({ slot: 3.5, end: 3.6 }), where(1, 3))
    assert.equal(bench.run.queue.durableLsn, at(3))
    assert.equal(bench.run.hasFallback, false)
  })

  test('is recorded before anything goes on behind it, with what the archive already holds left out', async () => {
    const bench = await behindSlot()
    await bench.feed(1.25)
    bench.archive.outage = storageOut()
    const skipped = bench.run.skipRemoved(never)
    await bench.pass(30_000)
    assert.deepEqual([bench.meter.lines.filter((line) => line.startsWith('gap')), bench.archive.gaps], [[], []])
    bench.archive.outage = undefined
    await bench.pass(20_000)
    assert.equal(await skipped, true)
    const [gap] = bench.archive.gaps
    assert.deepEqual(
      { ...gap, detectedAt: undefined },
      {
        timeline: 1,
        startLsn: at(1.25),
        endLsn: at(3),
        detectedAt: undefined,
        reason: 'the server removed it although the slot was there',
        host: 'fake:5432',
        slot: 'walrx',
      },
    )
    assert.match(gap?.detectedAt ?? '', /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
  })

  test('is recorded on every timeline that it lies on', async () => {
    const bench = new Bench()
    bench.archive.files.set(nameOf(0), timelineOne.bytes.subarray(0, segmentSize))
    const server: Server = {
      slot: 5.5,
      end: 6,
      timeline: 4,
      ends: [
        [1, 2.5],
        [2, 2.75],
        [3, 4],
      ],
    }
    assert.equal(await bench.begin(server), where(1, 1))
    assert.equal(await bench.run.skipRemoved(never), true)
    assert.deepEqual(
      bench.archive.gaps.map(({ endLsn, startLsn, timeline }) => [timeline, startLsn, endLsn]),
      [
        [1, at(1), at(2.5)],
        // Nothing of timeline 2 is lost that timeline 3 has no copy of.
        [3, at(2.75), at(4)],
        [4, at(4), at(5)],
      ],
    )
    assert.equal(await bench.begin(server), where(4, 5))
  })

  test('is reported once, even if the store fails before the next run has begun', async () => {
    const bench = await behindSlot()
    await bench.run.skipRemoved(never)
    bench.archive.outage = storageOut()
    await assert.rejects(bench.begin({ slot: 3.5, end: 3.6 }), bench.archive.outage)
    bench.archive.outage = undefined
    assert.equal(await bench.begin({ slot: 3.5, end: 3.6 }), where(1, 3))
    assert.equal(bench.meter.lines.length, 1)
  })

  test('much later is no gap that leads back to where the run once could have begun', async () => {
    const bench = await behindSlot()
    await bench.feed(5.5)
    await bench.begin({ slot: 3.5, end: 6 })
    assert.equal(bench.run.hasFallback, false)
    assert.equal(await bench.run.skipRemoved(never), false)
    assert.deepEqual(
      bench.meter.lines.filter((entry) => entry.startsWith('gap')),
      [],
    )
    assert.equal(await bench.begin({ slot: 6, end: 6.5 }), where(1, 5), 'planned anew, from the archive')
  })

  test('with nowhere to go on is planned anew', async () => {
    const bench = new Bench()
    await bench.begin({ slot: 1, end: 3 })
    assert.equal(await bench.run.skipRemoved(never), false)
    assert.equal(await bench.begin({ slot: 2, end: 3 }), where(1, 2))
  })
})

describe('what a run refuses', () => {
  test('a server with another segment size', async () => {
    const bench = new Bench()
    const other = { ...source({ slot: 0, end: 1 }), segmentSize: 2 * segmentSize }
    await assert.rejects(bench.run.begin(other, never), { code: 'WALRX_OTHER_CLUSTER', message: /1048576.*2097152/ })
  })

  test('segments of another cluster, position or server version', async () => {
    for (const [what, over] of [
      ['system identifier', { systemId: 1n }],
      ['page magic', { session: Object.assign(new FakeSession(at(1)), { serverVersion: 180_001 }) }],
    ] as const) {
      const bench = new Bench({}, over)
      await bench.run.begin({ ...source({ slot: 0, end: 2 }), ...over }, never)
      await bench.feed(1)
      assert.equal((bench.run.queue.failed.reason as { code?: string }).code, 'WALRX_WAL_INVALID', what)
      assert.deepEqual(bench.archive.segmentNames, [])
    }
    const bench = new Bench()
    await bench.begin({ slot: 0, end: 2 })
    bench.run.assembler.write(at(0), timelineOne.bytes.subarray(segmentSize, 2 * segmentSize))
    await settle()
    assert.match(String(bench.run.queue.failed.reason), /holds the page at 0\/600000 instead of 0\/500000/)
  })

  test('less memory than two segments', () => {
    assert.throws(() => new Bench({ memoryBytes: 2 * segmentSize - 1 }), { code: 'WALRX_USAGE' })
  })
})

describe('memory', () => {
  test('of exactly two segments of a gigabyte is two buffers, made when they are needed', () => {
    const size = 1024 * 1024 * 1024
    const { run } = new Bench({ memoryBytes: 2 * size }, { segmentSize: size })
    assert.deepEqual([run.pool.capacity, run.pool.free], [2, 2])
  })

  test('is enough again when half of the buffers are free', async () => {
    const bench = new Bench({ memoryBytes: 4 * segmentSize })
    await bench.begin({ slot: 0, end: 4 })
    bench.archive.isManual = true
    assert.equal(bench.run.pool.capacity, 3)
    await bench.feed(3)
    let isEnough = false
    const waiting = bench.run.halfFree().then(() => (isEnough = true))
    bench.archive.pending[0]?.succeed()
    await settle()
    assert.deepEqual([isEnough, bench.run.pool.free], [false, 1])
    bench.archive.pending[0]?.succeed()
    await waiting
    assert.equal(bench.run.pool.free, 2)
  })
})
