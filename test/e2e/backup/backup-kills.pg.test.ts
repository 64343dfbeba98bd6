/**
 * walrx or the server is killed at seeded moments of a backup or a restore: no command takes what is left for a good
 * backup or a whole restore. `WALRX_TEST_KILLS` sets the number of kills, `WALRX_SEED` repeats them.
 */
import assert from 'node:assert/strict'
import { existsSync, statSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { trials } from '../../harness/extent.ts'
import { Random } from '../../harness/random.ts'
import type { ProcessEnd, WalrxProcess } from '../../harness/walrx/walrx-process.ts'
import { bytesBelow, KillWorld, reached } from './backup-kill-world.ts'

const seed = Number(process.env['WALRX_SEED'] ?? Date.now() % 100_000)
const kills = trials('WALRX_TEST_KILLS', 4, 60)

/** What is killed during a backup, in turns. */
const pushKills = ['walrx -9', 'server immediate', 'walrx -15', 'walrx -9', 'server -9'] as const
/** What a restore is killed by, in turns. */
const fetchKills = ['SIGKILL', 'SIGKILL', 'SIGTERM'] as const

/** A third of the moments is in a restore. */
const fetchCount = Math.floor(kills / 3)
const pushCount = kills - fetchCount

describe('kills', { timeout: 120_000 + kills * 15_000 }, () => {
  let world: KillWorld

  before(async () => {
    world = await KillWorld.open()
  })

  after(() => world[Symbol.asyncDispose]())

  const pushRandom = new Random(seed)

  /** A moment of a backup, and how to wait for it. */
  function pushMoment(): readonly [what: string, wait: (push: WalrxProcess) => Promise<boolean>] {
    const lines = [
      'asking for a base backup: the server writes a checkpoint first',
      'backup begins',
      'all data is stored',
    ]
    if (pushRandom.chance(0.3)) {
      const line = pushRandom.pick(lines)
      return [`"${line}"`, async (push) => push.logged(line).then(() => !push.hasEnded)]
    }
    const bytes = Math.floor(world.backupBytes * pushRandom.next())
    const from = world.storedBytes()
    return [
      `${bytes} of ${world.backupBytes} bytes stored`,
      (push) => reached(push, () => world.storedBytes() - from >= bytes),
    ]
  }

  async function kill(victim: (typeof pushKills)[number], push: WalrxProcess): Promise<ProcessEnd> {
    if (victim === 'walrx -9') return push.stop('SIGKILL')
    if (victim === 'walrx -15') return push.stop('SIGTERM')
    if (victim === 'server -9') await world.server.kill9()
    else await world.server.stop('immediate')
    // After the last part it waits for WAL, which comes when the server does.
    await world.server.start()
    return push.ended
  }

  test(`of walrx or the server at ${pushCount} moments of a backup`, async (t) => {
    t.diagnostic(`seed ${seed}`)
    let listed = await world.listed()
    let latest = await world.proveLatest()
    const dead = new Set<string>()
    let inTheMiddle = 0
    for (let index = 0; index < pushCount; index++) {
      const victim = pushKills[index % pushKills.length] ?? 'walrx -9'
      const [moment, wait] = pushMoment()
      const what = `${victim} at ${moment} (kill ${index + 1}, seed ${seed})`
      t.diagnostic(what)
      const push = world.startPush()
      if (await wait(push)) inTheMiddle++
      const end = await kill(victim, push)

      const now = await world.listed()
      const added = now.filter((name) => !listed.includes(name))
      // A process that is killed after the sentinel has made a backup.
      assert.ok(
        added.length <= (push.lines.some(({ msg }) => msg === 'all data is stored') ? 1 : 0),
        `${what}: ${added}`,
      )
      assert.deepEqual(now.slice(0, listed.length), listed, what)
      assert.equal(await world.proveLatest(), added[0] ?? latest, what)
      if (added.length > 0) latest = added[0] ?? latest
      else assert.notEqual(end.status, 0, what)
      listed = now
      if (victim !== 'walrx -9' && added.length === 0) {
        assert.doesNotMatch(end.stderr, /\n\s+at /, what)
        if (victim === 'walrx -15') assert.equal(end.status, 143, `${what}: ${end.stderr}`)
        else assert.equal(end.status, 3, `${what}: ${end.stderr}`)
      }
      // Who was not killed outright has removed what it stored, unless only the WAL was missing.
      const isKept = push.lines.some(({ msg }) => msg === 'the data of the backup is stored, and stays for a day')
      if (victim === 'walrx -9' || isKept) for (const name of world.intents()) dead.add(name)
      assert.deepEqual(world.intents().sort(), [...dead].sort(), what)
      const unlisted = [...world.objects().keys()].filter((name) => !listed.includes(name))
      for (const name of unlisted) assert.ok(dead.has(name), `${what}: what ${name} has left is not removed`)

      if (index % 4 === 3) {
        // First beside what the dead have left, then, two days later, in its place.
        if (index % 8 === 7) await world.ageIntents()
        const name = await world.push()
        assert.ok(!dead.has(name), `${what}: ${name} has the name of a dead one`)
        listed = await world.listed()
        assert.equal(listed.at(-1), name, what)
        latest = await world.proveLatest()
        assert.equal(latest, name, what)
        if (index % 8 === 7) dead.clear()
        assert.deepEqual(world.intents().sort(), [...dead].sort(), what)
      }
    }
    await world.ageIntents()
    listed.push(await world.push())
    assert.deepEqual(world.intents(), [])
    assert.deepEqual([...world.objects().keys()].sort(), [...listed].sort(), 'the dead have left nothing')
    assert.ok(inTheMiddle >= pushCount / 2, `only ${inTheMiddle} of ${pushCount} kills were in time (seed ${seed})`)
  })

  test('of walrx while it waits for WAL: the backup is none until it is finished', async () => {
    world.receiver.child.kill('SIGSTOP')
    const waiting = world.startPush()
    await waiting.logged('waiting for WAL to be archived: is wal-receive running?')
    await waiting.stop('SIGKILL')
    world.receiver.child.kill('SIGCONT')
    const [name = ''] = world.intents()
    assert.notEqual(name, '')
    assert.ok(!(await world.listed()).includes(name))
    assert.equal((await world.run('backup-verify', name)).status, 2)
    // Its data is whole, so it is kept for longer than what died before.
    await world.ageIntents(3600)
    const other = await world.push()
    assert.deepEqual(world.intents(), [name])
    const finished = await world.run('backup-finish', name)
    assert.equal(finished.status, 0, finished.stderr)
    // The other one began later.
    assert.deepEqual((await world.listed()).slice(-2), [name, other])
    assert.equal(await world.proveLatest(), other)
    assert.deepEqual(world.intents(), [])
  })

  test('of walrx leave no unfinished files for ever', () => assert.deepEqual(world.unfinished(), []))

  const fetchRandom = new Random(seed + 1)

  /** A moment of a restore, and how to wait for it. */
  function fetchMoment(
    data: string,
    bytes: number,
  ): readonly [what: string, wait: (fetch: WalrxProcess) => Promise<boolean>] {
    const files = ['walrx_restore_incomplete', 'backup_manifest', 'global/pg_control.walrx', 'global/pg_control']
    if (fetchRandom.chance(0.4)) {
      const file = fetchRandom.pick(files)
      return [`${file} is there`, (fetch) => reached(fetch, () => existsSync(join(data, file)))]
    }
    const some = Math.floor(bytes * fetchRandom.next())
    return [`${some} of ${bytes} bytes written`, (fetch) => reached(fetch, () => bytesBelow(data) >= some)]
  }

  test(`of walrx at ${fetchCount} moments of a restore`, async (t) => {
    t.diagnostic(`seed ${seed}`)
    const whole = await world.newDirectory()
    const fetched = await world.startFetch(join(whole, 'data')).ended
    assert.equal(fetched.status, 0, fetched.stderr)
    const bytes = bytesBelow(join(whole, 'data'))
    await world.proveServer(whole)
    let inTheMiddle = 0
    for (let index = 0; index < fetchCount; index++) {
      const signal = fetchKills[index % fetchKills.length] ?? 'SIGKILL'
      const directory = await world.newDirectory()
      const data = join(directory, 'data')
      const [moment, wait] = fetchMoment(data, bytes)
      const what = `${signal} at ${moment} (kill ${index + 1}, seed ${seed})`
      t.diagnostic(what)
      const fetch = world.startFetch(data)
      if (await wait(fetch)) inTheMiddle++
      const end = await fetch.stop(signal)

      const control = statSync(join(data, 'global/pg_control'), { throwIfNoEntry: false })
      if (control) {
        // It appears as the very last step: everything else is there.
        assert.equal(control.size, 8192, what)
        await rm(join(data, 'walrx_restore_incomplete'), { force: true })
        await world.proveServer(directory)
        continue
      }
      assert.notEqual(end.status, 0, what)
      if (signal === 'SIGTERM') assert.equal(end.status, 143, `${what}: ${end.stderr}`)
      if (!existsSync(data)) continue
      assert.ok(existsSync(join(data, 'walrx_restore_incomplete')), what)
      const again = await world.startFetch(data).ended
      assert.equal(again.status, 9, `${what}: ${again.stderr}`)
      assert.match(again.stderr, /is not empty/, what)
      assert.match(again.stderr, /an earlier restore into it did not finish/, what)
      await world.proveUnusable(data)
      await rm(directory, { recursive: true })
      if (index % 2 === 0 && index < fetchCount - 1) continue
      const fresh = await world.newDirectory()
      const next = await world.startFetch(join(fresh, 'data')).ended
      assert.equal(next.status, 0, `${what}: ${next.stderr}`)
      assert.ok(
        existsSync(join(fresh, 'data/global/pg_control')) && !existsSync(join(fresh, 'data/walrx_restore_incomplete')),
      )
      if (index === fetchCount - 1) await world.proveServer(fresh)
      await rm(fresh, { recursive: true, force: true })
    }
    assert.ok(inTheMiddle >= fetchCount / 3, `only ${inTheMiddle} of ${fetchCount} kills were in time (seed ${seed})`)
  })
})
