import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { PendingWork } from '../../src/primitives/pending-work.ts'

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

describe('pending work', () => {
  test('is bounded in bytes, and frees what it holds when it ends', async () => {
    const pending = new PendingWork({ bytesMax: 10, countMax: 10 }, unexpected)
    const [one, other] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const freed: string[] = []
    await pending.add(one.promise, 6, () => freed.push('one'))
    const second = pending.add(other.promise, 6, () => freed.push('other'))
    assert.ok(await isPending(second))
    other.resolve()
    await second
    assert.deepEqual(freed, ['other'])
    const settled = pending.settled()
    assert.ok(await isPending(settled))
    one.resolve()
    await settled
    assert.deepEqual(freed, ['other', 'one'])
  })

  test('is bounded in number, and takes what is larger than the bound by itself', async () => {
    const pending = new PendingWork({ bytesMax: 10, countMax: 1 }, unexpected)
    const [one, other] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    await pending.add(one.promise, 0)
    const second = pending.add(other.promise, 0)
    assert.ok(await isPending(second))
    one.resolve()
    await second
    other.resolve()
    await pending.settled()
    await pending.add(Promise.resolve(), 1000)
  })

  test('reports its first failure at once, and to all who come after it, when all has ended', async () => {
    const failures: unknown[] = []
    const pending = new PendingWork({ bytesMax: 10, countMax: 10 }, (error) => failures.push(error))
    const [slow, failing] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const freed: string[] = []
    await pending.add(slow.promise, 1, () => freed.push('slow'))
    await pending.add(failing.promise, 1, () => freed.push('failing'))
    failing.reject(new Error('first'))
    await turn()
    assert.deepEqual([failures.map(String), freed], [['Error: first'], ['failing']])
    await assert.rejects(pending.add(Promise.reject(new Error('second')), 1), { message: 'first' })
    const settled = pending.settled()
    settled.catch(() => {})
    assert.ok(await isPending(settled))
    slow.resolve()
    await assert.rejects(settled, { message: 'first' })
    assert.equal(failures.length, 1)
  })
})
