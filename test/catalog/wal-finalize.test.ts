/** An ordinary segment is made of the last, unfinished one, and nothing is lost by it. */
import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { openReadCodec, openWriteCodec } from '../../src/compression/codecs.ts'
import { type FinalizeOptions, finalizeTimeline, setAside } from '../../src/catalog/wal-finalize.ts'
import { type ErrorCode, hasCode } from '../../src/primitives/errors.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { segmentName } from '../../src/postgres/wal/wal-file.ts'
import { tailKey } from '../../src/walg/names.ts'
import { WalArchive } from '../../src/walg/wal/wal-archive.ts'
import { decodeStream } from '../harness/made/codec-streams.ts'
import { madeSegmentSize, makeSegment } from '../harness/made/made-wal.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'

const nowMs = 1_000_000_000
const nameOf = (number: number, timeline = 1) => segmentName(timeline, BigInt(number), madeSegmentSize)

let storage: MemoryStorage
beforeEach(() => (storage = new MemoryStorage()))

/** A chunk of a segment, written so long ago. */
const chunk = (name: string, from: number, to: number, agoMs = 60_000, bytes = makeSegment(name)) =>
  storage.seed(tailKey(name, { from, to }, ''), bytes.subarray(from, to), nowMs - agoMs)
const whole = (name: string) => storage.seed(`wal_005/${name}`, makeSegment(name), nowMs)

const finalize = async (options: Partial<FinalizeOptions> = {}) => {
  const archive = new WalArchive(storage, openWriteCodec('zstd'))
  const asked = { timeline: undefined, force: false, dryRun: false, nowMs, ...options }
  const done = await finalizeTimeline({ archive, ...asked })
  return done.map(({ endLsn, outcome, segment }) => `${segment} ${outcome} ${formatLsn(endLsn)}`)
}

const fails = (promise: Promise<unknown>, code: ErrorCode) =>
  assert.rejects(promise, (error) => {
    assert.ok(hasCode(error, code), `${code} expected: ${String(error)}`)
    return true
  })

/** What is stored as a segment. */
const stored = (name: string) =>
  decodeStream(openReadCodec('zstd'), [storage.peek(`wal_005/${name}.zst`) ?? Buffer.alloc(0)])
const padded = (name: string, length: number) => makeSegment(name).fill(0, length)
const keys = () => [...storage.objects.keys()].sort()

describe('the last segment', () => {
  test('becomes a whole one: what is there, and zeros after it; its chunks go', async () => {
    const name = nameOf(7)
    whole(nameOf(6))
    chunk(name, 0, 50_000)
    chunk(name, 40_000, 70_001)
    assert.deepEqual(await finalize(), [`${name} created 0/${(0x700000 + 70_001).toString(16).toUpperCase()}`])
    assert.deepEqual(await stored(name), padded(name, 70_001))
    assert.deepEqual(keys(), [`wal_005/${nameOf(6)}`, `wal_005/${name}.zst`])
    assert.deepEqual(await finalize(), [], 'every segment is whole')
  })

  test('is made of its partial where there are no chunks, and that stays', async () => {
    const name = nameOf(7)
    storage.seed(`wal_005/${name}.partial`, padded(name, 12_000), nowMs - 60_000)
    assert.deepEqual(await finalize(), [`${name} created 0/702EE0`])
    assert.deepEqual(await stored(name), padded(name, 12_000))
    assert.ok(storage.objects.has(`wal_005/${name}.partial`))
  })

  test('ends before a page header that is not there to its last byte', async () => {
    const name = nameOf(7)
    chunk(name, 0, 8192 * 2 + 5)
    assert.deepEqual(await finalize(), [`${name} created 0/704000`])
    assert.deepEqual(await stored(name), padded(name, 8192 * 2))
    assert.equal(keys().length, 1)
  })

  test('that was written to within the last minute is refused, by its chunks also where a partial is longer', async () => {
    const name = nameOf(7)
    for (const agoMs of [59_999, 0, -5000]) {
      chunk(name, 0, 9000, agoMs)
      await fails(finalize(), 'WALRX_USAGE')
      await fails(finalize({ dryRun: true }), 'WALRX_USAGE')
    }
    storage.seed(`wal_005/${name}.partial`, padded(name, 12_000), nowMs - 3600_000)
    await fails(finalize(), 'WALRX_USAGE')
    assert.deepEqual(keys(), [`wal_005/${name}.partial`, tailKey(name, { from: 0, to: 9000 }, '')])
    assert.deepEqual(await finalize({ force: true }), [`${name} created 0/702EE0`])
  })

  test('is only looked at by a dry run', async () => {
    const name = nameOf(7)
    chunk(name, 0, 9000)
    const before = new Map(storage.objects)
    assert.deepEqual(await finalize({ dryRun: true }), [`${name} would be created 0/702328`])
    assert.deepEqual(storage.objects, before)
    assert.deepEqual(
      storage.log.filter((call) => !/^(list|get|head) /.test(call)),
      [],
    )
  })

  test('keeps what a receiver wrote after its end meanwhile, and what lies after a hole', async () => {
    const name = nameOf(7)
    chunk(name, 0, 9000)
    chunk(name, 10_000, 11_000)
    storage.before = ({ operation }) => {
      if (operation === 'putIfAbsent') chunk(name, 9000, 9100)
    }
    await finalize({ force: true })
    assert.deepEqual(keys(), [
      `wal_005/${name}.zst`,
      tailKey(name, { from: 9000, to: 9100 }, ''),
      tailKey(name, { from: 10_000, to: 11_000 }, ''),
    ])
  })

  test('is refused where chunks disagree, are damaged, or are of another segment', async () => {
    const name = nameOf(7)
    chunk(name, 0, 9000)
    chunk(name, 100, 9100, 60_000, Buffer.alloc(9100, 7))
    await fails(finalize(), 'WALRX_ARCHIVE_CONFLICT')
    storage.objects.clear()
    chunk(name, 0, 9000, 60_000, Buffer.alloc(9000, 7))
    await fails(finalize(), 'WALRX_OBJECT_DAMAGED')
    chunk(name, 0, 9000, 60_000, makeSegment(nameOf(8)))
    await assert.rejects(finalize())
    assert.equal(keys().length, 1, 'nothing was written')
  })
})

