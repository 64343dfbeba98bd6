/**
 * Copies objects from one storage to another in their stored form: the bytes as they are, under the same key, so that no
 * codec or key is needed. What is there already is never replaced.
 */
import { hasCode, WalrxError } from '../../../primitives/errors.ts'
import type { ObjectInfo, Storage, StorageCallOptions } from '../../../storage/storage.ts'
import { compareStreams } from '../compare-streams.ts'
import { ObjectSum, type StoredObject } from '../object-sum.ts'

/**
 * Larger objects are streamed: a segment of 16 MB fits, compressed or not, and encrypted. One that is held whole is put
 * only if its key is free, in one request.
 */
export const heldBytesMax = 18 * 1024 * 1024

/** One object to be copied. */
export interface ObjectCopy extends StorageCallOptions {
  readonly source: Storage
  readonly target: Storage
  /** As the source lists it. */
  readonly info: ObjectInfo
  /** What its writer noted of it: bytes that differ are damaged, and are not copied. */
  readonly expected?: Pick<StoredObject, 'size' | 'crc32c'> | undefined
  /** Called with the number of bytes that came from the source. */
  readonly onBytes?: (bytes: number) => void
}

/**
 * What became of it; `same`: it was there with the same bytes; `vanished`: it is not in the source any more, or not yet
 * whole.
 */
export type CopyOutcome = 'copied' | 'same' | 'vanished'

/**
 * Copies one object. It is durable, and its bytes are proved, when this resolves: the store has compared a checksum
 * ({@link Storage.verifiesPuts}), or they have been read back.
 * @throws WALRX_ARCHIVE_CONFLICT where the target has other bytes under the key; WALRX_OBJECT_DAMAGED for bytes that are not
 * those that their writer noted, and for a target that returns others than it got; what the storages say
 */
export async function copyObject(copy: ObjectCopy): Promise<CopyOutcome> {
  const { info, source, target, signal } = copy
  const options = signal ? { signal } : {}
  let stored: AsyncIterable<Uint8Array>
  try {
    stored = await source.get(info.key, options)
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return 'vanished'
    throw error
  }
  const sum = new ObjectSum()
  const outcome = await (info.size <= heldBytesMax ? putHeld(copy, stored, sum) : putStreamed(copy, stored, sum))
  if (outcome === 'copied' && target.verifiesPuts !== true) await readBack(target, info.key, sum, options)
  return outcome
}

async function putHeld(copy: ObjectCopy, stored: AsyncIterable<Uint8Array>, sum: ObjectSum): Promise<CopyOutcome> {
  const { info, target, signal } = copy
  const options = signal ? { signal } : {}
  let bytes = Buffer.allocUnsafeSlow(info.size)
  for await (const piece of checked(copy, stored, sum)) {
    const begin = sum.size - piece.length
    // It has been replaced by a longer one since it was listed.
    if (sum.size > bytes.length) bytes = Buffer.concat([bytes.subarray(0, begin), piece])
    else bytes.set(piece, begin)
  }
  bytes = bytes.subarray(0, sum.size)
  if (await isBeingWritten(copy, sum, options)) return 'vanished'
  if ((await target.putIfAbsent(info.key, bytes, options)) === 'created') return 'copied'
  return compared(copy)
}

/** WAL-G before 3.0.9 writes files in place: one that grows is not an object yet. */
async function isBeingWritten(
  { info, source }: ObjectCopy,
  { size }: ObjectSum,
  options: StorageCallOptions,
): Promise<boolean> {
  return source.hasCheapHeads === true && (await source.head(info.key, options))?.size !== size
}

async function putStreamed(copy: ObjectCopy, stored: AsyncIterable<Uint8Array>, sum: ObjectSum): Promise<CopyOutcome> {
  const { info, target, signal } = copy
  const options = signal ? { signal } : {}
  const body = checked(copy, stored, sum)
  try {
    // Nobody but another copy writes under these names; a streamed put has no condition.
    if (await target.head(info.key, options)) return await compared(copy)
    await target.put(info.key, body, { ...options, sizeMaxBytes: info.size })
    return 'copied'
  } finally {
    await body.return(undefined).catch(() => {})
    await stored[Symbol.asyncIterator]().return?.()
  }
}

