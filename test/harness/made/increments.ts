/**
 * Increments of files by a plain model: whole files in memory, one block after the other, nothing streamed. It shares
 * no code with what it is compared to.
 */
import type { Random } from '../random.ts'

/** Bytes of a page. */
export const page = 8192

/** Blocks of a segment. */
export const segment = 131072

/** Changes to a file, as PostgreSQL 17 describes them. */
export interface NativeIncrement {
  readonly truncation: number
  /** By block number, ascending. */
  readonly pages: ReadonlyMap<number, Buffer>
}

/** The bytes of an `INCREMENTAL.*` file. */
export function nativeBytes({ pages, truncation }: NativeIncrement): Buffer {
  const numbers = [...pages.keys()]
  const head = Buffer.concat([0xd3ae1f0d, numbers.length, truncation, ...numbers].map(u32))
  const padding = numbers.length === 0 ? 0 : (page - (head.length % page)) % page
  return Buffer.concat([head, Buffer.alloc(padding), ...pages.values()])
}

/** The bytes of an increment of WAL-G. */
export function wi1Of(fileBlocks: number, pages: ReadonlyMap<number, Buffer>): Buffer {
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(fileBlocks * page))
  const numbers = [...pages.keys()]
  return Buffer.concat([Buffer.from('wi1\x55'), size, u32(numbers.length), ...numbers.map(u32), ...pages.values()])
}

/** A number as four bytes. */
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

/** What pg_combinebackup makes of a file and one increment. */
export function applyNative(file: Buffer, { pages, truncation }: NativeIncrement): Buffer {
  const last = Math.max(-1, ...pages.keys())
  const length = Math.max(Math.min(truncation, segment), last + 1)
  const blocks: Buffer[] = []
  for (let block = 0; block < length; block++) {
    const listed = pages.get(block)
    const older = file.subarray(block * page, (block + 1) * page)
    blocks.push(listed ?? (block < truncation && older.length === page ? older : Buffer.alloc(page)))
  }
  return Buffer.concat(blocks)
}

/** What WAL-G makes of a file and one increment (ApplyFileIncrement in wal-g: incremental_page_reader.go). */
export function applyWi1(file: Buffer, increment: Buffer): Buffer {
  const size = Number(increment.readBigUInt64LE(4))
  const count = increment.readUInt32LE(12)
  const result = Buffer.alloc(size)
  file.copy(result, 0, 0, size)
  for (let index = 0; index < count; index++) {
    const block = increment.readUInt32LE(16 + 4 * index)
    const at = 16 + 4 * count + page * index
    increment.copy(result, block * page, at, at + page)
  }
  return result
}

/** A page that no other is equal to, most likely; sometimes one of zeros. */
export function drawPage(random: Random): Buffer {
  if (random.chance(0.1)) return Buffer.alloc(page)
  const bytes = Buffer.alloc(page, random.int(0, 255))
  bytes.writeUInt32LE(random.int(0, 0xffffffff), random.int(0, page - 4))
  return bytes
}

/** Some pages among the first `blocks`, in their order. */
export function drawPages(random: Random, blocks: number): Map<number, Buffer> {
  const share = random.pick([0, 0.1, 0.5, 0.9, 1])
  const pages = new Map<number, Buffer>()
  for (let block = 0; block < blocks; block++) if (random.chance(share)) pages.set(block, drawPage(random))
  return pages
}

/** Bytes split at random places, with single bytes and empty chunks among them. */
export function* drawPieces(random: Random, bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length;) {
    const length = random.pick([0, 1, 3, 511, 4096, page, page + 1, 65536, bytes.length])
    // Their owner overwrites them afterwards.
    const chunk = Buffer.from(bytes.subarray(at, at + length))
    at += chunk.length
    yield chunk
    chunk.fill(0xee)
  }
}
