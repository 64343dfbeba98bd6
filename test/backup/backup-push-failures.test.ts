import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { pushBackup, type PushOptions } from '../../src/backup/backup-push.ts'
import { Intent, removeExpiredBackups } from '../../src/backup/intent.ts'
import { type ErrorCode, hasCode, WalrxError } from '../../src/primitives/errors.ts'
import { backupFolder, intentKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { type MemoryCall, unavailable } from '../harness/store/memory-storage.ts'
import { VirtualClock } from '../harness/time/virtual-clock.ts'
import { closing } from '../postgres/backup/scripted-backup.ts'
import { rowMessage } from '../postgres/server-messages.ts'
import { backup, BackupServer, type BackupScript, bystanders, dataFiles, mainArchive } from './backup-server.ts'
import { manifest, pushOptions } from './backup-server.ts'
import { damaged } from './damaged-pages.ts'
import { assertNoSentinelWithoutData } from './sentinel-check.ts'
import type { ServerFile } from './parts/tars.ts'
import { forever, settle, WatchedStorage, withNothingUnhandled } from './parts/watched-storage.ts'

const timeout = 60_000
const folder = backupFolder(backup)

/** What the failed backup left: nothing, and nobody who still writes or is connected. */
async function assertNothingLeft({
  server,
  storage,
}: PushOptions & { readonly storage: WatchedStorage }): Promise<void> {
  assert.equal(storage.openPuts, 0)
  assert.deepEqual([...storage.objects.keys()].sort(), bystanders)
  assert.equal((server as BackupServer).open.size, 0)
  await settle()
  assert.deepEqual([...storage.objects.keys()].sort(), bystanders, 'something came later')
}

/** The push fails and leaves nothing. */
async function assertFails(script: BackupScript, code: ErrorCode, more: Partial<PushOptions> = {}): Promise<void> {
  await withNothingUnhandled(async () => {
    const options = pushOptions(new BackupServer(script), new WatchedStorage(), more)
    await assert.rejects(pushBackup(options), (error) => {
      assert.ok(hasCode(error, code), String(error))
      return true
    })
    await assertNothingLeft(options)
  })
}

describe('a store that keeps every object as it was written', () => {
  test('gets a whole backup; that it could not be finished later is said', { timeout }, async () => {
    const storage = new WatchedStorage()
    storage.before = ({ key, operation }) => {
      const isOver = operation === 'put' && storage.objects.has(key)
      if (isOver || operation === 'delete') throw new WalrxError('WALRX_STORAGE_DENIED', 'this store keeps everything')
    }
    const options = pushOptions(new BackupServer({}), storage)
    await pushBackup(options)
    assert.ok(storage.objects.has(sentinelKey(backup)))
    assert.ok(options.log.of('warn').some((message) => /lets no object be written over/.test(message)))
  })
})

describe('a backup leaves nothing', { timeout }, () => {
  test('when the connection breaks, wherever it breaks', async () => {
    const whole = new BackupServer({}).bytes({}).length
    for (let breaksAfter = 0; breaksAfter < whole; breaksAfter += 3571) {
      await assertFails({ breaksAfter }, 'WALRX_CONNECTION_LOST')
    }
    await assertFails({ breaksAfter: whole - 1 }, 'WALRX_CONNECTION_LOST')
  })

  test('when the server found damaged pages', async () => {
    await assertFails({ end: damaged }, 'WALRX_BACKUP_CHECKSUM')
  })

  test('when the server changed its timeline', async () => {
    const end = [...closing.slice(0, 1), rowMessage('0/2000100', '2'), ...closing.slice(2)]
    await assertFails({ end }, 'WALRX_BACKUP_INCOMPLETE')
  })

  for (const [what, files] of [
    ['has no backup_label', dataFiles.filter(({ name }) => name !== 'backup_label')],
    ['has no pg_control', dataFiles.filter(({ name }) => name !== 'global/pg_control')],
    ['has a file twice', [...dataFiles, dataFiles[3] as ServerFile]],
    ['has a link', [...dataFiles, { name: 'pg_wal', kind: 'symlink', linkTarget: '/mnt/wal' } as const]],
    ['has a name that leads out', [...dataFiles, { name: '../x', kind: 'file' } as const]],
  ] as const) {
    test(`when the server's archive ${what}`, async () => {
      await assertFails({ archives: [mainArchive(files)] }, 'WALRX_PROTOCOL')
    })
  }

  test('when an archive is cut short', async () => {
    const archive = mainArchive()
    const pieces = archive.pieces.map((piece) => piece.subarray(0, 60_000))
    await assertFails({ archives: [{ ...archive, pieces }] }, 'WALRX_PROTOCOL')
  })

  test('when the server sends no manifest although it was asked for one', async () => {
    const server = new BackupServer({})
    server.bytes = (script) => {
      const bytes = BackupServer.prototype.bytes.call(server, script)
      // The messages `dm` and `d` with `d` and the manifest.
      const from = bytes.indexOf(Buffer.from([0x64, 0, 0, 0, 5, 0x6d]))
      return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + 6 + 6 + manifest.length)])
    }
    const options = pushOptions(server, new WatchedStorage())
    await assert.rejects(pushBackup(options), { message: 'the server sent no manifest' })
    await assertNothingLeft(options)
  })

  test('when it is stopped, at every read', async () => {
    const whole = new BackupServer({}).bytes({}).length
    for (let stopAt = 0; stopAt < whole; stopAt += 9000) {
      await withNothingUnhandled(async () => {
        const stop = new AbortController()
        const beforeRead = (at: number) => (at === stopAt ? stop.abort(new Error('stopped by hand')) : undefined)
        const options = pushOptions(new BackupServer({ beforeRead }), new WatchedStorage(), { signal: stop.signal })
        await assert.rejects(pushBackup(options), { message: 'stopped by hand' })
        await assertNothingLeft(options)
      })
    }
  })

  test('when it is stopped while the storage is silent', async () => {
    await withNothingUnhandled(async () => {
      const stop = new AbortController()
      const storage = new WatchedStorage()
      storage.before = ({ key, operation, signal }) => {
        if (operation !== 'put' || !key.includes('/part_')) return
        setImmediate(() => stop.abort(new Error('stopped by hand')))
        return forever(signal)
      }
      const options = pushOptions(new BackupServer({}), storage, { signal: stop.signal })
      await assert.rejects(pushBackup(options), { message: 'stopped by hand' })
      await assertNothingLeft(options)
    })
  })
})

