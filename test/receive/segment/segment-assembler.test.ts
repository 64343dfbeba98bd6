import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { addBytes, type Lsn, parseLsn, toLsn } from '../../../src/postgres/lsn.ts'
import { type ReceivedSegment, SegmentAssembler } from '../../../src/receive/segment/segment-assembler.ts'
import { SegmentPool } from '../../../src/receive/segment/segment-pool.ts'

const segmentSize = 64
const start = parseLsn('0/1000')

/** WAL that differs at every position. */
function wal(from: Lsn, length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => Number((from + BigInt(index)) * 31n) & 0xff))
}

function open(capacity = 3): { pool: SegmentPool; assembler: SegmentAssembler; segments: ReceivedSegment[] } {
  const pool = new SegmentPool(segmentSize, capacity)
  const segments: ReceivedSegment[] = []
  const assembler = new SegmentAssembler(pool, (segment) => segments.push(segment))
  return { pool, assembler, segments }
}

function text({ buffer, length }: ReceivedSegment): string {
  return buffer.toString('hex', 0, length)
}

describe('assembling', () => {
  test('any cut of the WAL gives the same segments, without a byte lost or doubled', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 150 }), { maxLength: 12 }), (lengths) => {
        const { assembler, segments } = open(40)
        assembler.begin(3, start)
        let lsn = start
        for (const length of lengths) {
          assert.equal(assembler.write(lsn, wal(lsn, length)), length)
          lsn = addBytes(lsn, length)
        }
        assert.equal(assembler.nextLsn, lsn)
        assert.equal(assembler.heldEnd, lsn)
        const total = Number(lsn - start)
        assert.equal(segments.length, Math.floor(total / segmentSize))
        segments.forEach((segment, index) => {
          const at = addBytes(start, index * segmentSize)
          assert.deepEqual(
            [segment.timeline, segment.startLsn, segment.length, text(segment)],
            [3, at, segmentSize, wal(at, segmentSize).toString('hex')],
          )
        })
        assert.equal(assembler.holdsPartial, total % segmentSize > 0)
      }),
    )
  })

  test('a gap and an overlap are refused, naming both positions and the timeline', () => {
    const { assembler } = open()
    assembler.begin(2, start)
    assembler.write(start, wal(start, 10))
    assert.throws(() => assembler.write(parseLsn('0/100B'), wal(start, 1)), {
      code: 'WALRX_WAL_GAP',
      message: 'the server sent WAL at 0/100B, expected 0/100A: a gap on timeline 2',
    })
    assert.throws(() => assembler.write(parseLsn('0/1009'), wal(start, 1)), {
      code: 'WALRX_WAL_GAP',
      message: 'the server sent WAL at 0/1009, expected 0/100A: an overlap on timeline 2',
    })
    assert.equal(assembler.write(parseLsn('0/100A'), wal(parseLsn('0/100A'), 1)), 1, 'and nothing was changed by them')
  })

  test('a gap with its edge exactly at a segment boundary is a gap', () => {
    const { assembler, segments } = open()
    assembler.begin(1, start)
    assembler.write(start, wal(start, segmentSize))
    assert.equal(segments.length, 1)
    assert.throws(() => assembler.write(addBytes(start, 2 * segmentSize), wal(start, 1)), { code: 'WALRX_WAL_GAP' })
    assert.throws(() => assembler.write(start, wal(start, 1)), { code: 'WALRX_WAL_GAP' })
  })

  test('without a free buffer it takes up to the boundary, and the rest once there is one', () => {
    const { pool, assembler, segments } = open(1)
    assembler.begin(1, start)
    const bytes = wal(start, 100)
    assert.equal(assembler.write(start, bytes), segmentSize)
    const next = addBytes(start, segmentSize)
    assert.equal(assembler.write(next, bytes.subarray(segmentSize)), 0)
    assert.equal(assembler.nextLsn, next)
    assert.ok(segments[0])
    pool.give(segments[0].buffer)
    assert.equal(assembler.write(next, bytes.subarray(segmentSize)), 36)
  })

  test('the bytes are copied: what is read next into the same memory changes nothing', () => {
    const { assembler, segments } = open()
    assembler.begin(1, start)
    const reused = Buffer.alloc(32)
    for (let at = start; at < start + 64n; at = addBytes(at, 32)) {
      wal(at, 32).copy(reused)
      assembler.write(at, reused)
      reused.fill(0xee)
    }
    assert.ok(segments[0])
    assert.equal(text(segments[0]), wal(start, 64).toString('hex'))
  })

  test('begins at the first byte of a segment only', () => {
    const { assembler } = open()
    assert.throws(() => assembler.begin(1, parseLsn('0/1001')), /0\/1001 starts no segment/)
  })
})

