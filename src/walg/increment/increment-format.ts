/**
 * The head of WAL-G's increment of a file, which is the body of its tar entry (docs/walg-format.md, 6.1; wal-g:
 * internal/databases/postgres/{incremental_page_reader,pagefile}.go). All integers are little-endian.
 *
 *     0  `wi1` and 0x55        4  u64 size of the file afterwards        12  u32 number of pages        16  block numbers
 *     then the pages: no padding, and nothing after them
 */
import { pageBytes, readBlockNumbers, type Refuse, segmentBlocksMax } from '../../postgres/relations/relation-file.ts'

/** The first four bytes, read as a number. */
export const wi1Magic = 0x55316977

/** Bytes in front of the block numbers. */
export const wi1FixedBytes = 16

/** What an increment says of the file that it is applied to. */
export interface Wi1Head {
  /** Blocks of the file afterwards: it is cut or extended with zeros to this length. */
  readonly fileBlocks: number
  /** Numbers of the blocks that follow, ascending, counted within the segment. */
  readonly blocks: Uint32Array
}

/** Bytes of a whole increment with so many pages: what the header of its tar entry says. */
export function wi1Bytes(pageCount: number): number {
  return wi1FixedBytes + 4 * pageCount + pageBytes * pageCount
}

/** The bytes in front of the pages. */
export function encodeWi1Head({ blocks, fileBlocks }: Wi1Head): Buffer {
  const head = Buffer.alloc(wi1FixedBytes + 4 * blocks.length)
  head.writeUInt32LE(wi1Magic, 0)
  head.writeBigUInt64LE(BigInt(fileBlocks) * BigInt(pageBytes), 4)
  head.writeUInt32LE(blocks.length, 12)
  for (const [index, block] of blocks.entries()) head.writeUInt32LE(block, wi1FixedBytes + 4 * index)
  return head
}

/**
 * Bytes of the whole head, with block numbers.
 * @param fixed its first {@link wi1FixedBytes}
 * @throws what `refuse` makes when these are no such head
 */
export function wi1HeadBytes(fixed: Buffer, refuse: Refuse): number {
  const magic = fixed.readUInt32LE(0)
  if (magic !== wi1Magic) throw refuse(`the magic is ${hex(magic)} instead of ${hex(wi1Magic)}`)
  const size = fixed.readBigUInt64LE(4)
  const sizeMax = BigInt(segmentBlocksMax * pageBytes)
  if (size > sizeMax) throw refuse(`the file size is ${size}, and a segment has ${sizeMax} bytes at most`)
  if (size % BigInt(pageBytes) !== 0n) throw refuse(`the file size is ${size}, which is not a multiple of ${pageBytes}`)
  const count = fixed.readUInt32LE(12)
  const blocks = Number(size) / pageBytes
  if (count > blocks) throw refuse(`the page count is ${count}, and the file has ${blocks} blocks`)
  return wi1FixedBytes + 4 * count
}

/**
 * Reads a head, as many bytes as {@link wi1HeadBytes} says.
 * @throws what `refuse` makes, naming the field
 */
export function decodeWi1Head(head: Buffer, refuse: Refuse): Wi1Head {
  const fileBlocks = Number(head.readBigUInt64LE(4)) / pageBytes
  return { fileBlocks, blocks: readBlockNumbers(head.subarray(wi1FixedBytes), 'block numbers', fileBlocks, refuse) }
}

/** As the bytes lie. */
function hex(value: number): string {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes.toString('hex')
}