/** Pushes a backup to a storage that does `hurt` at its call number `at`, and says how many calls there were. */
async function pushHurt(at: number, when: 'before' | 'after', hurt: (call: MemoryCall) => void) {
  const storage = new WatchedStorage()
  const options = pushOptions(new BackupServer({}), storage)
  let calls = 0
  storage[when] = (call) => {
    if (++calls === at) hurt(call)
  }
  const outcome = await pushBackup(options).then(
    () => undefined,
    (error: unknown) => error as Error,
  )
  return { calls, options, outcome, storage }
}

describe('a backup to a storage that fails', { timeout }, () => {
  for (const when of ['before', 'after'] as const) {
    const what = when === 'before' ? 'at any single request' : 'by the loss of any single answer'
    test(`${what} ends whole, or leaves nothing, or what backup-finish needs`, async () => {
      const total = (await pushHurt(-1, when, () => {})).calls
      assert.ok(total > 20)
      for (let at = 1; at <= total; at++) {
        await withNothingUnhandled(async () => {
          const { options, outcome, storage } = await pushHurt(at, when, () => {
            throw unavailable()
          })
          const where = `call ${at}: ${storage.log[at - 1]}, ${String(outcome)}`
          assertNoSentinelWithoutData(storage)
          if (!outcome) assert.ok(storage.peek(sentinelKey(backup)), where)
          else if (String((outcome as { hint?: unknown }).hint).includes('backup-finish'))
            assert.ok(storage.peek(intentKey(backup)), where)
          else {
            assert.ok(hasCode(outcome, 'WALRX_STORAGE_UNAVAILABLE'), where)
            const left = [...storage.objects.keys()].filter((key) => key.includes(backup))
            assert.deepEqual(left, [], where)
          }
          assert.equal((options.server as BackupServer).open.size, 0, where)
          await settle()
          assertNoSentinelWithoutData(storage)
        })
      }
    })
  }

  test('leaves no put under way, at whatever put it fails', async () => {
    const puts = (await pushHurt(-1, 'before', () => {})).storage.log.length
    for (let at = 1; at <= puts; at++) {
      const { outcome, storage } = await pushHurt(at, 'before', ({ operation }) => {
        if (operation === 'put') throw unavailable()
      })
      if (outcome) assert.equal(storage.openPuts, 0, `call ${at}: ${storage.log[at - 1]}`)
    }
  })

  test('for good leaves what a later run removes, once nobody can be writing it', async () => {
    const clock = new VirtualClock()
    const total = (await pushHurt(-1, 'before', () => {})).calls
    for (let from = 1; from <= total; from++) {
      await withNothingUnhandled(async () => {
        const storage = new WatchedStorage({ clock })
        let calls = 0
        storage.before = () => {
          if (++calls >= from) throw unavailable()
        }
        const isComplete = await pushBackup(pushOptions(new BackupServer({}), storage, { clock })).then(
          () => true,
          () => false,
        )
        storage.before = undefined
        assertNoSentinelWithoutData(storage)
        const signal = new AbortController().signal
        const left = [...storage.objects.keys()].filter((key) => key.startsWith(folder))
        await removeExpiredBackups(storage, clock, signal)
        if (left.length > 0) assert.ok(storage.objects.has(left[0] ?? ''), 'removed too early')
        let isOver = false
        clock.setTimer(24 * 3600_000, () => (isOver = true))
        await clock.run(
          () => isOver,
          () => storage.openBodies > 0,
          25 * 3600_000,
        )
        await removeExpiredBackups(storage, clock, signal)
        assertNoSentinelWithoutData(storage)
        if (isComplete || storage.peek(sentinelKey(backup))) return
        assert.deepEqual([...storage.objects.keys()].sort(), bystanders, `from call ${from} on`)
      })
    }
  })

  test('does not remove the backup of another that took it for dead meanwhile', async () => {
    const storage = new WatchedStorage()
    const signal = new AbortController().signal
    let theirs: Intent | undefined
    const part = `${folder}tar_partitions/part_077.tar.zst`
    const server = new BackupServer({
      breaksAfter: 60_000,
      beforeRead: async (at) => {
        if (at !== 57_000) return
        // A machine that was put to sleep: when it wakes up, its connection has gone, and its backup is another's.
        for (const key of storage.objects.keys()) if (key.includes(backup)) storage.objects.delete(key)
        theirs = await Intent.announce(storage, backup, 'db2', new VirtualClock(), signal)
        storage.seed(part, 'of db2')
      },
    })
    await assert.rejects(pushBackup(pushOptions(server, storage)))
    await theirs?.prove(signal)
    assert.equal(storage.peek(part)?.toString(), 'of db2')
    await theirs?.withdraw()
  })
})