describe('several segments', () => {
  test('are made in order up to the first that is not there to its last byte', async () => {
    chunk(nameOf(5), 0, madeSegmentSize)
    chunk(nameOf(6), 0, 500_000)
    chunk(nameOf(6), 500_000, madeSegmentSize)
    chunk(nameOf(7), 0, 9000)
    chunk(nameOf(8), 0, 9000)
    const expected = [`${nameOf(5)} * 0/600000`, `${nameOf(6)} * 0/700000`, `${nameOf(7)} * 0/702328`]
    const of = (outcome: string) => expected.map((line) => line.replace('*', outcome))
    assert.deepEqual(await finalize({ dryRun: true }), of('would be created'))
    assert.deepEqual(await finalize(), of('created'))
    assert.deepEqual(await stored(nameOf(5)), makeSegment(nameOf(5)))
    assert.equal(storage.objects.has(`wal_005/${nameOf(8)}.zst`), false)
    assert.ok(storage.objects.has(tailKey(nameOf(8), { from: 0, to: 9000 }, '')))
  })

  test('are none after one that has no bytes: the end would become a hole', async () => {
    chunk(nameOf(5), 0, madeSegmentSize)
    chunk(nameOf(7), 0, 9000)
    for (const dryRun of [true, false]) assert.equal((await finalize({ dryRun })).length, 1)
    assert.equal(storage.objects.has(`wal_005/${nameOf(7)}.zst`), false)
    whole(nameOf(6))
    assert.deepEqual(await finalize(), [`${nameOf(7)} created 0/702328`])
  })

  test('may have whole ones among them, with chunks that are not touched', async () => {
    chunk(nameOf(5), 0, madeSegmentSize)
    whole(nameOf(6))
    chunk(nameOf(6), 0, 100)
    chunk(nameOf(7), 0, 9000)
    for (const dryRun of [true, false]) assert.equal((await finalize({ dryRun })).length, 2)
    assert.ok(storage.objects.has(tailKey(nameOf(6), { from: 0, to: 100 }, '')))
  })
})

test('of the newest timeline that has a beginning, or of the one that is asked for', async () => {
  chunk(nameOf(7, 1), 0, 9000)
  chunk(nameOf(7, 2), 0, 9500)
  chunk(nameOf(7, 10), 0, 9900)
  whole(nameOf(8, 11))
  assert.deepEqual(await finalize({ timeline: 1, dryRun: true }), [`${nameOf(7, 1)} would be created 0/702328`])
  assert.deepEqual(await finalize({ timeline: 3 }), [])
  assert.deepEqual(await finalize(), [`${nameOf(7, 10)} created 0/7026AC`])
  assert.deepEqual(await finalize({ timeline: 2 }), [`${nameOf(7, 2)} created 0/70251C`])
  assert.ok(storage.objects.has(tailKey(nameOf(7, 1), { from: 0, to: 9000 }, '')))
})

