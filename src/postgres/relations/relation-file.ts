/** The layout of PostgreSQL's relation files (BLCKSZ and RELSEG_SIZE in pg_config.h). */
import type { WalrxError } from '../../primitives/errors.ts'

/** BLCKSZ of all common builds: bytes of a page. */
export const pageBytes = 8192

/** RELSEG_SIZE: blocks of a segment, after which a relation continues in the file with the next `.N`. One GiB. */
export const segmentBlocksMax = 131072

/**
 * True for the path of a segment of a relation's main fork, outside `global`. Relative to the data directory, without
 * a leading slash: `base/5/1259`, `pg_tblspc/16385/PG_17_202406281/5/16386.1`.
 */
export function isMainFork(path: string): boolean {
  return /^(?:base\/\d+|pg_tblspc\/\d+\/PG_[^/]+\/\d+)\/\d+(?:\.\d+)?$/.test(path)
}

/**
 * The path of an increment's file: `base/5/1259` for `base/5/INCREMENTAL.1259`. Undefined for other paths.
 */
export function incrementedPath(path: string): string | undefined {
  const match = /^((?:[^/]+\/)+)INCREMENTAL\.(\d[^/]*)$/.exec(path)
  return match ? `${match[1]}${match[2]}` : undefined
}

/** Makes the error for malformed content: `what` names the field, and the function adds the file. */
export type Refuse = (what: string) => WalrxError

/**
 * Reads a list of block numbers, 32 bits little-endian each.
 * @param field the name of the list, for messages
 * @param end exclusive upper limit
 * @throws the error of `refuse`, unless the numbers ascend without repetition
 */
export function readBlockNumbers(bytes: Buffer, field: string, end: number, refuse: Refuse): Uint32Array {
  const blocks = new Uint32Array(bytes.length / 4)
  let before = -1
  for (let index = 0; index < blocks.length; index++) {
    const block = bytes.readUInt32LE(4 * index)
    if (block <= before) throw refuse(`${field}[${index}] is ${block} after ${before}: the numbers must ascend`)
    if (block >= end) throw refuse(`${field}[${index}] is ${block}, but the file has ${end} blocks`)
    blocks[index] = block
    before = block
  }
  return blocks
}
