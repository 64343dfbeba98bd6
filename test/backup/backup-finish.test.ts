import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { finishBackup } from '../../src/backup/backup-finish.ts'
import { Intent } from '../../src/backup/intent.ts'
import { selectBackup } from '../../src/catalog/backups.ts'
import { finishSentinelOrder } from '../../src/catalog/sentinel-order.ts'
import { type ErrorCode, hasCode } from '../../src/primitives/errors.ts'
import { BackupArchive } from '../../src/walg/backup/backup-archive.ts'
import { backupFolder, intentKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { readIntent } from '../../src/walg/backup/intent-document.ts'
import { sentinelOrderKey } from '../../src/walg/names.ts'
import { WalReader } from '../../src/walg/wal/wal-reader.ts'
import { type MemoryCall, unavailable } from '../harness/store/memory-storage.ts'
import { hour, IntentWorld, minute } from './intent-world.ts'
import { RecordingLog } from './recording-log.ts'
import { forever } from './parts/watched-storage.ts'

const name = 'base_000000010000000000000002'
const folder = backupFolder(name)
const segment = '000000010000000000000002'
const segmentSize = 16 * 1024 ** 2
const sentinel = '{"LSN":33554472,"SystemIdentifier":7455523487659893045}'
const objects = [
  { name: 'tar_partitions/part_001.tar.zst', size: 10 },
  { name: 'tar_partitions/pg_control.tar.zst', size: 20 },
  { name: 'backup_manifest.zst', size: 30 },
]

/** A backup that is stored but for its sentinel; its WAL is there too. */
class FinishWorld extends IntentWorld {
  readonly log = new RecordingLog()
  readonly intent: Intent

  private constructor(prepared: IntentWorld, intent: Intent) {
    super()
    Object.assign(this, { clock: prepared.clock, storage: prepared.storage })
    this.intent = intent
  }

  static async open(): Promise<FinishWorld> {
    const world = new IntentWorld()
    const intent = await Intent.announce(world.storage, name, 'db1', world.clock, world.signal)
    for (const object of objects) world.storage.seed(folder + object.name, Buffer.alloc(object.size))
    world.storage.seed(`wal_005/${segment}.zst`, 'x')
    await intent.update({ sentinel, segments: [segment, segment], objects })
    world.storage.calls.length = 0
    return new FinishWorld(world, intent)
  }

  finish(walTimeoutMs: number | undefined = minute, signal = this.signal, segments = [segment]): Promise<void> {
    const { clock, intent, log, storage } = this
    const archive = new WalReader(storage)
    return finishBackup({ storage, archive, intent, segments, segmentSize, walTimeoutMs, clock, log, signal })
  }

  /** It fails so, and there is no sentinel; everything else stays, for a later backup-finish. */
  async assertFails(code: ErrorCode, message: RegExp, finishing = this.finish()): Promise<void> {
    const left = this.keys(folder)
    await assert.rejects(finishing, (error) => {
      assert.match((error as Error).message, message)
      return hasCode(error, code)
    })
    assert.equal(this.storage.peek(sentinelKey(name)), undefined)
    assert.deepEqual(this.keys(folder), left)
  }
}

describe('finishing a backup', () => {
  test('writes the sentinel last of all, and then removes the intent', async () => {
    const world = await FinishWorld.open()
    await world.finish()
    assert.equal(world.storage.peek(sentinelKey(name))?.toString(), sentinel)
    assert.equal(world.storage.peek(intentKey(name)), undefined)
    const changes = world.storage.log.filter((line) => /^(put|putIfAbsent|delete) /.test(line))
    assert.deepEqual(changes, [`put ${sentinelKey(name)}`, `delete ${intentKey(name)}`])
    const before = world.storage.log.slice(0, world.storage.log.indexOf(`put ${sentinelKey(name)}`))
    for (const line of [`list wal_005/${segment}`, `get ${intentKey(name)}`, `list ${folder}`]) {
      assert.ok(before.includes(line), `${line} is not in ${before.join(', ')}`)
    }
    world.storage.calls.length = 0
    await world.pass(hour)
    assert.deepEqual(world.storage.log, [], 'the heartbeat goes on')
  })

  test('waits for the WAL with its heartbeat, and leaves all as it is when that does not come', async () => {
    const world = await FinishWorld.open()
    const missing = '000000010000000000000003'
    const finishing = world.finish(hour, world.signal, [segment, missing])
    finishing.catch(() => {})
    await world.pass(30 * minute)
    assert.ok(world.clock.now() - (world.storage.objects.get(intentKey(name))?.lastModifiedMs ?? 0) <= 30_000)
    const message = new RegExp(`^segment ${missing} has not come into memory://test within 3600 s$`)
    await world.assertFails('WALRX_BACKUP_INCOMPLETE', message, world.await(finishing, hour))
    assert.deepEqual(await readIntent(world.storage, name), world.intent.content)
    await world.intent.leave()
  })

  test('does not wait where it need not', async () => {
    const world = await FinishWorld.open()
    world.storage.objects.delete(`wal_005/${segment}.zst`)
    const { clock, intent, log, signal, storage } = world
    const archive = new WalReader(storage)
    await finishBackup({
      storage,
      archive,
      intent,
      segments: [segment],
      segmentSize,
      walTimeoutMs: undefined,
      clock,
      log,
      signal,
    })
    assert.ok(storage.peek(sentinelKey(name)))
  })

  test('is refused when an object has gone or has another size', async () => {
    for (const object of objects) {
      const gone = await FinishWorld.open()
      gone.storage.objects.delete(folder + object.name)
      await gone.assertFails('WALRX_BACKUP_INCOMPLETE', new RegExp(`^memory://test/${folder}${object.name} is gone$`))
      const cut = await FinishWorld.open()
      cut.storage.seed(folder + object.name, Buffer.alloc(object.size - 1))
      const what = `has ${object.size - 1} bytes instead of ${object.size}`
      await cut.assertFails('WALRX_BACKUP_INCOMPLETE', new RegExp(`^memory://test/${folder}${object.name} ${what}$`))
    }
  })

  test('is refused when an object goes while it waits for the WAL', async () => {
    const world = await FinishWorld.open()
    world.storage.objects.delete(`wal_005/${segment}.zst`)
    const finishing = world.finish(hour)
    finishing.catch(() => {})
    await world.pass(minute)
    world.storage.objects.delete(folder + (objects[1]?.name ?? ''))
    world.storage.seed(`wal_005/${segment}.zst`, 'x')
    await world.assertFails('WALRX_BACKUP_INCOMPLETE', /pg_control.tar.zst is gone$/, world.await(finishing, minute))
    await world.intent.leave()
  })

  test('is refused when another took it over, and the intent of that one stays', async () => {
    const world = await FinishWorld.open()
    world.storage.objects.delete(intentKey(name))
    const theirs = await Intent.adopt(world.storage, name, { ...world.intent.content, hostname: 'db2' }, world.clock)
    await world.assertFails(
      'WALRX_BACKUP_INCOMPLETE',
      /^another walrx took base_\w+ for dead: its intent now belongs to db2$/,
    )
    await theirs.prove(world.signal)
    await theirs.withdraw()
    await world.intent.leave()
  })

  test('is refused when there is another sentinel, which stays as it is', async () => {
    const world = await FinishWorld.open()
    world.storage.seed(sentinelKey(name), 'of another tool')
    await assert.rejects(world.finish(), (error) => hasCode(error, 'WALRX_BACKUP_EXISTS'))
    assert.equal(world.storage.peek(sentinelKey(name))?.toString(), 'of another tool')
    await world.intent.leave()
  })

  test('that nobody knows to have succeeded keeps the data, and done again it succeeds', async () => {
    for (const isLost of [true, false]) {
      const world = await FinishWorld.open()
      const fail = ({ key, operation }: MemoryCall) => {
        if (operation === 'put' && key === sentinelKey(name)) throw unavailable()
      }
      if (isLost) world.storage.after = fail
      else world.storage.before = fail
      await assert.rejects(world.finish(), (error) => {
        assert.match((error as Error).message, /^whether the sentinel of base_\w+ is at memory:\/\/test is not known: /)
        // By this code nothing of the backup is removed.
        return hasCode(error, 'WALRX_BACKUP_INCOMPLETE')
      })
      assert.equal(world.keys(folder).length, objects.length)
      assert.equal(world.storage.peek(sentinelKey(name)) !== undefined, isLost)
      world.storage.after = undefined
      world.storage.before = undefined
      await world.finish()
      assert.equal(world.storage.peek(sentinelKey(name))?.toString(), sentinel)
      assert.equal(world.storage.peek(intentKey(name)), undefined)
    }
  })

  test('that is stopped while the sentinel is on its way keeps the data too', async () => {
    const world = await FinishWorld.open()
    const stop = new AbortController()
    world.storage.after = ({ key, operation, signal }) => {
      if (operation !== 'put' || key !== sentinelKey(name)) return
      const waiting = forever(signal)
      stop.abort(new Error('stopped by hand'))
      return waiting
    }
    const finishing = world.finish(minute, stop.signal)
    await assert.rejects(finishing, (error) => hasCode(error, 'WALRX_BACKUP_INCOMPLETE'))
    assert.ok(world.storage.peek(sentinelKey(name)))
    assert.equal(world.keys(folder).length, objects.length)
    await world.intent.leave()
  })

  test('has succeeded once the sentinel is there, though the intent cannot be removed', async () => {
    const world = await FinishWorld.open()
    world.storage.before = ({ operation }) => {
      if (operation === 'delete') throw unavailable()
    }
    await world.finish()
    assert.deepEqual(world.log.of('warn'), [
      'the backup is complete, but its intent could not be removed: a later backup-push removes it',
    ])
    assert.ok(world.storage.peek(sentinelKey(name)))
    assert.equal(world.keys(folder).length, objects.length)
  })
})

describe('a delta is finished only', () => {
  const parent = 'base_000000010000000000000001'
  const delta = '"DeltaLSN":16777256,"DeltaFrom":"base_000000010000000000000001","DeltaCount":1'

  test('while what it builds on is there', async () => {
    const world = await FinishWorld.open()
    await world.intent.update({ sentinel: sentinel.replace('{', `{${delta},`) })
    const gone = /base_000000010000000000000001, which the delta builds on, is gone/
    await world.assertFails('WALRX_BACKUP_INCOMPLETE', gone)
    world.storage.seed(sentinelKey(parent), '{"LSN":16777257}')
    await world.assertFails(
      'WALRX_BACKUP_INCOMPLETE',
      /starts at 0\/1000029, and the delta builds on one from 0\/1000028/,
    )
    world.storage.seed(sentinelKey(parent), '{"LSN":16777256}')
    await world.finish()
    assert.ok(world.storage.peek(sentinelKey(name)))
  })
})

describe('a backup that others have overtaken', () => {
  const older = 'base_000000010000000000000001'
  const newer = ['base_000000010000000000000003', 'base_000000010000000000000004'] as const
  const began = (second: number) => `"StartTime":"2026-01-01T00:00:0${second}Z"`

  /** They wait for WAL at the same time, and the newer ones are finished first. */
  async function overtaken(): Promise<FinishWorld> {
    const world = await FinishWorld.open()
    await world.intent.update({ sentinel: sentinel.replace('{', `{${began(2)},`) })
    world.storage.seed(sentinelKey(older), `{${began(1)}}`, world.clock.now())
    for (const [index, each] of newer.entries()) {
      await world.pass(1000)
      world.storage.seed(sentinelKey(each), `{${began(3 + index)}}`, world.clock.now())
    }
    await world.pass(1000)
    return world
  }

  /** As WAL-G and WAL-RUS have it: by the times in the storage. */
  async function inStorage({ storage }: FinishWorld): Promise<string[]> {
    const listed = await new BackupArchive(storage).listBackups()
    return listed.sort((a, b) => a.lastModifiedMs - b.lastModifiedMs).map((each) => each.name)
  }

  async function finished(world: FinishWorld): Promise<void> {
    const finishing = world.finish(undefined)
    finishing.catch(() => {})
    await world.await(finishing, minute)
  }

  test('does not become LATEST, for WAL-G and WAL-RUS either: their sentinels are put again after it', async () => {
    const world = await overtaken()
    const bytes = newer.map((each) => world.storage.peek(sentinelKey(each)))
    await finished(world)
    assert.deepEqual(await inStorage(world), [older, name, ...newer])
    assert.equal((await selectBackup(new BackupArchive(world.storage), 'LATEST')).name, newer[1])
    assert.deepEqual(
      newer.map((each) => world.storage.peek(sentinelKey(each))),
      bytes,
    )
    assert.equal(world.storage.peek(sentinelOrderKey), undefined)
    assert.equal(world.storage.peek(intentKey(name)), undefined)
    assert.deepEqual(world.log.of('warn'), [])
  })

  test('that began last is put as it is, and no other is touched', async () => {
    const world = await overtaken()
    await world.intent.update({ sentinel: sentinel.replace('{', `{${began(9)},`) })
    world.storage.calls.length = 0
    await finished(world)
    assert.deepEqual(await inStorage(world), [older, ...newer, name])
    assert.deepEqual(
      world.storage.log.filter((line) => line.startsWith('put ')),
      [`put ${sentinelKey(name)}`],
    )
  })

  test('is whole wherever the process ends, and the next one puts the order right', async () => {
    for (let failAt = 1; failAt <= 40; failAt++) {
      for (const isStored of [false, true]) {
        const world = await overtaken()
        let calls = 0
        const fail = () => {
          if (++calls >= failAt) throw unavailable()
        }
        if (isStored) world.storage.after = fail
        else world.storage.before = fail
        await finished(world).catch(() => {})
        world.storage.after = world.storage.before = undefined
        const at = `call ${failAt}, stored ${isStored}`
        assert.equal((await selectBackup(new BackupArchive(world.storage), 'LATEST')).name, newer[1], at)
        if (world.storage.peek(intentKey(name))) await finished(world)
        // Only a later one finishes what is left when the backup itself was complete.
        const { clock, signal, storage } = world
        const ending = finishSentinelOrder({ archive: new BackupArchive(storage), storage, clock, signal })
        ending.catch(() => {})
        await world.await(ending, minute)
        assert.deepEqual(await inStorage(world), [older, name, ...newer], at)
        assert.equal(storage.peek(sentinelOrderKey), undefined, at)
        await world.intent.leave()
      }
    }
  })

  test('is complete though another backup-mark is at work, which a warning says', async () => {
    const world = await overtaken()
    world.storage.before = ({ key, operation }) => {
      if (operation !== 'putIfAbsent' || key !== sentinelOrderKey) return
      world.storage.seed(sentinelOrderKey, '{"known":[],"names":[],"marked":[],"permanent":true}')
    }
    await finished(world)
    assert.ok(world.storage.peek(sentinelKey(name)))
    assert.match(world.log.of('warn').join(), /WAL-G and WAL-RUS may take the backup as LATEST/)
  })
})
