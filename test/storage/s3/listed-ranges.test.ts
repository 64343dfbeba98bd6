/** Listings of many ranges at a time: the same keys in the same order, with few pages held, and nothing left running. */
import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { test } from 'node:test'
import { type KeyRange, listRanges } from '../../../src/storage/s3/listing/listed-ranges.ts'
import type { ObjectInfo } from '../../../src/storage/storage.ts'
import { Random } from '../../harness/random.ts'
import { listingBody, startStub } from './stub-store.ts'

const info = (key: string): ObjectInfo => ({ key, size: 1, lastModifiedMs: 0 })
const nameOf = (index: number) => `k${String(index).padStart(6, '0')}`

/** A store of so many keys that answers after some turns, and counts the pages that nobody has taken. */
class Store {
  running = 0
  mostRunning = 0
  pages = 0
  readonly keys: readonly string[]
  readonly #random: Random

  constructor(count: number, random: Random) {
    this.keys = Array.from({ length: count }, (_, index) => nameOf(index))
    this.#random = random
  }

  open = async function* (this: Store, { startAfter, until }: KeyRange, signal: AbortSignal | undefined) {
    this.mostRunning = Math.max(this.mostRunning, ++this.running)
    try {
      const keys = this.keys.filter((key) => key > (startAfter ?? '') && (until === undefined || key <= until))
      for (let at = 0; at < keys.length; at += 10) {
        for (let turn = this.#random.int(0, 5); turn >= 0; turn--) await setImmediate()
        signal?.throwIfAborted()
        this.pages++
        yield keys.slice(at, at + 10).map(info)
      }
    } finally {
      this.running--
    }
  }.bind(this)
}

test('all keys come once and in order, wherever the splits are, and few pages are ahead of the reader', async (t) => {
  const seed = Number(process.env['WALRX_TEST_SEED'] ?? 41)
  t.diagnostic(`seed ${seed}`)
  const random = new Random(seed)
  for (let round = 0; round < 30; round++) {
    const store = new Store(random.int(0, 3000), random)
    const splits = [...new Set(Array.from({ length: random.int(0, 40) }, () => nameOf(random.int(0, 3500))))].sort()
    const found: string[] = []
    let [taken, mostAhead] = [0, 0]
    for await (const page of listRanges(splits, undefined, store.open)) {
      found.push(...page.map(({ key }) => key))
      mostAhead = Math.max(mostAhead, store.pages - ++taken)
      if (random.chance(0.2)) await setImmediate()
    }
    assert.deepEqual(found, store.keys)
    assert.ok(mostAhead <= 40, String(mostAhead))
    assert.ok(store.mostRunning <= 5)
    assert.equal(store.running, 0)
  }
})

test('a reader that is slow has no more than 40 pages waiting', async () => {
  const store = new Store(20_000, new Random(1))
  const splits = Array.from({ length: 20 }, (_, index) => nameOf((index + 1) * 1000))
  const pages = listRanges(splits, undefined, store.open)
  await pages.next()
  for (let turn = 0; turn < 2000; turn++) await setImmediate()
  assert.ok(store.pages >= 38 && store.pages <= 41, String(store.pages))
  await pages.return()
  assert.equal(store.running, 0)
})

test('a failure comes in its place, ends the others, and leaves nothing under way', async () => {
  const store = new Store(1000, new Random(2))
  const splits = Array.from({ length: 9 }, (_, index) => nameOf((index + 1) * 100 - 1))
  const failing = async function* (range: KeyRange, signal: AbortSignal | undefined) {
    if (range.startAfter === nameOf(299)) throw new Error('the fourth range')
    yield* store.open(range, signal)
  }
  const found: string[] = []
  await assert.rejects(async () => {
    for await (const page of listRanges(splits, undefined, failing)) found.push(...page.map(({ key }) => key))
  }, /^Error: the fourth range$/)
  assert.deepEqual(found, store.keys.slice(0, 300))
  assert.equal(store.running, 0)
  const stop = new AbortController()
  const pages = listRanges(splits, stop.signal, store.open)
  await pages.next()
  stop.abort(new Error('stopped'))
  await assert.rejects(async () => {
    for await (const _ of pages);
  }, /stopped/)
  assert.equal(store.running, 0)
})

/** Which keys a store can begin a listing after. */
type Begins = 'any key' | 'keys that exist' | 'no key'

test('a bucket is listed in ranges where it can begin anywhere, and else as it comes', async () => {
  const keys = Array.from({ length: 95 }, (_, index) => `wal_005/${nameOf(index)}`)
  for (const begins of ['any key', 'keys that exist', 'no key'] satisfies Begins[]) {
    await using stub = await startStub(({ query }) => {
      const after = query.get('continuation-token') ?? query.get('start-after') ?? ''
      const isIgnored = query.has('start-after') && begins === 'no key'
      const isUnknown = query.has('start-after') && begins === 'keys that exist' && !keys.includes(after)
      const rest = isUnknown ? [] : keys.filter((key) => isIgnored || key > after)
      const page = rest.slice(0, Math.min(10, Number(query.get('max-keys') ?? 10)))
      const isCut = page.length < rest.length
      const token = isCut ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : ''
      return { body: listingBody(page, `<IsTruncated>${isCut}</IsTruncated>${token}`) }
    })
    const storage = stub.open()
    const splits = [20, 40, 60, 80].map((index) => `wal_005/k0000${index}x`)
    const found: string[] = []
    for await (const page of storage.listPages('wal_005/', { splits })) found.push(...page.map(({ key }) => key))
    assert.deepEqual(found, keys, begins)
    const starts = new Set(stub.requests.map(({ query }) => query.get('start-after')))
    for (const split of splits) assert.equal(starts.has(split), begins === 'any key', `${begins}: ${split}`)
    stub.requests.length = 0
    found.length = 0
    for await (const page of storage.listPages('wal_005/')) found.push(...page.map(({ key }) => key))
    assert.deepEqual(found, keys)
  }
})
