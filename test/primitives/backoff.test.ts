import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { Clock } from '../../src/primitives/clock.ts'
import { Backoff } from '../../src/primitives/backoff.ts'

describe('Backoff', () => {
  test('doubles from the first delay to the longest, each in the upper half of its range', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1000 }),
        fc.integer({ min: 1, max: 100_000 }),
        fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { minLength: 1, maxLength: 60 }),
        (firstMs, maxMs, draws) => {
          let draw = 0
          const backoff = new Backoff({ firstMs, maxMs, random: () => draws[draw++] ?? 0 })
          for (let attempt = 0; attempt < draws.length; attempt++) {
            const ceiling = Math.min(maxMs, firstMs * 2 ** attempt)
            const delay = backoff.next()
            assert.ok(delay >= ceiling / 2 && delay <= ceiling, `attempt ${attempt}: ${delay} of ${ceiling}`)
          }
          assert.equal(backoff.attempt, draws.length)
        },
      ),
    )
  })

  test('starts again at the first delay once an attempt has succeeded', () => {
    const backoff = new Backoff({ firstMs: 100, maxMs: 10_000, random: () => 0.999 })
    for (let attempt = 0; attempt < 10; attempt++) backoff.next()
    assert.ok(backoff.next() > 5000)
    backoff.reset()
    assert.equal(backoff.attempt, 0)
    assert.ok(backoff.next() <= 100)
  })

  test('stays finite after thousands of attempts', () => {
    const backoff = new Backoff({ firstMs: 100, maxMs: 10_000, random: () => 0 })
    for (let attempt = 0; attempt < 5000; attempt++) assert.ok(backoff.next() <= 10_000)
  })

  test('waits the delay on the clock that it is given', async () => {
    const waited: number[] = []
    const clock: Clock = {
      now: () => 0,
      setTimer(ms, fire) {
        waited.push(ms)
        queueMicrotask(fire)
        return { cancel: () => {} }
      },
    }
    const backoff = new Backoff({ firstMs: 100, random: () => 0 })
    await backoff.wait(clock)
    await backoff.wait(clock)
    assert.deepEqual(waited, [50, 100])
  })
})
