/** Targets in WAL that the archive has as the tail of a segment: wal-fetch delivers it, so they can be reached. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import { type Lsn, toLsn } from '../../../src/postgres/lsn.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import { checkReachable, type RecoveryBackup } from '../../../src/restore/recovery/recovery-check.ts'
import { parseTimestamp } from '../../../src/postgres/timestamp.ts'
import { tailKey } from '../../../src/walg/names.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { MadeRecords, otherRecord, switchRecord, transactionRecord } from '../../harness/made/made-records.ts'
import { madeSegmentSize } from '../../harness/made/made-wal.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const nameOf = (index: number, timeline = 1) => segmentName(timeline, 5n + BigInt(index), madeSegmentSize)
const at = (minute: number) => parseTimestamp('2026-03-01 12:00:00Z') + BigInt(minute) * 60_000_000n

/** Four segments; transactions end 5, 10, 20 minutes past noon in the first three, 30 and 40 past in the last. */
function makeWorld() {
  const made = new MadeRecords(nameOf(0), 4)
  made.add(transactionRecord(at(5)))
  const finishLsn = toLsn(made.position)
  made.add(switchRecord)
  for (const minute of [10, 20]) {
    made.add(transactionRecord(at(minute)))
    made.add(otherRecord(20_000))
    made.add(switchRecord)
  }
  made.add(transactionRecord(at(30)))
  made.add(otherRecord(9000))
  made.add(transactionRecord(at(40)))
  made.add(otherRecord(10))
  const storage = new MemoryStorage()
  const startLsn = toLsn(0x500000n)
  const times = { startTime: at(4), finishTime: at(6) }
  const backup: RecoveryBackup = { name: `base_${nameOf(0)}`, timeline: 1, startLsn, finishLsn, ...times }
  return { storage, made, backup }
}

type World = ReturnType<typeof makeWorld>

const whole = ({ made, storage }: World, ...indexes: number[]) => {
  for (const index of indexes) storage.seed(`wal_005/${nameOf(index)}`, made.segment(index))
}
const chunk = ({ made, storage }: World, index: number, from: number, to: number) =>
  storage.seed(tailKey(nameOf(index), { from, to }, ''), made.segment(index).subarray(from, to))

const reach = ({ backup, storage }: World, target: { lsn?: bigint; minute?: number } = {}) =>
  checkReachable({
    reader: new WalReader(storage),
    backup,
    request: {
      target:
        target.lsn !== undefined
          ? { kind: 'lsn', lsn: target.lsn as Lsn }
          : target.minute !== undefined
            ? { kind: 'time', time: at(target.minute) }
            : undefined,
      inclusive: true,
      timeline: 'latest',
    },
  })
const refused = (promise: Promise<unknown>, message = /is too late/) =>
  assert.rejects(promise, (error) => {
    assert.ok(hasCode(error, 'WALRX_TARGET_UNREACHABLE'), String(error))
    assert.match(error.message, message)
    return true
  })

describe('the tail of the last segment', () => {
  test('can be reached up to the start of its last complete record, to the byte', async () => {
    const world = makeWorld()
    whole(world, 0, 1, 2)
    const records = world.made.records.slice(-4)
    for (const [index, record] of records.entries()) {
      const before = records[index - 1]
      for (const cut of [0, 1]) {
        world.storage.objects.delete([...world.storage.objects.keys()].find((key) => key.includes('tail')) ?? '')
        chunk(world, 3, 0, Number(record.end - 0x800000n) - cut)
        const last = cut === 0 ? record.start : before?.start
        if (last === undefined) continue
        const reached = await reach(world, { lsn: last })
        assert.equal(reached.end, record.end - BigInt(cut))
        await refused(reach(world, { lsn: last + 1n }))
      }
    }
    assert.equal(world.storage.openBodies, 0)
  })

  test('reaches times by the transactions in it', async () => {
    const world = makeWorld()
    whole(world, 0, 1, 2)
    await refused(reach(world, { minute: 25 }))
    chunk(world, 3, 0, 200)
    await reach(world, { minute: 25 })
    await refused(reach(world, { minute: 35 }))
  })

  test('is no reason for a warning, and no gap', async () => {
    const world = makeWorld()
    whole(world, 0, 1, 2)
    chunk(world, 3, 0, 200)
    assert.deepEqual((await reach(world)).warnings, [])
    assert.deepEqual((await reach(world, { minute: 25 })).warnings, [])
  })

  test('does not count after a segment that is missing', async () => {
    const world = makeWorld()
    whole(world, 0, 1)
    chunk(world, 3, 0, 9000)
    assert.equal((await reach(world, { lsn: 0x600028n })).end, 0x700000n)
    await refused(reach(world, { lsn: 0x800028n }))
  })
})

describe('a segment that is archived only as chunks, from the first byte to the last', () => {
  test('can be reached, and so can the tail of the next one', async () => {
    const world = makeWorld()
    whole(world, 0, 1)
    chunk(world, 2, 0, 300_000)
    chunk(world, 2, 300_000, madeSegmentSize)
    assert.equal((await reach(world, { lsn: 0x700028n })).end, 0x800000n)
    await reach(world, { minute: 15 })
    chunk(world, 3, 0, 200)
    assert.equal((await reach(world, { lsn: 0x800028n })).end, 0x800000n + 200n)
    await reach(world, { minute: 25 })
    await refused(reach(world, { minute: 35 }))
  })

  test('can be reached between whole ones: uploads may finish in another order', async () => {
    const world = makeWorld()
    whole(world, 0, 2)
    chunk(world, 1, 0, madeSegmentSize)
    chunk(world, 3, 0, 200)
    assert.equal((await reach(world)).end, 0x800000n + 200n)
    await reach(world, { minute: 25 })
    await reach(world, { lsn: 0x600028n })
  })
})

test('a fork ends the tail of the old timeline in the segment of the fork', async () => {
  const world = makeWorld()
  whole(world, 0, 1)
  chunk(world, 2, 0, 20_000)
  world.storage.seed('wal_005/00000002.history', '1\t0/701000\tno recovery target specified\n')
  const { end, warnings } = await reach(world)
  assert.equal(end, 0x701000n)
  assert.match(
    warnings.join(),
    /timeline 2 began at 0\/701000, but its segment 000000020000000000000007 is not archived/,
  )
})

describe('a tail with later segments', () => {
  test('ends recovery, with a warning', async () => {
    const world = makeWorld()
    whole(world, 0, 1, 3)
    chunk(world, 2, 0, 20_000)
    const { end, warnings } = await reach(world)
    assert.equal(end, 0x700000n + 20_000n)
    assert.deepEqual(
      warnings.filter((text) => /recovery ends there/.test(text)),
      [
        `the archive has segment ${nameOf(2)} only up to 0/704E20, although it holds later segments: recovery ends there`,
      ],
    )
    await refused(reach(world, { minute: 40 }))
    await assert.rejects(reach(world, { minute: 40 }), (error: Error & { hint?: string }) =>
      /although it holds later segments/.test(error.hint ?? ''),
    )
    assert.deepEqual((await reach(world, { minute: 7 })).warnings, [])
  })

  test('gives no warning without later segments', async () => {
    const world = makeWorld()
    whole(world, 0, 1)
    chunk(world, 2, 0, 20_000)
    assert.deepEqual((await reach(world)).warnings, [])
  })
})
