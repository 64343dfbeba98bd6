/**
 * The oldest WAL that a server still has, found by asking. Servers remove whole segments, the oldest first, whatever their
 * timelines; so a few requests find the first one that is left. A role needs nothing for them but REPLICATION, and the
 * answers are of the process that would send the WAL: a listing of pg_wal needs pg_monitor, and has files in it that were
 * renamed to be used again.
 */
import { type Lsn, segmentNumber, toLsn } from '../../postgres/lsn.ts'
import type { PreparedSource } from './prepared-source.ts'

/** What {@link oldestWal} found. */
export interface OldestWal {
  /** The first byte of the oldest segment. */
  readonly startLsn: Lsn
  /** How often the server was asked. */
  readonly requests: number
}

/**
 * The first segment between two positions that the server still has.
 * @param from the segment with this byte is the first that is asked for
 * @param to the first byte of a segment that the server has
 * @throws what the server says, except that WAL is removed
 */
export async function oldestWal(
  { chain, segmentSize, session }: Pick<PreparedSource, 'chain' | 'segmentSize' | 'session'>,
  from: Lsn,
  to: Lsn,
): Promise<OldestWal> {
  let low = segmentNumber(from, segmentSize)
  let high = segmentNumber(to, segmentSize)
  let requests = 0
  while (low < high) {
    const middle = (low + high) / 2n
    const startLsn = toLsn(middle * BigInt(segmentSize))
    requests++
    if (await session.hasWal(chain.at(startLsn).timeline, startLsn)) high = middle
    else low = middle + 1n
  }
  return { startLsn: toLsn(high * BigInt(segmentSize)), requests }
}
