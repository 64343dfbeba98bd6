import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseSegmentName, segmentStartLsn } from '../../../src/postgres/wal/wal-file.ts'
import { checkSegment } from '../../../src/postgres/wal/wal-page.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { SegmentCheck, type SegmentRequirements } from '../../../src/restore/wal/segment-check.ts'
import { madeSegmentSize, madeSystemId, makeSegment } from '../../harness/made/made-wal.ts'
import { Random } from '../../harness/random.ts'

const name = '000000020000000000000005'

/** Runs a check over chunks of these lengths, the last one repeated. */
function check(bytes: Buffer, lengths: readonly number[] = [64 * 1024], required: Partial<SegmentRequirements> = {}) {
  const segment = new SegmentCheck({ name, ...required })
  for (let at = 0, index = 0; at < bytes.length; index++) {
    const length = lengths[Math.min(index, lengths.length - 1)] ?? 1
    segment.write(bytes.subarray(at, at + length))
    at += length
  }
  return segment.finish()
}

const refuses = (bytes: Buffer, message: RegExp, required: Partial<SegmentRequirements> = {}) =>
  assert.throws(
    () => check(bytes, [madeSegmentSize], required),
    (error) => {
      assert.ok(hasCode(error, 'WALRX_WAL_INVALID') || hasCode(error, 'WALRX_OTHER_CLUSTER'), String(error))
      assert.match(error.message, message)
      return true
    },
  )

/** A right segment with some bytes changed. */
const spoilt = (change: (bytes: Buffer) => void, pages = Infinity) => {
  const bytes = makeSegment(name, { pages })
  change(bytes)
  return bytes
}

describe('a right segment', () => {
  test('passes however its bytes are cut, and reports its size as soon as its first page has passed', () => {
    const bytes = makeSegment(name)
    for (const lengths of [[1], [7], [39, 1], [40], [8191], [8192], [8193], [100_000], [1, 8191 + 15, 1], [2 ** 30]]) {
      assert.equal(check(bytes, lengths), madeSegmentSize, String(lengths))
    }
    const segment = new SegmentCheck({ name })
    segment.write(bytes.subarray(0, 39))
    assert.equal(segment.segmentSize, undefined)
    segment.write(bytes.subarray(39, 40))
    assert.equal(segment.segmentSize, madeSegmentSize)
  })

  test('passes with an empty end after a WAL switch, and with pages of an older timeline before a fork', () => {
    assert.equal(check(makeSegment(name, { pages: 1 }), [100]), madeSegmentSize)
    assert.equal(check(makeSegment(name, { pages: 77 })), madeSegmentSize)
    assert.equal(check(makeSegment(name, { timeline: 1 })), madeSegmentSize)
  })

  test('passes at every segment size', () => {
    for (const segmentSize of [16 * madeSegmentSize, 64 * madeSegmentSize]) {
      assert.equal(check(makeSegment(name, { segmentSize, pages: 3 })), segmentSize)
      assert.equal(check(makeSegment(name, { segmentSize, pages: 3 }), [1e6], { segmentSize }), segmentSize)
    }
  })
})

