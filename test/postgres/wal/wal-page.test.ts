import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { toLsn } from '../../../src/postgres/lsn.ts'
import { parseSegmentName, segmentStartLsn } from '../../../src/postgres/wal/wal-file.ts'
import {
  checkSegment,
  checkSegmentHeader,
  decodePageHeader,
  type ExpectedSegment,
  walMagic,
  walPageSize,
} from '../../../src/postgres/wal/wal-page.ts'

const MiB = 1024 * 1024

/** Segments of 1 MB that WAL-G archived from a PostgreSQL 17. All end in zeros after a WAL switch; C has 18 pages. */
const golden = ['B', 'C', 'D'].map((digit) => {
  const name = `00000001000000000000000${digit}`
  const url = new URL(`../../golden/walg-remote-none-many-parts/archive/wal_005/${name}`, import.meta.url)
  return { name, bytes: readFileSync(fileURLToPath(url)) }
})

const systemId = decodePageHeader(golden[0]?.bytes ?? Buffer.alloc(0))?.long?.systemId

function expectedOf(name: string, segmentSize = MiB): ExpectedSegment {
  const id = parseSegmentName(name, segmentSize)
  assert.ok(id)
  const startLsn = segmentStartLsn(id, segmentSize)
  return { name, timeline: id.timeline, startLsn, segmentSize, systemId, magic: walMagic(170_010) }
}

/** A copy of a golden segment, and what is expected of it. */
function sample(index: number): { bytes: Buffer; expected: ExpectedSegment } {
  const { name, bytes } = golden[index] ?? { name: '', bytes: Buffer.alloc(0) }
  return { bytes: Buffer.from(bytes), expected: expectedOf(name) }
}

/** Offset of the first page without a header, or the segment's size. */
function writtenBytes(bytes: Buffer): number {
  let offset = 0
  while (offset < bytes.length && bytes.readUInt16LE(offset) !== 0) offset += walPageSize
  return offset
}

/** A segment of any size: pages with valid headers and some content, then zeros. */
function made(segmentSize: number, pages: number, startLsn = 7n * BigInt(segmentSize)): Buffer {
  const bytes = Buffer.alloc(segmentSize)
  for (let page = 0; page < pages; page++) {
    const at = page * walPageSize
    bytes.writeUInt16LE(0xd116, at)
    bytes.writeUInt16LE(page === 0 ? 0x0002 : 0, at + 2)
    bytes.writeUInt32LE(3, at + 4)
    bytes.writeBigUInt64LE(startLsn + BigInt(at), at + 8)
    bytes.fill(0x5a, at + 64, at + 128)
  }
  bytes.writeBigUInt64LE(42n, 24)
  bytes.writeUInt32LE(segmentSize, 32)
  bytes.writeUInt32LE(walPageSize, 36)
  return bytes
}

function expectedMade(segmentSize: number): ExpectedSegment {
  const startLsn = toLsn(7n * BigInt(segmentSize))
  return { name: 'made', timeline: 3, startLsn, segmentSize, systemId: 42n, magic: 0xd116 }
}

describe('segments of a real server', () => {
  test('pass, up to the zeros after a WAL switch', () => {
    for (const [index, { name }] of golden.entries()) {
      const { bytes, expected } = sample(index)
      assert.doesNotThrow(() => checkSegment(bytes, expected), name)
    }
    assert.deepEqual(
      golden.map(({ bytes }) => writtenBytes(bytes) / walPageSize),
      [1, 18, 1],
    )
  })

  test('are decoded to what they are', () => {
    const { bytes, expected } = sample(1)
    assert.deepEqual(decodePageHeader(bytes), {
      magic: 0xd116,
      timeline: 1,
      pageAddress: expected.startLsn,
      long: { systemId, segmentSize: MiB, pageSize: walPageSize },
    })
    assert.equal(decodePageHeader(bytes, walPageSize)?.pageAddress, expected.startLsn + BigInt(walPageSize))
    assert.equal(decodePageHeader(bytes, walPageSize)?.long, undefined)
  })
})

