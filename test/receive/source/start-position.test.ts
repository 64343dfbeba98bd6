import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { formatLsn, type Lsn, type Timeline, toLsn } from '../../../src/postgres/lsn.ts'
import { TimelineChain } from '../../../src/postgres/wal/timeline-chain.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import {
  comparePosition,
  planStart,
  positionAfter,
  type StartFacts,
  type StartPosition,
} from '../../../src/receive/source/start-position.ts'
import { FakeArchive, storageOut } from '../fakes.ts'

const segmentSize = 1024 * 1024
const never = new AbortController().signal

/** A position as segments and a fraction: 5.5 is the middle of segment 5. */
function at(segments: number): Lsn {
  return toLsn(BigInt(Math.round(segments * segmentSize)))
}

/** `[[1, 5.5], [2, 8]]` with newest 3: timeline 1 ended at 5.5, timeline 2 at 8. */
function chain(newest: Timeline, ...ends: readonly [Timeline, number][]): TimelineChain {
  return new TimelineChain(
    newest,
    ends.map(([timeline, end]) => ({ timeline, switchpoint: at(end) })),
  )
}

/** An archive of whole segments: `{ 1: [3, 4] }`. */
function archiveOf(segments: Record<number, readonly number[]>): FakeArchive {
  const archive = new FakeArchive()
  for (const [timeline, numbers] of Object.entries(segments)) {
    for (const number of numbers) {
      archive.files.set(segmentName(Number(timeline), BigInt(number), segmentSize), Buffer.alloc(0))
    }
  }
  return archive
}

function facts(over: Partial<StartFacts> & Pick<StartFacts, 'slotRestart' | 'serverEnd'>): StartFacts {
  return { chain: chain(1), segmentSize, holeWindow: 4, ...over }
}

const show = (position: StartPosition | undefined): string | undefined =>
  position && `${position.timeline} ${formatLsn(position.startLsn)}`

interface Case {
  readonly name: string
  readonly chain?: TimelineChain
  readonly slot: number | undefined
  readonly end: number
  readonly archived?: Record<number, readonly number[]>
  readonly start: readonly [Timeline, number]
  readonly fallback?: readonly [Timeline, number]
  readonly reason: 'slot' | 'archive' | 'server position'
}

const afterFork = chain(2, [1, 5.5])
const forkAtBoundary = chain(2, [1, 5])
const threeForksInOneSegment = chain(5, [1, 5.2], [2, 5.4], [3, 5.6])

const withSlot: readonly Case[] = [
  { name: 'nothing archived yet', slot: 5.3, end: 5.4, start: [1, 5], reason: 'slot' },
  { name: 'all archived before it', slot: 5.3, end: 9, archived: { 1: [3, 4] }, start: [1, 5], reason: 'slot' },
  {
    name: 'more archived than acknowledged: again from the slot, for there may be holes',
    slot: 5,
    end: 9,
    archived: { 1: [4, 5, 7] },
    start: [1, 5],
    reason: 'slot',
  },
  {
    name: 'created again ahead of the archive: the archive first, then the slot after a gap',
    slot: 9.9,
    end: 9.9,
    archived: { 1: [3, 4] },
    start: [1, 5],
    fallback: [1, 9],
    reason: 'archive',
  },
  {
    name: 'created again ahead of an archive with a hole: from the hole on',
    slot: 9,
    end: 9.9,
    archived: { 1: [3, 4, 6] },
    start: [1, 5],
    fallback: [1, 9],
    reason: 'archive',
  },
  {
    name: 'segments archived beyond the slot do not hide that those before it are missing',
    slot: 9,
    end: 12,
    archived: { 1: [3, 9, 10] },
    start: [1, 4],
    fallback: [1, 9],
    reason: 'archive',
  },
  { name: 'at the first byte of all', slot: 0, end: 1, start: [1, 0], reason: 'slot' },
  {
    name: 'in the segment of the fork, before it',
    chain: afterFork,
    slot: 5.2,
    end: 7,
    archived: { 1: [4] },
    start: [1, 5],
    reason: 'slot',
  },
  {
    name: 'in the segment of the fork, after it: the old timeline first, for its tail',
    chain: afterFork,
    slot: 5.7,
    end: 7,
    archived: { 1: [4] },
    start: [1, 5],
    reason: 'slot',
  },
  {
    name: 'at a fork that is a boundary: the new timeline',
    chain: forkAtBoundary,
    slot: 5,
    end: 7,
    archived: { 1: [4] },
    start: [2, 5],
    reason: 'slot',
  },
  {
    name: 'after the fork: the predecessor is of the new timeline',
    chain: afterFork,
    slot: 6.1,
    end: 7,
    archived: { 1: [4], 2: [5] },
    start: [2, 6],
    reason: 'slot',
  },
  {
    name: 'the old segment that went on past the fork is not the predecessor',
    chain: afterFork,
    slot: 6.1,
    end: 7,
    archived: { 1: [4, 5] },
    start: [1, 5],
    fallback: [2, 6],
    reason: 'archive',
  },
  {
    name: 'after several forks in one segment: the oldest of them first',
    chain: threeForksInOneSegment,
    slot: 5.9,
    end: 6,
    archived: { 1: [4] },
    start: [1, 5],
    reason: 'slot',
  },
]

