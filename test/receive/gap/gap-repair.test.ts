/** WAL that one server lacks, from others: who is asked, in which order, and that it ends. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { silentLog } from '../../../src/observe/log.ts'
import { formatLsn, type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import type { ReplicationServer, ReplicationSession } from '../../../src/postgres/protocol/session.ts'
import { TimelineChain } from '../../../src/postgres/wal/timeline-chain.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'
import type { ArchiveHole } from '../../../src/receive/source/archive-holes.ts'
import { GapRepair, repairRanges } from '../../../src/receive/gap/gap-repair.ts'
import { SegmentPool } from '../../../src/receive/segment/segment-pool.ts'
import { firstLsn, fork, segmentSize, systemId, timelineOne, type TimelineWal } from '../../faults/recorded-wal.ts'
import { VirtualClock } from '../../harness/time/virtual-clock.ts'
import { copyBoth, errorMessage, keepaliveMessage, walMessage } from '../../postgres/server-messages.ts'
import { FakeArchive, FakeSession, RecordingMeter, settle } from '../fakes.ts'
import { at, nameOf } from '../receiver-bench.ts'
import { type Server, source } from '../run-bench.ts'

/** One host: what it is, and the WAL that it has. */
interface Host {
  readonly name: string
  /** Positions in segments; `has` to `end`. */
  readonly has: number
  readonly end: number
  readonly wal?: TimelineWal
  readonly prepare?: (session: FakeSession) => void
  /** The connection breaks there. */
  readonly breaksAt?: number
  isDown?: boolean
}

/** Hosts that are asked in their order, and answer at once. */
class Hosts implements ReplicationServer {
  readonly hosts: readonly Host[]
  /** `host position` for every START_REPLICATION. */
  readonly asked: string[] = []
  readonly sessions: FakeSession[] = []

  constructor(hosts: readonly Host[]) {
    this.hosts = hosts
  }

  async connect(
    _signal?: AbortSignal,
    judge?: (session: ReplicationSession) => Promise<void>,
  ): Promise<ReplicationSession> {
    const failures: WalrxError[] = []
    for (const host of this.hosts) {
      if (host.isDown === true) {
        failures.push(new WalrxError('WALRX_CONNECT_FAILED', `${host.name} is down`))
        continue
      }
      const session = this.#session(host)
      try {
        await judge?.(session)
        return session
      } catch (error) {
        failures.push(error as WalrxError)
        await session.close()
      }
    }
    throw new WalrxError('WALRX_WAL_REMOVED', failures.map(({ message }) => message).join('; '), {
      transient: failures.some(({ transient }) => transient),
    })
  }

  #session(host: Host): FakeSession {
    const session = new FakeSession(at(host.end))
    session.host = host.name
    session.systemId = systemId
    session.inRecovery = true
    session.oldestLsn = at(host.has)
    host.prepare?.(session)
    const { socket } = session
    const write = socket.write.bind(socket)
    socket.write = (bytes) => {
      write(bytes)
      const start = /^Q.{4}START_REPLICATION PHYSICAL (\S+) TIMELINE/s.exec(Buffer.from(bytes).toString('latin1'))
      if (start) queueMicrotask(() => this.#answer(host, session, parseLsn((start[1] ?? '').toUpperCase())))
    }
    this.sessions.push(session)
    return session
  }

  #answer(host: Host, { socket }: FakeSession, start: Lsn): void {
    this.asked.push(`${host.name} ${formatLsn(start)}`)
    socket.deliver(copyBoth, keepaliveMessage(at(host.end)))
    if (start < at(host.has)) return socket.deliver(errorMessage('58P01', 'has already been removed'))
    const { bytes } = host.wal ?? timelineOne
    const end = at(Math.min(host.breaksAt ?? host.end, host.end))
    for (let lsn = start; lsn < end; lsn = (lsn + 131_072n) as Lsn) {
      const from = Number(lsn - firstLsn)
      socket.deliver(walMessage(lsn, bytes.subarray(from, Math.min(from + 131_072, Number(end - firstLsn)))))
    }
    if (host.breaksAt !== undefined) socket.close()
  }
}

/** What is to be repaired, and how it went. */
class Bench {
  readonly archive = new FakeArchive()
  readonly meter = new RecordingMeter()
  readonly clock = new VirtualClock()
  readonly pool = new SegmentPool(segmentSize, 3)
  readonly hosts: Hosts
  readonly #repair: GapRepair
  readonly stop = new AbortController()

