/** A service is opened and closed as a whole, whatever goes wrong on the way. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { KeyCommandError } from '../../src/config/keys/key-command.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { WalrxError } from '../../src/primitives/errors.ts'
import { ArchiveService } from '../../src/service/archive-service.ts'
import { clusterNameOf, type ServiceSettings } from '../../src/service/service-settings.ts'
import { combinedReadiness, openStatusPage } from '../../src/service/status-page.ts'
import type { Readiness } from '../../src/status/server.ts'
import { errorResponse, ScriptedServer } from '../harness/postgres/scripted-server.ts'
import { MemoryStorage, type MemoryStorageOptions } from '../harness/store/memory-storage.ts'
import { testKey } from '../harness/store/test-keys.ts'
import { FastClock } from '../harness/time/fast-clock.ts'
import { until } from '../harness/time/until.ts'
import { never, nothingLeftSince, resources, settingsFor } from './service-settings.ts'

/** A storage that knows when it was closed, and what was asked of it since. */
class ClosingStorage extends MemoryStorage {
  closeCount = 0
  onClose = () => {}

  override close(): Promise<void> {
    this.closeCount++
    this.onClose()
    this.calls.length = 0
    return super.close()
  }
}

const nobody = 'host=127.0.0.1 port=1 user=someone sslmode=disable'

/** Settings, and a storage for {@link ArchiveService.open}. */
async function world(conninfo: string = nobody, options: MemoryStorageOptions = {}) {
  const settings = await settingsFor({ WALG_FILE_PREFIX: '/srv/archive' }, conninfo)
  const storage = new ClosingStorage(options)
  return { settings, storage, options: { openStorage: () => Promise.resolve(storage) } }
}

/** Whether the page of metrics knows a cluster. */
async function isShown({ cluster, metrics }: ServiceSettings): Promise<boolean> {
  return (await metrics.read()).text.includes(`cluster="${cluster}"`)
}

describe('a start that fails', () => {
  test('for a storage that is not there closes it, and leaves no metrics', async () => {
    const { options, settings, storage } = await world(nobody, { missing: true })
    await assert.rejects(ArchiveService.open(settings, options), { code: 'WALRX_STORAGE_MISSING' })
    assert.equal(storage.closeCount, 1)
    assert.equal(await isShown(settings), false)
  })

  test('for a storage that cannot be opened, or settings that contradict each other, opens nothing', async () => {
    const { options, settings, storage } = await world()
    const broken = { openStorage: () => Promise.reject(new Error('no such place')) }
    await assert.rejects(ArchiveService.open(settings, broken), /no such place/)
    const compression = { compressionMethod: 'zstd', compressionLevel: 3, zstdLevel: 'best' } as const
    await assert.rejects(ArchiveService.open({ ...settings, compression }, options), { code: 'WALRX_USAGE' })
    assert.deepEqual([storage.calls.length, await isShown(settings)], [0, false])
  })

  test('for a name that another service has leaves that one alone', async () => {
    const first = await world()
    const second = await world()
    await using service = await ArchiveService.open(first.settings, first.options)
    const settings = { ...second.settings, metrics: first.settings.metrics }
    await assert.rejects(ArchiveService.open(settings, second.options), { code: 'WALRX_USAGE' })
    assert.deepEqual([first.storage.closeCount, second.storage.closeCount], [0, 1])
    assert.equal(await isShown(first.settings), true)
    assert.equal(service.cluster, 'db1')
  })

  test('for a wrong password says so, is not ready for that reason, and leaves nothing when it is closed', async () => {
    await using server = await ScriptedServer.listen(async (connection) => {
      await connection.readUntyped()
      connection.write(errorResponse('28P01', 'password authentication failed for user "someone"'))
      connection.socket.end()
    })
    const before = resources()
    const { options, settings, storage } = await world(server.conninfo())
    const service = await ArchiveService.open(settings, options)
    await assert.rejects(service.run(never(), never()), { code: 'WALRX_AUTH_FAILED' })
    const { ready, reason } = service.readiness()
    assert.equal(ready, false)
    assert.match(reason ?? '', /password authentication failed/)
    assert.equal(storage.closeCount, 0)
    await service.close()
    assert.deepEqual([storage.closeCount, await isShown(settings)], [1, false])
    await nothingLeftSince(before)
  })
})

