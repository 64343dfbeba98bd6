/**
 * The backup_label of an incremental backup (build_backup_content in src/backend/access/transam/xlogbackup.c): two lines
 * more than that of a full one, and a server that finds them does not start.
 *
 *     INCREMENTAL FROM LSN: 0/2000028
 *     INCREMENTAL FROM TLI: 1
 */
import { WalrxError } from '../../primitives/errors.ts'
import { formatLsn, type Lsn, parseLsn, type Timeline } from '../lsn.ts'

/** Where an increment starts from. */
export interface IncrementOrigin {
  readonly startLsn: Lsn
  readonly timeline: Timeline
}

/**
 * The label of what comes out when the increment is applied.
 * @param origin what the increment was asked to build on
 * @throws WALRX_PROTOCOL when the label says something else, or nothing of it
 */
export function fullLabel(label: Buffer, { startLsn, timeline }: IncrementOrigin): Buffer {
  // One character a byte: a label may have been written in any encoding.
  const text = label.toString('latin1')
  const lsn = /^INCREMENTAL FROM LSN: ([0-9A-F]{1,8}\/[0-9A-F]{1,8})\n/m.exec(text)
  const tli = /^INCREMENTAL FROM TLI: (\d{1,10})\n/m.exec(text)
  const isExpected = lsn && tli && parseLsn(lsn[1] ?? '') === startLsn && Number(tli[1]) === timeline
  if (!isExpected) {
    const found = lsn && tli ? `from ${lsn[1]} on timeline ${tli[1]}` : 'from nowhere'
    throw new WalrxError(
      'WALRX_PROTOCOL',
      `the server sent an increment ${found}, by its backup_label, and was asked for one from ${formatLsn(startLsn)} on timeline ${timeline}`,
    )
  }
  return Buffer.from(text.replace(lsn[0], '').replace(tli[0], ''), 'latin1')
}
