/**
 * The head of an `INCREMENTAL.*` file of PostgreSQL 17 (sendFile in src/backend/backup/basebackup.c; reader: src/bin/
 * pg_combinebackup/reconstruct.c). Integers are in the server's byte order; walrx supports only little-endian ones.
 *
 *     0  magic 0xd3ae1f0d        4  num_blocks        8  truncation_block_length       12  block numbers
 *     then, only where there are blocks, zeros up to a multiple of 8192, and the pages
 */
import { pageBytes, readBlockNumbers, type Refuse, segmentBlocksMax } from '../relations/relation-file.ts'

/** INCREMENTAL_MAGIC. */
export const incrementalMagic = 0xd3ae1f0d

/** Bytes before the block numbers. */
export const incrementalFixedBytes = 12

/** The head of an incremental file: it describes the file after the increment. */
export interface IncrementalHead {
  /**
   * Number of blocks that the file keeps from the older one, except for the listed ones; unlisted blocks after them are
   * zero. Early minor versions of 17 store more than a segment has, where the relation was truncated in a later
   * segment.
   */
  readonly truncationBlockLength: number
  /** Numbers of the blocks that follow, ascending, counted within the segment. */
  readonly blocks: Uint32Array
}

/**
 * Bytes of the whole head, with block numbers and padding.
 * @param fixed its first {@link incrementalFixedBytes}
 * @throws the error of `refuse` when these bytes are not such a head
 */
export function incrementalHeadBytes(fixed: Buffer, refuse: Refuse): number {
  const magic = fixed.readUInt32LE(0)
  if (magic !== incrementalMagic) throw refuse(`the magic is ${hex(magic)} instead of ${hex(incrementalMagic)}`)
  const count = fixed.readUInt32LE(4)
  if (count > segmentBlocksMax) throw refuse(`num_blocks is ${count}, but a segment has at most ${segmentBlocksMax}`)
  if (count === 0) return incrementalFixedBytes
  return Math.ceil((incrementalFixedBytes + 4 * count) / pageBytes) * pageBytes
}

/**
 * Reads a head with the number of bytes of {@link incrementalHeadBytes}.
 * @throws the error of `refuse` with the field
 */
export function decodeIncrementalHead(head: Buffer, refuse: Refuse): IncrementalHead {
  const numbersEnd = incrementalFixedBytes + 4 * head.readUInt32LE(4)
  const numbers = head.subarray(incrementalFixedBytes, numbersEnd)
  const blocks = readBlockNumbers(numbers, 'relative_block_numbers', segmentBlocksMax, refuse)
  const stray = head.subarray(numbersEnd).findIndex((byte) => byte !== 0)
  if (stray !== -1) throw refuse(`the padding is not zero at offset ${numbersEnd + stray}`)
  return { truncationBlockLength: head.readUInt32LE(8), blocks }
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`
}