describe('a start while what gives the keys is out', () => {
  const outage = new WalrxError('WALRX_KEY_UNAVAILABLE', 'KMS does not answer', { transient: true })
  const dead = new KeyCommandError('WALRX_KEY_COMMAND ended with status 1', 'run it', true)
  const wrong = new KeyCommandError('WALRX_KEY_COMMAND ended with status 127', 'name it', false)

  /** A world whose keys fail so often. */
  async function locked(failures: WalrxError[], conninfo = nobody) {
    const load = async () => {
      const failure = failures.shift()
      if (failure) throw failure
      return { writing: await testKey('key'), reading: [] }
    }
    const made = await world(conninfo, { keyring: new Keyring({ load }) })
    return { ...made, settings: { ...made.settings, clock: new FastClock(100) } }
  }

  test('waits for it, as for a bucket', async () => {
    const { options, settings } = await locked([outage, dead, dead, outage])
    await using service = await ArchiveService.open(settings, options)
    assert.ok(service)
  })

  test('ends after a minute with its reason, and at once for what waiting does not change', async () => {
    const patient = await locked(Array.from({ length: 1000 }, () => dead))
    await assert.rejects(ArchiveService.open(patient.settings, patient.options), dead)
    for (const failure of [wrong, new WalrxError('WALRX_KEY_UNAVAILABLE', 'no such file')]) {
      const failures = [failure, failure]
      const { options, settings, storage } = await locked(failures)
      await assert.rejects(ArchiveService.open(settings, options), failure)
      assert.deepEqual([failures.length, storage.closeCount], [1, 1])
    }
  })

  test('is given up by the signal', async () => {
    const { options, settings } = await locked(Array.from({ length: 1000 }, () => outage))
    const stop = new AbortController()
    const asked = Promise.withResolvers<undefined>()
    const log = { ...settings.log, warn: () => asked.resolve(undefined) }
    const opening = ArchiveService.open({ ...settings, log }, { ...options, signal: stop.signal })
    await asked.promise
    stop.abort(new Error('enough'))
    await assert.rejects(opening, /enough/)
  })
})

