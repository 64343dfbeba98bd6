/** Deletions of archives that change while they run, of damaged ones, and by clocks that are wrong. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Clock, systemClock } from '../../src/primitives/clock.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import { formatJson } from '../../src/primitives/json/json.ts'
import { formatLsn, toLsn } from '../../src/postgres/lsn.ts'
import { segmentName } from '../../src/postgres/wal/wal-file.ts'
import { type ArchiveContents, readArchiveContents } from '../../src/retention/contents/archive-contents.ts'
import { planDeletion } from '../../src/retention/plan/deletion-plan.ts'
import { carryOut, type DeletionOutcome } from '../../src/retention/removal/carry-out.ts'
import type { RetentionRule } from '../../src/retention/rules/rule.ts'
import { intentKey, metadataKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { deletedFolder, deletionKey } from '../../src/walg/names.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'

const segmentBytes = 16 * 1024 * 1024
const minuteMs = 60_000
const dayMs = 24 * 60 * minuteMs
const beginMs = Date.parse('2026-01-01T00:00:00Z')
const nowMs = beginMs + 100 * dayMs
const clock: Clock = { ...systemClock, now: () => nowMs }
const at = (day: number) => beginMs + day * dayMs
const segment = (timeline: number, segno: number) => segmentName(timeline, BigInt(segno), segmentBytes)

const retainOne: RetentionRule = {
  ...{ kind: 'retain', count: 1, modifier: 'none', after: undefined, usesSentinelTime: false },
}
const garbage: RetentionRule = { kind: 'garbage', what: 'BACKUPS', withoutBackupCheck: false }
const intent = formatJson({ owner: 'x', hostname: 'h', startedAt: '2026-01-01T00:00:00Z' })

class World {
  #stamps = 0
  /** Its clock goes on by a millisecond with every object. */
  readonly storage = new MemoryStorage({ clock: { ...clock, now: () => nowMs + this.#stamps++ } })

  constructor(last = 60) {
    this.wal(1, 1, last)
  }

  wal(timeline: number, first: number, last: number, timeMs?: number): void {
    for (let segno = first; segno <= last; segno++) {
      this.storage.seed(`wal_005/${segment(timeline, segno)}.lz4`, 'w', timeMs ?? at(segno))
    }
  }

  hasWal(timeline: number, segno: number): boolean {
    return this.storage.peek(`wal_005/${segment(timeline, segno)}.lz4`) !== undefined
  }

  part(name: string, timeMs: number): void {
    this.storage.seed(`basebackups_005/${name}/files_metadata.json`, '{}', timeMs)
    this.storage.seed(`basebackups_005/${name}/tar_partitions/part_001.tar.lz4`, 'p', timeMs)
    this.storage.seed(`basebackups_005/${name}/tar_partitions/pg_control.tar.lz4`, 'p', timeMs)
  }

  backup(
    segno: number,
    options: { parent?: string; timeline?: number; timeMs?: number; sentinel?: string } = {},
  ): string {
    const { parent, timeline = 1, timeMs = at(segno) } = options
    const suffix = parent === undefined ? '' : `_D_${/[0-9A-F]{24}/.exec(parent)?.[0]}`
    const name = `base_${segment(timeline, segno)}${suffix}`
    const place = { LSN: segno * segmentBytes + 40, FinishLSN: segno * segmentBytes + 512, SystemIdentifier: 7 }
    const times = { StartTime: new Date(timeMs).toISOString(), FinishTime: new Date(timeMs + 1000).toISOString() }
    const origin = parent !== undefined && { DeltaFrom: parent, DeltaFullName: parent, DeltaLSN: 1, DeltaCount: 1 }
    this.part(name, timeMs + 500)
    this.storage.seed(metadataKey(name), '{"is_permanent":false}', timeMs + 500)
    const text = options.sentinel ?? formatJson({ ...place, ...times, PgVersion: 170000, ...origin })
    this.storage.seed(sentinelKey(name), text, timeMs + 1000)
    return name
  }

  /** Which of the backups have a sentinel, and which have parts. */
  state(...names: string[]): string[] {
    return names.map((name) => {
      const hasParts = [...this.storage.objects.keys()].some((key) => key.startsWith(`basebackups_005/${name}/`))
      return `${this.storage.peek(sentinelKey(name)) ? 'sentinel' : '-'} ${hasParts ? 'parts' : '-'}`
    })
  }

  /** What a deletion leaves of its own. */
  get traces(): string[] {
    return [...this.storage.objects.keys()].filter((key) => key === deletionKey || key.startsWith(deletedFolder))
  }

  read(asksTime = false, own: Clock = clock): Promise<ArchiveContents> {
    return readArchiveContents(this.storage, { segmentSize: undefined, clock: own, asksTime })
  }

  async run(rule: RetentionRule, between?: () => void): Promise<DeletionOutcome> {
    const contents = await this.read()
    const plan = planDeletion(contents, rule)
    between?.()
    return carryOut({ storage: this.storage, clock, contents, plan })
  }

  /** Runs, and calls `then` when the sentinel of a backup has just been removed. */
  async runUntil(name: string, rule: RetentionRule, then: () => void): Promise<DeletionOutcome> {
    this.storage.after = ({ key, operation }) => {
      if (operation !== 'delete' || key !== sentinelKey(name)) return
      this.storage.after = undefined
      then()
    }
    return this.run(rule)
  }
}

const whole = 'sentinel parts'
const gone = '- -'
const killed = () => {
  throw new Error('killed')
}
const isRefused = (error: unknown) => hasCode(error, 'WALRX_DELETE_REFUSED')

describe('a backup does not count as one that can be restored', () => {
  const folderOf = (name: string) => `basebackups_005/${name}/tar_partitions/`
  for (const [what, breakIt] of [
    [
      'without pg_control',
      (world: World, name: string) => world.storage.objects.delete(`${folderOf(name)}pg_control.tar.lz4`),
    ],
    [
      'with a part that has no bytes',
      (world: World, name: string) => world.storage.seed(`${folderOf(name)}part_001.tar.lz4`, '', at(51)),
    ],
    [
      'with a segment that has no bytes',
      (world: World) => world.storage.seed(`wal_005/${segment(1, 50)}.lz4`, '', at(51)),
    ],
    [
      'with fewer bytes than its sentinel counts',
      (world: World, name: string) => {
        const text = String(world.storage.peek(sentinelKey(name)))
        world.storage.seed(sentinelKey(name), text.replace('{', '{"CompressedSize":1000,'), at(51))
      },
    ],
  ] as const) {
    test(`${what}: what is older stays`, async () => {
      const world = new World()
      const [older, newest] = [world.backup(2), world.backup(50)]
      breakIt(world, newest)
      await world.run(retainOne)
      assert.deepEqual(world.state(older), [whole])
    })
  }

  test('but does where all is there: what is older goes', async () => {
    const world = new World()
    const [older, newest] = [world.backup(2), world.backup(50)]
    await world.run(retainOne)
    assert.deepEqual(world.state(older, newest), [gone, whole])
  })
})

describe('a chain', () => {
  test('target FIND_FULL of a backup that a killed deletion has begun removes its family and nothing else', async () => {
    const world = new World()
    const [other, full] = [world.backup(2), world.backup(10)]
    const delta = world.backup(12, { parent: full })
    const last = world.backup(50)
    await assert.rejects(world.runUntil(delta, retainOne, killed), /killed/)
    const later = world.backup(55, { parent: full, timeMs: at(99) })
    await world.run({ kind: 'target', target: { name: delta }, wholeFamily: true })
    assert.deepEqual(world.state(other, full, delta, later, last), [whole, gone, gone, gone, whole])
  })

  test('a delta whose sentinel cannot be read keeps what its name means, and target refuses that', async () => {
    const world = new World()
    const full = world.backup(2)
    const delta = world.backup(4, { parent: full, sentinel: '{broken' })
    // As WAL-RUS calls it: all of the chain.
    const long = `base_${segment(1, 6)}_D_${segment(1, 4)}_D_${segment(1, 2)}`
    world.part(long, at(6))
    world.storage.seed(sentinelKey(long), '{broken', at(6))
    const [unneeded, last] = [world.backup(8), world.backup(50)]
    for (const name of [full, delta]) {
      const rule: RetentionRule = { kind: 'target', target: { name }, wholeFamily: false }
      await assert.rejects(world.run(rule), isRefused)
    }
    await world.run(retainOne)
    assert.deepEqual(world.state(full, delta, long, unneeded, last), [whole, whole, whole, gone, whole])
  })

  test('a backup without a sentinel that a kept delta builds on keeps what it builds on itself', async () => {
    const world = new World()
    const full = world.backup(2)
    const middle = world.backup(4, { parent: full })
    const delta = world.backup(55, { parent: middle })
    world.storage.objects.delete(sentinelKey(middle))
    await assert.rejects(world.run({ kind: 'target', target: { name: full }, wholeFamily: false }), isRefused)
    const last = world.backup(58)
    world.storage.seed(metadataKey(delta), '{"is_permanent":true}')
    await world.run(retainOne)
    assert.deepEqual(world.state(full, middle, delta, last), [whole, '- parts', whole, whole])
  })
})

describe('a delta that comes while its parent is being deleted', () => {
  test('keeps it although the process dies there: the next run puts the sentinels back', async () => {
    const world = new World()
    const full = world.backup(2)
    const middle = world.backup(4, { parent: full })
    const last = world.backup(50)
    const sentinels = [full, middle].map((name) => world.storage.peek(sentinelKey(name)))
    let delta = ''
    const comes = () => {
      delta = world.backup(59, { parent: middle, timeMs: at(99.9) })
      killed()
    }
    await assert.rejects(world.runUntil(full, retainOne, comes), /killed/)
    assert.deepEqual(world.state(full, middle, delta), ['- parts', '- parts', whole])
    const { staying } = await world.run(garbage)
    assert.deepEqual([...staying].sort(), [full, middle])
    assert.deepEqual(world.state(full, middle, delta, last), [whole, whole, whole, whole])
    assert.deepEqual(
      [full, middle].map((name) => world.storage.peek(sentinelKey(name))),
      sentinels,
    )
    await world.run(garbage)
    assert.deepEqual(world.traces, [])
  })

  test('keeps what a killed deletion has left, and gives it its sentinel back', async () => {
    const world = new World()
    const full = world.backup(2)
    const middle = world.backup(4, { parent: full })
    const [other, last] = [world.backup(6), world.backup(50)]
    await assert.rejects(
      world.runUntil(middle, { kind: 'target', target: { name: middle }, wholeFamily: false }, killed),
    )
    assert.deepEqual(world.state(full, middle), [whole, '- parts'])
    let delta = ''
    const { staying } = await world.runUntil(other, retainOne, () => {
      delta = world.backup(60, { parent: middle, timeMs: at(99.9) })
    })
    assert.deepEqual([...staying].sort(), [full, middle])
    assert.deepEqual(world.state(full, middle, other, delta, last), [whole, whole, gone, whole, whole])
  })

  for (const [what, place] of [
    ['on a new timeline', { segno: 60, timeline: 2 }],
    ['from a standby, before the newest one', { segno: 49, timeline: 1 }],
  ] as const) {
    test(`keeps it: ${what}`, async () => {
      const world = new World()
      const [full, last] = [world.backup(2), world.backup(50)]
      let delta = ''
      const { backups, staying } = await world.runUntil(full, retainOne, () => {
        delta = world.backup(place.segno, { parent: full, timeline: place.timeline, timeMs: at(99.9) })
      })
      assert.deepEqual([backups, staying], [0, [full]])
      assert.deepEqual(world.state(full, delta, last), [whole, whole, whole])
    })
  }
})

describe('what changes between the plan and the removal', () => {
  for (const where of ['the sentinel', 'metadata.json']) {
    test(`a mark of permanence in ${where} keeps the backup and what it builds on`, async () => {
      const world = new World()
      const full = world.backup(2)
      const delta = world.backup(4, { parent: full })
      world.backup(50)
      const { staying } = await world.run(retainOne, () => {
        const sentinel = JSON.parse(world.storage.peek(sentinelKey(delta))?.toString() ?? '') as object
        if (where === 'metadata.json') world.storage.seed(metadataKey(delta), '{"is_permanent":true}')
        else world.storage.seed(sentinelKey(delta), JSON.stringify({ ...sentinel, IsPermanent: true }))
      })
      assert.deepEqual([...staying].sort(), [full, delta].sort())
      assert.deepEqual(world.state(full, delta), [whole, whole])
    })
  }

  for (const what of ['a sentinel', 'an intent', 'a newer part']) {
    test(`a leftover that gets ${what} stays`, async () => {
      const world = new World()
      world.backup(50)
      const name = `base_${segment(1, 58)}`
      world.part(name, nowMs - 25 * 60 * minuteMs)
      await world.run(garbage, () => {
        if (what === 'a sentinel') world.storage.seed(sentinelKey(name), '{}')
        else if (what === 'an intent') world.storage.seed(intentKey(name), intent)
        else world.storage.seed(`basebackups_005/${name}/tar_partitions/part_002.tar.lz4`, 'p', nowMs)
      })
      assert.match(world.state(name)[0] ?? '', /parts$/)
    })
  }

  for (const what of ['announced', 'begun by another tool', 'completed']) {
    test(`a backup of a standby that is ${what} keeps its WAL`, async () => {
      const world = new World()
      world.backup(2)
      world.backup(50)
      await world.run(retainOne, () => {
        const name = `base_${segment(1, 45)}`
        if (what === 'announced') world.storage.seed(intentKey(name), intent)
        else if (what === 'completed') world.backup(45, { timeMs: at(99.9) })
        else world.part(name, nowMs)
      })
      assert.deepEqual([world.hasWal(1, 44), world.hasWal(1, 45), world.hasWal(1, 49)], [false, true, true])
    })
  }
})

describe('times and servers', () => {
  test('the WAL of an upgraded server stays, though the old one had left its timeline', async () => {
    const world = new World(10)
    world.wal(2, 10, 40)
    world.storage.seed('wal_005/00000002.history', `1\t${formatLsn(toLsn(BigInt(10 * segmentBytes + 100)))}\tx\n`)
    world.backup(12, { timeline: 2 })
    world.backup(30, { timeline: 2 })
    world.wal(1, 41, 60, nowMs - minuteMs)
    await world.run(retainOne)
    assert.deepEqual(
      [9, 41, 60].map((segno) => world.hasWal(1, segno)),
      [false, true, true],
    )
    assert.deepEqual(
      [29, 30].map((segno) => world.hasWal(2, segno)),
      [false, true],
    )
  })

  test('WAL that comes to a dead timeline after the plan was made stays', async () => {
    const world = new World(10)
    world.wal(2, 10, 40)
    world.storage.seed('wal_005/00000002.history', `1\t${formatLsn(toLsn(BigInt(10 * segmentBytes + 100)))}\tx\n`)
    world.backup(12, { timeline: 2 })
    world.backup(30, { timeline: 2 })
    await world.run(retainOne, () => world.wal(1, 41, 42, nowMs))
    assert.deepEqual(
      [9, 41, 42].map((segno) => world.hasWal(1, segno)),
      [false, true, true],
    )
  })

  test('a running backup is no leftover where the clock of this machine is ahead', async () => {
    const world = new World()
    world.backup(50)
    const name = `base_${segment(1, 58)}`
    world.storage.seed(intentKey(name), intent, nowMs - minuteMs)
    world.part(name, nowMs - minuteMs)
    const ahead: Clock = { ...systemClock, now: () => nowMs + 16 * minuteMs }
    const [byStorage, byOurs] = [await world.read(true, ahead), await world.read(false, ahead)]
    assert.deepEqual([byStorage.unfinished[0]?.state, byOurs.unfinished[0]?.state], ['running', 'dead'])
    assert.ok(byStorage.nowMs < nowMs + minuteMs)
    assert.ok(![...world.storage.objects.keys()].some((key) => key.includes('.clock-')))
    const late: Clock = { ...systemClock, now: () => nowMs - dayMs }
    assert.equal((await world.read(true, late)).nowMs, nowMs - dayMs)
  })

  test('the record keeps the time of each name, and forgets those that live again', async () => {
    const world = new World()
    world.backup(50)
    const doomed = world.backup(40)
    const [young, locked] = [`base_${segment(1, 58)}`, `base_${segment(1, 20)}`]
    world.part(young, nowMs - minuteMs)
    world.part(locked, nowMs - 100 * minuteMs)
    world.storage.seed(deletionKey, formatJson({ Backups: [young, locked] }), nowMs - 60 * minuteMs)
    assert.deepEqual(
      (await world.read()).unfinished.map(({ state }) => state),
      ['deleted', 'young'],
    )
    await assert.rejects(world.runUntil(doomed, retainOne, killed), /killed/)
    const { deletion, unfinished } = await world.read()
    assert.deepEqual([...deletion.keys()].sort(), [locked, doomed])
    assert.equal(deletion.get(locked)?.writtenMs, nowMs - 60 * minuteMs)
    assert.deepEqual(
      unfinished.map(({ state }) => state),
      ['deleted', 'deleted', 'young'],
    )
  })

  test('a promoted host whose clock is late has the newest backup', async () => {
    const world = new World(10)
    world.wal(2, 10, 20)
    world.storage.seed('wal_005/00000002.history', `1\t${formatLsn(toLsn(BigInt(10 * segmentBytes + 100)))}\tx\n`)
    const [before, after] = [world.backup(8, { timeMs: at(50) }), world.backup(12, { timeline: 2, timeMs: at(48) })]
    // On the branch that the old primary went on with, which no recovery to the newest timeline follows.
    const branch = world.backup(11, { timeMs: at(51) })
    assert.deepEqual(
      (await world.read()).backups.map(({ name }) => name),
      [before, branch, after],
    )
    world.storage.objects.delete(sentinelKey(branch))
    await world.run(retainOne)
    assert.deepEqual(world.state(before, after), [gone, whole])
  })
})
