/**
 * Log sequence numbers: byte addresses in the WAL, unsigned 64 bits (XLogRecPtr, access/xlogdefs.h). Always a branded
 * bigint; text only at the edges.
 */
import { WalrxError } from '../primitives/errors.ts'

/** A position in the WAL. As an end it is one past the last byte. 0/0 is "invalid" to PostgreSQL. */
export type Lsn = bigint & { readonly __lsn: unique symbol }

/** A timeline number, 1 to 2^32 - 1. */
export type Timeline = number

/** PostgreSQL's InvalidXLogRecPtr. */
export const invalidLsn = 0n as Lsn

const lsnMax = 0xffffffffffffffffn

/** A bigint as an LSN. Throws WALRX_INTERNAL outside 0 … 2^64 - 1. */
export function toLsn(value: bigint): Lsn {
  if (value < 0n || value > lsnMax) throw new WalrxError('WALRX_INTERNAL', `LSN ${value} is outside 64 bits`)
  return value as Lsn
}

/** Parses PostgreSQL's text form, `16/B374D848` (two groups of 1 to 8 hex digits). Throws WALRX_USAGE. */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text)
  if (!match) {
    throw new WalrxError('WALRX_USAGE', `"${text}" is not an LSN`, { hint: 'write it as PostgreSQL does, 16/B374D848' })
  }
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn
}

/** PostgreSQL's text form, upper case, without padding. */
export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`
}

/** `lsn` moved by a number of bytes. */
export function addBytes(lsn: Lsn, bytes: number | bigint): Lsn {
  return toLsn(lsn + BigInt(bytes))
}

/** Bytes from `start` to `end`; negative when `end` comes first. Exact below 2^53. */
export function bytesBetween(start: Lsn, end: Lsn): number {
  return Number(end - start)
}

/** The smaller of two positions. */
export function minLsn(a: Lsn, b: Lsn): Lsn {
  return a < b ? a : b
}

/** The larger of two positions. */
export function maxLsn(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b
}

/** Start of the segment that holds `lsn`. */
export function segmentStart(lsn: Lsn, segmentSize: number): Lsn {
  return (lsn - (lsn % BigInt(segmentSize))) as Lsn
}

/** The offset in bytes of `lsn` within its segment. */
export function segmentOffset(lsn: Lsn, segmentSize: number): number {
  return Number(lsn % BigInt(segmentSize))
}

/** Number of the segment that holds `lsn` (XLByteToSeg). For an end on a boundary use end - 1, the previous segment. */
export function segmentNumber(lsn: Lsn, segmentSize: number): bigint {
  return lsn / BigInt(segmentSize)
}
