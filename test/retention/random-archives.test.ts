/** Whatever an archive has been through and whatever is asked for: what is said to stay can be restored afterwards. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { WalrxError } from '../../src/primitives/errors.ts'
import type { Clock } from '../../src/primitives/clock.ts'
import { readArchiveContents } from '../../src/retention/contents/archive-contents.ts'
import { carryOut } from '../../src/retention/removal/carry-out.ts'
import { type DeletionPlan, planDeletion } from '../../src/retention/plan/deletion-plan.ts'
import type { RetentionRule } from '../../src/retention/rules/rule.ts'
import { isFullRun } from '../harness/extent.ts'
import { Random } from '../harness/random.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'
import { type MadeArchive, makeArchive, segmentBytes } from './made-archive.ts'
import { PlainModel } from './plain-model.ts'

const dayMs = 24 * 3600_000
const seed = Number(process.env['WALRX_TEST_SEED'] ?? Math.floor(Math.random() * 1e9))
const trials = Number(process.env['WALRX_TEST_TRIALS'] ?? (isFullRun ? 200 : 25))

/** A copy on which a deletion may work; `before` is as MemoryStorage's. */
function copyOf({ storage }: MadeArchive): MemoryStorage {
  return new MemoryStorage({ objects: new Map(storage.objects) })
}

function clockAt(nowMs: number): Clock {
  return { now: () => nowMs, setTimer: (_ms, call) => (queueMicrotask(call), { cancel: () => {} }) } as Clock
}

function drawRule(random: Random, made: MadeArchive): RetentionRule {
  const usesSentinelTime = random.chance(0.5)
  const timeMs = random.pick(made.moments).timeMs
  const { name } = random.pick(made.backups)
  const point = random.chance(0.5) ? { timeMs } : { name }
  switch (random.int(0, 7)) {
    case 0:
    case 1: {
      const after = random.chance(0.3) ? point : undefined
      const modifier = random.pick(['none', 'FULL', 'FIND_FULL'] as const)
      return { kind: 'retain', count: random.int(1, 5), modifier, after, usesSentinelTime }
    }
    case 2:
      return { kind: 'before', point, modifier: random.pick(['none', 'FIND_FULL'] as const), usesSentinelTime }
    case 3:
      return { kind: 'target', target: { name }, wholeFamily: random.chance(0.3) }
    case 4:
      return { kind: 'garbage', what: random.pick(['all', 'ARCHIVES', 'BACKUPS'] as const), withoutBackupCheck: true }
    case 5:
      return { kind: 'keep', windowMs: undefined, fullCount: random.int(1, 4), periods: { month: random.int(1, 3) } }
    default: {
      const periods = random.chance(0.5) ? { week: random.int(1, 4), month: 2, year: 1 } : {}
      return { kind: 'keep', windowMs: random.int(1, 20) * dayMs, fullCount: undefined, periods }
    }
  }
}

/** Plans and carries out; undefined for a rule that is refused, which must change nothing. */
async function run(made: MadeArchive, storage: MemoryStorage, rule: RetentionRule): Promise<DeletionPlan | undefined> {
  const clock = clockAt(made.nowMs)
  const contents = await readArchiveContents(storage, { segmentSize: undefined, clock })
  let plan: DeletionPlan
  try {
    plan = planDeletion(contents, rule)
  } catch (error) {
    const isDone = error instanceof WalrxError && error.code === 'WALRX_BACKUP_NOT_FOUND' && rule.kind === 'target'
    const isRefused = error instanceof WalrxError && error.code === 'WALRX_DELETE_REFUSED'
    assert.ok(isRefused || isDone, String(error))
    return undefined
  }
  await carryOut({ storage, clock, contents, plan })
  return plan
}

/** What must hold of an archive after a deletion, however it ended. */
function judge(made: MadeArchive, left: MemoryStorage, plan: DeletionPlan, rule: RetentionRule): void {
  const [before, after] = [new PlainModel(made, made.storage), new PlainModel(made, left)]
  for (const backup of after.listed) {
    assert.equal(after.restores(backup), before.restores(backup), `${backup.name} is listed: ${plan.backups.length}`)
  }
  const listed = new Set(after.listed.map(({ name }) => name))
  for (const backup of before.listed) {
    const isKept = plan.backups.find((each) => each.backup.name === backup.name)?.action === 'keep'
    const isMarked = rule.kind === 'target' ? before.isMarked(backup) : before.mayBeMarked(backup)
    if (isKept || isMarked) assert.ok(listed.has(backup.name), `${backup.name} is to stay`)
  }
  for (const key of made.untouchable) assert.ok(left.peek(key), `${key} is being written`)
  const onwards = plan.backups.filter((each) => each.action === 'keep' && each.wal === 'onwards')
  const starts = made.backups.filter(({ name }) => onwards.some(({ backup }) => backup.name === name))
  for (const moment of made.moments) {
    for (const backup of starts) {
      if (!before.leadsTo(backup, moment)) continue
      assert.ok(after.leadsTo(backup, moment), `${backup.name} led to ${JSON.stringify(moment)}`)
    }
    const isInWindow = rule.kind === 'keep' && rule.windowMs !== undefined && moment.timeMs > made.nowMs - rule.windowMs
    if (isInWindow && before.reaches(moment)) assert.ok(after.reaches(moment), `the window: ${JSON.stringify(moment)}`)
  }
  if (before.listed.some((each) => before.restores(each)) && rule.kind !== 'target') {
    assert.ok(
      after.listed.some((each) => after.restores(each)),
      'a backup stays that can be restored',
    )
  }
}