describe('a service that is closed while it starts', () => {
  test('by the signal, with a storage that does not answer, closes that', async () => {
    const asked = Promise.withResolvers<undefined>()
    const before = () => {
      asked.resolve(undefined)
      return new Promise<void>(() => {})
    }
    const { options, settings, storage } = await world(nobody, { before })
    const stop = new AbortController()
    const opening = ArchiveService.open(settings, { ...options, signal: stop.signal })
    await asked.promise
    stop.abort(new Error('enough'))
    await assert.rejects(opening, /enough/)
    assert.deepEqual([storage.closeCount, await isShown(settings)], [1, false])
  })

  for (const how of ['close', 'drain'] as const) {
    test(`by ${how}, with a server that does not answer, ends the run without an error`, async () => {
      const asked = Promise.withResolvers<undefined>()
      await using server = await ScriptedServer.listen(async (connection) => {
        await connection.readUntyped()
        asked.resolve(undefined)
      })
      const before = resources()
      const { options, settings, storage } = await world(server.conninfo())
      const service = await ArchiveService.open(settings, options)
      const drain = new AbortController()
      let isOver = false
      let wasOver = false
      const running = service.run(drain.signal, never()).then(() => (isOver = true))
      storage.onClose = () => (wasOver = isOver)
      await asked.promise
      assert.deepEqual(service.readiness().reason, 'the receiver is connecting')
      if (how === 'drain') {
        drain.abort()
        await running
      }
      await Promise.all([service.close(), service.close(), running])
      assert.equal(storage.closeCount, 1)
      assert.ok(wasOver, 'the storage was closed before the end of the run')
      assert.equal(storage.calls.length, 0, 'nothing is asked of a closed storage')
      assert.equal(service.readiness().reason, 'the receiver is stopped')
      await nothingLeftSince(before)
    })
  }

  test('before it runs has nothing to do afterwards', async () => {
    const before = resources()
    const { options, settings, storage } = await world()
    const service = await ArchiveService.open(settings, options)
    await service.close()
    await service.run(never(), never())
    assert.equal(storage.closeCount, 1)
    await nothingLeftSince(before)
  })

  test('ends the backup after a gap that is under way', async () => {
    const { settings } = await world()
    const storage = new ClosingStorage()
    storage.seed(
      'walrx_005/gap/00000001/0000000005000000-0000000008000000.json',
      JSON.stringify({ Timeline: 1, StartLsn: '0/5000000', EndLsn: '0/8000000', DetectedAt: '2026-03-01T12:00:00Z' }),
    )
    const lines: string[] = []
    const say = (message: string, fields: object = {}) => void lines.push(`${message} ${JSON.stringify(fields)}`)
    const log: ServiceSettings['log'] = { debug: say, info: say, warn: say, error: say, child: () => log }
    const script = `process.on('SIGTERM', () => process.exit(0)); setInterval(() => {}, 1000); console.log('ready')`
    const gapBackup: ServiceSettings['gapBackup'] = { command: [process.execPath, '-e', script], environment: {} }
    await using server = await ScriptedServer.listen(async (connection) => {
      await connection.readUntyped()
    })
    const { conninfo } = await settingsFor({ WALG_FILE_PREFIX: '/srv/archive' }, server.conninfo())
    const service = await ArchiveService.open(
      { ...settings, conninfo, gapBackup, log },
      { openStorage: () => Promise.resolve(storage) },
    )
    const running = service.run(never(), never())
    await until('the backup', () => lines.some((line) => line.includes('"ready"')))
    await service.close()
    await running
    assert.match(lines.join('\n'), /the base backup after a gap is complete {.*"status":0}/)
    assert.doesNotMatch((await settings.metrics.read()).text, /gap_backups_total\{/)
  })
})

describe('what several services say on one page', () => {
  const of = (cluster: string, readiness: Readiness) => ({ cluster, readiness: () => readiness })
  const ready = of('a', { ready: true, details: { state: 'streaming' } })
  const late = of('b', { ready: false, reason: 'no host of postgresql://u:hush@h answers', details: { queued: 3 } })

  test('is of one what that says, of several ready when all are, with the state of each', () => {
    assert.deepEqual(combinedReadiness([ready]), ready.readiness())
    assert.deepEqual(combinedReadiness([ready, { ...ready, cluster: 'c' }]), {
      ready: true,
      details: { clusters: { a: { status: 'ready', state: 'streaming' }, c: { status: 'ready', state: 'streaming' } } },
    })
    const { details, ready: isReady, reason } = combinedReadiness([ready, late])
    assert.equal(isReady, false)
    assert.match(reason ?? '', /^b: no host/)
    assert.deepEqual((details as { clusters: { b: object } }).clusters.b, {
      status: 'not ready',
      reason: late.readiness().reason,
      queued: 3,
    })
  })

  test('shows no password, follows a list that changes, and stands beside the metrics', async () => {
    const { settings } = await world()
    const services = [ready, late]
    await using status = await openStatusPage({ host: '127.0.0.1', port: 0 }, services, settings.metrics)
    const answer = await fetch(`${status.url}/readyz`)
    const body = await answer.text()
    assert.equal(answer.status, 503)
    assert.match(body, /"b":{"status":"not ready"/)
    assert.doesNotMatch(body, /hush/)
    services.pop()
    assert.equal((await fetch(`${status.url}/readyz`)).status, 200)
    assert.match(await (await fetch(`${status.url}/metrics`)).text(), /^walrx_build_info/m)
  })
})

test('the name of a cluster is the last folder of its archive', async () => {
  for (const [environment, name] of [
    [{ WALG_S3_PREFIX: 's3://backups/db1' }, 'db1'],
    [{ WALG_S3_PREFIX: 's3://backups/all/db2/' }, 'db2'],
    [{ WALG_S3_PREFIX: 's3://backups' }, 'backups'],
    [{ WALG_S3_PREFIX: 's3://backups/', WALG_STORAGE_PREFIX: '/x/db3/' }, 'db3'],
    [{ WALG_FILE_PREFIX: '/srv/archive' }, 'archive'],
    [{ WALG_FILE_PREFIX: 'file://localhost/srv/db4/' }, 'db4'],
    [{ WALG_FILE_PREFIX: '/' }, 'walrx'],
  ] as const) {
    assert.equal(clusterNameOf((await settingsFor(environment, nobody)).storage), name)
  }
})

test('an error of the run goes to the caller of run, and not to that of close', async () => {
  const { options, settings } = await world('host=127.0.0.1 port=1 user=someone hostaddr=127.0.0.1 sslmode=disable')
  const service = await ArchiveService.open(settings, options)
  const running = service.run(never(), never()).catch((error: WalrxError) => error.code)
  assert.equal(await running, 'WALRX_CONNECT_FAILED')
  await service.close()
})
