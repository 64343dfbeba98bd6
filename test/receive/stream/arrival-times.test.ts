/** How old the oldest WAL is that is not durable: rather too old than too young. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Lsn } from '../../../src/postgres/lsn.ts'
import { ArrivalTimes } from '../../../src/receive/stream/arrival-times.ts'
import { Random } from '../../harness/random.ts'

/** A clock that only shows the time. */
class Now {
  ms = 0
  now = () => this.ms
  setTimer = (): never => {
    throw new Error('no timer is needed')
  }
}

test('the age is that of the first byte that is not durable, and 0 where all is', () => {
  const clock = new Now()
  const arrivals = new ArrivalTimes(clock)
  assert.equal(arrivals.age(0n as Lsn), 0)
  arrivals.note(100n as Lsn)
  clock.ms = 1000
  arrivals.note(200n as Lsn)
  clock.ms = 3000
  assert.equal(arrivals.age(0n as Lsn), 3000)
  assert.equal(arrivals.age(99n as Lsn), 3000)
  assert.equal(arrivals.age(100n as Lsn), 2000)
  assert.equal(arrivals.age(200n as Lsn), 0)
  arrivals.note(150n as Lsn)
  assert.equal(arrivals.age(200n as Lsn), 0, 'what a new connection repeats is not new')
  arrivals.note(300n as Lsn)
  arrivals.clear()
  assert.equal(arrivals.age(200n as Lsn), 0)
})

test('hours of arrivals are reported from a thousand marks, never too young and hardly too old', () => {
  const seeds = fc.record({ seed: fc.integer(), steps: fc.integer({ min: 1, max: 30_000 }) })
  fc.assert(
    fc.property(seeds, fc.double({ min: 0, max: 1, noNaN: true }), ({ seed, steps }, share) => {
      const random = new Random(seed)
      const clock = new Now()
      const arrivals = new ArrivalTimes(clock)
      const seen: { lsn: number; ms: number }[] = []
      let lsn = 0
      for (let step = 0; step < steps; step++) {
        const bytes = random.int(0, 50)
        clock.ms += random.int(0, 400)
        lsn += bytes
        if (bytes > 0) seen.push({ lsn, ms: clock.ms })
        arrivals.note(BigInt(lsn) as Lsn)
      }
      const durable = Math.floor(lsn * share)
      const first = seen.find((one) => one.lsn > durable)
      const truth = first ? clock.ms - first.ms : 0
      const reported = arrivals.age(BigInt(durable) as Lsn)
      assert.ok(reported >= truth, `${reported} ms reported, ${truth} ms it is`)
      assert.ok(reported - truth <= 50 + clock.ms / 100, `${reported} ms reported, ${truth} ms it is`)
      if (!first) assert.equal(reported, 0)
    }),
    { numRuns: 60, endOnFailure: true },
  )
})

test('the age is reported while an hour of outage is caught up with, and is as exact as before when it is over', () => {
  const clock = new Now()
  const arrivals = new ArrivalTimes(clock)
  let lsn = 0
  const receive = () => arrivals.note(BigInt(++lsn) as Lsn)
  for (; clock.ms < 3600_000; clock.ms += 100) receive()
  assert.equal(arrivals.age(0n as Lsn), 3600_000)
  for (const share of [0.25, 0.5, 0.75]) {
    const reported = arrivals.age(BigInt(Math.round(lsn * share)) as Lsn)
    const truth = 3600_000 * (1 - share)
    assert.ok(reported >= truth - 100 && reported <= truth + 36_000, `${reported} ms reported, ${truth} ms it is`)
  }
  // What arrived a second ago is durable, and WAL never ceases to come.
  for (; clock.ms < 3660_000; clock.ms += 100) {
    receive()
    arrivals.age(BigInt(lsn - 10) as Lsn)
  }
  const age = arrivals.age(BigInt(lsn - 10) as Lsn)
  assert.ok(age >= 1000 && age <= 1050, `${age} ms`)
})
