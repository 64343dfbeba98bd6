/** Moments of a restore window: the end of its last transaction, wherever in the last segments that is. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readInventory } from '../../../src/catalog/wal-inventory.ts'
import { restoreWindows, type WindowBackup } from '../../../src/catalog/window/restore-window.ts'
import { allWithTimes, type TimedWindow } from '../../../src/catalog/window/window-times.ts'
import { toLsn } from '../../../src/postgres/lsn.ts'
import { formatTimestamp, parseTimestamp } from '../../../src/postgres/timestamp.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import { parseSentinel } from '../../../src/walg/backup/sentinel.ts'
import { tailKey } from '../../../src/walg/names.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { MadeRecords, otherRecord, switchRecord, transactionRecord } from '../../harness/made/made-records.ts'
import { madeSegmentSize } from '../../harness/made/made-wal.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const nameOf = (index: number, timeline = 1) => segmentName(timeline, 5n + BigInt(index), madeSegmentSize)
const at = (minute: number) => parseTimestamp('2026-03-01 12:00:00Z') + BigInt(minute) * 60_000_000n

/** A backup in the first segment, which finished at 12:06 by the clock of its host. */
const backup: WindowBackup = {
  name: `base_${nameOf(0)}`,
  sentinel: parseSentinel(
    Buffer.from('{"LSN":5242920,"FinishLSN":5243200,"FinishTime":"2026-03-01T12:06:00.5Z"}'),
    'sentinel',
  ),
}

async function windowOf(storage: MemoryStorage): Promise<TimedWindow> {
  const reader = new WalReader(storage)
  const inventory = await readInventory(reader, madeSegmentSize)
  const [timed] = await allWithTimes(reader, inventory, restoreWindows(inventory, [], [backup]))
  assert.equal(storage.openBodies, 0)
  assert.ok(timed)
  return timed
}

const shown = ({ endTime, note, startTime }: TimedWindow) => [
  startTime === undefined ? undefined : formatTimestamp(startTime),
  endTime === undefined ? note : formatTimestamp(endTime),
]
const start = '2026-03-01 12:06:00.5+00'

/** Segments with a transaction each, but for the last two, which have none. */
function makeIdle(): MadeRecords {
  const made = new MadeRecords(nameOf(0), 4)
  made.add(otherRecord(400))
  for (const minute of [10, 20]) {
    made.add(transactionRecord(at(minute + 1)))
    made.add(transactionRecord(at(minute)))
    made.add(switchRecord)
  }
  made.add(otherRecord(20_000))
  made.add(switchRecord)
  made.add(otherRecord(10))
  return made
}

test('the last transaction is found in an earlier segment; the latest time of a segment counts', async () => {
  const made = makeIdle()
  const storage = new MemoryStorage()
  for (const index of [0, 1, 2, 3]) storage.seed(`wal_005/${nameOf(index)}`, made.segment(index))
  assert.deepEqual(shown(await windowOf(storage)), [start, formatTimestamp(at(21))])
})

test('a transaction whose record ends in the next segment or in the tail is found, and one that is torn is not', async () => {
  const made = new MadeRecords(nameOf(0), 2)
  made.add(otherRecord(400))
  made.add(transactionRecord(at(10)))
  const segmentEnd = 0x500000n + BigInt(madeSegmentSize)
  while (segmentEnd - made.position > 20_000n) made.add(otherRecord(5000))
  made.add(otherRecord(Number(segmentEnd - made.position) - 24 - 2 * 24 - 48))
  made.add(transactionRecord(at(30), { extra: 2000 }))
  const record = made.records.at(-1)
  assert.ok(record && record.start < segmentEnd && record.end > segmentEnd)
  for (const [length, minute] of [
    [Number(record.end - segmentEnd), 30],
    [Number(record.end - segmentEnd) - 1, 10],
  ] as const) {
    const storage = new MemoryStorage()
    storage.seed(`wal_005/${nameOf(0)}`, made.segment(0))
    storage.seed(tailKey(nameOf(1), { from: 0, to: length }, ''), made.segment(1).subarray(0, length))
    assert.deepEqual(shown(await windowOf(storage)), [start, formatTimestamp(at(minute))])
  }
})

test('a partial moves the end of the window as far as it reaches', async () => {
  const made = new MadeRecords(nameOf(0), 2)
  made.add(otherRecord(400))
  made.add(transactionRecord(at(10)))
  made.add(switchRecord)
  made.add(transactionRecord(at(40)))
  const storage = new MemoryStorage()
  storage.seed(`wal_005/${nameOf(0)}`, made.segment(0))
  storage.seed(`wal_005/${nameOf(1)}.partial`, made.segment(1))
  const window = await windowOf(storage)
  assert.deepEqual(shown(window), [start, formatTimestamp(at(40))])
  assert.ok(window.endLsn >= (made.records.at(-1)?.end ?? 0n) - 8n, String(window.endLsn))
  assert.ok(window.endLsn <= made.position)
})

test('no transaction, none in what is searched, and WAL that cannot be read make a note', async () => {
  const made = new MadeRecords(nameOf(0), 2)
  made.add(otherRecord(400))
  made.add(switchRecord)
  made.add(otherRecord(400))
  const storage = new MemoryStorage()
  for (const index of [0, 1]) storage.seed(`wal_005/${nameOf(index)}`, made.segment(index))
  assert.deepEqual(shown(await windowOf(storage)), [start, 'no transaction ended in it'])
  for (let index = 2; index < 300; index++) storage.seed(`wal_005/${nameOf(index)}`, emptySegment(index))
  const before = storage.calls.length
  assert.deepEqual(shown(await windowOf(storage)), [start, 'no transaction ended in the last WAL of it that was read'])
  assert.ok(storage.calls.length - before < 600)
  storage.seed(`wal_005/${nameOf(299)}`, Buffer.from('nothing of the kind'.repeat(10)))
  assert.match(shown(await windowOf(storage))[1] ?? '', /^its WAL cannot be read: a segment does not begin/)
})

function emptySegment(index: number): Buffer {
  const made = new MadeRecords(nameOf(index), 1)
  made.add(otherRecord(10))
  return made.segment(0)
}

test("after a fork the new timeline's copy is read; without one the old segment up to the fork", async () => {
  const old = new MadeRecords(nameOf(0), 2)
  old.add(otherRecord(400))
  old.add(transactionRecord(at(10)))
  old.add(switchRecord)
  old.add(transactionRecord(at(20)))
  const fork = toLsn(old.position)
  old.add(transactionRecord(at(50)))
  const young = new MadeRecords(nameOf(1, 2), 1)
  young.add(transactionRecord(at(20)))
  young.add(transactionRecord(at(25)))
  const storage = new MemoryStorage()
  storage.seed('wal_005/00000002.history', `1\t0/${fork.toString(16)}\tpromoted\n`)
  for (const index of [0, 1]) storage.seed(`wal_005/${nameOf(index)}`, old.segment(index))
  const times = async () => {
    const reader = new WalReader(storage)
    const inventory = await readInventory(reader, madeSegmentSize)
    const timed = await allWithTimes(reader, inventory, restoreWindows(inventory, [], [backup]))
    return timed.map((each) => [each.timeline, shown(each)[1]])
  }
  assert.deepEqual(await times(), [[1, formatTimestamp(at(50))]])
  storage.seed(`wal_005/${nameOf(1, 2)}`, young.segment(0))
  assert.deepEqual(await times(), [
    [1, formatTimestamp(at(50))],
    [2, formatTimestamp(at(25))],
  ])
})
