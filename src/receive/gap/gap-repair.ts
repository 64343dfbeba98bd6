/**
 * WAL that the primary no longer has, from another host that still has it. Before a gap is recorded, every other host of
 * the connection string is asked, standbys too: their WAL is the primary's as far as their histories agree. It is
 * streamed without a slot, nothing is ever acknowledged, and it is checked and archived like any other.
 *
 * Any host may send WAL of a timeline that has ended, up to its end. WAL of the primary's present timeline may come only
 * from a standby: two servers that write to the same timeline write different WAL.
 *
 * Where no host has WAL at a position, each is asked for the oldest that it has of the rest, and the repair goes on at the
 * oldest of all: what is lost is what nobody has.
 *
 * It ends, always: a host that has failed at a position is not asked for that position again, positions only grow, a host
 * whose streams break is not asked for what follows either, and a host that sent WAL which contradicts the archive is not
 * asked for anything any more.
 */
import { addBytes, formatLsn, type Lsn, maxLsn, minLsn, segmentStart, type Timeline } from '../../postgres/lsn.ts'
import type { ReplicationServer, ReplicationSession } from '../../postgres/protocol/session.ts'
import { readServerHistory } from '../../postgres/wal/server-history.ts'
import type { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { parseSegmentSize } from '../../postgres/wal/wal-file.ts'
import { hasCode, toWalrxError, WalrxError } from '../../primitives/errors.ts'
import { Backoff } from '../../primitives/backoff.ts'
import { orAborted } from '../../primitives/wait.ts'
import type { ArchiveHole } from '../source/archive-holes.ts'
import { oldestWal } from '../source/oldest-wal.ts'
import { parseTimeoutMs } from '../stream/stream-timings.ts'
import type { PreparedSource } from '../source/prepared-source.ts'
import { type RepairMeans, type RepairRange, RepairStream } from './repair-stream.ts'

/** What {@link GapRepair} needs. */
export interface GapRepairOptions extends RepairMeans {
  /** All hosts, whatever they are: standbys must not be passed over. */
  readonly server: ReplicationServer
}

/** A host that can give some of a range, and what is known of it. */
interface Helper {
  readonly session: ReplicationSession
  readonly walSenderTimeoutMs: number
  /** Whole segments up to here are there. */
  readonly endLsn: Lsn
}

/** How often hosts that do not answer are tried, and a host with a stream that breaks before it has brought a segment. */
const attemptsMax = 3

/**
 * The whole segments between two positions, by timeline, in order. The segment in which a timeline ended belongs to the
 * next one, which has a copy of what was before.
 */
export function repairRanges(chain: TimelineChain, from: Lsn, to: Lsn, segmentSize: number): RepairRange[] {
  const first = segmentStart(from, segmentSize)
  return chain.links.flatMap(({ begin, end, timeline }) => {
    const startLsn = maxLsn(segmentStart(begin, segmentSize), first)
    const endLsn = segmentStart(minLsn(end ?? to, to), segmentSize)
    return startLsn < endLsn && (end === undefined || from < end) ? [{ timeline, startLsn, endLsn }] : []
  })
}

/** See the file's header. One for each gap. */
export class GapRepair {
  readonly #options: GapRepairOptions
  readonly #source: PreparedSource
  /** How often the streams of a host broke since the last one that brought WAL. */
  readonly #failures = new Map<string, number>()
  /** Hosts that have not got what is wanted now. */
  readonly #lacking = new Set<string>()
  /** Hosts that cannot help at all. */
  readonly #useless = new Set<string>()

  /** @param source the server that lacks the WAL: what it says of its history counts */
  constructor(options: GapRepairOptions, source: PreparedSource) {
    this.#options = options
    this.#source = source
    this.#useless.add(source.session.host)
  }

  /**
   * Archives what other hosts have of the WAL between two positions.
   * @param to the first byte of a segment
   * @returns what nobody has, in order
   * @throws the signal's reason, and what the storage says that no other attempt will change
   */
  async fill(from: Lsn, to: Lsn, signal: AbortSignal): Promise<ArchiveHole[]> {
    const { chain, segmentSize, session } = this.#source
    const { log } = this.#options
    const facts = { host: session.host, from: formatLsn(from), to: formatLsn(to) }
    log.warn('WAL is gone from the server: the other hosts are asked for it', facts)
    const lost: ArchiveHole[] = []
    for (const range of repairRanges(chain, from, to, segmentSize)) {
      for (const hole of await this.#fillRange(range, signal)) {
        const startLsn = maxLsn(hole.startLsn, from)
        const last = lost.at(-1)
        if (last?.endLsn === startLsn) lost.splice(-1, 1, { startLsn: last.startLsn, endLsn: hole.endLsn })
        else lost.push({ startLsn, endLsn: hole.endLsn })
      }
    }
    for (const { endLsn, startLsn } of lost) {
      const range = { from: formatLsn(startLsn), to: formatLsn(endLsn) }
      log.warn('no other host has the WAL either', { ...facts, ...range })
    }
    return lost
  }

  /** Returns what nobody has of the range. */
  async #fillRange(range: RepairRange, signal: AbortSignal): Promise<ArchiveHole[]> {
    const lost: ArchiveHole[] = []
    let position = range.startLsn
    for (;;) {
      position = await this.#fillFrom({ ...range, startLsn: position }, signal)
      if (position >= range.endLsn) return lost
      this.#lacking.clear()
      const next = await this.#oldestElsewhere({ ...range, startLsn: position }, signal)
      lost.push({ startLsn: position, endLsn: next })
      position = next
    }
  }

  /** Returns how far it came from the beginning of the range on without a hole. */
  async #fillFrom(range: RepairRange, signal: AbortSignal): Promise<Lsn> {
    const { clock, log, meter, random } = this.#options
    const backoff = new Backoff({ firstMs: 500, maxMs: 5_000, random })
    let position = range.startLsn
    while (position < range.endLsn) {
      let helper: Helper
      try {
        helper = await this.#connect({ ...range, startLsn: position }, signal)
      } catch (error) {
        signal.throwIfAborted()
        const { message, transient } = toWalrxError(error)
        log.info('no host can send the missing WAL', { from: formatLsn(position), error: message })
        if (!transient || backoff.attempt + 1 >= attemptsMax) return position
        await backoff.wait(clock, signal)
        continue
      }
      const { host } = helper.session
      const end = await this.#stream(helper, { ...range, startLsn: position }, signal)
      if (end > position) {
        const part = { timeline: range.timeline, from: formatLsn(position), to: formatLsn(end) }
        log.warn('archived WAL from another host that the server no longer has', { host, ...part })
        meter.repaired(host, Number(end - position))
        position = end
        this.#failures.clear()
        this.#lacking.clear()
      }
    }
    return position
  }

  /**
   * The oldest WAL that any host has of the range after its first segment; the end of the range when no host has any.
   * @throws the signal's reason
   */
  async #oldestElsewhere(range: RepairRange, signal: AbortSignal): Promise<Lsn> {
    const startLsn = addBytes(range.startLsn, this.#source.segmentSize)
    let oldest = range.endLsn
    if (startLsn >= oldest) return oldest
    const judge = async (session: ReplicationSession): Promise<void> => {
      const { endLsn } = await this.#examine(session, { ...range, startLsn, endLsn: oldest })
      const found = await orAborted(oldestWal({ ...this.#source, session }, startLsn, endLsn), signal)
      if (found.startLsn < endLsn) oldest = found.startLsn
      throw new WalrxError('WALRX_WAL_REMOVED', `${session.host} is asked for what it has only`)
    }
    // Each host is refused, so that every one is asked.
    await this.#options.server.connect(signal, judge).catch(() => {})
    signal.throwIfAborted()
    return oldest
  }

  /** A host that has WAL at the beginning of the range; throws where there is none. */
  async #connect(range: RepairRange, signal: AbortSignal): Promise<Helper> {
    let helper: Helper | undefined
    await this.#options.server.connect(signal, async (session) => {
      helper = await this.#examine(session, range)
    })
    if (!helper) throw new Error('a host was connected to and not examined')
    return helper
  }

  /** What the host has of the range. Throws what is wrong with it. */
  async #examine(session: ReplicationSession, { endLsn, startLsn, timeline }: RepairRange): Promise<Helper> {
    const { host, inRecovery } = session
    const at = `WAL at ${formatLsn(startLsn)} on timeline ${timeline}`
    const refuse = (why: string) => new WalrxError('WALRX_WAL_REMOVED', `${host} ${why}`)
    const isOut = this.#useless.has(host) || (this.#failures.get(host) ?? 0) >= attemptsMax
    if (isOut || this.#lacking.has(host)) throw refuse(`does not have ${at}`)
    const { chain, segmentSize, systemId } = this.#source
    const identity = await session.identifySystem()
    if (identity.systemId !== systemId) throw refuse(`is another cluster, with system identifier ${identity.systemId}`)
    const theirSize = parseSegmentSize(await session.show('wal_segment_size'))
    if (theirSize !== segmentSize) throw refuse(`has wal_segment_size ${theirSize}, the primary has ${segmentSize}`)
    const theirs = await readServerHistory(session, identity.timeline)
    const link = commonLink(chain, theirs.chain, timeline)
    if (!link) throw refuse(`has another history up to timeline ${timeline}`)
    if (link.end === undefined && chain.link(timeline)?.end === undefined && !inRecovery) {
      throw refuse(`writes to timeline ${timeline} itself: its WAL is not the primary's`)
    }
    const end = minLsn(endLsn, segmentStart(link.end ?? identity.xlogpos, segmentSize))
    if (end <= startLsn) throw refuse(`does not have ${at}: its WAL ends at ${formatLsn(link.end ?? identity.xlogpos)}`)
    return { session, walSenderTimeoutMs: parseTimeoutMs(await session.show('wal_sender_timeout')), endLsn: end }
  }

  /** Returns how far it came; notes what the host has failed at. */
  async #stream(
    { endLsn, session, walSenderTimeoutMs }: Helper,
    range: RepairRange,
    signal: AbortSignal,
  ): Promise<Lsn> {
    const { log } = this.#options
    const { host } = session
    const { segmentSize, systemId } = this.#source
    const from = { host, timeline: range.timeline, from: formatLsn(range.startLsn), to: formatLsn(endLsn) }
    log.info('streaming the missing WAL from another host', from)
    const stream = new RepairStream({ ...this.#options, session, walSenderTimeoutMs, segmentSize, systemId })
    try {
      const { error, reached } = await stream.run({ ...range, endLsn }, signal)
      if (!error) return reached
      const { code, message } = error
      log.warn('the other host could not send all of the missing WAL', { ...from, code, error: message })
      const isWrong = hasCode(error, 'WALRX_ARCHIVE_CONFLICT') || hasCode(error, 'WALRX_WAL_INVALID')
      if (isWrong) this.#useless.add(host)
      if (error.code === 'WALRX_WAL_REMOVED' || !error.transient) this.#lacking.add(host)
      else this.#failures.set(host, (this.#failures.get(host) ?? 0) + 1)
      return reached
    } finally {
      await session.close()
    }
  }
}

/** The timeline in the second chain, where both have the same history up to its beginning. */
function commonLink(
  ours: TimelineChain,
  theirs: TimelineChain,
  timeline: Timeline,
): TimelineChain['newest'] | undefined {
  for (const [index, link] of theirs.links.entries()) {
    const own = ours.links[index]
    if (own?.timeline !== link.timeline || own.begin !== link.begin) return undefined
    if (link.timeline === timeline) return link
  }
  return undefined
}
