/** The records of a server's wal_level are found wherever they lie, and nothing else is taken for one. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { toLsn } from '../../../src/postgres/lsn.ts'
import { ParameterChangeFinder } from '../../../src/postgres/wal/parameter-change.ts'
import { MadeRecords, otherRecord, parameterChangeRecord } from '../../harness/made/made-records.ts'
import { madeSegmentSize } from '../../harness/made/made-wal.ts'

const first = '000000010000000000000005'
const start = 0x500000n

/** What is found in the segments, given one after the other. */
function find(made: MadeRecords, segments: number): { lsn: bigint; walLevel: number }[] {
  const finder = new ParameterChangeFinder()
  return Array.from({ length: segments }, (_, index) =>
    finder.find(made.segment(index), toLsn(start + BigInt(index * madeSegmentSize))),
  ).flat()
}

describe('records of wal_level', () => {
  test('are found in every place of a page, and with the level that they say', () => {
    const made = new MadeRecords(first, 1)
    const expected: { lsn: bigint; walLevel: number }[] = []
    for (let index = 0; made.position < start + BigInt(madeSegmentSize - 20_000); index++) {
      made.add(otherRecord((index * 8) % 200))
      made.add(parameterChangeRecord(index % 3))
      expected.push({ lsn: made.records.at(-1)?.start ?? 0n, walLevel: index % 3 })
    }
    const offsets = new Set(expected.map(({ lsn }) => Number(lsn % 8192n)))
    assert.ok(
      [8144, 8152, 8160, 8168, 8176, 8184].every((offset) => offsets.has(offset)),
      'some cross a page',
    )
    assert.deepEqual(find(made, 1), expected)
  })

  test('are found where two segments share one, and not without the second', () => {
    for (let left = 8; left <= 48; left += 8) {
      const made = new MadeRecords(first, 2)
      const room = () => Number(start) + madeSegmentSize - Number(made.position)
      while (room() > 8_000) made.add(otherRecord(100))
      made.add(otherRecord(room() - left - 24))
      assert.equal(room(), left)
      made.add(parameterChangeRecord(0))
      const lsn = made.records.at(-1)?.start
      assert.deepEqual(find(made, 2), [{ lsn, walLevel: 0 }])
      assert.deepEqual(find(made, 1), [])
      const finder = new ParameterChangeFinder()
      finder.find(made.segment(0), toLsn(start))
      assert.deepEqual(finder.find(made.segment(1), toLsn(start + BigInt(2 * madeSegmentSize))), [], 'of another place')
    }
  })

  test('are found among bytes that each look like the beginning of one', () => {
    const made = new MadeRecords(first, 1)
    const sixes = { ...otherRecord(0), body: Buffer.alloc(5_000, 54) }
    const room = () => Number(start) + madeSegmentSize - Number(made.position)
    const expected: { lsn: bigint; walLevel: number }[] = []
    for (let index = 0; room() > 20_000; index++) {
      made.add(sixes)
      made.add(parameterChangeRecord(index % 3))
      expected.push({ lsn: made.records.at(-1)?.start ?? 0n, walLevel: index % 3 })
    }
    assert.deepEqual(find(made, 1), expected)
  })

  test('are not what looks like one in the data, or has another checksum', () => {
    const made = new MadeRecords(first, 1)
    made.add(parameterChangeRecord(0))
    const at = Number((made.records[0]?.start ?? 0n) - start)
    const copy = made.bytes.subarray(at, at + 54)
    made.add({ ...otherRecord(0), body: Buffer.concat([Buffer.alloc(4), copy]) })
    assert.equal(find(made, 1).length, 1)
    for (const offset of [17, 20, 30, 46]) {
      const bytes = Buffer.from(made.bytes)
      bytes.writeUInt8(bytes.readUInt8(at + offset) ^ 1, at + offset)
      assert.deepEqual(new ParameterChangeFinder().find(bytes, toLsn(start)), [])
    }
    assert.deepEqual(new ParameterChangeFinder().find(Buffer.alloc(10), toLsn(start)), [])
  })
})
