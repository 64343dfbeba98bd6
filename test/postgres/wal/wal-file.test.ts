import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import {
  historyName,
  isSegmentName,
  parseHistory,
  parseSegmentName,
  parseSegmentSize,
  partialName,
  segmentName,
  segmentNameAt,
  segmentStartLsn,
  walFileKind,
} from '../../../src/postgres/wal/wal-file.ts'

const MiB = 1024 * 1024
const anySegmentSize = fc.integer({ min: 20, max: 30 }).map((power) => 2 ** power)
const anyTimeline = fc.integer({ min: 1, max: 0xffffffff })

describe('segment names', () => {
  test('are those of the server', () => {
    assert.equal(segmentName(1, 1n, 16 * MiB), '000000010000000000000001')
    assert.equal(segmentNameAt(1, parseLsn('16/B374D848'), 16 * MiB), '0000000100000016000000B3')
    assert.equal(segmentName(0xff, 256n, 16 * MiB), '000000FF0000000100000000')
    assert.equal(segmentName(2, 4095n, MiB), '000000020000000000000FFF')
    assert.equal(segmentName(2, 4096n, MiB), '000000020000000100000000')
    assert.equal(segmentName(1, 5n, 1024 * MiB), '000000010000000100000001')
  })

  test('lead back to timeline and segment number, for every segment size', () => {
    fc.assert(
      fc.property(
        anyTimeline,
        fc.bigInt({ min: 0n, max: 0xffffffffffffffffn }),
        anySegmentSize,
        (timeline, lsn, size) => {
          const segno = lsn / BigInt(size)
          const name = segmentNameAt(timeline, lsn as Lsn, size)
          assert.ok(isSegmentName(name))
          assert.deepEqual(parseSegmentName(name, size), { timeline, segno })
          assert.equal(segmentStartLsn({ timeline, segno }, size), segno * BigInt(size))
        },
      ),
    )
  })

  test('sort as the WAL does', () => {
    fc.assert(
      fc.property(anyTimeline, anySegmentSize, fc.nat(), fc.nat(), (timeline, size, a, b) => {
        const names = [segmentName(timeline, BigInt(a), size), segmentName(timeline, BigInt(b), size)] as const
        assert.equal(names[0] < names[1], a < b)
      }),
    )
  })

  test('impossible ones are none', () => {
    assert.equal(parseSegmentName('000000010000000000000100', 16 * MiB), undefined, 'beyond the segments of an id')
    assert.equal(parseSegmentName('000000000000000000000001', 16 * MiB), undefined, 'timeline 0')
    assert.equal(parseSegmentName('00000001000000000000000a', 16 * MiB), undefined, 'lower case')
    assert.equal(parseSegmentName('000000010000000000000001.partial', 16 * MiB), undefined)
  })
})

test('the whole name decides the kind of a file', () => {
  const kinds: [string, string | undefined][] = [
    ['000000010000000000000001', 'segment'],
    [partialName('000000010000000000000001'), 'partial'],
    [historyName(0x2a), 'history'],
    ['000000010000000000000001.00000028.backup', 'backup'],
    ['0000002A.history', 'history'],
    ['000000010000000000000001.zst', undefined],
    ['0000002a.history', undefined],
    ['000000010000000000000001\n', undefined],
    ['../000000010000000000000001', undefined],
    ['', undefined],
  ]
  for (const [name, kind] of kinds) assert.equal(walFileKind(name), kind, name)
})

describe('parseHistory', () => {
  const history = (text: string) => parseHistory(Buffer.from(text, 'latin1'), '00000003.history')

  test('reads what the server writes, oldest ancestor first', () => {
    const text = '1\t0/3000060\tno recovery target specified\n\n2\t16/B374D848\tbefore 2024-01-01 00:00:00+00\n'
    assert.deepEqual(history(text), [
      { timeline: 1, switchpoint: parseLsn('0/3000060') },
      { timeline: 2, switchpoint: parseLsn('16/B374D848') },
    ])
  })

  test('passes over comments and blank lines, and any byte in the reason', () => {
    assert.equal(history('# comment\n  # another\n\n 7 0/28 \xe9t\xe9\n').length, 1)
    assert.deepEqual(history(''), [])
    assert.equal(history('1\t0/28').length, 1)
  })

  test('refuses lines that are no entries, and timelines that do not increase', () => {
    for (const text of ['x\t0/28\n', '1\n', '1\tnot an LSN\n', '2\t0/28\n1\t0/30\n', '1\t0/28\n1\t0/30\n']) {
      assert.throws(() => history(text), { code: 'WALRX_OBJECT_DAMAGED' }, text)
    }
  })
})

describe('parseSegmentSize', () => {
  test('understands every size that initdb allows, in any unit', () => {
    for (let power = 0; power <= 10; power++) {
      const size = 2 ** power * MiB
      assert.equal(parseSegmentSize(`${2 ** power}MB`), size)
      assert.equal(parseSegmentSize(String(size)), size)
      assert.equal(parseSegmentSize(`${size / 1024}kB`), size)
    }
    assert.equal(parseSegmentSize('1GB'), 1024 * MiB)
  })

  test('refuses what can be no segment size', () => {
    for (const text of ['', '0', '512kB', '2GB', '3MB', '17MB', '16 TB', '-16MB', '16MiB', '16.5MB']) {
      assert.throws(() => parseSegmentSize(text), { code: 'WALRX_PROTOCOL' }, text)
    }
  })
})
