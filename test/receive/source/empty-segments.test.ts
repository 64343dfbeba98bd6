import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Lsn, toLsn } from '../../../src/postgres/lsn.ts'
import { TimelineChain } from '../../../src/postgres/wal/timeline-chain.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import { holesBetween } from '../../../src/receive/source/archive-holes.ts'
import { planStart } from '../../../src/receive/source/start-position.ts'
import { FakeArchive } from '../fakes.ts'

const segmentSize = 1024 * 1024
const never = new AbortController().signal
const at = (segment: number): Lsn => toLsn(BigInt(segment * segmentSize))
const chain = new TimelineChain(1, [])
const facts = { chain, segmentSize, holeWindow: 4, serverEnd: at(30) }

describe('a segment without a byte', () => {
  test('is a hole: the stream begins there, and what is missing includes it, however far back it lies', async () => {
    const archive = new FakeArchive()
    for (let number = 1n; number <= 20n; number++)
      archive.files.set(segmentName(1, number, segmentSize), Buffer.alloc(0))
    archive.empty.add(segmentName(1, 18n, segmentSize))
    archive.empty.add(segmentName(1, 5n, segmentSize))
    const plan = await planStart({ ...facts, slotRestart: undefined }, archive, never)
    assert.equal(plan.startLsn, at(18))
    const onSlot = await planStart({ ...facts, slotRestart: at(19) }, archive, never)
    assert.equal(onSlot.startLsn, at(18))
    const search = { chain, from: at(1), to: at(21), segmentSize, holeWindow: 4 }
    assert.deepEqual(await holesBetween(search, archive, never), [
      { startLsn: at(5), endLsn: at(6) },
      { startLsn: at(18), endLsn: at(19) },
    ])
  })
})
