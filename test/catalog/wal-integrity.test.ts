/** WAL-G's check of integrity: by its rules, segment by segment and written apart, and where walrx looks closer. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { openGaps } from '../../src/catalog/open-gaps.ts'
import { checkIntegrity, checkTimeline, type Integrity, type SegmentStatus } from '../../src/catalog/wal-integrity.ts'
import { emptyTimeline, type TimelineInventory, type WalInventory } from '../../src/catalog/wal-inventory.ts'
import { parseLsn, toLsn } from '../../src/postgres/lsn.ts'
import { TimelineChain } from '../../src/postgres/wal/timeline-chain.ts'
import type { GapRecord } from '../../src/walg/wal/gap-records.ts'
import { Random } from '../harness/random.ts'

const MiB = 1024 * 1024

function timeline(id: number, segnos: readonly number[], more: Partial<TimelineInventory> = {}): TimelineInventory {
  const ranges = segnos.map((segno) => ({ first: BigInt(segno), last: BigInt(segno) }))
  return { ...emptyTimeline(id), ranges, ...more }
}

const forkAt = (segno: number) => toLsn(BigInt(segno * MiB + 0x98))
const gap = (start: string, end: string): GapRecord => ({
  ...{ timeline: 1, startLsn: parseLsn(start), endLsn: parseLsn(end), detectedAt: '2026-03-01T12:00:00Z' },
  ...{ reason: 'it was removed', host: 'db1', slot: undefined },
})

interface Asked {
  readonly current: number
  readonly first?: number
  readonly isFirstNeeded?: boolean
  readonly delayedMax?: number
  readonly uploadingMax?: number
  readonly gaps?: readonly GapRecord[]
}

function check(timelines: readonly TimelineInventory[], asked: Asked): Integrity {
  const inventory: WalInventory = { segmentSize: MiB, timelines, problems: [] }
  const newest = timelines.at(-1) ?? emptyTimeline(1)
  return checkIntegrity({
    inventory,
    chain: new TimelineChain(newest.timeline, newest.ancestors),
    current: BigInt(asked.current),
    first: BigInt(asked.first ?? 1),
    isFirstNeeded: asked.isFirstNeeded ?? true,
    delayedMax: asked.delayedMax ?? 0,
    uploadingMax: asked.uploadingMax ?? 0,
    gaps: openGaps(asked.gaps ?? [], inventory),
  })
}

const shown = ({ sequences, status }: Integrity) =>
  [status, ...sequences.map(({ first, last, status, timeline }) => `${timeline}:${first}-${last} ${status}`)].join(', ')

test('the current segment is not looked at, and the first is', () => {
  assert.equal(shown(check([timeline(1, [1, 2, 3])], { current: 4 })), 'OK, 1:1-3 FOUND')
  assert.equal(shown(check([timeline(1, [2, 3])], { current: 4 })), 'FAILURE, 1:1-1 MISSING_LOST, 1:2-3 FOUND')
  assert.equal(
    shown(check([timeline(1, [2, 3])], { current: 4, isFirstNeeded: false })),
    'WARNING, 1:1-1 MISSING_LOST, 1:2-3 FOUND',
  )
  assert.equal(shown(check([timeline(1, [2])], { current: 2, first: 2 })), 'OK')
  assert.equal(shown(check([], { current: 3, isFirstNeeded: false })), 'WARNING, 1:1-2 MISSING_LOST')
})

test('a gap record makes lost what might be on its way, and a break fails what is all there', () => {
  const has = [timeline(1, [1, 2, 3, 4])]
  const asked = { current: 8, uploadingMax: 16 }
  assert.equal(shown(check(has, asked)), 'WARNING, 1:1-4 FOUND, 1:5-7 MISSING_UPLOADING')
  const lost = check(has, { ...asked, gaps: [gap('0/500000', '0/700000')] })
  assert.equal(shown(lost), 'FAILURE, 1:1-4 FOUND, 1:5-6 MISSING_LOST, 1:7-7 MISSING_UPLOADING')
  assert.equal(lost.gaps.length, 1)
  const broken = check([timeline(1, [1, 2, 3])], { current: 4, gaps: [gap('0/200000', '0/200001')] })
  assert.equal(shown(broken), 'FAILURE, 1:1-3 FOUND')
  assert.equal(
    check([timeline(1, [1, 2, 3])], { current: 4, first: 3, gaps: [gap('0/200000', '0/200001')] }).status,
    'OK',
  )
})

test('a segment whose chunks are complete is found, one whose chunks are not is missing', () => {
  const tails = [
    { segno: 3n, bytes: MiB },
    { segno: 4n, bytes: MiB - 1 },
  ]
  const found = check([timeline(1, [1, 2], { tails })], { current: 5 })
  assert.equal(shown(found), 'FAILURE, 1:1-3 FOUND, 1:4-4 MISSING_LOST')
})

test('over two forks in one segment, each segment is looked for on its own timeline', () => {
  const ancestors = [
    { timeline: 1, switchpoint: forkAt(3) },
    { timeline: 2, switchpoint: toLsn(forkAt(3) + 800n) },
  ]
  const found = check([timeline(1, [1, 2, 3]), timeline(2, [3]), timeline(3, [3, 4], { ancestors })], { current: 5 })
  assert.equal(shown(found), 'OK, 1:1-2 FOUND, 3:3-4 FOUND')
})

test('the timeline of the server has to be the newest', () => {
  assert.deepEqual([checkTimeline(2, 2), checkTimeline(1, 2), checkTimeline(1, 0)], ['OK', 'FAILURE', 'WARNING'])
})

/** WAL-G's scan, as wal_segment_scanner.go and integrity_check_runner.go do it: down, a segment at a time. */
function walgScan(
  has: ReadonlySet<string>,
  forks: ReadonlyMap<number, number>,
  asked: Required<Omit<Asked, 'gaps'>>,
): string {
  let at = { timeline: 2, segno: asked.current }
  const scanned: { timeline: number; segno: number; status: SegmentStatus }[] = []
  const scan = (limit: number, isToFirst: boolean, missing: SegmentStatus) => {
    for (let count = 0; count < limit; count++) {
      if (at.segno <= asked.first) return
      at = { timeline: forks.get(at.segno) ?? at.timeline, segno: at.segno - 1 }
      const isFound = has.has(`${at.timeline}:${at.segno}`)
      scanned.unshift({ ...at, status: isFound ? 'FOUND' : missing })
      if (isFound && isToFirst) return
    }
  }
  scan(asked.delayedMax, true, 'MISSING_DELAYED')
  scan(asked.uploadingMax, false, 'MISSING_UPLOADING')
  scan(Infinity, false, 'MISSING_LOST')
  let [status, hasFound] = ['OK', false]
  for (const each of scanned) {
    if (each.status === 'FOUND') hasFound = true
    else if (each.status !== 'MISSING_LOST') status = 'WARNING'
    else if (asked.isFirstNeeded || hasFound) {
      status = 'FAILURE'
      break
    } else status = 'WARNING'
  }
  const rows: string[] = []
  for (const [index, each] of scanned.entries()) {
    const before = scanned[index - 1]
    const isSame = before?.status === each.status && before.timeline === each.timeline
    const begin = isSame ? (rows.pop() ?? '').split(/[:-]/)[1] : each.segno
    rows.push(`${each.timeline}:${begin}-${each.segno} ${each.status}`)
  }
  return [status, ...rows].join(', ')
}

