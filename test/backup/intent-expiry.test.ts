import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Intent, removeExpiredBackups } from '../../src/backup/intent.ts'
import { hasCode, WalrxError } from '../../src/primitives/errors.ts'
import { backupFolder, intentKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { intentExpiryMs } from '../../src/walg/backup/intent-document.ts'
import { hour, IntentWorld, minute } from './intent-world.ts'

const name = 'base_000000010000000000000002'
const other = 'base_000000010000000000000003'

/** A writer that announced a backup, stored some of it, and died. */
async function dieOf(world: IntentWorld, of = name, parts = 3): Promise<Intent> {
  const intent = await Intent.announce(world.storage, of, 'db1', world.clock, world.signal)
  for (let part = 1; part <= parts; part++) world.storage.seed(`${backupFolder(of)}tar_partitions/part_${part}`, 'x')
  await intent.leave()
  return intent
}

function removeExpired({ clock, signal, storage }: IntentWorld): Promise<string[]> {
  return removeExpiredBackups(storage, clock, signal)
}

describe('what a dead writer leaves', () => {
  test('stays for 15 minutes after its last heartbeat, and then goes, whole', async () => {
    const world = new IntentWorld()
    assert.equal(intentExpiryMs, 15 * minute)
    await dieOf(world)
    const left = world.keys()
    await world.pass(intentExpiryMs - 1)
    assert.deepEqual(await removeExpired(world), [])
    assert.deepEqual(world.keys(), left)
    await world.pass(1)
    assert.deepEqual(await removeExpired(world), [name])
    assert.deepEqual(world.keys(), [])
  })

  test('stays when a delta builds on it: it was a backup once, and its sentinel is gone', async () => {
    const delta = `base_000000010000000000000004_D_${name.slice('base_'.length)}`
    const sentinels = [`{"LSN":1,"DeltaFrom":"${name}"}`, 'no JSON', `{"LSN":1,"DeltaFrom":"${other}"}`]
    for (const [index, sentinel] of sentinels.entries()) {
      const world = new IntentWorld()
      await dieOf(world)
      world.storage.seed(sentinelKey(delta), sentinel)
      await world.pass(intentExpiryMs)
      await removeExpired(world)
      // One that cannot be read might build on it.
      assert.equal(world.keys(backupFolder(name)).length, index < 2 ? 3 : 0, sentinel)
      assert.deepEqual(world.keys(intentKey(name)), [])
    }
  })

  test('is as old as the clock of the store says, whatever ours says', async () => {
    for (const storeAheadMs of [-24 * hour, -hour, hour, 24 * hour]) {
      const world = new IntentWorld()
      world.storeAheadMs = storeAheadMs
      await dieOf(world)
      await world.pass(intentExpiryMs - 1)
      assert.deepEqual(await removeExpired(world), [], `ahead by ${storeAheadMs} ms`)
      await world.pass(1)
      assert.deepEqual(await removeExpired(world), [name], `ahead by ${storeAheadMs} ms`)
      assert.deepEqual(world.keys(), [])
    }
  })

  test('is not touched while its writer lives', async () => {
    const world = new IntentWorld()
    const intent = await Intent.announce(world.storage, name, 'db1', world.clock, world.signal)
    world.storage.seed(`${backupFolder(name)}tar_partitions/part_001.tar.zst`, 'x')
    for (let look = 0; look < 5; look++) {
      await world.pass(14 * minute)
      assert.deepEqual(await removeExpired(world), [])
    }
    await intent.prove(world.signal)
    assert.equal(world.keys().length, 2)
    await intent.withdraw()
  })

  test('stays for a day when its data is whole and waits for WAL', async () => {
    const world = new IntentWorld()
    const intent = await Intent.announce(world.storage, name, 'db1', world.clock, world.signal)
    world.storage.seed(`${backupFolder(name)}tar_partitions/part_001.tar.zst`, 'x')
    await intent.update({ sentinel: '{}' })
    await intent.leave()
    const left = world.keys()
    await world.pass(24 * hour - 1)
    assert.deepEqual(await removeExpired(world), [])
    assert.deepEqual(world.keys(), left)
    await world.pass(1)
    assert.deepEqual(await removeExpired(world), [name])
    assert.deepEqual(world.keys(), [])
  })

  test('is only its intent when the backup has a sentinel', async () => {
    const world = new IntentWorld()
    await dieOf(world)
    world.storage.seed(sentinelKey(name), '{}')
    const left = world.keys().filter((key) => key !== intentKey(name))
    await world.pass(hour)
    assert.deepEqual(await removeExpired(world), [name])
    assert.deepEqual(world.keys(), left)
  })

  test('of one name is not taken for that of another', async () => {
    const world = new IntentWorld()
    await dieOf(world, name)
    await world.pass(14 * minute)
    await dieOf(world, other)
    // Nobody's, as far as anybody knows.
    const foreign = `${backupFolder('base_000000010000000000000001')}tar_partitions/part_001.tar.lz4`
    world.storage.seed(foreign, 'x')
    await world.pass(minute)
    assert.deepEqual(await removeExpired(world), [name])
    const left = world.keys()
    assert.ok(left.includes(intentKey(other)) && left.includes(foreign))
    assert.deepEqual(world.keys(backupFolder(name)), [])
    assert.equal(world.keys(backupFolder(other)).length, 3)
  })

  test('goes however many objects it is', async () => {
    const world = new IntentWorld()
    await dieOf(world, name, 1203)
    await world.pass(hour)
    assert.deepEqual(await removeExpired(world), [name])
    assert.deepEqual(world.keys(), [])
  })

  test('goes object by object before its intent does, so that a removal that stops is done again', async () => {
    const world = new IntentWorld()
    await dieOf(world, name, 20)
    await world.pass(hour)
    let deletes = 0
    world.storage.before = ({ operation, key }) => {
      if (operation === 'delete' && key.startsWith('basebackups_005/') && ++deletes === 7) throw new Error('broken')
    }
    await assert.rejects(removeExpired(world), { message: 'broken' })
    assert.equal(world.keys(backupFolder(name)).length, 14)
    assert.ok(world.keys().includes(intentKey(name)))
    // Not even the object by which the store was asked for the time.
    assert.equal(world.keys('walrx_005/').length, 1)
    world.storage.before = undefined
    assert.deepEqual(await removeExpired(world), [name])
    assert.deepEqual(world.keys(), [])
  })

  test('makes way for who announces the same name, but not before its time', async () => {
    const world = new IntentWorld()
    const dead = await dieOf(world)
    await world.pass(intentExpiryMs - 1)
    const again = () => Intent.announce(world.storage, name, 'db2', world.clock, world.signal)
    await assert.rejects(again(), (error) => hasCode(error, 'WALRX_BACKUP_EXISTS'))
    assert.equal(world.keys(backupFolder(name)).length, 3)
    await dead.prove(world.signal)
    await world.pass(1)
    const intent = await again()
    assert.deepEqual(world.keys(), [intentKey(name)])
    assert.equal(intent.content.hostname, 'db2')
    await assert.rejects(dead.prove(world.signal), (error) => hasCode(error, 'WALRX_BACKUP_INCOMPLETE'))
    await intent.withdraw()
  })

  test('is removed in vain under a writer that stood still: it wakes up, knows, and writes no sentinel', async () => {
    const world = new IntentWorld()
    const { clock, signal, storage } = world
    let isAsleep = false
    const asleep: (() => void)[] = []
    const sleepy = {
      now: () => clock.now(),
      setTimer: (ms: number, fire: () => void) =>
        clock.setTimer(ms, () => (isAsleep ? void asleep.push(fire) : fire())),
    }
    const intent = await Intent.announce(storage, name, 'db1', sleepy, signal)
    storage.seed(`${backupFolder(name)}tar_partitions/part_001.tar.zst`, 'x')
    isAsleep = true
    await world.pass(hour)
    assert.deepEqual(await removeExpired(world), [name])
    isAsleep = false
    for (const fire of asleep) fire()
    await world.pass(hour)
    assert.deepEqual(world.keys(), [])
    await assert.rejects(intent.prove(signal), (error) => hasCode(error, 'WALRX_BACKUP_INCOMPLETE'))
  })

  test('stays where nothing can be deleted, and is no reason to take no backup', async () => {
    const world = new IntentWorld()
    const dead = await Intent.announce(world.storage, name, 'db1', world.clock, world.signal)
    await dead.leave()
    await world.pass(25 * hour)
    world.storage.before = ({ operation }) => {
      if (operation === 'delete') throw new WalrxError('WALRX_STORAGE_DENIED', 'this store keeps everything')
    }
    const kept: string[] = []
    const removed = await removeExpiredBackups(world.storage, world.clock, world.signal, (one) => kept.push(one))
    assert.deepEqual([removed, kept], [[], [name]])
  })

  test('is nothing where there is nothing: one request', async () => {
    const world = new IntentWorld()
    assert.deepEqual(await removeExpired(world), [])
    assert.deepEqual(world.storage.log, ['list walrx_005/backups/'])
  })
})
