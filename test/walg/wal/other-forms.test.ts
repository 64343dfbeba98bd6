import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { OtherForms } from '../../../src/walg/wal/other-forms.ts'
import { MemoryStorage, unavailable } from '../../harness/store/memory-storage.ts'

const name = (index: number) => `0000000100000000000000${index.toString(16).toUpperCase().padStart(2, '0')}`

/** A storage with listings that wait for the test. */
function held(): { storage: MemoryStorage; listings: { prefix: string; go(): void; fail(): void }[] } {
  const listings: { prefix: string; go(): void; fail(): void }[] = []
  const before = ({ key, operation }: { key: string; operation: string }) => {
    if (operation !== 'list') return undefined
    const { promise, reject, resolve } = Promise.withResolvers<void>()
    listings.push({ prefix: key, go: resolve, fail: () => reject(unavailable()) })
    return promise
  }
  return { storage: new MemoryStorage({ before }), listings }
}

const turns = async () => {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve()
}

describe('other forms of a name', () => {
  test('are all but our own, and of that name only', async () => {
    const storage = new MemoryStorage()
    for (const key of [`${name(1)}.zst`, `${name(1)}.lz4`, name(1), `${name(1)}.partial.lz4`, `${name(2)}.lz4`]) {
      storage.seed(`wal_005/${key}`, 'x')
    }
    const found = async (forms: OtherForms) => (await forms.of(name(1), 'zst')).map(({ key }) => key).sort()
    const expected = [`wal_005/${name(1)}`, `wal_005/${name(1)}.lz4`]
    assert.deepEqual(await found(new OtherForms(storage)), expected)
    const cheap = Object.assign(storage, { hasCheapHeads: true })
    assert.deepEqual(await found(new OtherForms(cheap)), expected)
  })

  test('are looked for together by those who come while a listing is under way, and never by one begun before', async () => {
    const { listings, storage } = held()
    const forms = new OtherForms(storage)
    const first = forms.of(name(1), 'zst')
    await turns()
    const others = [2, 3, 4].map((index) => forms.of(name(index), 'zst'))
    const again = forms.of(name(1), 'zst')
    await turns()
    assert.deepEqual(
      listings.map(({ prefix }) => prefix),
      [`wal_005/${name(1)}`],
    )
    storage.seed(`wal_005/${name(3)}.lz4`, 'x')
    listings[0]?.go()
    assert.deepEqual(await first, [])
    await turns()
    assert.deepEqual(
      listings.map(({ prefix }) => prefix),
      [`wal_005/${name(1)}`, `wal_005/${name(1).slice(0, 23)}`],
    )
    listings[1]?.go()
    assert.deepEqual((await Promise.all([...others, again])).flat(), [
      { key: `wal_005/${name(3)}.lz4`, extension: 'lz4' },
    ])
  })

  test('are asked for again after a failure, which every waiting call gets', async () => {
    const { listings, storage } = held()
    const forms = new OtherForms(storage)
    const both = [1, 2].map((index) => forms.of(name(index), 'zst'))
    const failures = Promise.all(both.map((one) => assert.rejects(one, { code: 'WALRX_STORAGE_UNAVAILABLE' })))
    await turns()
    listings[0]?.fail()
    await failures
    const again = forms.of(name(1), 'zst')
    await turns()
    listings[1]?.go()
    assert.deepEqual(await again, [])
  })

  test('who gives up harms nobody else; when all have, the listing ends', async () => {
    const { listings, storage } = held()
    const forms = new OtherForms(storage)
    const [one, two] = [new AbortController(), new AbortController()]
    const given = [one, two].map(({ signal }) => forms.of(name(1), 'zst', { signal }))
    const outcomes = Promise.allSettled(given)
    await turns()
    one.abort(new Error('one'))
    await turns()
    assert.equal(storage.calls[0]?.signal?.aborted, false)
    two.abort(new Error('two'))
    assert.deepEqual(
      (await outcomes).map((outcome) => outcome.status === 'rejected' && (outcome.reason as Error).message),
      ['one', 'two'],
    )
    assert.equal(storage.calls[0]?.signal?.aborted, true)
    const later = forms.of(name(1), 'zst')
    await turns()
    listings.at(-1)?.go()
    assert.deepEqual(await later, [])
  })
})
