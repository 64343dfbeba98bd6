import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { segmentsBetween, segmentsFromTo, waitForWal } from '../../src/backup/wal-wait.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import { parseLsn, toLsn } from '../../src/postgres/lsn.ts'
import { writeGap } from '../../src/walg/wal/gap-records.ts'
import { WalReader } from '../../src/walg/wal/wal-reader.ts'
import { unavailable } from '../harness/store/memory-storage.ts'
import { hour, IntentWorld, minute } from './intent-world.ts'
import { RecordingLog } from './recording-log.ts'

const megabyte = 1024 ** 2
const segments = ['000000010000000000000002', '000000010000000000000003', '000000010000000000000004']

/** A wait that has begun. */
function wait(world: IntentWorld, timeoutMs: number, signal = world.signal, names: readonly string[] = segments) {
  const log = new RecordingLog()
  const archive = new WalReader(world.storage)
  const waiting = waitForWal({
    archive,
    segments: names,
    name: 'base_000000010000000000000002',
    segmentSize: 16 * megabyte,
    clock: world.clock,
    timeoutMs,
    log,
    signal,
  })
  waiting.catch(() => {})
  return { log, waiting }
}

describe('the segments of a backup', () => {
  test('are those from the first byte that it needs to the last', () => {
    const between = (start: string, end: string, size = 16) =>
      segmentsBetween(1, parseLsn(start), parseLsn(end), size * megabyte).map((name) => name.slice(8))
    assert.deepEqual(between('0/2000028', '0/2000100'), ['0000000000000002'])
    // An end on a border is the end of the segment before.
    assert.deepEqual(between('0/2000028', '0/3000000'), ['0000000000000002'])
    assert.deepEqual(between('0/2000028', '0/3000001'), ['0000000000000002', '0000000000000003'])
    assert.deepEqual(between('0/FF000028', '1/1'), ['00000000000000FF', '0000000100000000'])
    assert.deepEqual(between('0/2000028', '0/2200000', 1), ['0000000000000020', '0000000000000021'])
    assert.deepEqual(between('5/40000000', '5/C0000000', 1024), ['0000000500000001', '0000000500000002'])
  })

  test('are found again by the first and the last of their names', () => {
    const size = fc.constantFrom(1, 16, 64, 1024).map((megabytes) => megabytes * megabyte)
    const timeline = fc.integer({ min: 1, max: 2 ** 32 - 1 })
    const lsn = fc.bigInt({ min: 1n, max: 2n ** 60n })
    fc.assert(
      fc.property(
        size,
        timeline,
        lsn,
        fc.integer({ min: 1, max: 64 * megabyte }),
        (segmentSize, line, start, length) => {
          const names = segmentsBetween(line, toLsn(start), toLsn(start + BigInt(length)), segmentSize)
          assert.ok(
            names.length >= Math.ceil(length / segmentSize) && names.length <= Math.ceil(length / segmentSize) + 1,
          )
          assert.deepEqual(segmentsFromTo([names[0] ?? '', names.at(-1) ?? ''], segmentSize), names)
        },
      ),
    )
    assert.throws(
      () => segmentsFromTo(['000000010000000000000002', 'x'], 16 * megabyte),
      (error) => hasCode(error, 'WALRX_INTERNAL'),
    )
  })
})

