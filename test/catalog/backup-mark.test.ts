import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import fc from 'fast-check'
import { type MarkableBackup, markBackup, planMark } from '../../src/catalog/backup-mark.ts'
import { isPermanent, readDetails, selectBackup } from '../../src/catalog/backups.ts'
import { sentinelOrderKey } from '../../src/walg/names.ts'
import { hasCode, WalrxError } from '../../src/primitives/errors.ts'
import { BackupArchive } from '../../src/walg/backup/backup-archive.ts'
import { metadataKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'
import { SteppingClock } from '../harness/time/stepping-clock.ts'

const backup = (number: number) => `base_0000000100000000000000${number.toString(16).toUpperCase().padStart(2, '0')}`
const [one, two, three, four] = [backup(1), backup(2), backup(3), backup(4)]

/** A backup with two documents that say the same. */
function known(name: string, parentName?: string, permanent = false): MarkableBackup {
  return {
    name,
    parentName,
    isParentKnown: true,
    permanence: { inMetadata: permanent, inSentinel: permanent },
    problem: undefined,
  }
}

const mark = (name: string, rewriteSentinels = false) => ({ name, permanent: true, rewriteSentinels })
const clear = (name: string, rewriteSentinels = false) => ({ name, permanent: false, rewriteSentinels })
const isRefused = (part: string) => (error: unknown) =>
  hasCode(error, 'WALRX_MARK_REFUSED') && error.message.includes(part)

describe('a plan', () => {
  test('writes the newest sentinel, because that leaves LATEST as it was', () => {
    const plan = planMark([known(one), known(two)], mark(two))
    assert.deepEqual([plan.metadata, plan.sentinels.names, plan.sentinels.marked, plan.left], [[two], [two], [two], []])
  })

  test('writes metadata.json alone for an older one', () => {
    const plan = planMark([known(one), known(two)], mark(one))
    assert.deepEqual([plan.metadata, plan.sentinels.names, plan.left], [[one], [], [one]])
  })

  test('puts all newer sentinels again, oldest first, where it was asked to write an older one', () => {
    const plan = planMark([known(one), known(two), known(three), known(four)], mark(two, true))
    assert.deepEqual([plan.sentinels.names, plan.sentinels.marked, plan.left], [[two, three, four], [two], []])
  })

  test('takes the ancestors of a delta along, the full one first', () => {
    const all = [known(one), known(four), known(two, one), known(three, two)]
    const plan = planMark(all, mark(three))
    assert.deepEqual([plan.metadata, plan.sentinels.names, plan.left], [[one, two, three], [three], [one, two]])
    const rewritten = planMark(all, mark(three, true))
    assert.deepEqual(rewritten.sentinels.names, [one, four, two, three])
    assert.deepEqual(rewritten.sentinels.marked, [one, two, three])
  })

  test('clears one backup alone', () => {
    const plan = planMark([known(one, undefined, true), known(two, one, true)], clear(two))
    assert.deepEqual([plan.metadata, plan.sentinels.marked], [[two], [two]])
  })

  test('does nothing that is done already', () => {
    const plan = planMark([known(one, undefined, true), known(two, one, true)], mark(two, true))
    assert.deepEqual([plan.metadata, plan.sentinels.names, plan.left], [[], [], []])
  })

  test('sees both flags: what one tool has marked is marked in the other place too', () => {
    const half = { ...known(one), permanence: { inMetadata: true, inSentinel: false } }
    assert.deepEqual(planMark([half], mark(one)).metadata, [])
    assert.deepEqual(planMark([half], mark(one)).sentinels.marked, [one])
    const none = { ...known(one), permanence: { inMetadata: undefined, inSentinel: false } }
    assert.deepEqual(planMark([none], clear(one)).metadata, [one])
  })

  test('does not clear what a permanent delta builds on, by whichever tool it was marked', () => {
    for (const permanence of [
      { inMetadata: true, inSentinel: false },
      { inMetadata: undefined, inSentinel: true },
    ]) {
      const all = [known(one, undefined, true), { ...known(two, one), permanence }]
      assert.throws(() => planMark(all, clear(one, true)), isRefused(`${two} is permanent and builds on ${one}`))
    }
  })

  test('does not clear what its sentinel would keep, unless that may be written', () => {
    const all = [known(one, undefined, true), known(two)]
    assert.throws(() => planMark(all, clear(one)), isRefused(`the sentinel of ${one} says`))
    assert.deepEqual(planMark(all, clear(one, true)).sentinels.names, [one, two])
  })

  test('does not clear where a sentinel cannot be read, which may build on anything', () => {
    const problem = new WalrxError('WALRX_OBJECT_DAMAGED', 'damaged')
    const damaged = { ...known(two), isParentKnown: false, problem }
    assert.throws(() => planMark([known(one, undefined, true), damaged], clear(one, true)), problem)
    assert.deepEqual(planMark([known(one), damaged], mark(one)).metadata, [one])
    assert.throws(() => planMark([known(one), damaged], mark(two)), problem)
  })

  test('is refused for a chain that is not whole, or has no end', () => {
    const isNotFound = (error: unknown) => hasCode(error, 'WALRX_BACKUP_NOT_FOUND')
    assert.throws(() => planMark([known(two, one)], mark(two)), isNotFound)
    assert.throws(() => planMark([known(two)], mark(one)), isNotFound)
    assert.throws(
      () => planMark([known(one, two), known(two, one)], mark(one)),
      (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED'),
    )
  })
})

/** A storage that stamps with whole seconds, as S3 does. */
class Bucket extends MemoryStorage {
  readonly steps: SteppingClock

  constructor(steps: SteppingClock) {
    super({ clock: { now: () => Math.floor(steps.now() / 1000) * 1000, setTimer: () => ({ cancel: () => {} }) } })
    this.steps = steps
  }
}

let clock: SteppingClock
let storage: Bucket
let archive: BackupArchive
beforeEach(() => {
  clock = new SteppingClock()
  storage = new Bucket(clock)
  archive = new BackupArchive(storage)
})

function seed(name: string, ageSeconds: number, fields: object = {}): void {
  const sentinel = { LSN: 40, Unknown: [1, 'é'], IsPermanent: false, ...fields }
  storage.seed(sentinelKey(name), JSON.stringify(sentinel), clock.now() - ageSeconds * 1000)
  const start = new Date(clock.now() - ageSeconds * 1000).toISOString()
  storage.seed(metadataKey(name), `{"start_time":"${start}","start_lsn":40,"is_permanent":false,"unknown":1}`)
}

const work = (signal?: AbortSignal) => ({ storage, archive, clock, ...(signal && { signal }) })
/** As WAL-G and WAL-RUS have it. */
const inStorage = async () => (await archive.listBackups()).sort((a, b) => a.lastModifiedMs - b.lastModifiedMs)
const order = async () => (await inStorage()).map(({ name }) => name)
const marksOf = async (name: string) => {
  const [detail] = await readDetails(archive, [{ name, lastModifiedMs: 0 }])
  return [detail?.permanence.inMetadata, detail?.permanence.inSentinel]
}

describe('a mark', () => {
  test('of the newest backup is in both places and leaves everything else as it was', async () => {
    seed(one, 20)
    seed(two, 10)
    const outcome = await markBackup(work(), mark('LATEST'))
    assert.equal(outcome.backup.name, two)
    assert.equal(storage.peek(sentinelKey(two))?.toString(), '{"LSN":40,"Unknown":[1,"é"],"IsPermanent":true}')
    assert.match(storage.peek(metadataKey(two))?.toString() ?? '', /"is_permanent":true,.*"unknown":1\}$/)
    assert.deepEqual(await marksOf(one), [false, false])
    assert.deepEqual(await order(), [one, two])
    assert.equal(storage.peek(sentinelOrderKey), undefined)
  })

  test('of an older one leaves its sentinel and LATEST alone', async () => {
    seed(one, 20)
    seed(two, 10)
    const outcome = await markBackup(work(), mark(one))
    assert.deepEqual(await marksOf(one), [true, false])
    assert.deepEqual(outcome.left, [one])
    assert.ok(!storage.log.some((call) => call.startsWith('put') && call.includes('sentinel')))
  })

  test('makes a metadata.json where there was none', async () => {
    seed(one, 20, { Hostname: 'old' })
    storage.objects.delete(metadataKey(one))
    await markBackup(work(), mark(one))
    assert.match(storage.peek(metadataKey(one))?.toString() ?? '', /"hostname":"old".*"is_permanent":true/)
  })

  test('in an older sentinel keeps the order, on a storage that knows whole seconds only', async () => {
    for (const [index, name] of [one, two, three, four].entries()) seed(name, 40 - index * 10)
    const before = [two, three, four].map((name) => storage.peek(sentinelKey(name)))
    await markBackup(work(), mark(one, true))
    assert.deepEqual(await order(), [one, two, three, four])
    assert.deepEqual(await marksOf(one), [true, true])
    assert.deepEqual(
      [two, three, four].map((name) => storage.peek(sentinelKey(name))),
      before,
    )
    const times = (await inStorage()).map(({ lastModifiedMs }) => lastModifiedMs)
    assert.equal(new Set(times).size, 4)
    assert.equal(storage.peek(sentinelOrderKey), undefined)
  })

  test('is taken away again, in both places', async () => {
    seed(one, 20)
    seed(two, 10)
    await markBackup(work(), mark(one, true))
    await assert.rejects(markBackup(work(), clear(one)), (error) => hasCode(error, 'WALRX_MARK_REFUSED'))
    assert.deepEqual(await marksOf(one), [true, true])
    await markBackup(work(), clear(one, true))
    assert.deepEqual(await marksOf(one), [false, false])
    assert.deepEqual(await order(), [one, two])
  })

  test('is set and taken away as often as one likes where nothing can be deleted', async () => {
    seed(one, 20)
    seed(two, 10)
    storage.before = ({ operation }) => {
      if (operation === 'delete') throw new WalrxError('WALRX_STORAGE_DENIED', 'this store keeps everything')
    }
    for (const permanent of [true, false, true, false]) {
      const outcome = await markBackup(work(), { name: one, permanent, rewriteSentinels: true })
      assert.equal(outcome.finished, undefined, 'what was done is not done again')
      assert.deepEqual(await marksOf(one), [permanent, permanent])
      assert.deepEqual(await order(), [one, two])
    }
    assert.match(storage.peek(sentinelOrderKey)?.toString() ?? '', /"names":\[\]/)
    storage.before = undefined
    await markBackup(work(), mark(one, true))
    assert.equal(storage.peek(sentinelOrderKey), undefined)
  })

  test('does not pass over a backup that finishes in the meantime, at any moment', async () => {
    for (let moment = 0; moment < 20; moment++) {
      storage.objects.clear()
      for (const [index, name] of [one, two].entries()) seed(name, 20 - index * 10)
      let puts = 0
      storage.after = ({ operation, key }) => {
        if (operation === 'list' || !key.includes('sentinel') || puts++ !== moment) return
        clock.nowMs += 1000
        const start = new Date(clock.nowMs).toISOString()
        storage.seed(sentinelKey(three), `{"IsPermanent":false,"StartTime":"${start}"}`)
      }
      await markBackup(work(), mark(one, true))
      storage.after = undefined
      assert.deepEqual(await order(), storage.objects.has(sentinelKey(three)) ? [one, two, three] : [one, two])
      assert.deepEqual(await marksOf(one), [true, true], `moment ${moment}`)
    }
  })

  test('passes by a backup that is deleted in the meantime', async () => {
    for (const [index, name] of [one, two, three].entries()) seed(name, 30 - index * 10)
    storage.after = ({ operation, key }) => {
      if (operation === 'putIfAbsent' && key === sentinelOrderKey) storage.objects.delete(sentinelKey(two))
    }
    await markBackup(work(), mark(one, true))
    assert.deepEqual(await order(), [one, three])
  })

  test('is refused where the clock of the storage is late, before LATEST changes', async () => {
    seed(one, -3600)
    seed(two, -7200)
    const before = storage.peek(sentinelKey(two))
    await assert.rejects(
      markBackup(work(), mark(two)),
      (error) => hasCode(error, 'WALRX_MARK_REFUSED') && error.message.includes(one),
    )
    assert.deepEqual(storage.peek(sentinelKey(two)), before)
    assert.deepEqual(await order(), [one, two])
    assert.equal(storage.peek(sentinelOrderKey), undefined)
    // All are written again, so that nothing that stays is newer.
    await markBackup(work(), mark(one, true))
    assert.deepEqual(await order(), [one, two])
  })

  test('does not go on for ever on a storage with a clock that stands still', async () => {
    seed(one, 20)
    seed(two, 10)
    const still = new SteppingClock()
    await assert.rejects(
      markBackup({ storage, archive, clock: still }, mark(one, true)),
      (error) => hasCode(error, 'WALRX_STORAGE_UNAVAILABLE') && error.message.includes(two),
    )
    const finished = await markBackup(work(), mark(one, true))
    assert.deepEqual(finished.finished?.names, [one, two])
    assert.deepEqual(await order(), [one, two])
  })

  test('that ends anywhere is finished by the next, whatever that one is asked for', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 40 }), fc.boolean(), async (failAt, isStored) => {
        storage.objects.clear()
        for (const [index, name] of [one, two, three].entries()) seed(name, 30 - index * 10)
        let calls = 0
        const fail = () => {
          if (++calls === failAt) throw new Error('killed')
        }
        if (isStored) storage.after = fail
        else storage.before = fail
        const isKilled = await markBackup(work(), mark(one, true)).then(
          () => false,
          () => true,
        )
        storage.after = storage.before = undefined
        clock.nowMs += 5000
        await markBackup(work(), mark('LATEST'))
        assert.deepEqual(await order(), [one, two, three])
        assert.equal((await selectBackup(archive, 'LATEST')).name, three)
        assert.deepEqual(await marksOf(three), [true, true])
        assert.deepEqual(await marksOf(two), [false, false])
        if (!isKilled) assert.deepEqual(await marksOf(one), [true, true])
        assert.equal(storage.peek(sentinelOrderKey), undefined)
      }),
      { numRuns: 80 },
    )
  })

  test('is refused while another one is running', async () => {
    seed(one, 20)
    seed(two, 10)
    const theirs = '{"known":[],"names":[],"marked":[],"permanent":true}'
    storage.before = ({ operation, key }) => {
      if (operation === 'putIfAbsent' && key === sentinelOrderKey) storage.seed(sentinelOrderKey, theirs)
    }
    await assert.rejects(markBackup(work(), mark(one, true)), (error) => hasCode(error, 'WALRX_ARCHIVE_CONFLICT'))
    assert.equal(storage.peek(sentinelOrderKey)?.toString(), theirs)
  })

  test('is stopped by its signal', async () => {
    seed(one, 20)
    await assert.rejects(markBackup(work(AbortSignal.abort(new Error('stopped'))), mark(one)), /stopped/)
    const [detail] = await readDetails(archive, [{ name: one, lastModifiedMs: 0 }])
    assert.equal(detail && isPermanent(detail.permanence), false)
  })
})
