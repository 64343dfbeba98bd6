import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Clock, sleep, systemClock } from '../../src/primitives/clock.ts'

/** A clock with timers that fire when the test calls for it. */
function heldClock() {
  const timers: { ms: number; fire: () => void; cancelled: boolean }[] = []
  const clock: Clock = {
    now: () => 0,
    setTimer(ms, fire) {
      const timer = { ms, fire, cancelled: false }
      timers.push(timer)
      return { cancel: () => (timer.cancelled = true) }
    },
  }
  return { clock, timers }
}

describe('sleep', () => {
  test('resolves when its timer fires, and leaves no listener on the signal', async () => {
    const { clock, timers } = heldClock()
    const { signal } = new AbortController()
    let listeners = 0
    signal.addEventListener = new Proxy(signal.addEventListener, {
      apply: (target, self, args) => (listeners++, Reflect.apply(target, self, args) as unknown),
    })
    signal.removeEventListener = new Proxy(signal.removeEventListener, {
      apply: (target, self, args) => (listeners--, Reflect.apply(target, self, args) as unknown),
    })
    const slept = sleep(clock, 1500, signal)
    assert.equal(timers[0]?.ms, 1500)
    assert.equal(listeners, 1)
    timers[0].fire()
    await slept
    assert.equal(listeners, 0)
  })

  test("rejects with the signal's reason and cancels its timer", async () => {
    const { clock, timers } = heldClock()
    const controller = new AbortController()
    const reason = new Error('stop')
    const slept = sleep(clock, 1500, controller.signal)
    controller.abort(reason)
    await assert.rejects(slept, reason)
    assert.equal(timers[0]?.cancelled, true)
  })

  test('sets no timer at all when the signal has aborted already', async () => {
    const { clock, timers } = heldClock()
    const reason = new Error('stopped before')
    await assert.rejects(sleep(clock, 1500, AbortSignal.abort(reason)), reason)
    assert.equal(timers.length, 0)
  })
})

test('a cancelled timer of the real clock never fires', async () => {
  const fired: string[] = []
  systemClock.setTimer(0, () => fired.push('cancelled')).cancel()
  await new Promise<void>((resolve) => systemClock.setTimer(1, () => (fired.push('kept'), resolve())))
  assert.deepEqual(fired, ['kept'])
})
