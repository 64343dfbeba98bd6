/**
 * Places that no recovery passes although all WAL is there: the server went on with wal_level=minimal. The receiver has
 * recorded them before it stored that WAL; of a tail, which it has not looked at yet, the bytes are looked at here.
 */
import { type Lsn, segmentNumber, segmentStart } from '../../postgres/lsn.ts'
import { ParameterChangeFinder } from '../../postgres/wal/parameter-change.ts'
import type { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { segmentName } from '../../postgres/wal/wal-file.ts'
import { systemClock } from '../../primitives/clock.ts'
import { type GapRecord, isBreak } from '../../walg/wal/gap-records.ts'
import type { ReachableWal } from './recovery-wal.ts'

/**
 * The first break that a recovery meets.
 * @param from where the backup begins
 * @param gaps all that are recorded
 */
export function firstBreak(
  wal: ReachableWal,
  chain: TimelineChain,
  from: Lsn,
  gaps: readonly GapRecord[],
): GapRecord | undefined {
  const [first] = [...gaps.filter(isBreak), ...breaksOfTail(wal, chain)]
    .filter(
      ({ startLsn, timeline }) => startLsn >= from && startLsn < wal.end && chain.at(startLsn).timeline === timeline,
    )
    .sort((a, b) => (a.startLsn < b.startLsn ? -1 : 1))
  return first
}

function breaksOfTail({ end, segmentSize, tail }: ReachableWal, chain: TimelineChain): GapRecord[] {
  if (!tail) return []
  const detectedAt = new Date(systemClock.now()).toISOString()
  const seen = { detectedAt, reason: 'the server ran with wal_level=minimal', host: '', slot: undefined }
  return new ParameterChangeFinder()
    .find(tail.bytes, segmentStart(end, segmentSize))
    .filter(({ walLevel }) => walLevel === 0)
    .map(({ lsn }) => ({ timeline: chain.at(lsn).timeline, startLsn: lsn, endLsn: (lsn + 1n) as Lsn, ...seen }))
}

/** The WAL up to a break. */
export function walUpTo(wal: ReachableWal, { startLsn, timeline }: GapRecord): ReachableWal {
  const { segmentSize } = wal
  const segno = segmentNumber(startLsn, segmentSize)
  const runs = wal.runs
    .filter(({ first }) => first <= segno)
    .map((run) => ({ ...run, last: run.last < segno ? run.last : segno }))
  const isInTail = wal.tail !== undefined && startLsn >= segmentStart(wal.end, segmentSize)
  const missing = segmentName(timeline, segno, segmentSize)
  return { segmentSize, runs, end: startLsn, missing, isGap: true, tail: isInTail ? wal.tail : undefined }
}
