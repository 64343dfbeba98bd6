import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ChunkPool } from '../../../src/backup/parts/chunk-pool.ts'

describe('a pool of chunks', () => {
  test('has as many as it was given, each of its own memory, and no more', () => {
    const pool = new ChunkPool(64, 3)
    const chunks = [pool.take(), pool.take(), pool.take()]
    assert.deepEqual(
      chunks.map((chunk) => chunk?.length),
      [64, 64, 64],
    )
    assert.equal(new Set(chunks.map((chunk) => chunk?.buffer)).size, 3)
    assert.equal(pool.take(), undefined)
    assert.equal(pool.chunkBytes, 64)
  })

  test('gives one again that came back, and the same', async () => {
    const pool = new ChunkPool(64, 1)
    const chunk = await pool.taken()
    pool.give(chunk)
    assert.equal(pool.take(), chunk)
    assert.equal(pool.take(), undefined)
  })

  test('lets those wait who find none, and serves them in their order', async () => {
    const pool = new ChunkPool(64, 2)
    const [a, b] = [await pool.taken(), await pool.taken()]
    const served: string[] = []
    const waiting = ['first', 'second', 'third'].map((name) => pool.taken().then((chunk) => (served.push(name), chunk)))
    await new Promise(setImmediate)
    assert.deepEqual(served, [])
    pool.give(b)
    assert.equal(await waiting[0], b)
    assert.deepEqual(served, ['first'])
    // Nobody overtakes one who waits.
    pool.give(a)
    assert.equal(pool.take(), undefined)
    assert.equal(await waiting[1], a)
    pool.give(b)
    assert.equal(await waiting[2], b)
    assert.deepEqual(served, ['first', 'second', 'third'])
    pool.give(a)
    pool.give(b)
    assert.deepEqual(new Set([pool.take(), pool.take()]), new Set([a, b]))
  })
})
