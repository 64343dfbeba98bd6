import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryShare } from '../../src/receive/memory-budget.ts'
import { ByteArena } from '../../src/receive/segment/byte-arena.ts'
import { SegmentPool } from '../../src/receive/segment/segment-pool.ts'

const MiB = 1024 * 1024

test('a share changes the pool and the arena that were made by it', () => {
  const share = new MemoryShare(64 * MiB)
  const budget = share.plan(MiB, 0)
  const pool = new SegmentPool(MiB, budget.buffers)
  const arena = new ByteArena(budget.compactedBytesMax)
  share.holds(pool, arena)
  assert.equal(pool.capacity, 48)
  share.resize(16 * MiB)
  assert.equal(pool.capacity, 12)
  assert.throws(() => share.resize(MiB), /less than two segments/)
  assert.equal(pool.capacity, 12)
  share.resize(128 * MiB)
  assert.equal(pool.capacity, 96)
})

test('a share that changes before the segments are known counts then', () => {
  const share = new MemoryShare(undefined)
  share.resize(32 * MiB)
  assert.equal(share.plan(MiB, 0).buffers, 24)
})

test('a pool that gets smaller keeps what is lent, and frees it as it comes back', () => {
  const pool = new SegmentPool(1024, 4)
  const lent = [pool.take(), pool.take(), pool.take()] as Buffer[]
  let woken = 0
  pool.onFree(() => woken++)
  pool.resize(2)
  assert.deepEqual([pool.free, pool.take()], [0, undefined])
  pool.give(lent[0] as Buffer)
  assert.deepEqual([pool.free, woken], [0, 0])
  pool.give(lent[1] as Buffer)
  assert.deepEqual([pool.free, woken], [1, 1])
  pool.resize(3)
  assert.deepEqual([pool.free, woken], [2, 2])
  pool.give(lent[2] as Buffer)
  assert.equal(pool.free, 3)
  assert.ok(pool.take() && pool.take() && pool.take())
  assert.equal(pool.take(), undefined)
})

test('an arena with another size leaves what is lent as it is', () => {
  const arena = new ByteArena(100)
  const lent = arena.store(Buffer.alloc(60, 1)) as Buffer
  arena.resize(50)
  assert.deepEqual(lent, Buffer.alloc(60, 1))
  assert.equal(arena.store(Buffer.alloc(60)), undefined)
  const next = arena.store(Buffer.alloc(50, 2)) as Buffer
  arena.release(lent)
  assert.equal(arena.used, 50)
  assert.equal(arena.store(Buffer.alloc(10)), undefined)
  arena.release(next)
  assert.ok(arena.store(Buffer.alloc(50)))
})

test('a pool gives back what was not needed between two trims, and only that', () => {
  const pool = new SegmentPool(1024, 4)
  const lent = [pool.take(), pool.take(), pool.take()] as Buffer[]
  for (const buffer of lent) pool.give(buffer)
  pool.trim()
  assert.ok(lent.every((buffer) => buffer.length > 0))
  // One was needed since.
  pool.give(pool.take() as Buffer)
  pool.trim()
  assert.equal(lent.filter((buffer) => buffer.length === 0).length, 2)
  assert.equal(pool.free, 4)
  const again = [pool.take(), pool.take(), pool.take(), pool.take()] as Buffer[]
  assert.ok(again.every((buffer) => buffer.length > 1024))
  pool.trim()
  assert.ok(again.every((buffer) => buffer.length > 1024))
})

test('an arena gives its memory back when nothing was stored between two trims', () => {
  const arena = new ByteArena(64)
  const lent = arena.store(Buffer.alloc(10, 1)) as Buffer
  arena.trim()
  arena.trim()
  assert.deepEqual(lent, Buffer.alloc(10, 1))
  arena.release(lent)
  arena.trim()
  assert.equal(lent.length, 10)
  arena.trim()
  assert.equal(lent.length, 0)
  assert.deepEqual(arena.store(Buffer.alloc(64, 3)), Buffer.alloc(64, 3))
})
