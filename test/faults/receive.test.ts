/**
 * The receive core against seeded disorder. `WALRX_SEED=n` replays one schedule, `WALRX_SCHEDULES=n` runs that many.
 *
 * What every schedule is checked for is in world.ts. The second half breaks the promise on purpose: if no schedule
 * noticed, the first half would prove nothing.
 */
import assert from 'node:assert/strict'
import { afterEach, describe, test } from 'node:test'
import { addBytes, type Lsn, maxLsn } from '../../src/postgres/lsn.ts'
import { ReceiveRun } from '../../src/receive/receive-run.ts'
import type { ReceivedSegment } from '../../src/receive/segment/segment-assembler.ts'
import { SentChunks } from '../../src/receive/tail/sent-chunks.ts'
import { UploadQueue } from '../../src/receive/segment/upload-queue.ts'
import { trials } from '../harness/extent.ts'
import { type FailedSchedule, runHere, runOnThreads } from './schedules.ts'
import { openSimulatedArchive } from './simulated-archive.ts'
import { World } from './world.ts'

const replay = process.env.WALRX_SEED
const scheduleCount = trials('WALRX_SCHEDULES', 250, 1000)

/** Runs schedules from seed 1 on until one fails. */
async function firstFailure(count: number, open?: typeof openSimulatedArchive): Promise<FailedSchedule | undefined> {
  const answer = await runHere(1, count + 1, open)
  return 'seed' in answer ? answer : undefined
}

describe('under seeded disorder', () => {
  test('nothing acknowledged is missing, nothing archived is wrong, and every schedule ends in progress', async (t) => {
    if (replay) {
      t.diagnostic(JSON.stringify(await new World(Number(replay)).run()))
      return
    }
    const answer = await runOnThreads(1, scheduleCount)
    if ('seed' in answer) {
      const { error, seed } = answer
      throw new Error(`schedule ${seed} failed: replay it with WALRX_SEED=${seed}`, { cause: error })
    }
    t.diagnostic(`${scheduleCount} schedules: ${JSON.stringify(answer)}`)
    assert.ok(answer.flushes > scheduleCount, 'the schedules hardly acknowledged anything')
    assert.ok(answer.torn > 0, 'no receiver met a torn object')
  })

  test('the same holds for an archive that is encrypted, with a key that changes between the starts of a receiver', async (t) => {
    if (replay) {
      t.diagnostic(JSON.stringify(await new World(Number(replay), undefined, true).run()))
      return
    }
    const count = Math.ceil(scheduleCount / 5)
    const answer = await runOnThreads(1, count, true)
    if ('seed' in answer) {
      const { error, seed } = answer
      throw new Error(`encrypted schedule ${seed} failed: replay it with WALRX_SEED=${seed}`, { cause: error })
    }
    t.diagnostic(`${count} schedules: ${JSON.stringify(answer)}`)
    assert.ok(answer.flushes > count, 'the schedules hardly acknowledged anything')
  })

  test('the same seed draws the same schedule', async () => {
    const first = await new World(42).run()
    assert.deepEqual(await new World(42).run(), first)
  })
})

