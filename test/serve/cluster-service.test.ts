import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { silentLog } from '../../src/observe/log.ts'
import { type ErrorCode, WalrxError } from '../../src/primitives/errors.ts'
import { ClusterService } from '../../src/serve/cluster-service.ts'
import type { ArchiveService } from '../../src/service/archive-service.ts'
import type { ServiceSettings } from '../../src/service/service-settings.ts'
import { VirtualClock } from '../harness/time/virtual-clock.ts'

/** A service that ends as it is said, or runs until it is drained. */
function fakeService(
  fail: () => WalrxError | undefined,
): Pick<ArchiveService, 'run' | 'close' | 'readiness' | 'resizeMemory' | 'trimMemory'> {
  return {
    run: async (drain) => {
      const error = fail()
      if (error) throw error
      await new Promise<void>((resolve) => drain.addEventListener('abort', () => resolve(), { once: true }))
    },
    readiness: () => ({ ready: true, details: { state: 'streaming' } }),
    resizeMemory: () => {},
    trimMemory: () => {},
    close: async () => {},
  }
}

function open(failures: readonly (ErrorCode | undefined)[]) {
  const clock = new VirtualClock()
  const starts: number[] = []
  let failed = 0
  const service = new ClusterService({
    cluster: 'one',
    settings: () => Promise.resolve({} as ServiceSettings),
    clock,
    random: () => 1,
    log: silentLog,
    onFailure: () => failed++,
    open: () => {
      starts.push(clock.now())
      const code = failures[Math.min(starts.length, failures.length) - 1]
      return Promise.resolve(
        fakeService(
          () => code && new WalrxError(code, `of start ${starts.length}`, { hint: 'do this' }),
        ) as unknown as ArchiveService,
      )
    },
  })
  const waits = () => starts.slice(1).map((at, index) => (at - (starts[index] as number)) / 1000)
  return { clock, service, waits, failed: () => failed }
}

describe('the service of a cluster', () => {
  test('is opened again after a second, and after a minute at last, for as long as it takes', async () => {
    const { clock, failed, service, waits } = open(['WALRX_CONNECT_FAILED'])
    service.start()
    await clock.pass(5 * 60_000)
    assert.deepEqual(waits().slice(0, 8), [1, 2, 4, 8, 16, 32, 60, 60])
    const { code, ready, reason, state } = service.snapshot()
    assert.deepEqual({ code, ready, state }, { code: 'WALRX_CONNECT_FAILED', ready: false, state: 'waiting' })
    assert.match(reason ?? '', /^of start/)
    assert.ok(failed() >= 8)
    await service.close()
    assert.equal(service.snapshot().state, 'closed')
  })

  test('stops where going on would be wrong, and is tried again after an hour, or when it is asked to', async () => {
    const { clock, service, waits } = open([
      'WALRX_ARCHIVE_CONFLICT',
      'WALRX_OTHER_CLUSTER',
      'WALRX_KEY_WRONG',
      undefined,
    ])
    service.start()
    await clock.pass(1000)
    assert.equal(service.snapshot().state, 'stopped')
    assert.equal(service.snapshot().hint, 'do this')
    await clock.pass(3600_000)
    assert.deepEqual(waits(), [3600])
    service.retry()
    await clock.pass(10)
    service.retry()
    await clock.pass(10)
    assert.equal(waits().length, 3)
    assert.deepEqual([service.snapshot().state, service.snapshot().ready], ['running', true])
    assert.equal(service.snapshot().reason, undefined)
    await service.close()
  })

  test('jobs that change the archive wait until it is the own one, and while it is in doubt', async () => {
    const clock = new VirtualClock()
    const holds: (string | undefined)[] = []
    const ends: (() => void)[] = []
    let refusal: WalrxError | undefined = new WalrxError('WALRX_OTHER_CLUSTER', 'it belongs to 7')
    const service = new ClusterService({
      cluster: 'one',
      settings: () => Promise.resolve({} as ServiceSettings),
      clock,
      random: () => 1,
      log: silentLog,
      onFailure: () => {},
      onHold: () => void holds.push(service.holdOf('deletes')),
      open: ({ binding }) => {
        const fake = fakeService(() => undefined)
        const run = async (drain: AbortSignal, now: AbortSignal) => {
          if (refusal) binding?.refused(refusal)
          if (refusal) throw refusal
          binding?.bound()
          const failed = new Promise<void>((_, reject) =>
            ends.push(() => reject(new WalrxError('WALRX_ARCHIVE_CONFLICT', 'other bytes'))),
          )
          await Promise.race([fake.run(drain, now), failed])
        }
        return Promise.resolve({ ...fake, run } as unknown as ArchiveService)
      },
    })
    const held = () =>
      (['deletes', 'writes', 'reads'] as const).filter((effect) => service.holdOf(effect) !== undefined)
    assert.deepEqual(held(), ['deletes'])
    service.start()
    await clock.pass(1000)
    assert.equal(service.snapshot().state, 'stopped')
    assert.deepEqual(held(), ['deletes', 'writes'])
    assert.match(service.holdOf('deletes') ?? '', /it belongs to 7/)
    refusal = undefined
    service.retry()
    await clock.pass(10)
    assert.deepEqual(held(), [])
    assert.equal(holds.at(-1), undefined, 'who waits learns it')
    // Other content: it binds again at once, but is in order only after some time.
    ends.at(-1)?.()
    await clock.pass(10)
    assert.deepEqual(held(), ['deletes', 'writes'])
    service.retry()
    await clock.pass(10)
    assert.equal(service.snapshot().state, 'running')
    assert.deepEqual(held(), ['deletes', 'writes'])
    await clock.pass(61_000)
    assert.deepEqual(held(), [])
    await service.close()
    assert.deepEqual(held(), ['deletes'])
  })

  const ends = [
    [
      'a drain that is not complete',
      new WalrxError('WALRX_DRAIN_INCOMPLETE', 'stopped with 3 files not archived'),
      true,
    ],
    ['what a drain finds wrong', new WalrxError('WALRX_ARCHIVE_CONFLICT', 'other bytes'), true],
    ['what the stop has interrupted', new Error('gone', { cause: new DOMException('stop', 'AbortError') }), false],
  ] as const
  for (const [what, failure, isReported] of ends)
    test(`${what} is ${isReported ? '' : 'not '}reported`, async () => {
      const clock = new VirtualClock()
      const service = new ClusterService({
        cluster: 'one',
        settings: () => Promise.resolve({} as ServiceSettings),
        clock,
        random: () => 1,
        log: silentLog,
        onFailure: () => assert.fail(),
        open: () => {
          const fake = fakeService(() => undefined)
          return Promise.resolve({
            ...fake,
            run: async (drain: AbortSignal, now: AbortSignal) => {
              await fake.run(drain, now)
              throw failure
            },
          } as unknown as ArchiveService)
        },
      })
      service.start()
      await clock.pass(10)
      assert.equal(await service.close(), isReported ? failure : undefined)
    })
})
