/**
 * Where the WAL of a time ends: the segment with the first transaction that ended after it. A recovery to the time stops
 * at that one (recoveryStopsBefore in xlogrecovery.c), and needs no further WAL. The times of the storage don't decide: a
 * copy of an archive has those of the copying.
 */
import type { Timeline } from '../../postgres/lsn.ts'
import { segmentName } from '../../postgres/wal/wal-file.ts'
import { laterTransactionTime } from '../../postgres/wal/wal-record.ts'
import { WalRecordReader } from '../../postgres/wal/wal-record-reader.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import type { WalReader } from '../../walg/wal/wal-reader.ts'

/** What is searched. */
export interface TimeSearch extends StorageCallOptions {
  readonly reader: WalReader
  readonly timeline: Timeline
  /** The first segment that counts. */
  readonly from: bigint
  readonly segmentSize: number
  /** Microseconds since 2000-01-01 UTC. */
  readonly time: bigint
}

/**
 * The first segment from `from` on with the end of a transaction after `time`. Halves the segments that there are, so that
 * of thousands about a dozen are read.
 * @returns undefined where the archive has none
 * @throws WALRX_KEY_MISSING, WALRX_KEY_WRONG, WALRX_OBJECT_DAMAGED, WALRX_WAL_INVALID for a segment that cannot be read
 */
export async function segmentAfterTime(search: TimeSearch): Promise<bigint | undefined> {
  const runs = await runsOf(search)
  const count = runs.reduce((sum, { length }) => sum + length, 0)
  let found: number | undefined
  for (let [low, high] = [0, count]; low < high;) {
    const middle = Math.floor((low + high) / 2)
    // Segments without a transaction say nothing: the next one does.
    let at = middle
    let latest: bigint | undefined
    for (; at < high && latest === undefined; at++) latest = await latestIn(search, segnoAt(runs, at))
    if (latest === undefined) high = middle
    else if (latest > search.time) {
      found = at - 1
      high = middle
    } else low = at
  }
  return found === undefined ? undefined : segnoAt(runs, found)
}

/** Segments that follow each other. */
interface Run {
  readonly first: bigint
  length: number
}

async function runsOf({ from, reader, segmentSize, timeline, ...options }: TimeSearch): Promise<Run[]> {
  const runs: Run[] = []
  for await (const { segno } of reader.segments(timeline, from, segmentSize, options)) {
    const last = runs.at(-1)
    if (last && last.first + BigInt(last.length) === segno) last.length++
    else runs.push({ first: segno, length: 1 })
  }
  return runs
}

function segnoAt(runs: readonly Run[], index: number): bigint {
  let rest = index
  for (const { first, length } of runs) {
    if (rest < length) return first + BigInt(rest)
    rest -= length
  }
  throw new RangeError(`there is no segment ${index}`)
}

/** The latest end of a transaction in a segment; undefined where there is none. */
async function latestIn(search: TimeSearch, segno: bigint): Promise<bigint | undefined> {
  const { reader, segmentSize, timeline, signal } = search
  const name = segmentName(timeline, segno, segmentSize)
  const file = await reader.openWalFile(name, undefined, signal && { signal })
  let latest: bigint | undefined
  const records = new WalRecordReader((record) => (latest = laterTransactionTime(record, latest)))
  for await (const piece of file?.body ?? []) records.write(piece)
  return latest
}
