/** WAL of wal_level=minimal is noticed where it can be, and recorded before it is stored. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { addBytes, type Lsn, toLsn } from '../../../src/postgres/lsn.ts'
import { WalLevelWatch } from '../../../src/receive/gap/wal-level-watch.ts'
import type { GapRange } from '../../../src/walg/wal/gap-records.ts'
import { MadeRecords, otherRecord, parameterChangeRecord } from '../../harness/made/made-records.ts'
import { madeSegmentSize } from '../../harness/made/made-wal.ts'
import { FakeSession, settle } from '../fakes.ts'

const start = toLsn(0x500000n)

/** A segment in which the server wrote down its level. */
function segment(walLevel: number) {
  const made = new MadeRecords('000000010000000000000005', 1)
  made.add(otherRecord(10))
  made.add(parameterChangeRecord(walLevel))
  return { lsn: toLsn(made.records[1]?.start ?? 0n), passing: { timeline: 1, startLsn: start, bytes: made.segment(0) } }
}

/** A watch whose records wait for the test. */
class Bench {
  readonly ranges: GapRange[] = []
  readonly stored = Promise.withResolvers<void>()
  readonly seen: Lsn[] = []
  readonly watch = new WalLevelWatch({
    recordBreak: (range) => {
      this.ranges.push(range)
      return this.stored.promise
    },
  })
  readonly observers = this.watch.observers(({ startLsn }) => this.seen.push(startLsn))

  connect(serverEnd: Lsn, inRecovery = false): void {
    const session = new FakeSession(serverEnd)
    session.inRecovery = inRecovery
    this.watch.connected({ session, serverEnd })
  }

  /** Whether a segment may be stored now. */
  async mayStore(): Promise<boolean> {
    let isSettled = false
    void this.observers.beforeStore?.()?.then(() => (isSettled = true))
    await settle()
    return isSettled
  }
}

describe('WAL of wal_level=minimal', () => {
  test('is recorded before its segment is stored', async () => {
    const bench = new Bench()
    bench.connect(toLsn(0x600000n))
    assert.equal(await bench.mayStore(), true)
    const { lsn, passing } = segment(0)
    bench.observers.onSegment?.(passing)
    await settle()
    assert.deepEqual(bench.ranges, [{ timeline: 1, startLsn: lsn, endLsn: addBytes(lsn, 1) }])
    assert.equal(await bench.mayStore(), false)
    bench.stored.resolve()
    assert.equal(await bench.mayStore(), true)
    assert.deepEqual(bench.seen, [start])
  })

  test('keeps its segment from being stored when it cannot be recorded', async () => {
    const bench = new Bench()
    bench.connect(toLsn(0x600000n))
    bench.observers.onSegment?.(segment(0).passing)
    bench.stored.reject(new Error('no'))
    await assert.rejects(bench.observers.beforeStore?.() ?? Promise.resolve(), /no/)
  })

  test('is looked for in what a primary had written before the connection, and in all that a standby sends', async () => {
    for (const [end, inRecovery, isFound] of [
      [start, false, false],
      [addBytes(start, 1), false, true],
      [start, true, true],
    ] as const) {
      const bench = new Bench()
      bench.connect(end, inRecovery)
      bench.observers.onSegment?.(segment(0).passing)
      await settle()
      assert.equal(bench.ranges.length, isFound ? 1 : 0)
    }
    // A primary whose end is before what was seen.
    const bench = new Bench()
    bench.connect(addBytes(start, madeSegmentSize))
    bench.connect(toLsn(0x400000n))
    bench.observers.onSegment?.(segment(0).passing)
    await settle()
    assert.equal(bench.ranges.length, 1)
  })

  test('is not WAL of replica or logical', async () => {
    const bench = new Bench()
    bench.connect(toLsn(0x600000n))
    for (const level of [1, 2]) bench.observers.onSegment?.(segment(level).passing)
    assert.equal(await bench.mayStore(), true)
    assert.deepEqual(bench.ranges, [])
  })
})
