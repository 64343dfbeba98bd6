/** A run of WAL without receiver and connections, for tests of how it goes on. */
import assert from 'node:assert/strict'
import { silentLog } from '../../src/observe/log.ts'
import { formatLsn, type Lsn, type Timeline } from '../../src/postgres/lsn.ts'
import { TimelineChain } from '../../src/postgres/wal/timeline-chain.ts'
import type { PreparedSource } from '../../src/receive/source/prepared-source.ts'
import { ReceiveRun, type ReceiveRunOptions } from '../../src/receive/receive-run.ts'
import { firstLsn, segmentSize, systemId, timelineOne, type TimelineWal } from '../faults/recorded-wal.ts'
import { VirtualClock } from '../harness/time/virtual-clock.ts'
import { FakeArchive, FakeSession, RecordingMeter, settle } from './fakes.ts'
import { at } from './receiver-bench.ts'

/** A signal that never aborts. */
export const never = new AbortController().signal

/** A position as text. */
export const show = ({ timeline, startLsn }: { timeline: Timeline; startLsn: Lsn }): string =>
  `${timeline} ${formatLsn(startLsn)}`
/** The same of a position in segments. */
export const where = (timeline: Timeline, segments: number): string => show({ timeline, startLsn: at(segments) })

/** What a server says of itself, positions in segments. */
export interface Server {
  readonly slot: number | undefined
  readonly end: number
  /** The oldest WAL that it has; by default what the slot keeps. */
  readonly oldest?: number
  readonly timeline?: Timeline
  readonly ends?: readonly [Timeline, number][]
}

/** A server that a run can begin on. */
export function source({ slot, end, oldest, timeline = 1, ends = [] }: Server): PreparedSource {
  const entries = ends.map(([ended, switchpoint]) => ({ timeline: ended, switchpoint: at(switchpoint) }))
  const session = new FakeSession(at(end))
  session.oldestLsn = at(oldest ?? slot ?? end)
  return {
    session,
    systemId,
    segmentSize,
    walSenderTimeoutMs: 60_000,
    chain: new TimelineChain(timeline, entries),
    serverEnd: at(end),
    slotRestart: slot === undefined ? undefined : at(slot),
    slotState: slot === undefined ? 'none' : 'found',
  }
}

/** A run with archive, clock and meter in the hands of the test. */
export class RunBench {
  readonly archive = new FakeArchive()
  readonly meter = new RecordingMeter()
  readonly clock = new VirtualClock()
  readonly run: ReceiveRun

  constructor(over: Partial<ReceiveRunOptions> = {}, over2: Partial<PreparedSource> = {}) {
    const options: ReceiveRunOptions = {
      archive: this.archive,
      clock: this.clock,
      random: () => 0,
      log: silentLog,
      meter: this.meter,
      slot: 'walrx',
      memoryBytes: 10 * segmentSize,
      uploadConcurrency: 2,
      tailPace: { intervalMs: 0, bytesMax: 64 * 1024, isSynchronous: false },
      ...over,
    }
    this.run = new ReceiveRun(options, { ...source({ slot: 0, end: 1 }), ...over2 })
  }

  /** Begins on this server; says where. */
  async begin(server: Server): Promise<string> {
    return show(await this.run.begin(source(server), never))
  }

  /** The stream brings WAL of a timeline from the run's position up to `end`. */
  async feed(end: number, wal: TimelineWal = timelineOne): Promise<void> {
    const from = this.run.assembler.nextLsn
    const bytes = wal.bytes.subarray(Number(from - firstLsn), Number(at(end) - firstLsn))
    assert.equal(this.run.assembler.write(from, bytes), bytes.length)
    await settle()
  }

  async pass(ms: number): Promise<void> {
    await this.clock.pass(ms)
    await settle()
  }

  /** What a session does when a segment has become durable. */
  report(): void {
    this.run.noteReported(this.run.queue.durableLsn)
  }
}
