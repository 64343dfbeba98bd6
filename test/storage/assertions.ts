/** What the storage tests share: byte streams by seed, and checks of errors. */
import { type ErrorCode, hasCode } from '../../src/primitives/errors.ts'
import type { ObjectInfo } from '../../src/storage/storage.ts'
import { Random } from '../harness/random.ts'

/** `length` bytes that only this seed makes. */
export function seeded(seed: number, length: number): Buffer {
  const random = new Random(seed)
  const bytes = Buffer.allocUnsafe(length)
  // A random block over and over, with its number in front: cheap, and no two blocks are equal.
  const block = Buffer.from(Uint8Array.from({ length: 256 }, () => random.int(0, 255)))
  for (let offset = 0; offset < length; offset += 256) {
    block.writeUInt32LE(offset / 256)
    block.copy(bytes, offset)
  }
  return bytes
}

/** True for a WalrxError of this code; for `assert.rejects`. */
export function isCode(error: unknown, code: ErrorCode): boolean {
  if (hasCode(error, code)) return true
  throw new Error(`not ${code}`, { cause: error })
}

/** The keys of a listing. */
export async function keysOf(objects: AsyncIterable<ObjectInfo>): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of objects) keys.push(key)
  return keys
}

/** Keys in the order of their bytes. */
export function inByteOrder(keys: readonly string[]): string[] {
  return [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
}