describe('a segment is refused', () => {
  test('when it is too short or too long, with both lengths', () => {
    refuses(makeSegment(name).subarray(0, madeSegmentSize - 1), /has 1048575 bytes instead of 1048576/)
    refuses(makeSegment(name).subarray(0, 20), /has 20 bytes, less than a page header/)
    refuses(Buffer.alloc(0), /has 0 bytes/)
    refuses(Buffer.concat([makeSegment(name), Buffer.alloc(1)]), /has more than its 1048576 bytes/)
    refuses(Buffer.concat([makeSegment(name, { pages: 9 }), Buffer.alloc(1)]), /has more than/)
  })

  test('when its first page does not match the name', () => {
    refuses(makeSegment('000000020000000000000006'), /holds the page at 0\/600000 instead of 0\/500000/)
    refuses(makeSegment(name, { timeline: 3 }), /is of timeline 3, but its name is of timeline 2/)
    refuses(Buffer.alloc(madeSegmentSize), /does not begin with a WAL page header/)
    refuses(Buffer.alloc(madeSegmentSize, 'x'), /does not begin with a WAL page header/)
    refuses(
      spoilt((bytes) => bytes.writeUInt16LE(0, 2)),
      /lacks the long header/,
    )
    refuses(
      spoilt((bytes) => bytes.writeUInt32LE(3_000_000, 32)),
      /wal_segment_size 3000000/,
    )
  })

  test('when it is of another size than the configured one', () => {
    for (const segment of [name, '000000010000000000000FFF']) {
      assert.throws(
        () => check(makeSegment(segment), [1e6], { name: segment, segmentSize: 16 * madeSegmentSize }),
        (error) =>
          hasCode(error, 'WALRX_USAGE') && /1048576 bytes, but 16777216 bytes were expected/.test(error.message),
      )
    }
    const impossible = '00000001000000000000FFFF'
    assert.throws(
      () => new SegmentCheck({ name: impossible }).write(makeSegment(name)),
      /\b0{7}10{12}FFFF is not a valid segment name/,
    )
  })

  test('when it is of another cluster, which is an error of its own', () => {
    const systems = [{ systemId: madeSystemId + 1n, source: 'the archive is bound to' }]
    assert.throws(
      () => check(makeSegment(name), [1e6], { systems }),
      (error) =>
        hasCode(error, 'WALRX_OTHER_CLUSTER') &&
        error.message.includes(`${madeSystemId}, but the archive is bound to ${madeSystemId + 1n}`),
    )
    assert.equal(
      check(makeSegment(name), [1e6], { systems: [{ systemId: madeSystemId, source: '' }] }),
      madeSegmentSize,
    )
  })

  test('when a later page is of another place, timeline or version, with its position', () => {
    const page = 5 * 8192
    refuses(
      spoilt((bytes) => bytes.writeBigUInt64LE(1n, page + 8)),
      /page at 0\/50A000 has the address 0\/1/,
    )
    refuses(
      spoilt((bytes) => bytes.writeUInt32LE(9, page + 4)),
      /page at 0\/50A000 is of timeline 9/,
    )
    refuses(
      spoilt((bytes) => bytes.writeUInt16LE(0xd117, page)),
      /page at 0\/50A000 has magic 0xd117/,
    )
  })

  test('when WAL follows after an empty page', () => {
    refuses(
      spoilt((bytes) => bytes.fill(0, 8192, 2 * 8192)),
      /page at 0\/502000 is empty although WAL follows at byte 16384/,
    )
    refuses(
      spoilt((bytes) => bytes.writeUInt8(1, madeSegmentSize - 1), 3),
      /page at 0\/506000 is empty although WAL follows at byte 1048575/,
    )
    refuses(
      spoilt((bytes) => bytes.writeUInt8(1, 3 * 8192 + 15), 3),
      /is empty although WAL follows at byte 24591/,
    )
  })
})

test('any damage has the same result as in the check of whole segments', () => {
  const seed = Number(process.env['WALRX_SEED'] ?? Math.floor(Math.random() * 2 ** 32))
  const random = new Random(seed)
  const id = parseSegmentName(name, madeSegmentSize)
  assert.ok(id)
  const startLsn = segmentStartLsn(id, madeSegmentSize)
  const expected = { name, timeline: 2, startLsn, segmentSize: madeSegmentSize, systemId: undefined, magic: undefined }
  let refused = 0
  for (let round = 0; round < 300; round++) {
    const bytes = makeSegment(name, { pages: random.chance(0.5) ? Infinity : random.int(1, 128) })
    // Mostly in a header, sometimes anywhere.
    const page = random.int(0, 127) * 8192
    const at = page + random.int(0, random.chance(0.8) ? 39 : 8191)
    // Another plausible segment size has another message.
    if (at >= 32 && at < 36) continue
    bytes[at] = random.int(0, 255)
    const whole = verdict(() => checkSegment(bytes, expected))
    const lengths = Array.from({ length: 400 }, () => random.int(1, 20_000))
    const streamed = verdict(() => check(bytes, [...lengths, 64 * 1024], { segmentSize: madeSegmentSize }))
    assert.equal(streamed, whole, `seed ${seed}, round ${round}, byte ${at}`)
    if (whole !== 'right') refused++
  }
  assert.ok(refused > 50, `seed ${seed}: only ${refused} were damaged`)
})

function verdict(work: () => unknown): string {
  try {
    work()
    return 'right'
  } catch (error) {
    return (error as Error).message
  }
}
