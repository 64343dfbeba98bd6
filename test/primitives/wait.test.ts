import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { describe, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { orAborted, settledWithin } from '../../src/primitives/wait.ts'
import { VirtualClock } from '../harness/time/virtual-clock.ts'

const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length

/** Rejections that nobody handled while `run` was running. */
async function unhandled(run: () => Promise<void>): Promise<unknown[]> {
  const seen: unknown[] = []
  const note = (reason: unknown) => seen.push(reason)
  process.on('unhandledRejection', note)
  try {
    await run()
    await setImmediate()
    await setImmediate()
  } finally {
    process.off('unhandledRejection', note)
  }
  return seen
}

describe('orAborted', () => {
  test('is the promise itself while nothing aborts', async () => {
    const signal = new AbortController().signal
    assert.equal(await orAborted(Promise.resolve(7), signal), 7)
    await assert.rejects(orAborted(Promise.reject(new Error('own')), signal), { message: 'own' })
    assert.equal(await orAborted(Promise.resolve(7)), 7)
  })

  test('rejects with the reason of whichever signal aborts', async () => {
    for (const which of [0, 1]) {
      const controllers = [new AbortController(), new AbortController()] as const
      const waiting = orAborted(new Promise(() => {}), controllers[0].signal, controllers[1].signal)
      controllers[which as 0 | 1].abort(new Error(`signal ${which}`))
      await assert.rejects(waiting, { message: `signal ${which}` })
    }
  })

  test('rejects at once when a signal has aborted before, even if the promise is settled', async () => {
    const gone = AbortSignal.abort(new Error('gone'))
    await assert.rejects(orAborted(new Promise(() => {}), gone), { message: 'gone' })
    await assert.rejects(orAborted(Promise.resolve(1), new AbortController().signal, gone), { message: 'gone' })
  })

  test('leaves no listener, however it ends', async () => {
    const [a, b] = [new AbortController(), new AbortController()]
    for (let turn = 0; turn < 50; turn++) {
      await orAborted(Promise.resolve(), a.signal, b.signal)
      await orAborted(Promise.reject(new Error('x')), a.signal, b.signal).catch(() => {})
    }
    await setImmediate()
    assert.deepEqual([listeners(a.signal), listeners(b.signal)], [0, 0])
    const waiting = orAborted(new Promise(() => {}), a.signal, b.signal)
    assert.deepEqual([listeners(a.signal), listeners(b.signal)], [1, 1])
    a.abort(new Error('stop'))
    await assert.rejects(waiting)
    assert.deepEqual([listeners(a.signal), listeners(b.signal)], [0, 0])
  })

  test('a promise that fails after the abort, or was aborted from the start, is not an unhandled rejection', async () => {
    const seen = await unhandled(async () => {
      await orAborted(Promise.reject(new Error('late')), AbortSignal.abort(new Error('gone'))).catch(() => {})
      const controller = new AbortController()
      const later = Promise.withResolvers<void>()
      const waiting = orAborted(later.promise, controller.signal)
      controller.abort(new Error('gone'))
      await assert.rejects(waiting, { message: 'gone' })
      later.reject(new Error('late'))
    })
    assert.deepEqual(seen, [])
  })
})

describe('settledWithin', () => {
  test('says whether the promise settled in time, either way, and leaves no timer', async () => {
    const clock = new VirtualClock()
    assert.equal(await settledWithin(Promise.resolve(), 1_000, clock), true)
    assert.equal(await settledWithin(Promise.reject(new Error('x')), 1_000, clock), true)
    let answer: boolean | undefined
    void settledWithin(new Promise(() => {}), 1_000, clock).then((settled) => (answer = settled))
    const startMs = clock.now()
    await clock.run(
      () => answer !== undefined,
      () => false,
      10_000,
    )
    assert.equal(answer, false)
    assert.equal(clock.now() - startMs, 1_000, 'timers of settled promises are gone')
  })
})
