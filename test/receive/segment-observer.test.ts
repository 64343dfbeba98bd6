/** An observer sees every whole segment once, before it is compressed, whichever way it takes into the archive. */
import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { finalizeTimeline } from '../../src/catalog/wal-finalize.ts'
import { openWriteCodec } from '../../src/compression/codecs.ts'
import { silentLog } from '../../src/observe/log.ts'
import { addBytes, formatLsn } from '../../src/postgres/lsn.ts'
import { GapRepair } from '../../src/receive/gap/gap-repair.ts'
import { SegmentPool } from '../../src/receive/segment/segment-pool.ts'
import { tailKey } from '../../src/walg/names.ts'
import type { PassingSegment } from '../../src/walg/wal/segment-archiver.ts'
import { WalArchive } from '../../src/walg/wal/wal-archive.ts'
import { firstLsn, segmentSize, systemId, timelineOne } from '../faults/recorded-wal.ts'
import { VirtualClock } from '../harness/time/virtual-clock.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'
import { copyBoth, keepaliveMessage, walMessage } from '../postgres/server-messages.ts'
import { FakeArchive, FakeSession, RecordingMeter, settle, storageOut } from './fakes.ts'
import { at, nameOf } from './receiver-bench.ts'
import { never, RunBench, source } from './run-bench.ts'

let seen: string[]
beforeEach(() => (seen = []))

/** WAL of a segment that is so many segments after the first one. */
const walOf = (index: number) => timelineOne.bytes.subarray(index * segmentSize, (index + 1) * segmentSize)

/** Writes down what passes; its bytes must be those of the server. */
function onSegment({ bytes, startLsn, timeline }: PassingSegment): void {
  const index = [0, 1, 2, 3].find((each) => at(each) === startLsn)
  assert.ok(index !== undefined && bytes.equals(walOf(index)), `${formatLsn(startLsn)} as the server sent it`)
  assert.equal(timeline, 1)
  seen.push(nameOf(index))
}

/** Destroys what is encoded in its place, as every codec does. */
function destroyWhatIsEncoded(archive: FakeArchive): void {
  archive.encodeInPlace = (buffer, length) => {
    buffer.fill(0xee, 0, length)
    return Promise.resolve(length)
  }
}

describe('an observer sees every whole segment once', () => {
  test('of a stream, however often it is put, and no partial', async () => {
    const bench = new RunBench({ onSegment })
    destroyWhatIsEncoded(bench.archive)
    const names: string[] = []
    bench.archive.archive = (name) => {
      names.push(name)
      if (names.length === 1) return Promise.reject(storageOut())
      bench.archive.files.set(name, Buffer.alloc(0))
      return Promise.resolve('created')
    }
    await bench.begin({ slot: 0, end: 3 })
    await bench.feed(2.5)
    await bench.pass(1_000)
    await bench.run.settle(never)
    assert.deepEqual(names, [nameOf(0), nameOf(0), nameOf(1)])
    assert.deepEqual(seen, [nameOf(0), nameOf(1)])
  })

  test('that became whole in its chunks', async () => {
    const bench = new RunBench({ onSegment })
    destroyWhatIsEncoded(bench.archive)
    bench.archive.completeTails = async function* (buffer) {
      for (const index of [0, 1]) {
        await settle()
        walOf(index).copy(buffer)
        yield nameOf(index)
      }
      return undefined
    }
    await bench.begin({ slot: 2, end: 3 })
    assert.deepEqual(bench.archive.segmentNames, [nameOf(0), nameOf(1)])
    assert.deepEqual(seen, [nameOf(0), nameOf(1)])
    assert.equal(bench.run.pool.free, bench.run.pool.capacity)
  })

  test('of a repair from another host', async () => {
    const archive = new FakeArchive()
    destroyWhatIsEncoded(archive)
    const session = new FakeSession(at(3))
    Object.assign(session, { host: 'standby:5432', systemId, inRecovery: true })
    const write = session.socket.write.bind(session.socket)
    session.socket.write = (bytes) => {
      write(bytes)
      if (!Buffer.from(bytes).includes('START_REPLICATION')) return
      queueMicrotask(() => {
        session.socket.deliver(copyBoth, keepaliveMessage(at(3)))
        for (let lsn = at(1); lsn < at(3); lsn = addBytes(lsn, 131_072)) {
          const from = Number(lsn - firstLsn)
          session.socket.deliver(walMessage(lsn, timelineOne.bytes.subarray(from, from + 131_072)))
        }
      })
    }
    const server = {
      connect: async (_signal?: AbortSignal, judge?: (one: FakeSession) => Promise<void>) => {
        await judge?.(session)
        return session
      },
    }
    const repair = new GapRepair(
      {
        archive,
        clock: new VirtualClock(),
        log: silentLog,
        meter: new RecordingMeter(),
        onSegment,
        pool: new SegmentPool(segmentSize, 3),
        random: () => 0,
        server,
        uploadConcurrency: 2,
      },
      source({ slot: 3, end: 4 }),
    )
    assert.deepEqual(await repair.fill(at(1), at(3), never), [])
    assert.deepEqual(archive.segmentNames, [nameOf(1), nameOf(2)])
    assert.deepEqual(seen, [nameOf(1), nameOf(2)])
  })

  test('that wal-finalize makes, zeros included', async () => {
    const storage = new MemoryStorage()
    const length = 100_000
    const name = nameOf(0)
    storage.seed(tailKey(name, { from: 0, to: length }, ''), walOf(0).subarray(0, length), 0)
    const passed: PassingSegment[] = []
    const done = await finalizeTimeline({
      archive: new WalArchive(storage, openWriteCodec('zstd')),
      timeline: undefined,
      force: false,
      dryRun: false,
      nowMs: 3600_000,
      onSegment: ({ bytes, ...where }) => passed.push({ ...where, bytes: Buffer.from(bytes) }),
    })
    assert.deepEqual(
      done.map(({ segment }) => segment),
      [name],
    )
    const [{ bytes, startLsn, timeline } = { bytes: Buffer.alloc(0), startLsn: 0n, timeline: 0 }] = passed
    assert.deepEqual([passed.length, startLsn, timeline], [1, at(0), 1])
    assert.ok(bytes.equals(Buffer.concat([walOf(0).subarray(0, length), Buffer.alloc(segmentSize - length)])))
  })
})