describe('waiting for WAL', () => {
  test('is over at once when all of it is there, under whatever extension', async () => {
    const world = new IntentWorld()
    for (const [index, name] of segments.entries())
      world.storage.seed(`wal_005/${name}${['', '.zst', '.lz4'][index]}`, 'x')
    const begunAt = world.clock.now()
    const { log, waiting } = wait(world, hour)
    await world.await(waiting, hour)
    assert.equal(world.clock.now(), begunAt)
    assert.deepEqual(log.lines, [])
  })

  test('goes on until the last segment has come, in whatever order they come', async () => {
    const world = new IntentWorld()
    const { log, waiting } = wait(world, hour)
    let isOver = false
    void waiting.then(() => (isOver = true))
    for (const name of [segments[2], segments[0], segments[1]]) {
      await world.pass(5 * minute)
      assert.equal(isOver, false)
      world.storage.seed(`wal_005/${name}.zst`, 'x')
    }
    await world.pass(1000)
    assert.equal(isOver, true)
    assert.deepEqual(log.lines[0], {
      level: 'info',
      message: 'waiting for WAL to be archived: is wal-receive running?',
      fields: { segment: segments[0], missing: 3, ofSegments: 3 },
    })
    // Every half minute, not at every look.
    assert.equal(log.lines.length, 30)
  })

  test('does not take a partial, a history, a label or the name of another for the segment', async () => {
    const world = new IntentWorld()
    const name = segments[0] ?? ''
    for (const key of [
      `${name}.partial`,
      `${name}.partial.zst`,
      `${name}.00000028.backup.zst`,
      `${name}_delta.zst`,
      `${name}.json`,
      `${name}.tmp.123`,
      name.slice(0, 23),
    ]) {
      world.storage.seed(`wal_005/${key}`, 'x')
    }
    const { waiting } = wait(world, minute, world.signal, [name])
    await assert.rejects(world.await(waiting, hour), (error) => hasCode(error, 'WALRX_BACKUP_INCOMPLETE'))
  })

  test('ends by its time-out, which names the first segment that is missing and is kept to', async () => {
    const world = new IntentWorld()
    world.storage.seed(`wal_005/${segments[0]}.zst`, 'x')
    world.storage.seed(`wal_005/${segments[2]}.zst`, 'x')
    const begunAt = world.clock.now()
    const { waiting } = wait(world, 90_000)
    await assert.rejects(world.await(waiting, hour), (error) => {
      assert.equal((error as Error).message, `segment ${segments[1]} has not come into memory://test within 90 s`)
      return hasCode(error, 'WALRX_BACKUP_INCOMPLETE')
    })
    assert.equal(world.clock.now() - begunAt, 90_000)
  })

  test('ends at once when a recorded gap holds what is missing, and not for one that has been filled', async () => {
    const world = new IntentWorld()
    const gap = (startLsn: string, endLsn: string, timeline = 1) =>
      writeGap(world.storage, {
        timeline,
        startLsn: parseLsn(startLsn),
        endLsn: parseLsn(endLsn),
        detectedAt: '2026-03-01T12:00:00Z',
        reason: 'nothing kept it and the server removed it',
        host: 'db:5432',
        slot: undefined,
      })
    world.storage.seed(`wal_005/${segments[0]}.zst`, 'x')
    await gap('0/1000000', '0/3000000')
    await gap('0/3000000', '0/4000000', 2)
    await gap('0/5000000', '0/6000000')
    const { waiting } = wait(world, hour)
    let isOver = false
    void waiting.catch(() => (isOver = true))
    await world.pass(minute)
    assert.equal(isOver, false)
    await gap('0/4000000', '0/5000000')
    const begunAt = world.clock.now()
    await assert.rejects(world.await(waiting, hour), (error) => {
      const expected =
        'backup base_000000010000000000000002 needs segment 000000010000000000000004, which will not come into ' +
        'memory://test: WAL from 0/4000000 to 0/5000000 on timeline 1 was lost (detected at 2026-03-01T12:00:00Z), ' +
        'because nothing kept it and the server removed it'
      assert.equal((error as Error).message, expected)
      return hasCode(error, 'WALRX_BACKUP_INCOMPLETE')
    })
    assert.ok(world.clock.now() - begunAt <= 10_000)
  })

  test('looks once where it may not wait at all, and takes what comes in the last moment', async () => {
    const world = new IntentWorld()
    const { waiting } = wait(world, 0)
    await assert.rejects(world.await(waiting, hour), (error) => hasCode(error, 'WALRX_BACKUP_INCOMPLETE'))
    assert.equal(world.storage.calls.length, 2, 'the segment, and the gaps')
    const late = wait(world, minute, world.signal, segments.slice(0, 1))
    await world.pass(minute - 1)
    world.storage.seed(`wal_005/${segments[0]}.zst`, 'x')
    await world.await(late.waiting, 1)
  })

  test('does not look again for what it has found', async () => {
    const world = new IntentWorld()
    world.storage.seed(`wal_005/${segments[0]}.zst`, 'x')
    const { waiting } = wait(world, 5000)
    await assert.rejects(world.await(waiting, hour))
    assert.equal(world.storage.log.filter((line) => line.endsWith(segments[0] ?? '')).length, 1)
    assert.equal(world.storage.log.filter((line) => line.endsWith(segments[1] ?? '')).length, 11)
    assert.equal(world.storage.log.filter((line) => line.endsWith(segments[2] ?? '')).length, 0)
  })

  test('ends by the signal, and by a storage that fails', async () => {
    const world = new IntentWorld()
    const stop = new AbortController()
    const { waiting } = wait(world, hour, stop.signal)
    await world.pass(minute)
    stop.abort(new Error('stopped by hand'))
    await assert.rejects(waiting, { message: 'stopped by hand' })
    const second = wait(world, hour)
    world.storage.before = () => {
      throw unavailable()
    }
    await assert.rejects(world.await(second.waiting, minute), (error) => hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
  })
})
