/** What PostgreSQL's relation files are made of (BLCKSZ and RELSEG_SIZE in pg_config.h). */
import type { WalrxError } from '../../primitives/errors.ts'

/** BLCKSZ as everybody compiles it: bytes of a page. */
export const pageBytes = 8192

/** RELSEG_SIZE: blocks of a segment, after which a relation goes on in the file with the next `.N`. One GiB. */
export const segmentBlocksMax = 131072

/**
 * True for the path of a segment of a relation's main fork, outside of `global`. Relative to the data directory, without
 * a leading slash: `base/5/1259`, `pg_tblspc/16385/PG_17_202406281/5/16386.1`.
 */
export function isMainFork(path: string): boolean {
  return /^(?:base\/\d+|pg_tblspc\/\d+\/PG_[^/]+\/\d+)\/\d+(?:\.\d+)?$/.test(path)
}

/**
 * The path of the file that an increment is of: `base/5/1259` for `base/5/INCREMENTAL.1259`. Undefined for what is no
 * increment.
 */
export function incrementedPath(path: string): string | undefined {
  const match = /^((?:[^/]+\/)+)INCREMENTAL\.(\d[^/]*)$/.exec(path)
  return match ? `${match[1]}${match[2]}` : undefined
}

/** Makes the error of something malformed: `what` says which field is wrong, and the maker knows in which file. */
export type Refuse = (what: string) => WalrxError

/**
 * Reads a list of block numbers, 32 bits little-endian each.
 * @param field their name, for messages
 * @param end they are all lower
 * @throws what `refuse` makes, unless they ascend and each comes once
 */
export function readBlockNumbers(bytes: Buffer, field: string, end: number, refuse: Refuse): Uint32Array {
  const blocks = new Uint32Array(bytes.length / 4)
  let before = -1
  for (let index = 0; index < blocks.length; index++) {
    const block = bytes.readUInt32LE(4 * index)
    if (block <= before) throw refuse(`${field}[${index}] is ${block} and follows ${before}: they must ascend`)
    if (block >= end) throw refuse(`${field}[${index}] is ${block}, and the file has ${end} blocks`)
    blocks[index] = block
    before = block
  }
  return blocks
}
