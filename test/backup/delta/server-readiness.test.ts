import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { reasonOfHistory } from '../../../src/backup/delta/server-readiness.ts'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import { TimelineChain } from '../../../src/postgres/wal/timeline-chain.ts'
import { firstUncovered, stretchesBetween, type WalSummary } from '../../../src/postgres/wal/wal-summaries.ts'

const chain = new TimelineChain(5, [
  { timeline: 1, switchpoint: parseLsn('0/3000000') },
  { timeline: 3, switchpoint: parseLsn('0/5000000') },
])
const stretch = (timeline: number, start: string, end: string): WalSummary => {
  return { timeline, startLsn: parseLsn(start), endLsn: parseLsn(end) }
}

describe("a server's history", () => {
  const parent = (timeline: number, finish: string) => {
    return { name: 'p', timeline, startLsn: parseLsn('0/2000028'), finishLsn: parseLsn(finish) }
  }
  const judge = (timeline: number, finish: string) => {
    return reasonOfHistory(chain, parseLsn('0/9000000'), parent(timeline, finish))
  }

  test('goes on from a backup of this timeline, or of an ancestor before the fork', () => {
    for (const [timeline, finish] of [
      [5, '0/9000000'],
      [3, '0/5000000'],
      [1, '0/3000000'],
    ] as const) {
      assert.equal(judge(timeline, finish), undefined)
    }
  })

  test('has left one that ends after the fork, wherever the server is now', () => {
    assert.match(judge(1, '0/3000001')?.message ?? '', /left timeline 1 at 0\/3000000/)
    assert.match(judge(3, '0/5000100')?.message ?? '', /left timeline 3 at 0\/5000000/)
    assert.match(judge(5, '0/9000001')?.message ?? '', /the server is at 0\/9000000/)
    assert.match(judge(2, '0/2000100')?.message ?? '', /timeline 2, which is not in the history of the server's, 5/)
  })
})

describe('summaries', () => {
  const from = { timeline: 1, startLsn: parseLsn('0/2000028') }

  test('are needed of every timeline on the way', () => {
    assert.deepEqual(stretchesBetween(chain, from, parseLsn('0/7000000')), [
      stretch(1, '0/2000028', '0/3000000'),
      stretch(3, '0/3000000', '0/5000000'),
      stretch(5, '0/5000000', '0/7000000'),
    ])
    assert.deepEqual(stretchesBetween(chain, from, parseLsn('0/2800000')), [stretch(1, '0/2000028', '0/2800000')])
    assert.deepEqual(stretchesBetween(chain, from, parseLsn('0/1000000')), [])
  })

  test('cover a stretch in any order, overlapping or not', () => {
    const have = [stretch(1, '0/2800000', '0/3000000'), stretch(3, '0/0', 'F/0'), stretch(1, '0/1000000', '0/2900000')]
    assert.equal(firstUncovered(have, [stretch(1, '0/2000028', '0/3000000')]), undefined)
  })

  test('that leave a hole, begin late or end early, are reported with the first position', () => {
    const needed = [stretch(1, '0/2000028', '0/3000000'), stretch(3, '0/3000000', '0/4000000')]
    const first = (have: readonly WalSummary[]) => firstUncovered(have, needed)
    assert.deepEqual(first([]), { timeline: 1, startLsn: parseLsn('0/2000028') })
    assert.deepEqual(first([stretch(1, '0/2000029', '0/3000000')]), { timeline: 1, startLsn: parseLsn('0/2000028') })
    const holed = [stretch(1, '0/1000000', '0/2100000'), stretch(1, '0/2200000', '0/3000000')]
    assert.deepEqual(first(holed), { timeline: 1, startLsn: parseLsn('0/2100000') })
    // Of another timeline it is no use.
    const other = [stretch(1, '0/1000000', '0/4000000')]
    assert.deepEqual(first(other), { timeline: 3, startLsn: parseLsn('0/3000000') })
  })
})
