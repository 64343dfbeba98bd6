import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Timeline } from '../../src/postgres/lsn.ts'
import { partialName } from '../../src/postgres/wal/wal-file.ts'
import { fork, segmentSize, timelineOne } from '../faults/recorded-wal.ts'
import { FakeSession, settle } from './fakes.ts'
import { at, nameOf } from './receiver-bench.ts'
import { never, RunBench, type Server, source, where } from './run-bench.ts'

describe('a run', () => {
  test('begins where slot and archive say, and learns what is there under other names first', async () => {
    const bench = new RunBench()
    assert.equal(await bench.begin({ slot: 2.3, end: 2.5 }), where(1, 2))
    assert.deepEqual(bench.archive.lookedAhead, [nameOf(2)])
    assert.deepEqual([bench.run.queue.runStart, bench.run.assembler.nextLsn], [at(2), at(2)])
  })

  test('goes on after a broken connection: what is held is kept, and compared with what comes again', async () => {
    const bench = new RunBench()
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
    const bench = new RunBench()
    await bench.begin({ slot: 0, end: 2 })
    await bench.feed(1.5)
    assert.equal(await bench.begin({ slot: 0, end: 3, timeline: 2, ends: [[1, 1.5]] }), where(1, 1))
    assert.equal(bench.run.assembler.heldEnd, at(1.5))
  })

  test('is settled when bytes are held that the server’s history does not have; they stay on their timeline', async () => {
    const bench = new RunBench()
    await bench.begin({ slot: 0, end: 2 })
    await bench.feed(2.5)
    assert.equal(await bench.begin({ slot: undefined, end: 3, timeline: 3, ends: [[1, 1.25]] }), where(3, 1))
    assert.deepEqual(bench.archive.segmentNames, [nameOf(0), nameOf(1)])
    assert.equal(bench.archive.files.get(partialName(nameOf(2)))?.length, segmentSize / 2)
    assert.ok(bench.meter.lines.includes(`past fork ${1.25 * segmentSize}`))
    assert.deepEqual([bench.run.queue.durableLsn, bench.run.assembler.holdsPartial], [at(1), false])
  })

  test('that was settled goes on with the next timeline, through several forks in one segment', async () => {
    const bench = new RunBench()
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
    const bench = new RunBench()
    await bench.begin({ slot: 0, end: 2 })
    await bench.feed(2)
    await bench.run.endTimeline(2, at(2), never)
    assert.equal(await bench.begin({ slot: 0, end: 3, timeline: 2, ends: [[1, 2]] }), where(2, 2))
    assert.deepEqual([...bench.archive.files.keys()], [nameOf(0), nameOf(1)])
  })

  test('is not over before everything of it is archived', async () => {
    const bench = new RunBench()
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
    const bench = new RunBench()
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

  async function received(): Promise<RunBench> {
    const bench = new RunBench()
    await bench.begin({ slot: 0, end: 3.5 })
    await bench.feed(3.5)
    bench.report()
    assert.equal(await bench.begin(history), where(1, 3), 'the same server: nothing to compare')
    return bench
  }

  test('before what its slot had confirmed is streamed again from one segment before, and compared', async () => {
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

  test('with WAL that ends before what it had sent is compared from there, slot or none', async () => {
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
    const bench = new RunBench()
    await bench.begin({ slot: 0.5, end: 3.5 })
    await bench.feed(2.5)
    assert.equal(await bench.begin({ slot: 0.5, end: 3.5 }), where(1, 2))
  })

  test('is no concern of a new timeline: a promoted standby makes its own slot', async () => {
    const bench = await received()
    assert.equal(await bench.begin({ slot: 0.1, end: 5, timeline: 2, ends: [[1, 4]] }), where(1, 3))
    assert.equal(bench.run.assembler.heldEnd, at(3.5), 'and what is held is still held')
  })

  test('with bytes that differ from those held is compared with the archive from its slot on', async () => {
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
    const bench = new RunBench()
    await bench.begin({ slot: 0, end: 2 })
    assert.equal(bench.run.newestTimeline, 1)
    await bench.feed(1.5)
    await bench.run.endTimeline(2, at(1.5), never)
    assert.equal(bench.run.newestTimeline, 2)
    assert.equal(await bench.begin({ slot: 1, end: 3, timeline: 2, ends: [[1, 1.5]] }), where(2, 1))
  })
})

describe('what a run refuses', () => {
  test('a server with another segment size', async () => {
    const bench = new RunBench()
    const other = { ...source({ slot: 0, end: 1 }), segmentSize: 2 * segmentSize }
    await assert.rejects(bench.run.begin(other, never), { code: 'WALRX_OTHER_CLUSTER', message: /1048576.*2097152/ })
  })

  test('segments of another cluster, position or server version', async () => {
    for (const [what, over] of [
      ['system identifier', { systemId: 1n }],
      ['page magic', { session: Object.assign(new FakeSession(at(1)), { serverVersion: 180_001 }) }],
    ] as const) {
      const bench = new RunBench({}, over)
      await bench.run.begin({ ...source({ slot: 0, end: 2 }), ...over }, never)
      await bench.feed(1)
      assert.equal((bench.run.queue.failed.reason as { code?: string }).code, 'WALRX_WAL_INVALID', what)
      assert.deepEqual(bench.archive.segmentNames, [])
    }
    const bench = new RunBench()
    await bench.begin({ slot: 0, end: 2 })
    bench.run.assembler.write(at(0), timelineOne.bytes.subarray(segmentSize, 2 * segmentSize))
    await settle()
    assert.match(String(bench.run.queue.failed.reason), /holds the page at 0\/600000 instead of 0\/500000/)
  })

  test('less memory than two segments', () => {
    assert.throws(() => new RunBench({ memoryBytes: 2 * segmentSize - 1 }), { code: 'WALRX_USAGE' })
  })
})

describe('memory', () => {
  test('of exactly two segments of a gigabyte is two buffers, made when they are needed', () => {
    const size = 1024 * 1024 * 1024
    const { run } = new RunBench({ memoryBytes: 2 * size }, { segmentSize: size })
    assert.deepEqual([run.pool.capacity, run.pool.free], [2, 2])
  })

  test('is enough again when half of the buffers are free', async () => {
    const bench = new RunBench({ memoryBytes: 4 * segmentSize })
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