describe('against the rules of WAL-G, segment by segment', () => {
  const base = Number(process.env['WALRX_TEST_SEED'] ?? 77_000)
  for (let round = 0; round < 20; round++) {
    test(`seed ${base + round}`, () => {
      const random = new Random(base + round)
      for (let each = 0; each < 50; each++) {
        const fork = random.int(3, 12)
        const density = random.pick([0.5, 0.8, 1])
        const old = Array.from({ length: fork }, (_, index) => index + 1).filter(() => random.chance(density))
        const last = fork + random.int(0, 12)
        const young = Array.from({ length: last - fork + 1 }, (_, index) => fork + index).filter(() =>
          random.chance(density),
        )
        const asked = {
          current: last + random.int(0, 6),
          first: random.int(1, fork + 3),
          isFirstNeeded: random.chance(0.7),
          delayedMax: random.pick([0, 0, 1, 3, 100]),
          uploadingMax: random.pick([1, 2, 16]),
        }
        const ancestors = [{ timeline: 1, switchpoint: forkAt(fork) }]
        const found = check([timeline(1, old), timeline(2, young, { ancestors })], asked)
        const has = new Set([...old.map((segno) => `1:${segno}`), ...young.map((segno) => `2:${segno}`)])
        assert.equal(
          shown(found),
          walgScan(has, new Map([[fork, 1]]), asked),
          JSON.stringify({ fork, old, young, asked }),
        )
      }
    })
  }
})
