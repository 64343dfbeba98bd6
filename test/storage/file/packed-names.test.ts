import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { PackedNames } from '../../../src/storage/file/packed-names.ts'
import { Random } from '../../harness/random.ts'
import { inByteOrder } from '../assertions.ts'

/** Names in a random order. */
function shuffled(random: Random, names: readonly string[]): string[] {
  const rest = [...names]
  return names.map(() => rest.splice(random.int(0, rest.length - 1), 1)[0]!)
}

describe('packed names', () => {
  test('come in byte order, more of them than are sorted at a time', () => {
    const names = Array.from({ length: 20_000 }, (_, index) => `${index % 7}${'x'.repeat(index % 3)}${index}`)
    const packed = new PackedNames(1_000_000)
    for (const name of names.toReversed()) packed.add(name)
    assert.equal(packed.isFull, false)
    assert.deepEqual([...packed.inOrder()], inByteOrder(names))
    assert.equal(packed.last, undefined)
  })

  test('are the first ones after a cut, whichever came first, and not those that come after the last of them', async () => {
    const seed = Date.now() % 1_000_000
    const random = new Random(seed)
    const parts = ['a', 'b/', '\uffee', '😀', 'é', '0']
    for (let round = 0; round < 20; round++) {
      const made = Array.from({ length: 200 }, () =>
        Array.from({ length: random.int(1, 6) }, () => random.pick(parts)).join(''),
      )
      const all = inByteOrder([...new Set(made)])
      const packed = new PackedNames(random.int(1, 300))
      for (const name of shuffled(random, all)) {
        packed.add(name)
        if (packed.isFull) await packed.cut()
      }
      const { last } = packed
      assert.ok(last !== undefined, `seed ${seed}, round ${round}`)
      const kept = [...packed.inOrder()]
      assert.deepEqual(kept, all.slice(0, all.indexOf(last) + 1), `seed ${seed}, round ${round}`)
    }
  })

  test('of an empty directory are none', () => {
    assert.deepEqual([...new PackedNames(10).inOrder()], [])
  })
})
