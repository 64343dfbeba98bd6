import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Intent } from '../../src/backup/intent.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import { backupFolder, intentKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { readIntent } from '../../src/walg/backup/intent-document.ts'
import { unavailable } from '../harness/store/memory-storage.ts'
import { hour, IntentWorld, minute } from './intent-world.ts'
import { settle, withNothingUnhandled } from './parts/watched-storage.ts'

const one = '000000010000000000000002'
const name = 'base_000000010000000000000002'
const key = intentKey(name)

function announce({ clock, signal, storage }: IntentWorld, host = 'db1'): Promise<Intent> {
  return Intent.announce(storage, name, host, clock, signal)
}

function exists(error: unknown): boolean {
  return hasCode(error, 'WALRX_BACKUP_EXISTS')
}

describe('an intent', () => {
  test('is there once it is announced, names its writer, and is gone once it is withdrawn', async () => {
    const world = new IntentWorld()
    const intent = await announce(world)
    const content = await readIntent(world.storage, name)
    assert.deepEqual(content, intent.content)
    assert.equal(content?.hostname, 'db1')
    assert.equal(content?.startedAt, new Date(world.clock.now()).toISOString())
    assert.match(content?.owner ?? '', /^[0-9a-f-]{36}$/)
    await intent.prove(world.signal)
    await intent.withdraw()
    assert.deepEqual(world.keys(), [])
    assert.equal(await readIntent(world.storage, name), undefined)
    await intent.withdraw()
  })

  test('is announced by one of two only, however close they are', async () => {
    for (let lead = 0; lead < 12; lead++) {
      const world = new IntentWorld()
      const turns = async (count: number) => {
        for (let turn = 0; turn < count; turn++) await Promise.resolve()
      }
      const outcomes = await Promise.allSettled([
        announce(world, 'db1'),
        turns(lead).then(() => announce(world, 'db2')),
      ])
      const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as Error] : []))
      assert.equal(refused.length, 1)
      assert.match(refused[0]?.message ?? '', new RegExp(`^${name} is being written by another process$`))
      for (const outcome of outcomes) {
        if (outcome.status === 'fulfilled') {
          await outcome.value.prove(world.signal)
          await outcome.value.withdraw()
        }
      }
      assert.deepEqual(world.keys(), [])
    }
  })

  test('is refused where the backup exists, and where objects of an unknown writer lie', async () => {
    const world = new IntentWorld()
    world.storage.seed(sentinelKey(name), '{}')
    await assert.rejects(announce(world), exists)
    assert.deepEqual(world.keys(), [sentinelKey(name)])

    world.storage.objects.clear()
    const part = `${backupFolder(name)}tar_partitions/part_001.tar.lz4`
    world.storage.seed(part, 'of another tool')
    await assert.rejects(announce(world), (error) => exists(error) && (error as Error).message.includes(part))
    assert.deepEqual(world.keys(), [part])
  })

  test('is ours although the answer to its creation was lost and the storage tried again', async () => {
    const world = new IntentWorld()
    const { storage } = world
    const create = storage.putIfAbsent.bind(storage)
    storage.putIfAbsent = async (...call) => {
      await create(...call)
      return create(...call)
    }
    const intent = await announce(world)
    await intent.prove(world.signal)
    await intent.withdraw()
    assert.deepEqual(world.keys(), [])
  })

  test('does not stay when announcing it fails in the middle', async () => {
    const world = new IntentWorld()
    world.storage.before = ({ operation }) => {
      if (operation === 'list') throw unavailable()
    }
    await assert.rejects(announce(world), (error) => hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
    world.storage.before = undefined
    assert.deepEqual(world.keys(), [])
    await (await announce(world)).withdraw()
  })

  test('has a heartbeat every 30 seconds until it is left or withdrawn', async () => {
    for (const end of ['leave', 'withdraw'] as const) {
      const world = new IntentWorld()
      const intent = await announce(world)
      const seen: number[] = []
      const begunAt = world.clock.now()
      for (let beat = 0; beat < 6; beat++) {
        await world.pass(30_000)
        seen.push((world.storage.objects.get(key)?.lastModifiedMs ?? 0) - begunAt)
      }
      assert.deepEqual(seen, [30_000, 60_000, 90_000, 120_000, 150_000, 180_000])
      await intent[end]()
      world.storage.calls.length = 0
      await world.pass(10 * minute)
      assert.deepEqual(world.storage.log, [])
      assert.equal(world.keys().length, end === 'leave' ? 1 : 0)
    }
  })

  test('lives on when heartbeats fail, and nobody is left with an unhandled promise', async () => {
    await withNothingUnhandled(async () => {
      const world = new IntentWorld()
      const intent = await announce(world)
      world.storage.before = () => {
        throw unavailable()
      }
      await world.pass(14 * minute)
      world.storage.before = undefined
      await world.pass(31_000)
      assert.ok(world.clock.now() - (world.storage.objects.get(key)?.lastModifiedMs ?? 0) < 31_000)
      await intent.prove(world.signal)
      await intent.withdraw()
    })
  })

  test('is not written any more once it is withdrawn, even by a heartbeat that was under way', async () => {
    const world = new IntentWorld()
    const intent = await announce(world)
    const gate = Promise.withResolvers<undefined>()
    let isBeating = false
    world.storage.before = ({ operation }) => {
      if (operation !== 'put') return
      isBeating = true
      return gate.promise.then(() => {})
    }
    await world.pass(31_000)
    assert.ok(isBeating)
    const withdrawing = intent.withdraw()
    await settle()
    gate.resolve(undefined)
    await withdrawing
    await settle()
    world.storage.calls.length = 0
    await world.pass(hour)
    assert.deepEqual(world.storage.log, [])
    assert.deepEqual(world.keys(), [])
  })

  test('keeps what it was given, in every heartbeat after', async () => {
    const world = new IntentWorld()
    const intent = await announce(world)
    const objects = [{ name: 'backup_manifest.zst', size: 12 }]
    const change = {
      sentinel: '{"LSN":18446744073709551615}',
      segments: [one, '000000010000000000000003'] as [string, string],
      objects,
    }
    await intent.update(change)
    for (let beat = 0; beat < 3; beat++) {
      const content = await readIntent(world.storage, name)
      assert.deepEqual(content, { ...intent.content, ...change })
      await world.pass(30_000)
    }
    await intent.withdraw()
  })

  test('that is another by now is known by its proof, and neither heartbeat nor update nor end takes it back', async () => {
    const world = new IntentWorld()
    const ours = await announce(world, 'db1')
    // Ours stands still, as in a machine that is put to sleep; the other one takes it for dead.
    world.storage.objects.delete(key)
    const theirs = await Intent.announce(world.storage, name, 'db2', world.clock, world.signal)
    await world.pass(10 * minute)
    const givenUp = (error: unknown) => {
      assert.match((error as Error).message, /^another walrx took \w+ for dead: its intent now belongs to db2$/)
      return hasCode(error, 'WALRX_BACKUP_INCOMPLETE')
    }
    await assert.rejects(ours.prove(world.signal), givenUp)
    await assert.rejects(ours.update({ sentinel: '{}' }), givenUp)
    assert.equal(ours.content.sentinel, undefined)
    await ours.withdraw()
    await theirs.prove(world.signal)
    assert.deepEqual(await readIntent(world.storage, name), theirs.content)
    await theirs.withdraw()
  })

  test('that has gone is known by its proof, and no heartbeat brings it back', async () => {
    const world = new IntentWorld()
    const intent = await announce(world)
    world.storage.objects.delete(key)
    await world.pass(minute)
    world.storage.calls.length = 0
    await world.pass(10 * minute)
    assert.deepEqual([world.keys(), world.storage.log], [[], []])
    await assert.rejects(intent.prove(world.signal), (error) => {
      assert.match((error as Error).message, /its intent is gone$/)
      return hasCode(error, 'WALRX_BACKUP_INCOMPLETE')
    })
    await intent.withdraw()
  })

  test('is adopted with all that it says, under a new owner, so that who had it knows', async () => {
    const world = new IntentWorld()
    const first = await announce(world)
    await first.update({ sentinel: '{}', segments: [one, '000000010000000000000003'] })
    await first.leave()
    const second = await Intent.adopt(world.storage, name, first.content, world.clock)
    const third = await Intent.adopt(world.storage, name, second.content, world.clock)
    assert.deepEqual({ ...third.content, owner: '' }, { ...first.content, owner: '' })
    await assert.rejects(first.prove(world.signal), (error) => hasCode(error, 'WALRX_BACKUP_INCOMPLETE'))
    await assert.rejects(second.prove(world.signal), (error) => hasCode(error, 'WALRX_BACKUP_INCOMPLETE'))
    await world.pass(10 * minute)
    await third.prove(world.signal)
    assert.ok(world.clock.now() - (world.storage.objects.get(key)?.lastModifiedMs ?? 0) <= 30_000)
    await third.withdraw()
    await second.leave()
  })

  test('that cannot be read is named', async () => {
    const { storage } = new IntentWorld()
    for (const text of ['', 'x', '[]', '{}', '{"owner":1}', 'null']) {
      storage.seed(key, text)
      await assert.rejects(readIntent(storage, name), (error) => {
        assert.equal((error as Error).message, `memory://test/${key} is not an intent of a backup`)
        return hasCode(error, 'WALRX_OBJECT_DAMAGED')
      })
    }
    storage.before = () => {
      throw unavailable()
    }
    await assert.rejects(readIntent(storage, name), (error) => hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
  })
})
