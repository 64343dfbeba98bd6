/** Waiting for the WAL of a backup: without it there is nothing to recover to. */
import type { Logger } from '../observe/log.ts'
import { type Clock, sleep } from '../primitives/clock.ts'
import { WalrxError } from '../primitives/errors.ts'
import { addBytes, type Lsn, segmentNumber, type Timeline } from '../postgres/lsn.ts'
import { parseSegmentName, segmentName, segmentStartLsn } from '../postgres/wal/wal-file.ts'
import { describeGap, gapHolding } from '../walg/wal/gap-records.ts'
import type { WalReader } from '../walg/wal/wal-reader.ts'

/** The segments from `startLsn` to `endLsn`, by name. */
export function segmentsBetween(timeline: Timeline, startLsn: Lsn, endLsn: Lsn, segmentSize: number): string[] {
  const names: string[] = []
  const last = segmentNumber(addBytes(endLsn, -1), segmentSize)
  for (let segno = segmentNumber(startLsn, segmentSize); segno <= last; segno++) {
    names.push(segmentName(timeline, segno, segmentSize))
  }
  return names
}

/** The segments from one to another on the same timeline, by name. */
export function segmentsFromTo([first, last]: readonly [string, string], segmentSize: number): string[] {
  const from = parseSegmentName(first, segmentSize)
  const to = parseSegmentName(last, segmentSize)
  if (!from || !to) throw new WalrxError('WALRX_INTERNAL', `${first} and ${last} are not names of segments`)
  return segmentsBetween(
    from.timeline,
    segmentStartLsn(from, segmentSize),
    addBytes(segmentStartLsn(to, segmentSize), segmentSize),
    segmentSize,
  )
}

/** Options of {@link waitForWal}. */
export interface WalWaitOptions {
  readonly archive: WalReader
  readonly segments: readonly string[]
  /** The backup that needs them, for messages. */
  readonly name: string
  /** In bytes. */
  readonly segmentSize: number
  readonly clock: Clock
  readonly timeoutMs: number
  readonly log: Logger
  readonly signal: AbortSignal
}

/** How often the archive is looked at. */
const pollMs = 500
/** How often the recorded gaps are looked at. */
const gapsMs = 5_000
/** How often it is said what is missing. */
const sayMs = 30_000

/**
 * Resolves when the archive has all segments.
 * @throws WALRX_BACKUP_INCOMPLETE after the time-out, naming the first segment that is missing; at once where a recorded
 * gap shows that it will never come
 */
export async function waitForWal(options: WalWaitOptions): Promise<void> {
  const { archive, clock, log, segments, signal, timeoutMs } = options
  const begunAt = clock.now()
  let saidAt: number | undefined
  let gapsReadAt: number | undefined
  let at = 0
  for (;;) {
    for (; at < segments.length; at++) {
      const found = await archive.find(segments[at] ?? '', { signal })
      if (!found.some(({ kind }) => kind === 'segment')) break
    }
    const missing = segments[at]
    if (missing === undefined) return
    const now = clock.now()
    if (gapsReadAt === undefined || now - gapsReadAt >= gapsMs) {
      await refuseLost(options, segments.slice(at))
      gapsReadAt = now
    }
    if (now - begunAt >= timeoutMs) {
      throw new WalrxError(
        'WALRX_BACKUP_INCOMPLETE',
        `segment ${missing} has not come into ${archive.location} within ${Math.round(timeoutMs / 1000)} s`,
      )
    }
    if (saidAt === undefined || now - saidAt >= sayMs) {
      log.info('waiting for WAL to be archived: is wal-receive running?', {
        segment: missing,
        missing: segments.length - at,
        ofSegments: segments.length,
      })
      saidAt = now
    }
    await sleep(clock, pollMs, signal)
  }
}

/** Throws where a recorded gap holds one of the segments that are missing: the server has removed it. */
async function refuseLost(options: WalWaitOptions, missing: readonly string[]): Promise<void> {
  const { archive, name, segmentSize, signal } = options
  const gaps = await archive.gaps({ signal })
  for (const segment of missing) {
    const id = parseSegmentName(segment, segmentSize)
    const gap = id && gapHolding(gaps, id, segmentSize)
    // One that has come since, from another writer, is not lost.
    if (!gap || (await archive.find(segment, { signal })).some(({ kind }) => kind === 'segment')) continue
    const what = `backup ${name} needs segment ${segment}, which will not come into ${archive.location}`
    throw new WalrxError('WALRX_BACKUP_INCOMPLETE', `${what}: ${describeGap(gap)}, because ${gap.reason}`, {
      hint: 'this backup cannot be completed: take a new one with walrx backup-push, while walrx wal-receive runs',
    })
  }
}
