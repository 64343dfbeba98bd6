/** Increments of files as they stream: read and converted to exactly what a plain model makes of them. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { IncrementConverter } from '../../../src/walg/increment/increment-converter.ts'
import {
  type IncrementFormat,
  IncrementReader,
  type IncrementSink,
} from '../../../src/walg/increment/increment-reader.ts'
import { encodeWi1Head } from '../../../src/walg/increment/increment-format.ts'
import {
  applyNative,
  applyWi1,
  drawPage,
  drawPages,
  drawPieces,
  nativeBytes,
  page,
  segment,
  u32,
  wi1Of,
} from '../../harness/made/increments.ts'
import { Random } from '../../harness/random.ts'

const refuse = (what: string) => new WalrxError('WALRX_OBJECT_DAMAGED', `the increment of base/5/1: ${what}`)

/** Sometimes later. */
const maybeLater = (random: Random) => (random.chance(0.2) ? Promise.resolve() : undefined)

/** Applies what a reader says to a file in memory. */
class MemoryFile implements IncrementSink {
  file: Buffer
  readonly #random: Random

  constructor(file: Buffer, random: Random) {
    this.file = file
    this.#random = random
  }

  onHead = ({ fileBlocks, keptBlocks }: { readonly fileBlocks: number; readonly keptBlocks: number }) => {
    const kept = this.file.subarray(0, keptBlocks * page)
    this.file = Buffer.concat([kept, Buffer.alloc(fileBlocks * page)], fileBlocks * page)
    return maybeLater(this.#random)
  }

  onPages = (position: number, bytes: Uint8Array) => {
    assert.ok(position + bytes.length <= this.file.length)
    this.file.set(bytes, position)
    return maybeLater(this.#random)
  }
}

async function apply(random: Random, file: Buffer, increment: Buffer): Promise<Buffer> {
  const sink = new MemoryFile(file, random)
  const reader = new IncrementReader({ size: increment.length, formats: ['wi1', 'native'], refuse, sink })
  for (const piece of drawPieces(random, increment)) await reader.append(piece)
  reader.end()
  return sink.file
}

async function convert(random: Random, native: Buffer): Promise<Buffer> {
  const pieces: Buffer[] = []
  let announced = -1
  const target = {
    begin: (size: number) => {
      assert.equal(announced, -1)
      announced = size
      return maybeLater(random)
    },
    append: (bytes: Uint8Array) => {
      assert.notEqual(announced, -1)
      pieces.push(Buffer.from(bytes))
      return maybeLater(random)
    },
  }
  const converter = new IncrementConverter({ size: native.length, refuse, target })
  for (const piece of drawPieces(random, native)) await converter.append(piece)
  converter.end()
  const converted = Buffer.concat(pieces)
  assert.equal(converted.length, announced)
  return converted
}

describe('increments', () => {
  test('step by step make the file that a plain model makes, in both formats and converted', async () => {
    for (let seed = 1; seed <= 150; seed++) {
      const random = new Random(seed)
      let file: Buffer = Buffer.concat(Array.from({ length: random.int(0, 12) }, () => drawPage(random)))
      for (let step = 1; step <= random.int(1, 5); step++) {
        const at = `seed ${seed}, step ${step}`
        // Shrunk, as long as it was, grown; and pages on both sides of where it is cut.
        const truncation = random.int(0, 16)
        const native = { truncation, pages: drawPages(random, random.pick([truncation, 16, random.int(0, 20)])) }
        const expected = applyNative(file, native)
        const bytes = nativeBytes(native)
        const converted = await convert(random, bytes)
        assert.ok(expected.equals(applyWi1(file, converted)), `${at}: converted, as WAL-G applies it`)
        assert.ok(expected.equals(await apply(random, file, bytes)), `${at}: native`)
        assert.ok(expected.equals(await apply(random, file, converted)), `${at}: converted`)
        file = expected
      }
    }
  })

  test('of WAL-G make the file that its own rule makes', async () => {
    for (let seed = 1; seed <= 150; seed++) {
      const random = new Random(seed)
      const file = Buffer.concat(Array.from({ length: random.int(0, 12) }, () => drawPage(random)))
      const blocks = random.int(0, 16)
      const increment = wi1Of(blocks, drawPages(random, blocks))
      assert.ok(applyWi1(file, increment).equals(await apply(random, file, increment)), `seed ${seed}`)
    }
  })

  test('are encoded to their length and their blocks', () => {
    const pages = new Map([0, 7, 8].map((block) => [block, Buffer.alloc(page, block)]))
    const head = encodeWi1Head({ fileBlocks: 9, blocks: Uint32Array.from(pages.keys()) })
    assert.deepEqual(head, wi1Of(9, pages).subarray(0, head.length))
    assert.equal(head.length, 16 + 4 * 3)
  })

  test('that keep more blocks than a segment has are cut to a segment', async () => {
    const native = { truncation: 200_000, pages: new Map([[5, Buffer.alloc(page, 1)]]) }
    const converted = await convert(new Random(1), nativeBytes(native))
    assert.ok(converted.equals(wi1Of(segment, native.pages)))
  })

  test('convert to the same pages in the same pieces, however they lie in the file', () => {
    const blocks = Array.from({ length: 64 }, (_, index) => 2 * index)
    const native = nativeBytes({
      truncation: 200,
      pages: new Map(blocks.map((block) => [block, Buffer.alloc(page, 1)])),
    })
    const lengths: number[] = []
    const target = { begin: () => {}, append: (piece: Uint8Array) => void lengths.push(piece.length) }
    const converter = new IncrementConverter({ size: native.length, refuse, target })
    const headBytes = native.length - 64 * page
    for (const [from, to] of [
      [0, headBytes],
      [headBytes, headBytes + 100_000],
      [headBytes + 100_000, native.length],
    ]) {
      void converter.append(native.subarray(from, to))
    }
    converter.end()
    // A call for each page costs more than all else that converting does.
    assert.deepEqual(lengths, [16 + 4 * 64, 100_000, 64 * page - 100_000])
  })

  test('convert a segment of zeros without holding it', () => {
    const native = nativeBytes({ truncation: 0, pages: new Map([[segment - 1, Buffer.alloc(page, 1)]]) })
    let announced = 0
    let bytes = 0
    let longest = 0
    const target = {
      begin: (size: number) => {
        announced = size
      },
      append: (piece: Uint8Array) => {
        bytes += piece.length
        longest = Math.max(longest, piece.length)
      },
    }
    const converter = new IncrementConverter({ size: native.length, refuse, target })
    assert.equal(converter.append(native), undefined)
    converter.end()
    assert.equal(announced, 16 + 4 * segment + page * segment)
    assert.equal(bytes, announced)
    assert.ok(longest <= 16 + 4 * segment, `${longest} bytes at once`)
  })
})

describe('an increment is refused, naming file and field,', () => {
  const one = new Map([[1, Buffer.alloc(page, 1)]])
  const wi1 = wi1Of(4, one)
  const native = nativeBytes({ truncation: 4, pages: one })
  const changed = (bytes: Buffer, at: number, value: number) => {
    const copy = Buffer.from(bytes)
    copy.writeUInt32LE(value, at)
    return copy
  }
  const two = new Map([
    [2, Buffer.alloc(page, 1)],
    [3, Buffer.alloc(page, 1)],
  ])
  const bad: readonly (readonly [what: string, bytes: Buffer, says: RegExp])[] = [
    ['that has another magic', changed(wi1, 0, 7), /the magic is 07000000 instead of 77693155 or 0d1faed3/],
    ['that is empty', Buffer.alloc(0), /it ends after 0 of 0 bytes, within its head/],
    ['of a few bytes', wi1.subarray(0, 3), /it ends after 3 of 3 bytes, within its head/],
    ['wi1 shorter than its fields', wi1.subarray(0, 12), /it has 12 bytes, and its head alone 16/],
    ['wi1 of no whole pages', changed(wi1, 4, 4 * page + 1), /the file size is 32769, which is not a multiple of 8192/],
    ['wi1 of a file beyond a segment', changed(wi1, 8, 1), /the file size is 4295000064, .* 1073741824 bytes at most/],
    ['wi1 with more pages than blocks', changed(wi1, 12, 5), /the page count is 5, and the file has 4 blocks/],
    ['wi1 with a wrong count', changed(wi1, 12, 2), /block numbers\[1\] is 16843009, but the file has 4/],
    ['wi1 with a block beyond the file', changed(wi1, 16, 4), /block numbers\[0\] is 4, but the file has 4 blocks/],
    ['wi1 with unsorted blocks', changed(wi1Of(4, two), 16, 3), /block numbers\[1\] is 3 after 3/],
    ['wi1 without its last byte', wi1.subarray(0, -1), /it has 8211 bytes, and with 1 pages 8212/],
    ['wi1 with a byte too many', Buffer.concat([wi1, u32(0)]), /it has 8216 bytes, and with 1 pages 8212/],
    ['native shorter than its fields', native.subarray(0, 8), /it has 8 bytes, and its head alone 12/],
    [
      'native with too many blocks',
      changed(native, 4, segment + 1),
      /num_blocks is 131073, but a segment has at most 131072/,
    ],
    ['native with a wrong count', changed(native, 4, 2), /relative_block_numbers\[1\] is 0 after 1/],
    [
      'native with a block beyond the segment',
      changed(native, 12, segment),
      /\[0\] is 131072, but the file has 131072/,
    ],
    ['native with stray bytes', changed(native, 8000, 1), /the padding is not zero at offset 8000/],
    ['native without its last byte', native.subarray(0, -1), /it has 16383 bytes, and with 1 pages 16384/],
    ['native with a byte too many', Buffer.concat([native, u32(0)]), /it has 16388 bytes, and with 1 pages 16384/],
  ]

  const nothing: IncrementSink = {
    onHead: () => assert.fail('nothing of it may go on'),
    onPages: () => assert.fail('nothing of it may go on'),
  }
  async function read(bytes: Buffer, size: number, formats: readonly IncrementFormat[], sink: IncrementSink) {
    const reader = new IncrementReader({ size, formats, refuse, sink })
    for (const byte of bytes) await reader.append(Buffer.of(byte))
    reader.end()
  }
  const named = (says: RegExp) => (error: Error) => {
    assert.ok(error instanceof WalrxError)
    assert.match(error.message, /^the increment of base\/5\/1: /)
    assert.match(error.message, says)
    return true
  }

  for (const [what, bytes, says] of bad) {
    test(what, async () => {
      await assert.rejects(read(bytes, bytes.length, ['wi1', 'native'], nothing), named(says))
    })
  }

  test('with bytes that end before its size, or go on after it', async () => {
    const sink: IncrementSink = { onHead: () => {}, onPages: () => {} }
    for (const bytes of [wi1, native]) {
      const size = bytes.length
      const short = read(bytes.subarray(0, -1), size, ['wi1', 'native'], sink)
      await assert.rejects(short, named(new RegExp(`it ends after ${size - 1} of ${size} bytes, within its pages`)))
      const long = read(Buffer.concat([bytes, u32(1)]), size, ['wi1', 'native'], sink)
      await assert.rejects(long, named(/bytes follow the last page/))
    }
  })

  test('in a format that may not come', async () => {
    await assert.rejects(read(wi1, wi1.length, ['native'], nothing), named(/77693155 instead of 0d1faed3/))
    await assert.rejects(read(native, native.length, ['wi1'], nothing), named(/0d1faed3 instead of 77693155/))
  })

  test('for every way that its head can be cut short or changed, or it is what a plain model reads', async () => {
    let refused = 0
    for (let seed = 1; seed <= 400; seed++) {
      const random = new Random(seed)
      const file = Buffer.concat(Array.from({ length: 4 }, () => drawPage(random)))
      const whole = random.chance(0.5)
        ? wi1Of(6, drawPages(random, 6))
        : nativeBytes({ truncation: random.int(0, 6), pages: drawPages(random, 6) })
      const bytes = Buffer.from(whole.subarray(0, random.chance(0.5) ? whole.length : random.int(0, whole.length)))
      const at = random.int(0, 40)
      // Not what makes a file of a gigabyte, which the model would hold many times.
      if (at < bytes.length && (at < 7 || at > 11)) bytes.writeUInt8(random.int(0, 255), at)
      const sink = new MemoryFile(file, random)
      try {
        const options = { size: bytes.length, formats: ['wi1', 'native'], refuse, sink } as const
        const reader = new IncrementReader(options)
        for (const piece of drawPieces(random, bytes)) await reader.append(piece)
        reader.end()
      } catch (error) {
        assert.ok(error instanceof WalrxError, `seed ${seed}: ${String(error)}`)
        refused++
        continue
      }
      // The change was to a field that may be anything: both read it the same.
      const isWi1 = bytes.readUInt8(0) === 0x77
      const expected = isWi1 ? applyWi1(file, bytes) : applyNative(file, parseNative(bytes))
      assert.ok(sink.file.equals(expected), `seed ${seed}`)
    }
    assert.ok(refused > 200 && refused < 390, `${refused} of 400 were refused`)
  })
})

function parseNative(bytes: Buffer) {
  const count = bytes.readUInt32LE(4)
  const start = count === 0 ? 12 : Math.ceil((12 + 4 * count) / page) * page
  const pages = new Map<number, Buffer>()
  for (let index = 0; index < count; index++) {
    const at = start + index * page
    pages.set(bytes.readUInt32LE(12 + 4 * index), bytes.subarray(at, at + page))
  }
  return { truncation: bytes.readUInt32LE(8), pages }
}
