import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { WalRuns } from '../../../src/copy/scope/wal-runs.ts'
import { Random } from '../../harness/random.ts'
import { segment } from '../made-archive.ts'
import { madeSegmentSize } from '../../harness/made/made-wal.ts'

describe('the runs of segments', () => {
  test('are those of a set of numbers, in whatever order they come', (t) => {
    const seed = 11
    t.diagnostic(`seed ${seed}`)
    const random = new Random(seed)
    for (let n = 0; n < 200; n++) {
      const runs = new WalRuns(madeSegmentSize)
      const all = new Set<number>()
      for (let count = random.int(1, 30); count > 0; count--) {
        const segno = random.int(0, 30)
        all.add(segno)
        runs.add(segment(segno))
      }
      const last = Math.max(...all)
      const lacking = new Set<number>()
      for (const hole of runs.holesOf(1)) for (let at = hole.first; at <= hole.last; at++) lacking.add(Number(at))
      assert.equal(runs.lastOf(1), BigInt(last))
      for (let segno = 0; segno <= 31; segno++) {
        assert.equal(runs.has(segment(segno)), all.has(segno), String(segno))
        assert.equal(lacking.has(segno), !all.has(segno) && segno > Math.min(...all) && segno < last, String(segno))
      }
    }
  })

  test('have holes only where they count', () => {
    const runs = new WalRuns(madeSegmentSize)
    for (const segno of [1, 5, 9]) runs.add(segment(segno))
    const within = [
      { first: 0n, last: 3n },
      { first: 8n, last: undefined },
    ]
    assert.deepEqual(runs.holesOf(1, within), [
      { first: 2n, last: 3n },
      { first: 8n, last: 8n },
    ])
    assert.deepEqual(runs.holesOf(2), [])
  })
})
