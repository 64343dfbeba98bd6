/** Records are found wherever they lie, and nothing is taken for one that isn't. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import { toLsn } from '../../../src/postgres/lsn.ts'
import { transactionTime } from '../../../src/postgres/wal/wal-record.ts'
import { WalRecordReader } from '../../../src/postgres/wal/wal-record-reader.ts'
import { MadeRecords, otherRecord, switchRecord, transactionRecord } from '../../harness/made/made-records.ts'
import { madeSegmentSize } from '../../harness/made/made-wal.ts'
import { Random } from '../../harness/random.ts'

const first = '000000010000000000000005'
const pageSize = 8192

/** Turns bits over. */
const flip = (bytes: Buffer, at: number, bits: number) => bytes.writeUInt8(bytes.readUInt8(at) ^ bits, at)

/** What a reader finds in these bytes, given in chunks. */
function read(bytes: Buffer, chunks: (left: number) => number = (left) => left) {
  const found: { start: bigint; end: bigint }[] = []
  const times: bigint[] = []
  const reader = new WalRecordReader((record) => {
    found.push({ start: record.start, end: record.end })
    const time = transactionTime(record)
    if (time !== undefined) times.push(time)
  })
  for (let at = 0; at < bytes.length;) {
    const size = Math.max(1, Math.min(chunks(bytes.length - at), bytes.length - at))
    // Overwritten afterwards, as a buffer that is used again would be.
    const chunk = Buffer.from(bytes.subarray(at, at + size))
    reader.write(chunk)
    chunk.fill(0xee)
    at += size
  }
  return { found, times, end: reader.end }
}

describe('records', () => {
  test('of any length are found across pages and segments, in chunks of any size', (t) => {
    const seed = Math.floor(Math.random() * 2 ** 31)
    t.diagnostic(`seed ${seed}`)
    const random = new Random(seed)
    const made = new MadeRecords(first, 4)
    const times: bigint[] = []
    while (made.records.length < 3 || made.position % BigInt(4 * madeSegmentSize) < 3n * BigInt(madeSegmentSize)) {
      const length = random.pick([0, 1, random.int(0, 200), random.int(8000, 8400), random.int(0, madeSegmentSize)])
      if (made.position + BigInt(length) > 0x500000n + 4n * BigInt(madeSegmentSize) - 100_000n) break
      if (random.chance(0.3)) {
        times.push(BigInt(random.int(1, 1e9)))
        made.add(transactionRecord(times.at(-1) ?? 0n, { extra: random.int(0, 40_000) }))
      } else made.add(otherRecord(length))
    }
    const whole = read(made.bytes)
    assert.deepEqual(whole.found, made.records)
    assert.deepEqual(whole.times, times)
    assert.deepEqual(
      read(made.bytes, () => random.int(1, 30_000)),
      whole,
    )
    assert.equal(whole.end, made.position)
  })

  test('that began before the bytes do are read over', () => {
    const made = new MadeRecords(first, 3)
    made.add(otherRecord(madeSegmentSize + 20_000))
    made.add(transactionRecord(5n))
    const { found, times } = read(made.bytes.subarray(madeSegmentSize))
    assert.deepEqual(found, made.records.slice(1))
    assert.deepEqual(times, [5n])
  })

  test('after a WAL switch are those of the next segment', () => {
    const made = new MadeRecords(first, 2)
    made.add(transactionRecord(1n))
    made.add(switchRecord)
    made.add(transactionRecord(2n))
    const { found, times } = read(made.bytes)
    assert.deepEqual(found, made.records)
    assert.equal(found[1]?.end, 0x600000n)
    assert.deepEqual(times, [1n, 2n])
  })

  test('continue after one that a crash left incomplete', () => {
    const made = new MadeRecords(first, 1)
    made.add(transactionRecord(1n))
    made.abandon(2)
    made.add(transactionRecord(2n))
    const { found, times } = read(made.bytes)
    assert.deepEqual(found, made.records)
    assert.deepEqual(times, [1n, 2n])
  })
})

