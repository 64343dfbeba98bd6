/**
 * The small text files among WAL files: histories of timelines, and backup history files. What PostgreSQL writes into them is
 * checked here, and no more: a file that it can have written passes.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { type HistoryEntry, parseHistory, segmentSizeMax, segmentSizeMin } from './wal-file.ts'

/**
 * Checks the history of a timeline, against its name too. It names at least one ancestor, and only ancestors that are older
 * than the timeline (writeTimeLineHistory, readTimeLineHistory in timeline.c): with an empty one the server would lose where
 * its timeline came from. Where the ancestors end is not compared: a recovery to a point before the last switch writes a
 * switch that is before it (xlogrecovery.c takes the timeline that was the target for the parent).
 * @returns its entries, as {@link parseHistory} does
 * @throws WALRX_OBJECT_DAMAGED
 */
export function checkHistory(content: Uint8Array, name: string): HistoryEntry[] {
  const own = parseInt(name.slice(0, 8), 16)
  if (own < 2) throw invalid(name, `cannot be: PostgreSQL writes no history of timeline ${own}`)
  const entries = parseHistory(content, name)
  const last = entries.at(-1)
  if (!last) throw invalid(name, 'names no ancestor timeline')
  if (entries[0]?.timeline === 0) throw invalid(name, 'names timeline 0, which is none')
  if (last.timeline < own) return entries
  throw invalid(name, `names timeline ${last.timeline} as an ancestor of timeline ${own}`)
}

/** The first two lines of a backup history file (build_backup_content in xlogbackup.c; before 15, do_pg_stop_backup in xlog.c). */
const labelHead =
  /^START WAL LOCATION: ([0-9A-F]{1,8})\/([0-9A-F]{1,8}) \(file ([0-9A-F]{24})\)\nSTOP WAL LOCATION: [0-9A-F]{1,8}\/[0-9A-F]{1,8} \(file [0-9A-F]{24}\)\n/

/** True where a backup history file has its first two lines. */
export function hasBackupHistoryHead(content: Uint8Array): boolean {
  return labelHead.test(Buffer.from(content).toString('latin1'))
}

/**
 * Checks a backup history file, `<segment>.<offset>.backup`: it says where a backup started and stopped, and its name has the
 * segment and the offset of the start.
 * @throws WALRX_OBJECT_DAMAGED
 */
export function checkBackupHistory(content: Uint8Array, name: string): void {
  const [, high = '', low = '', segment] = labelHead.exec(Buffer.from(content).toString('latin1')) ?? []
  if (segment === undefined) throw invalid(name, 'does not say in its first lines where a backup started and stopped')
  const start = `starts at ${high}/${low} in ${segment}`
  if (segment !== name.slice(0, 24)) throw invalid(name, `is of a backup that ${start}`)
  const [group, inGroup, offset] = [name.slice(8, 16), name.slice(16, 24), name.slice(25, 33)].map((hex) =>
    parseInt(hex, 16),
  )
  const isThere = parseInt(high, 16) === group && isAt(parseInt(low, 16), inGroup ?? 0, offset ?? 0)
  if (!isThere) throw invalid(name, `is of a backup that ${start}, at another offset`)
}

/** Whether a position is at this offset in this segment, both within 4 GB of WAL, with some size of segments. */
function isAt(position: number, segment: number, offset: number): boolean {
  for (let size = segmentSizeMin; size <= segmentSizeMax; size *= 2) {
    if (offset < size && segment * size + offset === position) return true
  }
  return false
}

function invalid(name: string, what: string): WalrxError {
  return new WalrxError('WALRX_OBJECT_DAMAGED', `${name} ${what}`)
}
