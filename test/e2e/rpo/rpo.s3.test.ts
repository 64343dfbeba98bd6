/**
 * What is lost with a server and its disk: asynchronously a second of work, synchronously not one commit that was
 * acknowledged. Each seeded trial kills server and walrx at once and recovers from the bucket alone. `WALRX_RPO_TRIALS`
 * says how many trials of either kind (100 take about half an hour for each version: `--test-timeout=2h`), `WALRX_SEED`
 * repeats them; a trial that failed is the first of a run with its own seed.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { isFullRun } from '../../harness/extent.ts'
import type { PgMajor } from '../../harness/postgres/postgres.ts'
import { Random } from '../../harness/random.ts'
import type { Loss } from './commit-clients.ts'
import { drawTrial, RpoWorld } from './rpo-world.ts'

const seed = Number(process.env['WALRX_SEED'] ?? Date.now() % 100_000)
const asked = process.env['WALRX_RPO_TRIALS']
const trials = { asynchronous: Number(asked ?? 2), synchronous: Number(asked ?? 3) }

/** A trial takes ten seconds and more: too long for every run. */
const skip =
  asked === undefined && !isFullRun && 'a trial takes long: WALRX_RPO_TRIALS says how many, WALRX_TEST_ALL=1 runs some'

/** Of the asynchronous way, where there are enough trials to speak of a percentile: an interval and an upload. */
const p99MaxMs = 1200
const enoughTrials = 100

// Side by side where times are not judged.
describe('gone at once, with its disk and walrx', { concurrency: asked === undefined, skip }, () => {
  for (const major of [17, 18] as const) describe(`PostgreSQL ${major}`, () => loseOften(major))
})

function loseOften(major: PgMajor): void {
  let world: RpoWorld

  before(async () => {
    world = await RpoWorld.open(major)
  })

  after(() => world[Symbol.asyncDispose]())

  for (const kind of ['asynchronous', 'synchronous'] as const) {
    const count = trials[kind]
    test(`${count} times, ${kind}`, { timeout: 60_000 + count * 60_000 }, async (t) => {
      const losses: Loss[] = []
      const failures: Error[] = []
      for (let index = 0; index < count; index++) {
        const own = seed + index
        const plan = drawTrial(new Random(own), kind === 'synchronous')
        const what = `seed ${own}: ${JSON.stringify(plan)}`
        try {
          for (const loss of await world.run(plan)) {
            t.diagnostic(`${what}: ${JSON.stringify({ ...loss, lostMs: Math.round(loss.lostMs) })}`)
            losses.push(loss)
            if (kind === 'synchronous') assert.equal(loss.lost, 0, 'acknowledged commits are lost')
          }
        } catch (error) {
          t.diagnostic(`FAILED: ${what}: ${(error as Error).message}`)
          failures.push(new Error(`${what}: ${(error as Error).message}`, { cause: error }))
        }
      }
      const [p50, p99, max] = [0.5, 0.99, 1].map((q) => quantile(losses, q))
      t.diagnostic(`${kind}, seed ${seed}: lost ms p50 ${p50}, p99 ${p99}, max ${max}`)
      if (failures.length > 0)
        throw new AggregateError(failures, `${failures.length} trials failed: ${failures[0]?.message}`)
      assert.ok(losses.some(({ acknowledged }) => acknowledged > 0))
      if (count >= enoughTrials) assert.ok((p99 ?? NaN) <= p99MaxMs, `p99 ${p99} ms`)
    })
  }
}

/** Of the lost times, by the nearest rank. */
function quantile(losses: readonly Loss[], q: number): number {
  const sorted = losses.map(({ lostMs }) => Math.round(lostMs)).sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? NaN
}
