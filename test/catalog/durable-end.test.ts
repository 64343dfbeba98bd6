/** How far the archive reaches without a hole, in whole segments and the chunks that follow them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readInventory } from '../../src/catalog/wal-inventory.ts'
import { segmentName } from '../../src/postgres/wal/wal-file.ts'
import { tailKey } from '../../src/walg/names.ts'
import { WalReader } from '../../src/walg/wal/wal-reader.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'

const MiB = 1024 * 1024
const nameOf = (segno: number) => segmentName(1, BigInt(segno), MiB)

async function read(whole: readonly number[], chunks: readonly (readonly [number, number, number])[]) {
  const storage = new MemoryStorage()
  for (const segno of whole) storage.seed(`wal_005/${nameOf(segno)}.zst`, 'x', 1000)
  for (const [index, [segno, from, to]] of chunks.entries())
    storage.seed(tailKey(nameOf(segno), { from, to }, 'zst'), 'x', 2000 + index)
  const { timelines } = await readInventory(new WalReader(storage), MiB)
  return timelines[0]
}

test('the durable end is that of the last segment, or of the chunks that go on from there', async () => {
  const at = (segno: number, offset = 0) => BigInt(segno * MiB + offset)
  const end = async (...of: Parameters<typeof read>) => (await read(...of))?.durableEnd
  assert.equal(await end([3, 4], []), at(5))
  assert.equal(await end([3, 4], [[5, 0, 100]]), at(5, 100))
  assert.equal(await end([3, 4], [[5, 100, 200]]), at(5), 'not from the first byte on')
  assert.equal(await end([3, 4], [[6, 0, 100]]), at(5), 'after a hole')
  assert.equal(await end([3, 4], [[4, 0, 100]]), at(5), 'left over')
  assert.equal(await end([], [[4, 0, 100]]), at(4, 100), 'there is nothing else')
  const alone = [
    [5, 0, 1000],
    [5, 500, MiB],
    [6, 0, MiB],
    [7, 0, 7],
  ] as const
  assert.equal(await end([3, 4], alone), at(7, 7), 'in chunks alone')
})

test('the newest write is that of a segment or a chunk', async () => {
  assert.equal((await read([3], []))?.newestMs, 1000)
  const chunks = [
    [4, 0, 10],
    [9, 0, 10],
    [4, 10, 20],
  ] as const
  assert.equal((await read([3], chunks))?.newestMs, 2002)
})

test('the durable end is that of a plain model', async () => {
  const chunk = fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 3 }), fc.integer({ min: 1, max: 4 }))
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 4 }), fc.array(chunk, { maxLength: 15 }), async (count, drawn) => {
      const quarter = MiB / 4
      const whole = Array.from({ length: count }, (_, segno) => segno)
      const chunks = drawn.map(
        ([segno, from, length]) => [segno, from * quarter, Math.min(4, from + length) * quarter] as const,
      )
      const has = Array.from({ length: 7 * 4 }, (_, index) => index < count * 4)
      for (const [segno, from, to] of chunks) has.fill(true, segno * 4 + from / quarter, segno * 4 + to / quarter)
      const first = count > 0 ? 0 : Math.min(...chunks.map(([segno]) => segno))
      const found = await read(whole, chunks)
      const expected = Number.isFinite(first) ? BigInt(has.indexOf(false, first * 4) * quarter) : undefined
      assert.equal(found?.durableEnd, expected)
    }),
  )
})