async function eachTrial(name: string, trial: (random: Random, label: string) => Promise<void>): Promise<void> {
  for (let index = 0; index < trials; index++) {
    const random = new Random(seed + index)
    const label = `${name}, WALRX_TEST_SEED=${seed + index}`
    try {
      await trial(random, label)
    } catch (error) {
      throw new Error(`${label}: ${(error as Error).message}`, { cause: error })
    }
  }
}

describe(`deletions from archives drawn by chance (seed ${seed})`, () => {
  test('leave what is said to stay, and every moment that it reached', async () => {
    let deleted = 0
    await eachTrial('one rule', async (random) => {
      const made = makeArchive(random, { events: random.int(5, 40) })
      const rule = drawRule(random, made)
      const left = copyOf(made)
      const plan = await run(made, left, rule)
      if (!plan) return assert.deepEqual([...left.objects.keys()], [...made.storage.objects.keys()])
      judge(made, left, plan, rule)
      deleted += made.storage.objects.size - left.objects.size
      assert.equal(made.storage.objects.size - left.objects.size, plan.total.objects, 'as many as the plan says')
    })
    assert.ok(deleted > trials, 'something goes')
  })

  test('that were killed at any moment leave an archive that is whole, and the next run ends the work', async () => {
    await eachTrial('kills', async (random) => {
      const made = makeArchive(random, { events: random.int(5, 40) })
      const rule = drawRule(random, made)
      const whole = copyOf(made)
      const plan = await run(made, whole, rule)
      if (!plan) return
      const killed = copyOf(made)
      for (let kill = 0; kill < 3; kill++) {
        let calls = random.int(1, 60)
        killed.before = ({ operation }) => {
          if (['put', 'putIfAbsent', 'delete'].includes(operation) && --calls < 0) throw new Error('killed')
        }
        await run(made, killed, rule).catch((error: unknown) => assert.equal((error as Error).message, 'killed'))
        judge(made, killed, plan, rule)
      }
      killed.before = undefined
      await run(made, killed, rule)
      assert.deepEqual([...killed.objects.keys()].sort(), [...whole.objects.keys()].sort())
    })
  })

  test('that the storage refuses in part leave an archive that is whole, and go on when the lock is off', async () => {
    await eachTrial('locks', async (random) => {
      const made = makeArchive(random, { events: random.int(5, 40) })
      const rule = drawRule(random, made)
      const whole = copyOf(made)
      const plan = await run(made, whole, rule)
      if (!plan) return
      const locked = copyOf(made)
      const isLocked = new Set([...made.storage.objects.keys()].filter(() => random.chance(0.1)))
      locked.before = ({ key, operation }) => {
        if (operation === 'delete' && isLocked.has(key))
          throw new WalrxError('WALRX_STORAGE_DENIED', `${key} is locked`)
      }
      await run(made, locked, rule)
      judge(made, locked, plan, rule)
      locked.before = undefined
      await run(made, locked, rule)
      const [left, wanted] = [locked, whole].map(({ objects }) => [...objects.keys()].sort())
      assert.deepEqual(left, wanted)
    })
  })

  test('remove all WAL that nothing needs', async () => {
    await eachTrial('waste', async (random) => {
      const made = makeArchive(random, { events: random.int(10, 40), isSimple: true })
      const rule = { kind: 'keep', windowMs: random.int(1, 5) * dayMs, fullCount: undefined, periods: {} } as const
      const left = copyOf(made)
      const plan = (await run(made, left, rule)) ?? assert.fail('is never refused')
      judge(made, left, plan, rule)
      const kept = made.backups.filter(({ name }) => left.peek(`basebackups_005/${name}_backup_stop_sentinel.json`))
      const onwards = plan.backups.filter((each) => each.action === 'keep' && each.wal === 'onwards')
      const first = Math.min(
        ...made.backups
          .filter(({ name }) => onwards.some(({ backup }) => backup.name === name))
          .map((each) => each.first),
      )
      const after = new PlainModel(made, left)
      for (const { segno, timeline } of made.moments) {
        const isOwn = kept.some((each) => each.first - 1 <= segno && segno <= each.last)
        if (segno < first && !isOwn) assert.ok(!after.hasSegment(timeline, segno), `segment ${segno} is of no use`)
      }
    })
  })
})

test('the segments of the made archives are those of the model', () => {
  const made = makeArchive(new Random(1), { events: 10, isSimple: true })
  const model = new PlainModel(made, made.storage)
  assert.equal(segmentBytes, 1024 * 1024)
  assert.ok(made.moments.every((moment) => model.reaches(moment) === moment.segno >= (made.backups[0]?.last ?? 0)))
})
