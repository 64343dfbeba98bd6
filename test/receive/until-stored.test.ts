import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type ErrorCode, WalrxError } from '../../src/primitives/errors.ts'
import { type Perseverance, untilStored } from '../../src/receive/until-stored.ts'
import { VirtualClock } from '../harness/time/virtual-clock.ts'
import { settle, storageOut } from './fakes.ts'

class Bench {
  readonly clock = new VirtualClock()
  readonly stop = new AbortController()
  readonly failures: string[] = []
  attempts = 0

  /** Fails with these errors, one after the other, then answers `stored`. */
  run(errors: readonly Error[], over: Partial<Perseverance> = {}): Promise<string> {
    return untilStored(
      () => {
        const error = errors[this.attempts++]
        return error ? Promise.reject(error) : Promise.resolve('stored')
      },
      {
        clock: this.clock,
        random: () => 0,
        firstMs: 200,
        maxMs: 1_000,
        signal: this.stop.signal,
        onFailure: ({ code }, attempt) => this.failures.push(`${attempt} ${code}`),
        ...over,
      },
    )
  }

  async pass(ms: number): Promise<void> {
    await this.clock.pass(ms)
    await settle()
  }
}

describe('untilStored', () => {
  test('answers what the first call that succeeds answers', async () => {
    const bench = new Bench()
    assert.equal(await bench.run([]), 'stored')
    assert.deepEqual([bench.attempts, bench.failures], [1, []])
  })

  test('tries again after a key service that did not answer, and not after one that refused', async () => {
    const bench = new Bench()
    const stored = bench.run([new WalrxError('WALRX_KEY_UNAVAILABLE', 'no answer', { transient: true })])
    await bench.pass(200)
    assert.equal(await stored, 'stored')
    await assert.rejects(new Bench().run([new WalrxError('WALRX_KEY_UNAVAILABLE', 'denied')]), /denied/)
  })

  test('tries again whatever the storage says, with back-off, and reports every failure', async () => {
    const codes: ErrorCode[] = [
      'WALRX_STORAGE_UNAVAILABLE',
      'WALRX_STORAGE_DENIED',
      'WALRX_STORAGE_MISSING',
      'WALRX_OBJECT_NOT_FOUND',
    ]
    const bench = new Bench()
    const stored = bench.run(codes.map((code) => new WalrxError(code, 'no')))
    // Half of 200, 400, 800 and, at most, 1,000 ms: no jitter here.
    for (const [ms, attempts] of [
      [99, 1],
      [1, 2],
      [200, 3],
      [400, 4],
      [499, 4],
    ] as const) {
      await bench.pass(ms)
      assert.equal(bench.attempts, attempts)
    }
    await bench.pass(1)
    assert.equal(await stored, 'stored')
    assert.deepEqual(
      bench.failures,
      codes.map((code, index) => `${index + 1} ${code}`),
    )
  })

  test('ends at once with what no other attempt will change', async () => {
    for (const error of [new WalrxError('WALRX_ARCHIVE_CONFLICT', 'other bytes'), new TypeError('a defect')]) {
      const bench = new Bench()
      await assert.rejects(bench.run([error]), (thrown) => thrown === error)
      assert.deepEqual([bench.attempts, bench.failures], [1, []])
    }
  })

  test('tries again what its caller says', async () => {
    const bench = new Bench()
    const stored = bench.run([new WalrxError('WALRX_INTERNAL', 'odd')], { isWorthRetrying: () => true })
    await bench.pass(101)
    assert.equal(await stored, 'stored')
  })

  test('ends with the reason of its signal: before an attempt, in one, and between two', async () => {
    const reason = new Error('stop')
    const early = new Bench()
    early.stop.abort(reason)
    await assert.rejects(early.run([]), (thrown) => thrown === reason)
    assert.equal(early.attempts, 0)

    const inside = new Bench()
    const failing = inside.run([storageOut(), storageOut()])
    await settle()
    inside.stop.abort(reason)
    await assert.rejects(failing, (thrown) => thrown === reason)
    assert.deepEqual([inside.attempts, inside.failures.length], [1, 1])

    const during = new Bench()
    const call = untilStored(
      () => {
        during.stop.abort(reason)
        return Promise.reject(storageOut())
      },
      {
        clock: during.clock,
        random: () => 0,
        firstMs: 1,
        maxMs: 1,
        signal: during.stop.signal,
        onFailure: () => assert.fail('nothing is tried again'),
      },
    )
    await assert.rejects(call, { code: 'WALRX_STORAGE_UNAVAILABLE' })
  })

  test('an abort is tried again by nobody, whatever the caller says', async () => {
    const bench = new Bench()
    const error = AbortSignal.abort().reason as Error
    await assert.rejects(bench.run([error], { isWorthRetrying: () => true }), (thrown) => thrown === error)
  })
})