const withoutSlot: readonly Case[] = [
  {
    name: 'nothing archived: where the server is',
    slot: undefined,
    end: 5.4,
    start: [1, 5],
    reason: 'server position',
  },
  {
    name: 'the archive goes on, the server is the fallback',
    slot: undefined,
    end: 9.4,
    archived: { 1: [3, 4] },
    start: [1, 5],
    fallback: [1, 9],
    reason: 'archive',
  },
  {
    name: 'holes before the newest segment are filled, the oldest first',
    slot: undefined,
    end: 9.4,
    archived: { 1: [3, 5, 7] },
    start: [1, 4],
    fallback: [1, 9],
    reason: 'archive',
  },
  {
    name: 'a hole older than any upload that was under way is an old gap',
    slot: undefined,
    end: 12,
    archived: { 1: [1, 5, 6, 7] },
    start: [1, 8],
    fallback: [1, 12],
    reason: 'archive',
  },
  {
    name: 'the server was reset to before the archive: what it has is streamed and compared',
    slot: undefined,
    end: 5.4,
    archived: { 1: [3, 4, 5, 6] },
    start: [1, 5],
    reason: 'server position',
  },
  {
    name: 'on the newest timeline that is archived',
    chain: afterFork,
    slot: undefined,
    end: 9,
    archived: { 1: [4], 2: [5, 6] },
    start: [2, 7],
    fallback: [2, 9],
    reason: 'archive',
  },
  {
    name: 'archived up to the segment of the fork only',
    chain: afterFork,
    slot: undefined,
    end: 9,
    archived: { 1: [3, 4] },
    start: [1, 5],
    fallback: [2, 9],
    reason: 'archive',
  },
  {
    name: 'bytes past the fork do not count',
    chain: afterFork,
    slot: undefined,
    end: 9,
    archived: { 1: [4, 5, 6, 7] },
    start: [1, 5],
    fallback: [2, 9],
    reason: 'archive',
  },
  {
    name: 'a timeline that ended at a boundary is finished',
    chain: forkAtBoundary,
    slot: undefined,
    end: 9,
    archived: { 1: [3, 4] },
    start: [2, 5],
    fallback: [2, 9],
    reason: 'archive',
  },
  {
    name: 'segments of a timeline that is no ancestor are nothing to go on',
    chain: chain(3, [1, 5.5]),
    slot: undefined,
    end: 9,
    archived: { 1: [3, 4], 2: [5, 6, 7] },
    start: [1, 5],
    fallback: [3, 9],
    reason: 'archive',
  },
]

for (const [title, cases] of [
  ['the start position with a slot', withSlot],
  ['the start position without a readable slot', withoutSlot],
] as const) {
  describe(title, () => {
    for (const { name, slot, end, archived = {}, start, fallback, reason, ...over } of cases) {
      test(name, async () => {
        const given = { ...over, slotRestart: slot === undefined ? undefined : at(slot), serverEnd: at(end) }
        const plan = await planStart(facts(given), archiveOf(archived), never)
        assert.equal(show(plan), show({ timeline: start[0], startLsn: at(start[1]) }))
        assert.equal(show(plan.fallback), fallback && show({ timeline: fallback[0], startLsn: at(fallback[1]) }))
        assert.equal(plan.reason, reason)
      })
    }
  })
}

const anySegments = fc.uniqueArray(fc.integer({ min: 1, max: 30 }), { maxLength: 30 })