describe(
  'a receiver that is broken on purpose is caught',
  { skip: replay ? 'one schedule is replayed' : false },
  () => {
    const original = Object.getOwnPropertyDescriptors(UploadQueue.prototype)
    afterEach(() => Object.defineProperties(UploadQueue.prototype, original))

    test('when it reports what it has received as flushed', async () => {
      const received = new WeakMap<UploadQueue, Lsn>()
      UploadQueue.prototype.pushSegment = function (segment: ReceivedSegment) {
        received.set(this, (segment.startLsn + BigInt(segment.length)) as Lsn)
        Reflect.apply(original.pushSegment.value as UploadQueue['pushSegment'], this, [segment])
      }
      Object.defineProperty(UploadQueue.prototype, 'durableLsn', {
        get(this: UploadQueue) {
          return received.get(this) ?? this.runStart
        },
      })
      const failure = await firstFailure(300)
      assert.match(failure?.error.message ?? 'no schedule noticed', /is not in the store/)
    })

    test('when it acknowledges segments in the order in which their uploads finish', async () => {
      // An upload that is reported as finished while it has just begun lets later ones overtake it.
      const open: typeof openSimulatedArchive = (storage) => {
        const archive = openSimulatedArchive(storage)
        const honest = archive.archive.bind(archive)
        archive.archive = (name, bytes, options) => {
          honest(name, Buffer.from(bytes), options).catch(() => {})
          return Promise.resolve('created')
        }
        return archive
      }
      const failure = await firstFailure(300, open)
      assert.match(failure?.error.message ?? 'no schedule noticed', /is not in the store|gap reported|no end within/)
    })

    test('when what is in memory is reported to commits as durable', async () => {
      const honest = Object.getOwnPropertyDescriptor(SentChunks.prototype, 'durableFrom') as PropertyDescriptor
      SentChunks.prototype.durableFrom = function (lsn) {
        return this.segments
          .flatMap(({ chunks, startLsn }) => chunks.map(({ to }) => addBytes(startLsn, to)))
          .reduce(maxLsn, lsn)
      }
      const failure = await firstFailure(300)
      Object.defineProperty(SentChunks.prototype, 'durableFrom', honest)
      assert.match(failure?.error.message ?? 'no schedule noticed', /is not in the store/)
    })

    test('when chunks count although one before them is missing', async () => {
      const honest = Object.getOwnPropertyDescriptor(SentChunks.prototype, 'durableFrom') as PropertyDescriptor
      SentChunks.prototype.durableFrom = function (lsn) {
        return this.segments
          .flatMap(({ chunks, startLsn }) =>
            chunks.filter(({ isDurable }) => isDurable).map(({ to }) => addBytes(startLsn, to)),
          )
          .reduce(maxLsn, lsn)
      }
      const failure = await firstFailure(300)
      Object.defineProperty(SentChunks.prototype, 'durableFrom', honest)
      assert.match(failure?.error.message ?? 'no schedule noticed', /is not in the store/)
    })

    test('when a former primary is not distinguished from the present one', async () => {
      const honest = Object.getOwnPropertyDescriptor(ReceiveRun.prototype, 'newestTimeline') as PropertyDescriptor
      Object.defineProperty(ReceiveRun.prototype, 'newestTimeline', { get: () => 0 })
      const failure = await firstFailure(300, (storage) => {
        const archive = openSimulatedArchive(storage)
        archive.forksOf = async function* () {}
        return archive
      })
      Object.defineProperty(ReceiveRun.prototype, 'newestTimeline', honest)
      assert.match(failure?.error.message ?? 'no schedule noticed', /no end within|is not in the store/)
    })

    test('when another history counts as its own', async () => {
      const failure = await firstFailure(1000, (storage) => {
        const archive = openSimulatedArchive(storage)
        archive.archiveHistory = async (name, content, options) => {
          return (await storage.putIfAbsent(`wal_005/${name}`, content, options)) === 'created' ? 'created' : 'same'
        }
        return archive
      })
      assert.match(
        failure?.error.message ?? 'no schedule noticed',
        /is not what|no end within|ARCHIVE_CONFLICT|other WAL/,
      )
    })

    test('when it overwrites what another receiver has archived', async () => {
      const failure = await firstFailure(1000, (storage) => {
        const archive = openSimulatedArchive(storage)
        archive.archiveHistory = async (name, content, options) => {
          await storage.put(`wal_005/${name}`, content, options)
          return 'created'
        }
        archive.archive = async (name, bytes, options) => {
          await storage.put(`wal_005/${name}`, bytes, options)
          return 'created'
        }
        return archive
      })
      assert.match(
        failure?.error.message ?? 'no schedule noticed',
        /is not in the store|is not what the server|no end within/,
      )
    })

    test('when it does not look at what is there already', async () => {
      const failure = await firstFailure(300, (storage) => {
        const archive = openSimulatedArchive(storage)
        archive.archive = async (name, bytes, options) =>
          (await storage.putIfAbsent(`wal_005/${name}`, bytes, options)) === 'created' ? 'created' : 'same'
        return archive
      })
      assert.match(
        failure?.error.message ?? 'no schedule noticed',
        /is not in the store|is not what the server|no end within/,
      )
    })

    test('when it goes on after a segment that is torn', async () => {
      const failure = await firstFailure(1000, (storage) => {
        const archive = openSimulatedArchive(storage)
        archive.isWhole = () => Promise.resolve(true)
        return archive
      })
      assert.match(failure?.error.message ?? 'no schedule noticed', /is not in the store|no end within/)
    })

    test('when a gap is not recorded', async () => {
      const failure = await firstFailure(300, (storage) => {
        const archive = openSimulatedArchive(storage)
        archive.recordGap = () => Promise.resolve('created')
        return archive
      })
      assert.match(failure?.error.message ?? 'no schedule noticed', /is not in the store/)
    })
  },
)
