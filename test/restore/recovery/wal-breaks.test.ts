/** WAL of wal_level=minimal in a tail, which no receiver has looked at yet. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addBytes, toLsn } from '../../../src/postgres/lsn.ts'
import { TimelineChain } from '../../../src/postgres/wal/timeline-chain.ts'
import type { ReachableWal } from '../../../src/restore/recovery/recovery-wal.ts'
import { firstBreak, walUpTo } from '../../../src/restore/recovery/wal-breaks.ts'
import { MadeRecords, otherRecord, parameterChangeRecord } from '../../harness/made/made-records.ts'
import { madeSegmentSize } from '../../harness/made/made-wal.ts'

const segment = '000000010000000000000005'
const chain = new TimelineChain(1, [])

/** An archive of segment 4 and a tail of segment 5, in which a server says its level. */
function wal(walLevel: number): { readonly found: ReachableWal; readonly lsn: bigint } {
  const made = new MadeRecords(segment, 1)
  for (const record of [otherRecord(100), parameterChangeRecord(walLevel), otherRecord(100)]) made.add(record)
  const bytes = made.segment(0).subarray(0, 8192)
  const runs = [{ timeline: 1, first: 4n, last: 4n }]
  const end = addBytes(toLsn(0x500000n), bytes.length)
  const tail = { segment, segmentSize: madeSegmentSize, bytes, lastModifiedMs: 0 }
  const found: ReachableWal = { segmentSize: madeSegmentSize, runs, end, missing: segment, isGap: false, tail }
  return { found, lsn: made.records[1]?.start ?? 0n }
}

test('a tail is looked at for wal_level=minimal', () => {
  const { found, lsn } = wal(0)
  const broken = firstBreak(found, chain, toLsn(0x400000n), [])
  assert.ok(broken)
  assert.deepEqual([broken.startLsn, broken.timeline], [lsn, 1])
  assert.deepEqual(walUpTo(found, broken), { ...found, end: lsn, isGap: true })
  assert.equal(firstBreak(found, chain, addBytes(toLsn(lsn), 1), []), undefined, 'for a later backup')
  assert.equal(firstBreak(wal(1).found, chain, toLsn(0x400000n), []), undefined)
})