describe('after a broken connection', () => {
  test('repeated bytes are compared, then the stream goes on, whatever the cuts', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: segmentSize - 1 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 4, maxLength: 10 }),
        (held, lengths) => {
          const { pool, assembler, segments } = open()
          assembler.begin(1, start)
          assembler.write(start, wal(start, held))
          assembler.begin(1, start)
          assert.deepEqual([assembler.nextLsn, assembler.heldEnd], [start, addBytes(start, held)])
          let lsn = start
          for (const length of lengths) {
            if (segments.length > 0) break
            assembler.write(lsn, wal(lsn, length))
            lsn = addBytes(lsn, length)
            assert.equal(assembler.nextLsn, lsn, 'the position reported is what this stream has brought')
          }
          if (segments[0]) assert.equal(text(segments[0]), wal(start, segmentSize).toString('hex'))
          assert.ok(pool.free >= 1, 'the held buffer was used again')
        },
      ),
    )
  })

  test('one other byte is found, wherever it is and however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: segmentSize - 1 }),
        fc.nat(),
        fc.integer({ min: 1, max: 64 }),
        (held, where, step) => {
          const { assembler } = open()
          assembler.begin(1, start)
          assembler.write(start, wal(start, held))
          assembler.begin(1, start)
          const other = wal(start, segmentSize)
          const at = where % held
          other[at] = (other[at] ?? 0) ^ 1
          let refused: unknown
          for (let from = 0; from < segmentSize && !refused; from += step) {
            try {
              assembler.write(addBytes(start, from), other.subarray(from, from + step))
            } catch (error) {
              refused = error
            }
          }
          assert.equal((refused as { code?: string } | undefined)?.code, 'WALRX_WAL_DIVERGED')
          const partial = assembler.takePartial()
          assert.ok(partial)
          assert.equal(text(partial), wal(start, held).toString('hex'), 'what came first is kept as it was')
        },
      ),
    )
  })

  test('a difference names where, on which timeline, and what becomes of it', () => {
    const { assembler } = open()
    assembler.begin(4, start)
    assembler.write(start, wal(start, 20))
    assembler.begin(4, start)
    assert.throws(() => assembler.write(start, Buffer.alloc(30, 0xff)), {
      code: 'WALRX_WAL_DIVERGED',
      message: /between 0\/1000 and 0\/1014 of timeline 4/,
      hint: /partial/,
    })
  })

  test('bytes that are held cannot be forgotten by beginning elsewhere', () => {
    const { assembler } = open()
    assembler.begin(1, start)
    assembler.write(start, wal(start, 20))
    assert.throws(() => assembler.begin(2, start), /would be forgotten/)
    assert.throws(() => assembler.begin(1, addBytes(start, segmentSize)), /would be forgotten/)
    assert.ok(assembler.takePartial())
    assembler.begin(2, start)
    assert.equal(assembler.timeline, 2)
  })
})

describe('the unfinished segment', () => {
  test('is handed over once, with its buffer', () => {
    const { pool, assembler } = open()
    assembler.begin(1, start)
    assembler.write(start, wal(start, segmentSize + 10))
    const partial = assembler.takePartial()
    assert.ok(partial)
    assert.deepEqual([partial.startLsn, partial.length], [addBytes(start, segmentSize), 10])
    assert.equal(assembler.takePartial(), undefined)
    assert.equal(pool.free, 1)
    pool.give(partial.buffer)
  })

  test('can be dropped: its buffer is free again, and the stream begins at the boundary', () => {
    const { pool, assembler } = open()
    assembler.begin(1, start)
    assembler.write(start, wal(start, 10))
    assembler.discard()
    assert.deepEqual([pool.free, assembler.nextLsn, assembler.holdsPartial], [3, start, false])
    assembler.begin(5, toLsn(0n))
  })

  test('there is none exactly on a boundary', () => {
    const { assembler } = open()
    assembler.begin(1, start)
    assembler.write(start, wal(start, 2 * segmentSize))
    assert.equal(assembler.takePartial(), undefined)
    assert.equal(assembler.segmentStart, addBytes(start, 2 * segmentSize))
  })
})