describe('a segment is refused', () => {
  /** A way to spoil it, and the words that name what is wrong with both values. */
  const spoilers: Record<
    string,
    { spoil: (bytes: Buffer) => void; expected?: Partial<ExpectedSegment>; says: RegExp }
  > = {
    'that does not begin with a WAL page': { spoil: (bytes) => bytes.fill(0, 0, 16), says: /magic 0x0000/ },
    'of another version of PostgreSQL': {
      spoil: (bytes) => bytes.writeUInt16LE(0xd118, 0),
      says: /has page magic 0xd118, but its server writes 0xd116/,
    },
    'of a server with another byte order': { spoil: (bytes) => bytes.writeUInt16BE(0xd116, 0), says: /magic 0x16d1/ },
    'without the long header': { spoil: (bytes) => bytes.writeUInt16LE(0, 2), says: /lacks the long header/ },
    'from another place': {
      spoil: (bytes) => bytes.writeBigUInt64LE(0x999000n, 8),
      says: /holds the page at 0\/999000 instead of 0\/B00000/,
    },
    'of a newer timeline than its name': {
      spoil: (bytes) => bytes.writeUInt32LE(2, 4),
      says: /is of timeline 2, but its name is of timeline 1/,
    },
    'of another cluster': {
      spoil: (bytes) => bytes.writeBigUInt64LE(77n, 24),
      says: new RegExp(`has system identifier 77, but ${systemId} was expected`),
    },
    'of another segment size': {
      spoil: (bytes) => bytes.writeUInt32LE(16 * MiB, 32),
      says: /has wal_segment_size 16777216, but 1048576 was expected/,
    },
    'with an impossible page size': {
      spoil: (bytes) => bytes.writeUInt32LE(8191, 36),
      says: /invalid WAL page size of 8191 bytes/,
    },
    'with a page size of nothing': {
      spoil: (bytes) => bytes.writeUInt32LE(0, 36),
      says: /invalid WAL page size of 0 bytes/,
    },
  }
  for (const [name, { spoil, says }] of Object.entries(spoilers)) {
    test(name, () => {
      const { bytes, expected } = sample(0)
      spoil(bytes)
      for (const check of [checkSegment, checkSegmentHeader]) {
        assert.throws(() => check(bytes, expected), { code: 'WALRX_WAL_INVALID', message: says })
      }
      assert.throws(() => checkSegment(bytes, expected), { message: /segment 00000001000000000000000B/ })
    })
  }

  test('with a later page that is wrong in any field: the error names the page', () => {
    const fields: readonly [string, (bytes: Buffer, at: number) => void, RegExp][] = [
      ['magic', (bytes, at) => bytes.writeUInt16LE(0xd115, at), /has magic 0xd115 instead of 0xd116/],
      ['address', (bytes, at) => bytes.writeBigUInt64LE(0x123000n, at + 8), /has the address 0\/123000/],
      ['timeline', (bytes, at) => bytes.writeUInt32LE(9, at + 4), /is of timeline 9, but the name is of timeline 1/],
    ]
    for (const [field, spoil, says] of fields) {
      for (const page of [1, 2, 9, 17]) {
        const { bytes, expected } = sample(1)
        spoil(bytes, page * walPageSize)
        assert.throws(() => checkSegment(bytes, expected), { code: 'WALRX_WAL_INVALID', message: says }, field)
        const address = (Number(expected.startLsn) + page * walPageSize).toString(16).toUpperCase()
        assert.throws(() => checkSegment(bytes, expected), { message: new RegExp(`page at 0/${address} `) })
      }
    }
  })

  test('with WAL after its zeros, at any byte', () => {
    const index = 1
    const written = writtenBytes(sample(index).bytes)
    fc.assert(
      fc.property(fc.integer({ min: written + 2, max: MiB - 1 }), fc.integer({ min: 1, max: 255 }), (at, byte) => {
        const { bytes, expected } = sample(index)
        bytes[at] = byte
        // After the first empty page the byte may look like the magic of another page: it is refused, too.
        assert.throws(() => checkSegment(bytes, expected), { code: 'WALRX_WAL_INVALID', message: /is empty although/ })
      }),
      { numRuns: 50 },
    )
  })

  test('with zeros in the middle: a page that was never received', () => {
    const { bytes, expected } = sample(1)
    bytes.fill(0, 5 * walPageSize, 6 * walPageSize)
    assert.throws(() => checkSegment(bytes, expected), {
      message: new RegExp(`is empty although WAL follows at byte ${6 * walPageSize}`),
    })
  })
})

describe('a segment passes', () => {
  test('of every size, with any number of pages before its zeros', () => {
    for (const segmentSize of [MiB, 16 * MiB, 64 * MiB]) {
      const pageCount = segmentSize / walPageSize
      for (const pages of [1, 2, pageCount - 1, pageCount]) {
        assert.doesNotThrow(() => checkSegment(made(segmentSize, pages), expectedMade(segmentSize)))
        const bytes = made(segmentSize, pages)
        if (pages === pageCount) bytes.writeBigUInt64LE(1n, segmentSize - walPageSize + 8)
        else bytes[segmentSize - 1] = 1
        assert.throws(() => checkSegment(bytes, expectedMade(segmentSize)), { code: 'WALRX_WAL_INVALID' })
      }
    }
  })

  test('with pages of an older timeline before the fork, in one segment of the newer', () => {
    const bytes = made(MiB, 100)
    for (let page = 0; page < 50; page++) bytes.writeUInt32LE(page < 20 ? 1 : 2, page * walPageSize + 4)
    assert.doesNotThrow(() => checkSegment(bytes, expectedMade(MiB)))
  })

  test('of an unknown version, as long as all pages agree with the first', () => {
    const expected = { ...expectedMade(MiB), magic: undefined }
    const bytes = made(MiB, 100)
    assert.doesNotThrow(() => checkSegment(bytes, expected))
    bytes.writeUInt16LE(0xd117, 9 * walPageSize)
    assert.throws(() => checkSegment(bytes, expected), { message: /has magic 0xd117 instead of 0xd116/ })
  })

  test('of an unknown cluster, whatever its identifier', () => {
    const { bytes, expected } = sample(0)
    bytes.writeBigUInt64LE(77n, 24)
    assert.doesNotThrow(() => checkSegment(bytes, { ...expected, systemId: undefined }))
  })

  test('with WAL pages of another size than the usual', () => {
    const bytes = made(MiB, 128)
    const pageSize = 16_384
    bytes.writeUInt32LE(pageSize, 36)
    for (let at = walPageSize; at < MiB; at += pageSize) bytes.fill(0xff, at, at + 64)
    assert.doesNotThrow(() => checkSegment(bytes, expectedMade(MiB)))
  })
})

describe('the page header', () => {
  test('of anything else is none, however short', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const header = decodePageHeader(Buffer.from(bytes))
        if (bytes.length < 24) assert.equal(header, undefined)
      }),
    )
    const long = sample(0).bytes
    for (let length = 0; length < 40; length++) assert.equal(decodePageHeader(long.subarray(0, length)), undefined)
    assert.ok(decodePageHeader(long.subarray(0, 40)))
  })

  test('has the magic of each major version', () => {
    const magics = [140_023, 150_018, 160_014, 170_010, 180_004].map((version) => walMagic(version)?.toString(16))
    assert.deepEqual(magics, ['d10d', 'd110', 'd113', 'd116', 'd118'])
    assert.equal(walMagic(990_000), undefined)
  })
})
