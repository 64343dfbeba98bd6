/** What happens while a deletion runs, and when it is ended in the middle. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { markBackup } from '../../src/catalog/backup-mark.ts'
import { type Clock, systemClock } from '../../src/primitives/clock.ts'
import { WalrxError } from '../../src/primitives/errors.ts'
import { formatJson } from '../../src/primitives/json/json.ts'
import { readArchiveContents, readBackupsOnly } from '../../src/retention/contents/archive-contents.ts'
import { planDeletion } from '../../src/retention/plan/deletion-plan.ts'
import { carryOut, type DeletionOutcome } from '../../src/retention/removal/carry-out.ts'
import { checkEverything } from '../../src/retention/removal/delete-everything.ts'
import { savedKey } from '../../src/retention/removal/saved-sentinels.ts'
import type { RetentionRule } from '../../src/retention/rules/rule.ts'
import { BackupArchive } from '../../src/walg/backup/backup-archive.ts'
import { intentKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { verificationKey } from '../../src/walg/backup/verification.ts'
import { archiveFolders, deletionKey, sentinelOrderKey, systemKey } from '../../src/walg/names.ts'
import { Random } from '../harness/random.ts'
import { type MadeArchive, makeArchive } from './made-archive.ts'

const story = ['backup', 'backup', 'backup'] as const
const made = () => makeArchive(new Random(3), { events: 0, story })
const clockOf = ({ nowMs }: MadeArchive): Clock => ({ ...systemClock, now: () => nowMs })

async function run(world: MadeArchive, rule: RetentionRule): Promise<DeletionOutcome> {
  const [{ storage }, clock] = [world, clockOf(world)]
  const contents = await readArchiveContents(storage, { segmentSize: undefined, clock })
  return carryOut({ storage, clock, contents, plan: planDeletion(contents, rule) })
}

const target = (name: string): RetentionRule => ({ kind: 'target', target: { name }, wholeFamily: false })
const garbage: RetentionRule = { kind: 'garbage', what: 'BACKUPS', withoutBackupCheck: false }

describe('a deletion', () => {
  test('that was killed after the sentinel is ended by the next one, however young the backup is', async () => {
    const world = made()
    const name = world.backups.at(-1)?.name ?? ''
    const folder = `basebackups_005/${name}/`
    const left = () => [...world.storage.objects.keys()].filter((key) => key.includes(name))
    world.storage.before = ({ key, operation }) => {
      if (operation === 'delete' && key.startsWith(folder)) throw new Error('killed')
    }
    await assert.rejects(run(world, target(name)), /killed/)
    assert.equal(world.storage.peek(sentinelKey(name)), undefined)
    assert.ok(left().length > 2 && world.storage.peek(deletionKey))
    world.storage.before = undefined
    await run(world, garbage)
    assert.deepEqual(left(), [])
    assert.equal(world.storage.peek(deletionKey), undefined)
  })

  test('leaves objects alone that are newer than its record: another backup of that name', async () => {
    const world = made()
    const name = 'base_0000000100000000000000F0'
    const part = `basebackups_005/${name}/tar_partitions/part_001.tar.lz4`
    world.storage.seed(deletionKey, formatJson({ Backups: [name] }), world.nowMs - 2000)
    world.storage.seed(part, 'part', world.nowMs - 1000)
    await run(world, garbage)
    assert.ok(world.storage.peek(part))
    world.storage.seed(part, 'part', world.nowMs - 3000)
    world.storage.seed(deletionKey, formatJson({ Backups: [name] }), world.nowMs - 2000)
    await run(world, garbage)
    assert.equal(world.storage.peek(part), undefined)
  })

  for (const how of ['is being written', 'is complete']) {
    test(`gives the parent of a delta its sentinel back, which came meanwhile and ${how}`, async () => {
      const world = made()
      const [parent = '', delta = ''] = [world.backups[1]?.name, 'base_0000000100000000000000F0_D_']
      const name = `${delta}${parent.slice('base_'.length)}`
      const sentinel = world.storage.peek(sentinelKey(parent))
      const keys = [...world.storage.objects.keys()].filter((key) => key.includes(parent))
      world.storage.after = ({ key, operation }) => {
        if (operation !== 'delete' || key !== sentinelKey(parent)) return
        const intent = formatJson({ owner: 'x', hostname: 'h', startedAt: '2026-01-01T00:00:00Z' })
        if (how === 'is complete') world.storage.seed(sentinelKey(name), formatJson({ DeltaFrom: parent, LSN: 1 }))
        else world.storage.seed(intentKey(name), intent)
      }
      const { backups, staying } = await run(world, target(parent))
      assert.deepEqual([backups, staying], [0, [parent]])
      assert.deepEqual(world.storage.peek(sentinelKey(parent)), sentinel)
      assert.ok(keys.every((key) => world.storage.peek(key)))
    })
  }
})

describe('a backup that may be permanent, because it has no metadata.json', () => {
  const metadata = (name: string) => `basebackups_005/${name}/metadata.json`
  const keep = (count: number): RetentionRule => ({ kind: 'keep', windowMs: undefined, fullCount: count, periods: {} })
  const world = () => {
    const made = makeArchive(new Random(3), { events: 0, story })
    const names = made.backups.map(({ name }) => name) as [string, string, string, string]
    return { made, names }
  }

  test('stays by every rule, and the plan says what to do; what that command writes lets it go', async () => {
    const { made, names } = world()
    const [, second] = names
    made.storage.objects.delete(metadata(second))
    const rules: RetentionRule[] = [
      keep(1),
      { kind: 'retain', count: 1, modifier: 'none', after: undefined, usesSentinelTime: false },
      { kind: 'before', point: { name: names[3] }, modifier: 'none', usesSentinelTime: false },
    ]
    for (const rule of rules) {
      const contents = await readArchiveContents(made.storage, { segmentSize: undefined, clock: clockOf(made) })
      const choice = planDeletion(contents, rule).backups.find(({ backup }) => backup.name === second)
      assert.deepEqual(
        [choice?.action, choice?.reason],
        [
          'keep',
          `it may be permanent: it has no metadata.json, which says so: walrx backup-mark --impermanent ${second} writes that it is not`,
        ],
      )
    }
    await run(made, keep(1))
    assert.ok(made.storage.peek(sentinelKey(second)))
    assert.equal(made.storage.peek(sentinelKey(names[0])), undefined)
    const archive = new BackupArchive(made.storage)
    await markBackup(
      { archive, storage: made.storage, clock: clockOf(made) },
      { name: second, permanent: false, rewriteSentinels: false },
    )
    await run(made, keep(1))
    assert.equal(made.storage.peek(sentinelKey(second)), undefined)
  })

  test('stays where the document has gone since the plan was made', async () => {
    const { made, names } = world()
    made.storage.after = ({ key, operation }) => {
      if (operation === 'put' && key === deletionKey) made.storage.objects.delete(metadata(names[0]))
    }
    const { staying } = await run(made, keep(1))
    assert.deepEqual(staying, [names[0]])
    assert.ok(made.storage.peek(sentinelKey(names[0])))
  })

  test('goes by its own name, and neither with another one nor with everything', async () => {
    const { made, names } = world()
    made.storage.objects.delete(metadata(names[1]))
    const { backups } = await readBackupsOnly(made.storage, { clock: clockOf(made) })
    assert.throws(() => checkEverything(backups, []), /may be permanent.*missing/)
    const child = `base_0000000100000000000000F0_D_${names[0].slice('base_'.length)}`
    made.storage.seed(sentinelKey(child), formatJson({ DeltaFrom: names[0], LSN: 0xf00_0000, IsPermanent: false }))
    await assert.rejects(run(made, target(names[0])), new RegExp(`${child} would go as well, and it may be permanent`))
    assert.equal((await run(made, target(child))).backups, 1)
    assert.equal((await run(made, target(names[1]))).backups, 1)
  })
})

describe("walrx's own records", () => {
  const probe = `${archiveFolders.probe}/0123`
  const world = () => {
    const made = makeArchive(new Random(3), { events: 0, story })
    const names = made.backups.map(({ name }) => name)
    for (const name of [...names, 'base_0000000100000000000000AA'])
      made.storage.seed(verificationKey(name), '{}', made.nowMs - 1000)
    made.storage.seed(probe, 'x', made.nowMs - 2 * 24 * 3600_000)
    made.storage.seed(`${archiveFolders.probe}/young`, 'x', made.nowMs - 1000)
    const left = () =>
      [...made.storage.objects.keys()].filter((key) => /^walrx_005\/(verified|probe)\//.test(key)).sort()
    const verified = (...backups: (string | undefined)[]) => backups.map((name = '') => verificationKey(name))
    return { made, names, left, verified }
  }

  test('of checks go with their backups, and those of backups that another tool has deleted by any rule', async () => {
    const { left, made, names, verified } = world()
    const young = `${archiveFolders.probe}/young`
    assert.equal((await run(made, target(names[1] ?? ''))).backups, 1)
    const [first, , third, fourth] = names
    const orphan = verified('base_0000000100000000000000AA')
    assert.deepEqual(left(), [probe, young, ...verified(first, third, fourth), ...orphan])
    const contents = await readArchiveContents(made.storage, { segmentSize: undefined, clock: clockOf(made) })
    const rule: RetentionRule = { kind: 'keep', windowMs: undefined, fullCount: 1, periods: {} }
    const before = made.storage.objects.size
    const plan = planDeletion(contents, rule)
    assert.deepEqual(
      plan.others.filter(({ kind }) => kind === 'verification' || kind === 'probe'),
      [
        { kind: 'verification', objects: 3, bytes: 6 },
        { kind: 'probe', objects: 1, bytes: 1 },
      ],
    )
    await run(made, rule)
    assert.deepEqual(left(), [young, ...verified(fourth)])
    assert.equal(before - made.storage.objects.size, plan.total.objects)
  })

  test('of a check stays where the storage keeps its backup', async () => {
    const { left, made, names, verified } = world()
    made.storage.before = ({ key, operation }) => {
      if (operation === 'delete' && key === sentinelKey(names[0] ?? ''))
        throw new WalrxError('WALRX_STORAGE_DENIED', 'locked')
    }
    const { staying } = await run(made, target(names[0] ?? ''))
    assert.deepEqual(staying, [names[0]])
    assert.ok(left().includes(verified(names[0])[0] ?? ''))
  })
})

describe('a small document of walrx that is damaged', () => {
  const rule: RetentionRule = { kind: 'keep', windowMs: undefined, fullCount: 1, periods: {} }

  for (const text of ['{', '[]', '{}', '{"SystemIdentifier":7,"WalSegmentSize":3}']) {
    test(`ends a deletion with what it is for and how it is made again, where it is system.json: ${text}`, async () => {
      const world = made()
      world.storage.seed(systemKey, text)
      const before = [...world.storage.objects.keys()]
      await assert.rejects(run(world, rule), (error) => {
        assert.ok(error instanceof WalrxError && error.code === 'WALRX_OBJECT_DAMAGED', String(error))
        assert.match(error.message, /system\.json, which names the cluster of the archive,/)
        assert.match(error.hint ?? '', /walrx st rm --force walrx_005\/system\.json: the next walrx wal-receive/)
        return true
      })
      assert.deepEqual([...world.storage.objects.keys()], before)
      world.storage.objects.delete(systemKey)
      assert.equal((await run(world, rule)).backups, 3)
    })
  }

  test('does not end a deletion where it is any other one', async () => {
    const world = made()
    const keys = [
      deletionKey,
      savedKey(world.backups[0]?.name ?? ''),
      intentKey('base_0000000100000000000000F0'),
      verificationKey(world.backups[0]?.name ?? ''),
      sentinelOrderKey,
    ]
    for (const key of keys) world.storage.seed(key, '{', world.nowMs - 1000)
    assert.equal((await run(world, rule)).backups, 3)
  })
})