describe('no start position skips', () => {
  test('a byte after the slot, whatever is archived', async () => {
    await fc.assert(
      fc.asyncProperty(
        anySegments,
        fc.integer({ min: 1, max: 40 }),
        fc.nat({ max: 3 }),
        async (archived, slot, more) => {
          const given = facts({ slotRestart: at(slot + 0.5), serverEnd: at(slot + 0.5 + more) })
          const plan = await planStart(given, archiveOf({ 1: archived }), never)
          assert.ok(plan.startLsn <= at(slot), 'WAL that the slot holds is streamed')
          assert.equal(plan.startLsn % BigInt(segmentSize), 0n)
          const window = archived.filter((segno) => segno < slot && segno >= slot - given.holeWindow)
          const isUnbroken = archived.includes(slot - 1) && window.length === slot - Math.min(...window)
          if (isUnbroken) assert.equal(plan.startLsn, at(slot))
          if (plan.startLsn < at(slot)) assert.equal(plan.fallback?.startLsn, at(slot))
        },
      ),
    )
  })

  test('a hole that parallel uploads can have left, without a slot', async () => {
    const holeWindow = 6
    await fc.assert(
      fc.asyncProperty(anySegments, async (archived) => {
        const given = facts({ slotRestart: undefined, serverEnd: at(40.5), holeWindow })
        const plan = await planStart(given, archiveOf({ 1: archived }), never)
        if (archived.length === 0) return assert.equal(plan.startLsn, at(40))
        const [oldest, newest] = [Math.min(...archived), Math.max(...archived)]
        for (let segno = oldest; segno <= newest; segno++) {
          // No upload begins more than the window ahead of the oldest unfinished one: that is where a hole begins.
          if (archived.includes(segno) || !archived.includes(segno - 1) || newest + 1 - segno > holeWindow) continue
          assert.ok(plan.startLsn <= at(segno), `segment ${segno} is missing`)
        }
        assert.ok(plan.startLsn <= at(newest + 1))
        return undefined
      }),
    )
  })

  test('a segment that a crash of the store has left damaged, without a slot', async () => {
    const holeWindow = 6
    await fc.assert(
      fc.asyncProperty(anySegments, anySegments, async (archived, damaged) => {
        const archive = archiveOf({ 1: archived })
        for (const segno of damaged) archive.damaged.add(segmentName(1, BigInt(segno), segmentSize))
        const given = facts({ slotRestart: undefined, serverEnd: at(40.5), holeWindow })
        const plan = await planStart(given, archive, never)
        const newest = Math.max(...archived)
        for (const segno of archived) {
          if (!damaged.includes(segno) || newest - segno >= holeWindow) continue
          assert.ok(plan.startLsn <= at(segno), `segment ${segno} is damaged`)
        }
      }),
    )
  })

  test('anything because the store does not answer: that is an error', async () => {
    const archive = archiveOf({ 1: [3] })
    archive.outage = storageOut()
    for (const slotRestart of [undefined, at(9)]) {
      await assert.rejects(planStart(facts({ slotRestart, serverEnd: at(9) }), archive, never), archive.outage)
    }
  })
})

describe('after a settled run', () => {
  const after = (timeline: Timeline, lsn: number, of: TimelineChain) =>
    show(
      positionAfter({ timeline, lsn: at(lsn) }, { ...facts({ slotRestart: undefined, serverEnd: at(99) }), chain: of }),
    )

  test('the next timeline begins in the segment of its fork', () => {
    assert.equal(after(1, 5.5, afterFork), show({ timeline: 2, startLsn: at(5) }))
    assert.equal(after(1, 5, forkAtBoundary), show({ timeline: 2, startLsn: at(5) }))
    assert.equal(after(1, 7.3, afterFork), show({ timeline: 2, startLsn: at(5) }), 'bytes past the fork')
  })

  test('forks in one segment follow each other, none is left out', () => {
    assert.equal(after(1, 5.2, threeForksInOneSegment), show({ timeline: 2, startLsn: at(5) }))
    assert.equal(after(2, 5.4, threeForksInOneSegment), show({ timeline: 3, startLsn: at(5) }))
    assert.equal(after(3, 5.6, threeForksInOneSegment), show({ timeline: 5, startLsn: at(5) }))
  })

  test('a timeline that is not finished yet goes on in its last segment', () => {
    assert.equal(after(1, 4.5, afterFork), show({ timeline: 1, startLsn: at(4) }))
    assert.equal(after(2, 8.5, afterFork), show({ timeline: 2, startLsn: at(8) }))
    assert.equal(after(2, 8, afterFork), show({ timeline: 2, startLsn: at(8) }))
  })

  test('a history that does not know the timeline has no answer', () => {
    assert.equal(after(2, 5.5, chain(3, [1, 5.2])), undefined)
  })
})

describe('where histories are compared', () => {
  const compare = (durable: number, end: number, slot: number | undefined, of = chain(1)) =>
    show(
      comparePosition(
        { chain: of, segmentSize, serverEnd: at(end), slotRestart: slot === undefined ? undefined : at(slot) },
        at(durable),
      ),
    )

  test('is one segment before the end of what both have, but nothing that the slot has let go', () => {
    assert.equal(compare(8, 8.5, 3.3), show({ timeline: 1, startLsn: at(7) }))
    assert.equal(compare(8, 6.5, 3.3), show({ timeline: 1, startLsn: at(5) }), 'the server ends before the archive')
    assert.equal(compare(8, 8.5, 7.9), show({ timeline: 1, startLsn: at(7) }))
    assert.equal(compare(8, 8.5, 8.1), show({ timeline: 1, startLsn: at(8) }))
    assert.equal(compare(8, 8.5, undefined), show({ timeline: 1, startLsn: at(7) }))
    assert.equal(
      compare(0, 0.5, undefined),
      show({ timeline: 1, startLsn: at(0) }),
      'there is nothing before the first',
    )
  })

  test('is on the timeline that the byte belongs to', () => {
    assert.equal(compare(6, 6.5, 2, afterFork), show({ timeline: 1, startLsn: at(5) }))
    assert.equal(compare(7, 7.5, 2, afterFork), show({ timeline: 2, startLsn: at(6) }))
  })
})