describe('a timeline that a newer one has left', () => {
  /** Timeline 2 began at 5,000 bytes into segment 7. */
  const fork = () => storage.seed('wal_005/00000002.history', `1\t0/701388\tno recovery target specified\n`)
  const reported: string[] = []
  const onPastFork: FinalizeOptions['onPastFork'] = (segment, { switchpoint, timeline }) =>
    reported.push(`${segment} ${timeline} ${formatLsn(switchpoint)}`)
  beforeEach(() => reported.splice(0))

  test('is taken no further than there, which is reported; what lies beyond stays', async () => {
    fork()
    chunk(nameOf(6), 0, madeSegmentSize)
    chunk(nameOf(7), 0, 4000)
    chunk(nameOf(7), 4000, 9000)
    chunk(nameOf(8), 0, 100)
    assert.deepEqual(await finalize({ onPastFork }), [`${nameOf(6)} created 0/700000`, `${nameOf(7)} created 0/701388`])
    assert.deepEqual(await stored(nameOf(7)), padded(nameOf(7), 5000))
    assert.ok(storage.objects.has(tailKey(nameOf(7), { from: 4000, to: 9000 }, '')))
    assert.ok(storage.objects.has(tailKey(nameOf(8), { from: 0, to: 100 }, '')))
    assert.deepEqual(reported, [`${nameOf(7)} 2 0/701388`])
  })

  test('is left alone where the newer one has its copy of the segment', async () => {
    fork()
    whole(nameOf(7, 2))
    storage.seed(`wal_005/${nameOf(7)}.partial`, padded(nameOf(7), 12_000), nowMs - 60_000)
    assert.deepEqual(await finalize({ onPastFork }), [])
    assert.deepEqual(reported, [`${nameOf(7)} 2 0/701388`])
  })

  test('is taken to its end when it is asked for', async () => {
    fork()
    chunk(nameOf(7), 0, 9000)
    assert.deepEqual(await finalize({ onPastFork, timeline: 1 }), [`${nameOf(7)} created 0/702328`])
    assert.deepEqual(reported, [])
  })

  test('and ends before the fork, is taken to its end', async () => {
    fork()
    chunk(nameOf(7), 0, 4000)
    assert.deepEqual(await finalize({ onPastFork }), [`${nameOf(7)} created 0/700FA0`])
    assert.deepEqual(reported, [])
  })
})

describe('setting aside', () => {
  const aside = (from: number, to: number) =>
    tailKey(nameOf(7), { from, to }, '').replace('walrx_005/', 'walrx_005/aside/')

  test('moves all chunks of the segment to where nobody reads them, and no others', async () => {
    chunk(nameOf(7), 0, 9000)
    chunk(nameOf(7), 20_000, 21_000)
    chunk(nameOf(8), 0, 100)
    assert.equal(await setAside(storage, nameOf(7)), 2)
    assert.deepEqual(keys(), [aside(0, 9000), aside(20_000, 21_000), tailKey(nameOf(8), { from: 0, to: 100 }, '')])
    assert.deepEqual(storage.peek(aside(0, 9000)), makeSegment(nameOf(7)).subarray(0, 9000))
    assert.equal(await setAside(storage, nameOf(7)), 0)
  })

  test('loses nothing that was set aside before, and may be done again after it was broken off', async () => {
    const others = [Buffer.alloc(100, 1), Buffer.alloc(100, 2), Buffer.alloc(100, 1)]
    for (const bytes of others) {
      chunk(nameOf(7), 0, 100, 0, bytes)
      assert.equal(await setAside(storage, nameOf(7)), 1)
    }
    assert.deepEqual(keys()[0], aside(0, 100))
    const kept = keys().map((key) => storage.peek(key))
    assert.deepEqual(kept, others.slice(0, 2))
  })

  test('of a timeline takes all that is of it, its history last: until then nobody goes on with the old one', async () => {
    const ours = [`wal_005/${nameOf(7, 2)}`, `wal_005/${nameOf(8, 2)}.partial`, 'wal_005/00000002.history.zst']
    for (const key of ours) storage.seed(key, key)
    chunk(nameOf(8, 2), 0, 100)
    whole(nameOf(7))
    chunk(nameOf(8), 0, 100)
    storage.seed('wal_005/00000003.history', 'x')
    const others = keys().filter((key) => !/\/00000002/.test(key))
    assert.equal(await setAside(storage, '00000002.history'), 4)
    const deleted = storage.log.filter((call) => call.startsWith('delete'))
    assert.equal(deleted.at(-1), 'delete wal_005/00000002.history.zst')
    const moved = [...ours, tailKey(nameOf(8, 2), { from: 0, to: 100 }, '').slice('walrx_005/'.length)]
    assert.deepEqual(keys(), [...others, ...moved.map((key) => `walrx_005/aside/${key}`)].sort())
    assert.equal(storage.peek(`walrx_005/aside/${ours[0]}`)?.toString(), ours[0])
    assert.equal(storage.openBodies, 0)
  })

  test('removes a chunk only when it is there', async () => {
    chunk(nameOf(7), 0, 100)
    storage.before = ({ key }) => {
      if (key.includes('/aside/')) throw new Error('full')
    }
    await assert.rejects(setAside(storage, nameOf(7)), /full/)
    assert.deepEqual(keys(), [tailKey(nameOf(7), { from: 0, to: 100 }, '')])
  })
})
