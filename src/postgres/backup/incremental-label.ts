/**
 * The backup_label of an incremental backup (build_backup_content in src/backend/access/transam/xlogbackup.c). It has
 * two lines more than a full backup's label, and a server that finds them does not start.
 *
 *     INCREMENTAL FROM LSN: 0/2000028
 *     INCREMENTAL FROM TLI: 1
 */
import { WalrxError } from '../../primitives/errors.ts'
import { formatLsn, type Lsn, parseLsn, type Timeline } from '../lsn.ts'

/** The start of an increment. */
export interface IncrementOrigin {
  readonly startLsn: Lsn
  readonly timeline: Timeline
}

/**
 * The label for the files after the increment is applied.
 * @param origin the requested start of the increment
 * @throws WALRX_PROTOCOL when the label has another start, or none
 */
export function fullLabel(label: Buffer, { startLsn, timeline }: IncrementOrigin): Buffer {
  // One character for each byte: a label may be in any encoding.
  const text = label.toString('latin1')
  const lsn = /^INCREMENTAL FROM LSN: ([0-9A-F]{1,8}\/[0-9A-F]{1,8})\n/m.exec(text)
  const tli = /^INCREMENTAL FROM TLI: (\d{1,10})\n/m.exec(text)
  const isExpected = lsn && tli && parseLsn(lsn[1] ?? '') === startLsn && Number(tli[1]) === timeline
  if (!isExpected) {
    const found = lsn && tli ? `from ${lsn[1]} on timeline ${tli[1]}` : 'without a start'
    throw new WalrxError(
      'WALRX_PROTOCOL',
      `the server's backup_label is of an increment ${found}, but the request was from ${formatLsn(startLsn)} on timeline ${timeline}`,
    )
  }
  return Buffer.from(text.replace(lsn[0], '').replace(tli[0], ''), 'latin1')
}