  constructor(hosts: readonly Host[], server: Partial<Server> = {}) {
    this.hosts = new Hosts(hosts)
    const options = { archive: this.archive, clock: this.clock, meter: this.meter, pool: this.pool }
    this.#repair = new GapRepair(
      { ...options, server: this.hosts, uploadConcurrency: 2, random: () => 0, log: silentLog },
      source({ slot: 5.5, end: 6, ...server }),
    )
  }

  /** Repairs; returns what is lost, in segments. */
  async fill(from: number, to: number): Promise<[number, number][]> {
    let reached: ArchiveHole[] | undefined
    let failure: unknown
    this.#repair.fill(at(from), at(to), this.stop.signal).then(
      (lost) => (reached = lost),
      (error: unknown) => (failure = error),
    )
    for (let turn = 0; reached === undefined && failure === undefined; turn++) {
      assert.ok(turn < 100, 'the repair has no end')
      await this.clock.run(
        () => true,
        () => false,
        0,
      )
      await settle()
      if (reached === undefined && failure === undefined) await this.pass(5_000)
    }
    if (failure !== undefined) throw failure as Error
    assert.equal(this.pool.free, this.pool.capacity, 'every buffer came back')
    assert.ok(
      this.hosts.sessions.every(({ isClosed }) => isClosed),
      'every connection is closed',
    )
    const flushes = this.hosts.sessions.flatMap(({ socket }) => socket.statuses.map(({ flush }) => flush))
    assert.deepEqual(
      new Set(flushes).size <= 1 && !flushes.some((flush) => flush > 0n),
      true,
      'nothing was acknowledged',
    )
    const segments = (lsn: Lsn) => Number(lsn - firstLsn) / segmentSize
    return (reached ?? []).map(({ endLsn, startLsn }) => [segments(startLsn), segments(endLsn)])
  }

  async pass(ms: number): Promise<void> {
    await this.clock.pass(ms)
    await settle()
  }

  get repaired(): string[] {
    return this.meter.lines.filter((line) => line.startsWith('repaired'))
  }
}

const host = (name: string, has: number, end: number, over: Partial<Host> = {}): Host => ({ name, has, end, ...over })

describe('what can be repaired', () => {
  test('is whole segments, each on the timeline that goes on with it', () => {
    const chain = new TimelineChain(3, [
      { timeline: 1, switchpoint: at(2.5) },
      { timeline: 2, switchpoint: at(4) },
    ])
    const ranges = repairRanges(chain, at(1.25), at(6), segmentSize)
    assert.deepEqual(
      ranges.map(({ endLsn, startLsn, timeline }) => [timeline, startLsn, endLsn]),
      [
        [1, at(1), at(2)],
        [2, at(2), at(4)],
        [3, at(4), at(6)],
      ],
    )
    assert.deepEqual(repairRanges(chain, at(2.5), at(3), segmentSize), [
      { timeline: 2, startLsn: at(2), endLsn: at(3) },
    ])
    assert.deepEqual(repairRanges(chain, at(5), at(5), segmentSize), [])
  })
})

describe('a gap is filled', () => {
  test('by a standby, without a slot and to the byte', async () => {
    const bench = new Bench([
      host('fake:5432', 5, 6, { prepare: (session) => (session.inRecovery = false) }),
      host('b', 0, 6),
    ])
    assert.deepEqual(await bench.fill(1, 5), [])
    assert.deepEqual(bench.hosts.asked, [`b ${formatLsn(at(1))}`])
    assert.deepEqual(
      bench.archive.segmentNames,
      [1, 2, 3, 4].map((index) => nameOf(index)),
    )
    for (const index of [1, 2, 3, 4]) {
      const bytes = timelineOne.bytes.subarray(index * segmentSize, (index + 1) * segmentSize)
      assert.ok(bench.archive.files.get(nameOf(index))?.equals(bytes))
    }
    assert.deepEqual(bench.repaired, [`repaired ${4 * segmentSize} from b`])
  })

  test('by several, each as far as it comes; what nobody has is left', async () => {
    const bench = new Bench([host('b', 3, 6), host('c', 0, 2.5), host('d', 0, 3.5, { breaksAt: 3.25 })])
    assert.deepEqual(await bench.fill(1, 4), [])
    assert.deepEqual(
      bench.hosts.asked,
      ['b', 'c', 'b', 'd', 'b'].map((name, index) => `${name} ${formatLsn(at([1, 1, 2, 2, 3][index] ?? 0))}`),
    )
    const left = new Bench([host('b', 0, 2.5)])
    assert.deepEqual(await left.fill(1, 4), [[2, 4]])
    assert.deepEqual(left.hosts.asked, [`b ${formatLsn(at(1))}`])
  })

  // Standbys often keep less WAL than was missed, and still most of it.
  test('by hosts that lack its beginning: what nobody has is lost, and no more', async () => {
    const bench = new Bench([host('b', 3, 6), host('c', 2, 6)])
    assert.deepEqual(await bench.fill(1, 4), [[1, 2]])
    assert.deepEqual(
      bench.hosts.asked,
      ['b', 'c', 'b', 'c'].map((name, index) => `${name} ${formatLsn(at([1, 1, 2, 2][index] ?? 0))}`),
    )
    assert.deepEqual(
      bench.archive.segmentNames,
      [2, 3].map((index) => nameOf(index)),
    )
    const several = new Bench([host('b', 2, 3), host('c', 4, 5), host('d', 0, 6, { isDown: true })])
    assert.deepEqual(await several.fill(1.5, 6), [
      [1.5, 2],
      [3, 4],
      [5, 6],
    ])
  })

  test('by nobody: every host is asked once for the same position', async () => {
    const bench = new Bench([host('b', 5, 6), host('c', 4, 6)])
    assert.deepEqual(await bench.fill(1, 4), [[1, 4]])
    assert.deepEqual(bench.hosts.asked, [`b ${formatLsn(at(1))}`, `c ${formatLsn(at(1))}`])
    assert.deepEqual([bench.archive.segmentNames, bench.repaired], [[], []])
  })

  test('by a host that does not answer at first; one that never does is given up', async () => {
    const slow = host('b', 0, 6, { isDown: true })
    const bench = new Bench([slow])
    bench.clock.setTimer(600, () => (slow.isDown = false))
    assert.deepEqual(await bench.fill(1, 3), [])
    const never = new Bench([host('b', 0, 6, { isDown: true })])
    assert.deepEqual(await never.fill(1, 3), [[1, 3]])
    const breaking = new Bench([host('b', 0, 6, { breaksAt: 1.5 })])
    assert.deepEqual(await breaking.fill(1, 3), [[1, 3]])
    assert.equal(breaking.hosts.asked.length, 3)
  })
})

