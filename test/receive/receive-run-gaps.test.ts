import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { segmentSize, timelineOne } from '../faults/recorded-wal.ts'
import { type FakeSession, storageOut } from './fakes.ts'
import { at, nameOf } from './receiver-bench.ts'
import { never, RunBench, type Server, show, source, where } from './run-bench.ts'

describe('WAL that the server no longer has', () => {
  /** The slot was created again at 3, the archive ends at 1: there is something to try, and somewhere to go on. */
  async function behindSlot(): Promise<RunBench> {
    const bench = new RunBench()
    bench.archive.files.set(nameOf(0), timelineOne.bytes.subarray(0, segmentSize))
    assert.equal(await bench.begin({ slot: 3.5, end: 3.6 }), where(1, 1))
    return bench
  }

  test('is a gap, reported with both ends; the next run begins after it', async () => {
    const bench = await behindSlot()
    assert.ok(bench.run.hasFallback)
    assert.equal(await bench.run.skipRemoved(never), true)
    assert.equal(await bench.begin({ slot: 3.5, end: 3.6 }), where(1, 3))
    assert.deepEqual(bench.meter.lines, ['gap 0/600000 0/800000'])
    assert.equal(bench.run.queue.durableLsn, at(3))
    assert.equal(bench.run.hasFallback, false)
  })

  test('is recorded before anything goes on after it, with what the archive already holds left out', async () => {
    const bench = await behindSlot()
    await bench.feed(1.25)
    assert.equal(await bench.run.skipRemoved(never), true)
    bench.archive.gapOutage = storageOut()
    const begun = bench.begin({ slot: 3.5, end: 3.6 })
    await bench.pass(30_000)
    assert.deepEqual([bench.meter.lines.filter((line) => line.startsWith('gap')), bench.archive.gaps], [[], []])
    bench.archive.gapOutage = undefined
    await bench.pass(20_000)
    assert.equal(await begun, where(1, 3))
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
    const bench = new RunBench()
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
    assert.equal(await bench.begin(server), where(4, 5))
    assert.deepEqual(
      bench.archive.gaps.map(({ endLsn, startLsn, timeline }) => [timeline, startLsn, endLsn]),
      [
        [1, at(1), at(2.5)],
        // Nothing of timeline 2 is lost that timeline 3 has no copy of.
        [3, at(2.75), at(4)],
        [4, at(4), at(5)],
      ],
    )
  })

  test('is reported once, even if the store fails before the next run has begun', async () => {
    const bench = await behindSlot()
    await bench.run.skipRemoved(never)
    const server: Server = { slot: 3.5, end: 3.6, oldest: 2 }
    const { lookAhead } = bench.archive
    bench.archive.lookAhead = () => Promise.reject(storageOut())
    await assert.rejects(bench.begin(server), storageOut())
    bench.archive.lookAhead = lookAhead
    assert.equal(bench.meter.lines.length, 1)
    assert.equal(await bench.begin(server), where(1, 2))
    assert.equal(bench.meter.lines.length, 1)
    assert.equal(await bench.run.skipRemoved(never), true, 'what was found may be removed before it is streamed')
    assert.equal(await bench.begin({ ...server, oldest: 3 }), where(1, 3))
    assert.deepEqual(bench.meter.lines, ['gap 0/600000 0/700000', 'gap 0/700000 0/800000'])
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
    assert.equal(await bench.begin({ slot: 6, end: 6.5 }), where(1, 5), 'planned again, from the archive')
  })

  test('with nowhere to go on is planned again', async () => {
    const bench = new RunBench()
    await bench.begin({ slot: 1, end: 3 })
    assert.equal(await bench.run.skipRemoved(never), false)
    assert.equal(await bench.begin({ slot: 2, end: 3 }), where(1, 2))
  })

  test('is no more than what is gone: what the server still has is received', async () => {
    for (const [oldest, requests] of [
      [2, 3],
      [3, 2],
      [4, 3],
      [5, 2],
    ] as const) {
      const bench = new RunBench()
      bench.archive.files.set(nameOf(0), timelineOne.bytes.subarray(0, segmentSize))
      const server: Server = { slot: 5.5, end: 5.6, oldest }
      assert.equal(await bench.begin(server), where(1, 1))
      assert.equal(await bench.run.skipRemoved(never), true)
      const next = source(server)
      assert.equal(show(await bench.run.begin(next, never)), where(1, oldest))
      assert.deepEqual(
        bench.archive.gaps.map(({ endLsn, startLsn }) => [startLsn, endLsn]),
        [[at(1), at(oldest)]],
      )
      const asked = (next.session as FakeSession).calls.filter((call) => call.startsWith('has'))
      assert.ok(asked.length <= requests, asked.join())
    }
  })

  test('is no gap where the server has it after all', async () => {
    const bench = await behindSlot()
    assert.equal(await bench.run.skipRemoved(never), true)
    assert.equal(await bench.begin({ slot: 3.5, end: 3.6, oldest: 0 }), where(1, 1))
    assert.deepEqual(bench.archive.gaps, [])
  })

  test('reaches as far as the removal, beyond the place at which the run was to go on', async () => {
    const bench = await behindSlot()
    assert.equal(await bench.run.skipRemoved(never), true)
    assert.equal(await bench.begin({ slot: 3.5, end: 6.5, oldest: 5 }), where(1, 5))
    assert.deepEqual(bench.meter.lines, ['gap 0/600000 0/A00000'])
  })

  test('is asked for on the timeline of each place', async () => {
    const bench = new RunBench()
    bench.archive.files.set(nameOf(0), timelineOne.bytes.subarray(0, segmentSize))
    const server: Server = { slot: 5.5, end: 6, oldest: 2, timeline: 2, ends: [[1, 3.5]] }
    assert.equal(await bench.begin(server), where(1, 1))
    assert.equal(await bench.run.skipRemoved(never), true)
    assert.equal(await bench.begin(server), where(1, 2))
    assert.equal(await bench.run.skipRemoved(never), true)
    assert.equal(await bench.begin({ ...server, oldest: 5 }), where(2, 5))
    assert.deepEqual(
      bench.archive.gaps.map(({ endLsn, startLsn, timeline }) => [timeline, startLsn, endLsn]),
      [
        [1, at(1), at(2)],
        [1, at(2), at(3.5)],
        [2, at(3.5), at(5)],
      ],
    )
  })

  test('is a gap although another receiver has gone on after it', async () => {
    const bench = new RunBench()
    await bench.begin({ slot: 0, end: 2 })
    await bench.feed(1.5)
    for (const segment of [4, 5]) {
      bench.archive.files.set(nameOf(segment), timelineOne.bytes.subarray(0, segmentSize))
    }
    assert.equal(await bench.run.skipRemoved(never), false)
    assert.equal(await bench.begin({ slot: 6, end: 6.5 }), where(1, 1), 'the server is asked for it first')
    assert.equal(await bench.run.skipRemoved(never), true)
    assert.equal(await bench.begin({ slot: 6, end: 6.5 }), where(1, 6))
    assert.deepEqual(
      bench.meter.lines.filter((entry) => entry.startsWith('gap')),
      ['gap 0/600000 0/900000'],
      'what the other one has is none',
    )
  })

  test('is none where another receiver has it all', async () => {
    const bench = new RunBench()
    await bench.begin({ slot: 0, end: 2 })
    await bench.feed(1.5)
    for (const segment of [1, 2, 3, 4, 5]) {
      bench.archive.files.set(nameOf(segment), timelineOne.bytes.subarray(0, segmentSize))
    }
    assert.equal(await bench.run.skipRemoved(never), false)
    assert.equal(await bench.begin({ slot: 6, end: 6.5 }), where(1, 6))
    assert.deepEqual(
      bench.meter.lines.filter((entry) => entry.startsWith('gap')),
      [],
    )
  })
})
