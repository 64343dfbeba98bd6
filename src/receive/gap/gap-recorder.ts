/**
 * Lost WAL is recorded as a gap before the stream goes on after it: from then on no stream would ask for it again, and a
 * receiver that is killed in between would never report it.
 */
import type { Logger } from '../../observe/log.ts'
import { formatLsn, type Lsn, maxLsn, minLsn, segmentNumber } from '../../postgres/lsn.ts'
import type { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import type { Clock } from '../../primitives/clock.ts'
import { type GapRange, type GapRecord, isBreak } from '../../walg/wal/gap-records.ts'
import type { ReceiveArchive, ReceiveMeter } from '../ports.ts'
import type { PreparedSource } from '../source/prepared-source.ts'
import { untilStored } from '../until-stored.ts'

/**
 * What is lost between two positions, by timeline. Of a timeline that ended within the segment in which the loss begins
 * nothing is: the next one's first segment has a copy of it.
 */
export function lostRanges(chain: TimelineChain, from: Lsn, to: Lsn, segmentSize: number): GapRange[] {
  return chain.links.flatMap(({ begin, end, timeline }) => {
    const [startLsn, endLsn] = [maxLsn(begin, from), minLsn(end ?? to, to)]
    const isLost = startLsn < endLsn && segmentNumber(startLsn, segmentSize) < segmentNumber(endLsn, segmentSize)
    return isLost ? [{ timeline, startLsn, endLsn }] : []
  })
}

/** What {@link GapRecorder} needs. */
export interface GapRecorderOptions {
  readonly archive: Pick<ReceiveArchive, 'recordGap'>
  readonly segmentSize: number
  readonly clock: Clock
  /** Random number in [0, 1) for back-off jitter. */
  readonly random: () => number
  readonly log: Logger
  readonly meter: Pick<ReceiveMeter, 'gap'>
  /** Undefined without a slot. */
  readonly slot: string | undefined
  /** Called with every gap that is recorded, the known ones too. */
  readonly onGap: ((gap: GapRecord) => void) | undefined
}

/** Why a slot did not keep the WAL, by what was found when connecting. */
const slotReasons: Readonly<Record<PreparedSource['slotState'], string>> = {
  none: 'nothing kept it and the server removed it',
  found: 'the server removed it although the slot was there',
  missing: 'the slot was missing and the server removed it',
  useless: 'the server had invalidated the slot and removed it',
}

/** See the file's header. Remembers why WAL may be lost until it is, or until the slot moves again. */
export class GapRecorder {
  readonly #options: GapRecorderOptions
  #reason: string | undefined
  #isRecorded = false
  /** Where nothing is known that would explain it. */
  #otherwise = slotReasons.none
  #host = ''

  constructor(options: GapRecorderOptions) {
    this.#options = options
  }

  /** A connection was made: what it found is the reason, unless an earlier one had found a better one. */
  connected({ session, slotState }: Pick<PreparedSource, 'session' | 'slotState'>): void {
    this.#host = session.host
    this.#forgetRecorded()
    if (slotState === 'missing' || slotState === 'useless') this.because(slotReasons[slotState])
    else this.#otherwise = slotReasons[slotState]
  }

  /** Why WAL may be lost from now on; what was said first counts. */
  because(reason: string): void {
    this.#forgetRecorded()
    this.#reason ??= reason
  }

  /** What was said before a gap was recorded is the reason for all gaps of that loss, and for no other. */
  #forgetRecorded(): void {
    if (this.#isRecorded) this.#reason = undefined
    this.#isRecorded = false
  }

  /** The slot has moved: nothing was lost before. */
  slotMoved(): void {
    this.#reason = undefined
  }

  /**
   * Records that the WAL between two positions is lost, counts it and logs an error; a storage that is out is tried
   * again for as long as it takes.
   * @throws the signal's reason, or what the storage says that no other attempt will change
   */
  async record(chain: TimelineChain, from: Lsn, to: Lsn, signal: AbortSignal): Promise<void> {
    const { clock, segmentSize, slot } = this.#options
    const reason = this.#reason ?? this.#otherwise
    const detectedAt = new Date(clock.now()).toISOString()
    for (const range of lostRanges(chain, from, to, segmentSize)) {
      await this.#recordOne({ ...range, detectedAt, reason, host: this.#host, slot }, signal)
    }
    this.#isRecorded = true
  }

  /**
   * Records that no recovery passes a place; see {@link isBreak}.
   * @throws as {@link record} does
   */
  async recordBreak(range: GapRange, signal: AbortSignal): Promise<void> {
    const { clock, slot } = this.#options
    const detectedAt = new Date(clock.now()).toISOString()
    const reason = 'the server ran with wal_level=minimal'
    await this.#recordOne({ ...range, detectedAt, reason, host: this.#host, slot }, signal)
  }

  async #recordOne(gap: GapRecord, signal: AbortSignal): Promise<void> {
    const { archive, clock, log, meter, onGap, random } = this.#options
    const { endLsn, host, reason, slot, startLsn, timeline } = gap
    const facts = { timeline, from: formatLsn(startLsn), to: formatLsn(endLsn), host, slot }
    const outcome = await untilStored(() => archive.recordGap(gap, { signal }), {
      clock,
      random,
      firstMs: 200,
      maxMs: 10_000,
      signal,
      onFailure: ({ message }, attempt) =>
        log.error('could not record the gap, trying again', { ...facts, attempt, error: message }),
    })
    meter.gap(startLsn, endLsn)
    const what = isBreak(gap)
      ? 'the server ran with wal_level=minimal: no recovery passes that, take a new base backup'
      : 'WAL is gone from the server: the archive has a gap, take a new base backup'
    log.error(what, {
      ...facts,
      reason,
      outcome,
    })
    onGap?.(gap)
  }
}