describe('a host gives no WAL', () => {
  const refused = async (over: Partial<Host>, server: Partial<Server> = {}): Promise<void> => {
    const bench = new Bench([host('b', 0, 6, over)], server)
    assert.deepEqual(await bench.fill(1, 3), [[1, 3]])
    assert.deepEqual(bench.hosts.asked, [])
  }

  test('that is of another cluster, or has other segments', async () => {
    await refused({ prepare: (session) => (session.systemId = 1n) })
    await refused({ prepare: (session) => (session.settings['wal_segment_size'] = '16MB') })
  })

  test('of the timeline that it writes to itself, if it is not the primary', async () => {
    await refused({ prepare: (session) => (session.inRecovery = false) })
  })

  test('of a timeline that it has another history of, or no WAL of', async () => {
    const other = (session: FakeSession) => {
      session.timeline = 2
      session.histories.set(2, `1\t${formatLsn(at(0.75))}\tno recovery target specified\n`)
    }
    await refused({ prepare: other }, { timeline: 2, ends: [[1, 0.5]] })
    await refused({}, { timeline: 2, ends: [[1, 0.5]] })
  })

  test('beyond the place where a timeline ended; before it a former primary may', async () => {
    const bench = new Bench([host('b', 0, 6, { prepare: (session) => (session.inRecovery = false) })], {
      timeline: 2,
      ends: [[1, 3.5]],
    })
    assert.deepEqual(await bench.fill(1, 5), [[3, 5]])
    assert.deepEqual(bench.archive.segmentNames, [nameOf(1), nameOf(2)])
  })

  test('that contradicts the archive: it is not asked again, and the next one is', async () => {
    const bench = new Bench([host('b', 0, 6, { wal: fork(timelineOne, 1, at(1.5)) }), host('c', 0, 6)])
    bench.archive.files.set(nameOf(2), Buffer.from(timelineOne.bytes.subarray(2 * segmentSize, 3 * segmentSize)))
    assert.deepEqual(await bench.fill(2, 5), [])
    assert.deepEqual(bench.hosts.asked, [`b ${formatLsn(at(2))}`, `c ${formatLsn(at(2))}`])
    assert.deepEqual(
      bench.archive.segmentNames,
      [2, 3, 4].map((index) => nameOf(index)),
    )
  })

  test('that differs from the tail which the archive has', async () => {
    const bench = new Bench([host('b', 0, 6, { wal: fork(timelineOne, 1, at(1.1)) }), host('c', 0, 6)])
    const beginning = timelineOne.bytes.subarray(segmentSize, 1.5 * segmentSize)
    bench.archive.chunks.set(`${nameOf(1)}/0-${segmentSize / 2}`, Buffer.from(beginning))
    assert.deepEqual(await bench.fill(1.5, 3), [])
    assert.deepEqual(bench.hosts.asked, [`b ${formatLsn(at(1))}`, `c ${formatLsn(at(1))}`])
  })
})

test('a repair can be stopped', async () => {
  const bench = new Bench([host('b', 0, 1.5, { prepare: (session) => (session.xlogpos = at(6)) })])
  const filled = bench.fill(1, 4)
  await settle()
  bench.stop.abort(new Error('stopped'))
  await assert.rejects(filled, /stopped/)
  assert.ok(bench.hosts.sessions.every(({ isClosed }) => isClosed))
})
