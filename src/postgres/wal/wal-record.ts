/**
 * WAL records: their header and, for ends of transactions, their data (XLogRecord in access/xlogrecord.h,
 * xl_xact_commit and xl_xact_abort in access/xact.h; the same from PostgreSQL 14 to 19).
 *
 * Layout, offsets in bytes, little-endian: 0 total length u32, 4 transaction id u32, 8 start of the previous record
 * u64, 16 info u8, 17 resource manager u8, 18 padding, 20 CRC-32C u32 (over everything after the header, then the
 * header up to here). Then come the headers of blocks and of the main data, the blocks, and the main data.
 */
import { type Lsn, toLsn } from '../lsn.ts'

/** Bytes of a record's header (SizeOfXLogRecord). */
export const recordHeaderSize = 24

/** Bytes after the header in a {@link WalRecord}: an end of a transaction has its time in the first 21. */
export const recordHeadSize = 32

/** A complete record with a valid CRC. */
export interface WalRecord {
  /** Its first byte. */
  readonly start: Lsn
  /** One past its last byte, padding to a multiple of 8 included; the end of the segment for a switch. */
  readonly end: Lsn
  /** RmgrId: 0 is the WAL itself, 1 transactions (access/rmgrlist.h). */
  readonly resourceManager: number
  /** xl_info: the upper four bits belong to the resource manager. */
  readonly info: number
  /** The first bytes after the header, at most {@link recordHeadSize}; the next record overwrites them. */
  readonly head: Buffer
}

const resourceManagerXlog = 0
const resourceManagerTransaction = 1
const xlogSwitch = 0x40
const xlogInfoMask = 0xf0

/** XLOG_XACT_COMMIT, _ABORT, _COMMIT_PREPARED and _ABORT_PREPARED. */
const transactionEnds: ReadonlySet<number> = new Set([0x00, 0x20, 0x30, 0x40])
const transactionInfoMask = 0x70

/** True for a WAL switch (XLOG_SWITCH): the rest of its segment is unused. */
export function isSwitch(record: Pick<WalRecord, 'resourceManager' | 'info'>): boolean {
  return record.resourceManager === resourceManagerXlog && (record.info & xlogInfoMask) === xlogSwitch
}

/**
 * The end of the transaction that this record commits or aborts, which recovery compares to recovery_target_time
 * (getRecordTimestamp in xlogrecovery.c). Microseconds since 2000-01-01 UTC, a TimestampTz; undefined for other
 * records.
 */
export function transactionTime(record: WalRecord): bigint | undefined {
  if (record.resourceManager !== resourceManagerTransaction) return undefined
  if (!transactionEnds.has(record.info & transactionInfoMask)) return undefined
  const at = mainDataOffset(record.head)
  if (at === undefined || at + 8 > record.head.length) return undefined
  return record.head.readBigInt64LE(at)
}

/** XLOG_CHECKPOINT_SHUTDOWN and XLOG_CHECKPOINT_ONLINE (catalog/pg_control.h). */
const checkpoints: ReadonlySet<number> = new Set([0x00, 0x10])

/** The position that a recovery from this checkpoint begins at (CheckPoint.redo); undefined for other records. */
export function checkpointRedo(record: WalRecord): Lsn | undefined {
  if (record.resourceManager !== resourceManagerXlog || !checkpoints.has(record.info & xlogInfoMask)) return undefined
  const at = mainDataOffset(record.head)
  return at === undefined || at + 8 > record.head.length ? undefined : toLsn(record.head.readBigUInt64LE(at))
}

/** The later of a time and of the {@link transactionTime} of a record: folds records to the latest end of a transaction. */
export function laterTransactionTime(record: WalRecord, found: bigint | undefined): bigint | undefined {
  const time = transactionTime(record)
  return time === undefined || (found !== undefined && found > time) ? found : time
}

/**
 * Offset of the main data after the header, for a record without blocks: headers of blocks would come first
 * (XLogRecordAssemble in xloginsert.c).
 */
function mainDataOffset(head: Buffer): number | undefined {
  for (let at = 0; at < head.length;) {
    switch (head[at]) {
      case 0xff: // XLR_BLOCK_ID_DATA_SHORT: length u8
        return at + 2
      case 0xfe: // XLR_BLOCK_ID_DATA_LONG: length u32
        return at + 5
      case 0xfd: // XLR_BLOCK_ID_ORIGIN: RepOriginId u16
        at += 3
        break
      case 0xfc: // XLR_BLOCK_ID_TOPLEVEL_XID: u32
        at += 5
        break
      default:
        return undefined
    }
  }
  return undefined
}
