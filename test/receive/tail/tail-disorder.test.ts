/** Whatever comes in whatever order, nothing is taken for durable that isn't, and nothing is removed that is needed. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { Random } from '../../harness/random.ts'
import { settle, storageOut } from '../fakes.ts'
import { segmentSize, TailBench } from './tail-bench.ts'

/** Everything that may happen, drawn by a seed. */
class Disorder {
  readonly #bench: TailBench
  readonly #random: Random
  /** Chunks that were removed although nothing else had what is in them. */
  readonly #needed: string[] = []
  #durable = 0
  #received = 0

  constructor(seed: number, isSynchronous: boolean) {
    this.#bench = new TailBench({ isSynchronous })
    this.#random = new Random(seed)
    const { archive } = this.#bench
    this.#bench.onNews = () => this.#check()
    archive.beforeDelete = () => (this.#random.chance(0.2) ? Promise.reject(storageOut()) : Promise.resolve())
    const remove = archive.deleteTailChunks.bind(archive)
    archive.deleteTailChunks = async (keys) => {
      const before = this.#bench.storedBytes
      await remove(keys)
      // A removal that throws would only be tried again.
      if (this.#bench.storedBytes < before) this.#needed.push(...keys)
    }
  }

  async run(steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) {
      await this.#step()
      this.#check()
    }
    await this.#end()
  }

  async #step(): Promise<void> {
    const [bench, random] = [this.#bench, this.#random]
    const put = bench.puts.length > 0 ? random.pick(bench.puts) : undefined
    const whole = bench.whole.length > 0 ? random.pick(bench.whole) : undefined
    const isFull = bench.pool.free < 2
    const action = random.int(0, 9)
    if (action < 4 && !isFull) await this.#receive(random.chance(0.2) ? random.int(1, 9000) : random.int(1, 300))
    else if (action < 7 && put !== undefined) await bench.answer(put, random.chance(0.25) ? storageOut() : undefined)
    else if ((action === 7 || isFull) && whole && random.chance(0.4)) await this.#archived(whole.startLsn)
    else await bench.pass(random.int(0, 1500))
  }

  async #receive(bytes: number): Promise<void> {
    this.#received += bytes
    await this.#bench.receive(bytes)
  }

  async #archived(startLsn: bigint): Promise<void> {
    await this.#bench.archived(Number((startLsn - 5n * BigInt(segmentSize)) / BigInt(segmentSize)))
  }

  #check(): void {
    const { archive, durable, storedBytes } = this.#bench
    assert.ok(durable <= storedBytes, `${durable} bytes are said to be durable, the store has ${storedBytes}`)
    assert.ok(durable <= this.#received, `${durable} bytes are said to be durable, ${this.#received} were received`)
    assert.ok(durable >= this.#durable, `${this.#durable} bytes were durable, now ${durable} are`)
    this.#durable = durable
    assert.deepEqual(archive.wrong, [])
    assert.deepEqual(this.#needed, [])
    assert.ok(archive.memory.size <= 6)
    assert.deepEqual(this.#bench.conflicts, [])
  }

  /** The store answers again, and all is sent. */
  async #end(): Promise<void> {
    const bench = this.#bench
    bench.archive.beforeDelete = undefined
    let isFlushed = false
    const flushed = bench.tails.flush().then(() => (isFlushed = true))
    for (let round = 0; round < 2000 && !isFlushed; round++) {
      for (const put of bench.puts) if (bench.puts.includes(put)) await bench.answer(put)
      if (bench.puts.length === 0 && !isFlushed) await bench.pass(5000)
    }
    assert.ok(isFlushed, 'the flush never ends')
    await flushed
    for (const { startLsn } of [...bench.whole]) await this.#archived(startLsn)
    await bench.pass(200_000)
    await settle()
    this.#check()
    assert.equal(this.#durable, this.#received, 'all is durable in the end')
    const present = Math.floor(this.#received / segmentSize)
    const stale = bench.chunks.filter((key) => Number(key.split(':')[0]) < present)
    assert.deepEqual(stale, [], 'chunks of whole segments')
    await bench.pass(60_000)
    assert.deepEqual(bench.puts, [])
  }
}

describe('what is durable is in the store, and what is not needed is not', () => {
  for (const isSynchronous of [false, true]) {
    test(isSynchronous ? 'where commits wait' : 'by interval', async () => {
      await fc.assert(
        fc.asyncProperty(fc.integer(), (seed) => new Disorder(seed, isSynchronous).run(160)),
        { numRuns: 25, endOnFailure: true },
      )
    })
  }
})
