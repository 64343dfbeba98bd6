import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { WorkBehind } from '../../src/primitives/work-behind.ts'

/** Whether a promise has settled after all that can run now has run. */
async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let isOver = false
  const over = () => {
    isOver = true
  }
  promise.then(over, over)
  await turn()
  return !isOver
}

const unexpected = (error: unknown) => assert.fail(String(error))

describe('work behind', () => {
  test('is bounded in bytes, and frees what it holds when it ends', async () => {
    const behind = new WorkBehind({ bytesMax: 10, countMax: 10 }, unexpected)
    const [one, other] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const freed: string[] = []
    await behind.add(one.promise, 6, () => freed.push('one'))
    const second = behind.add(other.promise, 6, () => freed.push('other'))
    assert.ok(await isPending(second))
    other.resolve()
    await second
    assert.deepEqual(freed, ['other'])
    const settled = behind.settled()
    assert.ok(await isPending(settled))
    one.resolve()
    await settled
    assert.deepEqual(freed, ['other', 'one'])
  })

  test('is bounded in number, and takes what is larger than the bound by itself', async () => {
    const behind = new WorkBehind({ bytesMax: 10, countMax: 1 }, unexpected)
    const [one, other] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    await behind.add(one.promise, 0)
    const second = behind.add(other.promise, 0)
    assert.ok(await isPending(second))
    one.resolve()
    await second
    other.resolve()
    await behind.settled()
    await behind.add(Promise.resolve(), 1000)
  })

  test('reports its first failure at once, and to all who come after it, when all has ended', async () => {
    const failures: unknown[] = []
    const behind = new WorkBehind({ bytesMax: 10, countMax: 10 }, (error) => failures.push(error))
    const [slow, failing] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const freed: string[] = []
    await behind.add(slow.promise, 1, () => freed.push('slow'))
    await behind.add(failing.promise, 1, () => freed.push('failing'))
    failing.reject(new Error('first'))
    await turn()
    assert.deepEqual([failures.map(String), freed], [['Error: first'], ['failing']])
    await assert.rejects(behind.add(Promise.reject(new Error('second')), 1), { message: 'first' })
    const settled = behind.settled()
    settled.catch(() => {})
    assert.ok(await isPending(settled))
    slow.resolve()
    await assert.rejects(settled, { message: 'first' })
    assert.equal(failures.length, 1)
  })
})
