import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setObjectAside } from '../../../src/walg/wal/set-aside.ts'
import { MemoryStorage, unavailable } from '../../harness/store/memory-storage.ts'

const key = 'walrx_005/tail/00000001/000000010000000000000005/00000000-00010000'
const aside = 'walrx_005/aside/tail/00000001/000000010000000000000005/00000000-00010000'

test('an object is moved, and the next one of its name comes beside it', async () => {
  const storage = new MemoryStorage()
  storage.seed(key, 'first')
  assert.equal(await setObjectAside(storage, key), aside)
  storage.seed(key, 'second')
  assert.equal(await setObjectAside(storage, key), `${aside}.2`)
  assert.deepEqual(
    [key, aside, `${aside}.2`].map((each) => storage.peek(each)?.toString()),
    [undefined, 'first', 'second'],
  )
})

test('an object with bytes that were set aside before is only removed', async () => {
  const storage = new MemoryStorage()
  for (const each of [key, aside]) storage.seed(each, 'the same')
  assert.equal(await setObjectAside(storage, key), aside)
  assert.deepEqual([...storage.objects.keys()], [aside])
})

for (const failing of [key, aside]) {
  test(`nothing is left open when ${failing} cannot be read`, async () => {
    const storage = new MemoryStorage()
    for (const each of [key, aside]) storage.seed(each, 'the same')
    storage.before = (call) => {
      if (call.operation === 'get' && call.key === failing) throw unavailable('503')
    }
    await assert.rejects(setObjectAside(storage, key), /503/)
    assert.equal(storage.openBodies, 0)
    assert.deepEqual([...storage.objects.keys()], [key, aside])
  })
}