describe('the stream ends', () => {
  const damaged = (harm: (bytes: Buffer, starts: readonly number[]) => void) => {
    const made = new MadeRecords(first, 1)
    for (let time = 1n; time <= 4n; time++) made.add(transactionRecord(time, { extra: 9000 }))
    harm(
      made.bytes,
      made.records.map(({ start }) => Number(start - 0x500000n)),
    )
    return { ...read(made.bytes), records: made.records }
  }

  for (const [what, harm] of [
    ['at a record with damaged data', (bytes, [, , third = 0]) => flip(bytes, third + 5000, 4)],
    ['at a record with a damaged header', (bytes, [, , third = 0]) => flip(bytes, third + 16, 0x20)],
    ['at a record of no possible length', (bytes, [, , third = 0]) => bytes.writeUInt32LE(23, third)],
    ['at a record that claims more than its pages say', (bytes, [, , third = 0]) => flip(bytes, third + 1, 1)],
    [
      'in a record that the next page does not go on with',
      (bytes, [, , third = 0]) => flip(bytes, Math.ceil(third / pageSize) * pageSize + 2, 1),
    ],
    [
      'in a record that continues on an older page',
      (bytes, [, , third = 0]) => bytes.writeUInt32LE(0x400000, Math.ceil(third / pageSize) * pageSize + 8),
    ],
  ] as [string, (bytes: Buffer, starts: readonly number[]) => unknown][]) {
    test(what, () => {
      const { end, records, times } = damaged(harm)
      assert.deepEqual(times, [1n, 2n])
      assert.equal(end, records[2]?.start)
    })
  }

  test('in a record for which the next page has a wrong remaining length', () => {
    for (const bits of [1, 2]) {
      // No checksum covers the header of a page.
      const { end, records, times } = damaged((bytes, [, , third = 0]) =>
        flip(bytes, Math.ceil(third / pageSize) * pageSize + 16, bits),
      )
      assert.deepEqual([times, end], [[1n, 2n], records[2]?.start])
    }
  })

  test('at a page that goes on with a record although none was begun', () => {
    const made = new MadeRecords(first, 1)
    made.add(otherRecord(pageSize - 40 - 24))
    const second = toLsn(made.position)
    made.add(transactionRecord(1n))
    made.add(transactionRecord(2n))
    made.bytes.writeUInt16LE(1, pageSize + 2)
    made.bytes.writeUInt32LE(40, pageSize + 16)
    const { end, found } = read(made.bytes)
    assert.deepEqual([found.length, end], [1, second])
  })

  test('at a record that points to another one before it', () => {
    const made = new MadeRecords(first, 1)
    made.add(transactionRecord(1n))
    const other = new MadeRecords(first, 1)
    other.add(otherRecord(8))
    other.add(transactionRecord(2n))
    other.add(transactionRecord(3n))
    const from = Number((other.records[2]?.start ?? 0n) - 0x500000n)
    const to = Number(made.position - 0x500000n)
    // Whole, with the right checksum, but left over from another history.
    other.bytes.copy(made.bytes, to, from, from + 64)
    const { end, times } = read(made.bytes)
    assert.deepEqual([times, end], [[1n], made.position])
  })

  test('with an error where it does not begin with a segment', () => {
    const reader = new WalRecordReader(() => {})
    assert.throws(
      () => reader.write(Buffer.alloc(100)),
      (error) => hasCode(error, 'WALRX_WAL_INVALID'),
    )
  })
})

describe('the end of a transaction', () => {
  for (const [what, record] of [
    ['a commit', transactionRecord(7n)],
    ['an abort', transactionRecord(7n, { info: 0x20 })],
    ['a commit of a prepared transaction', transactionRecord(7n, { info: 0x30 | 0x80 })],
    ['an abort of a prepared transaction', transactionRecord(7n, { info: 0x40 })],
    ['a commit with an origin and a top-level transaction', transactionRecord(7n, { origin: true, topLevel: true })],
    ['a commit with more data than fits a short length', transactionRecord(7n, { extra: 300, origin: true })],
  ] as const) {
    test(`is shown by ${what}`, () => {
      const made = new MadeRecords(first, 1)
      made.add(record)
      assert.deepEqual(read(made.bytes).times, [7n])
    })
  }

  test('is not shown by a prepare, an assignment or another resource manager', () => {
    const made = new MadeRecords(first, 1)
    for (const info of [0x10, 0x50, 0x60]) made.add(transactionRecord(7n, { info }))
    made.add({ ...transactionRecord(7n), resourceManager: 2 })
    assert.equal(read(made.bytes).found.length, 4)
    assert.deepEqual(read(made.bytes).times, [])
  })
})