/** The bytes, which end with an error before the last one is passed on where they are not those that were noted. */
async function* checked(
  { expected, info, onBytes, source }: ObjectCopy,
  stored: AsyncIterable<Uint8Array>,
  sum: ObjectSum,
): AsyncGenerator<Uint8Array, undefined> {
  for await (const piece of stored) {
    sum.add(piece)
    onBytes?.(piece.length)
    yield piece
  }
  if (!expected || (expected.size === sum.size && expected.crc32c === sum.crc32c)) return
  throw new WalrxError(
    'WALRX_OBJECT_DAMAGED',
    `${source.location}/${info.key} has ${sum.size} bytes with the CRC-32C ${hex(sum.crc32c)}, its backup was written with ${expected.size} bytes and ${hex(expected.crc32c)}`,
    { hint: 'the object is damaged, and so is its backup: copy another one, or restore this object from another copy' },
  )
}

function hex(crc: number): string {
  return (crc >>> 0).toString(16).padStart(8, '0')
}

async function compared({ info, source, target, signal }: ObjectCopy): Promise<CopyOutcome> {
  const same = await isSameAt(source, target, info.key, signal ? { signal } : {})
  if (same === 'same') return 'same'
  if (same === 'gone') return 'vanished'
  throw otherBytes(source, target, [info.key])
}

/** The error for objects that the target has with other bytes. */
export function otherBytes(
  source: Pick<Storage, 'location'>,
  target: Pick<Storage, 'location'>,
  keys: readonly string[],
  count = keys.length,
): WalrxError {
  const [first = ''] = keys
  const others = keys.slice(1, 5)
  const rest = count > others.length + 1 ? ` and ${count - others.length - 1} more` : ''
  const which = `${[first, ...others].join(', ')}${rest}`
  return new WalrxError(
    'WALRX_ARCHIVE_CONFLICT',
    `${target.location} has other bytes than ${source.location} under ${which}: nothing was replaced`,
    {
      hint: 'both have been written to, or one is damaged: compare them with walrx st get, and remove the wrong ones, or copy to another prefix',
    },
  )
}

/**
 * Compares an object of two storages byte by byte.
 * @param options `bytesMax`: only so many from the beginning on
 * @returns `gone` where the source does not have it any more
 * @throws what the storages say
 */
export async function isSameAt(
  source: Pick<Storage, 'get'>,
  target: Pick<Storage, 'get'>,
  key: string,
  { bytesMax, ...options }: StorageCallOptions & { readonly bytesMax?: number } = {},
): Promise<'same' | 'other' | 'gone'> {
  let left: AsyncIterable<Uint8Array>
  try {
    left = await source.get(key, options)
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return 'gone'
    throw error
  }
  let right: AsyncIterable<Uint8Array>
  try {
    right = await target.get(key, options)
  } catch (error) {
    await left[Symbol.asyncIterator]().return?.()
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return 'other'
    throw error
  }
  if (bytesMax !== undefined) [left, right] = [beginningOf(left, bytesMax), beginningOf(right, bytesMax)]
  return (await compareStreams(left, right)).equal ? 'same' : 'other'
}

async function* beginningOf(stored: AsyncIterable<Uint8Array>, bytes: number): AsyncGenerator<Uint8Array, undefined> {
  let left = bytes
  for await (const piece of stored) {
    yield piece.subarray(0, left)
    if ((left -= piece.length) <= 0) return
  }
}

async function readBack(target: Storage, key: string, expected: ObjectSum, options: StorageCallOptions): Promise<void> {
  const found = new ObjectSum()
  for await (const piece of await target.get(key, options)) found.add(piece)
  if (found.size === expected.size && found.crc32c === expected.crc32c) return
  throw new WalrxError(
    'WALRX_OBJECT_DAMAGED',
    `${target.location}/${key} was read back with ${found.size} bytes and the CRC-32C ${hex(found.crc32c)}, ${expected.size} bytes and ${hex(expected.crc32c)} were written`,
    { hint: 'the storage of the copy loses or changes bytes: check its disk and its memory, and copy to another one' },
  )
}
