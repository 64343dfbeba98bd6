/** Where commits wait, what is new goes to the archive at once, and only what has no hole before it counts. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { settle, storageOut } from '../fakes.ts'
import { bytesMax, segmentSize, TailBench } from './tail-bench.ts'

/** Commits wait; the interval is of no matter. */
const synchronous = () => new TailBench({ isSynchronous: true, intervalMs: 0 })

function assertRight(bench: TailBench): void {
  assert.deepEqual(bench.archive.wrong, [])
}

/** Receives so many bytes and has them stored, in as few chunks as they fit in. */
async function stored(bench: TailBench, bytes: number): Promise<void> {
  await bench.receive(bytes)
  for (const put of bench.puts) await bench.answer(put)
}

describe('a put', () => {
  test('begins at once and covers what had arrived before, never what was sent already', async () => {
    const bench = synchronous()
    await bench.receive(100)
    assert.deepEqual(bench.puts, ['0:0-100'])
    await bench.receive(50)
    await bench.receive(1)
    assert.deepEqual(bench.puts, ['0:0-100', '0:100-150', '0:150-151'])
    assertRight(bench)
  })

  test('is one of four at most; the next takes all that has gathered', async () => {
    const bench = synchronous()
    for (let step = 0; step < 10; step++) await bench.receive(10)
    assert.deepEqual(bench.puts, ['0:0-10', '0:10-20', '0:20-30', '0:30-40'])
    await bench.answer('0:20-30')
    assert.deepEqual(bench.puts, ['0:0-10', '0:10-20', '0:30-40', '0:40-100'])
    assertRight(bench)
  })

  test('is no longer than a chunk may be', async () => {
    const bench = synchronous()
    await bench.receive(2 * bytesMax + 5)
    assert.deepEqual(bench.puts, ['0:0-4096', '0:4096-8192', '0:8192-8197'])
  })

  test('waits for its share of the time that one takes while others are under way', async () => {
    const bench = synchronous()
    await bench.receive(10)
    await bench.pass(400)
    await bench.answer('0:0-10')
    await bench.receive(10)
    assert.deepEqual(bench.puts, ['0:10-20'], 'none is under way: it need not wait')
    await bench.receive(10)
    await bench.pass(99)
    await bench.receive(10)
    assert.deepEqual(bench.puts, ['0:10-20'])
    await bench.pass(1)
    assert.deepEqual(bench.puts, ['0:10-20', '0:20-40'])
    await bench.receive(10)
    await bench.answer('0:10-20')
    await bench.answer('0:20-40')
    assert.deepEqual(bench.puts, ['0:40-50'], 'none is under way any more')
    assertRight(bench)
  })

  test('that fails is made again, and those beside it go on', async () => {
    const bench = synchronous()
    await bench.receive(10)
    await bench.receive(10)
    await bench.answer('0:0-10', storageOut())
    await bench.answer('0:10-20')
    assert.equal(bench.durable, 0)
    await bench.pass(5000)
    await bench.answer('0:0-10')
    assert.equal(bench.durable, 20)
  })

  test('that contradicts the archive ends the receiver, and what follows never counts', async () => {
    const bench = synchronous()
    await bench.receive(10)
    await bench.receive(10)
    await bench.answer('0:0-10', new WalrxError('WALRX_ARCHIVE_CONFLICT', 'other bytes (test)'))
    await bench.answer('0:10-20')
    assert.equal(bench.conflicts.length, 1)
    assert.equal(bench.durable, 0)
  })
})

describe('the durable end', () => {
  test('moves over what has no hole before it, in whatever order the store answers', async () => {
    const bench = synchronous()
    for (const bytes of [10, 20, 30, 40]) await bench.receive(bytes)
    const expected = [
      ['0:30-60', 0],
      ['0:0-10', 10],
      ['0:60-100', 10],
      ['0:10-30', 100],
    ] as const
    for (const [put, durable] of expected) {
      await bench.answer(put)
      assert.equal(bench.durable, durable, put)
    }
    assert.equal(bench.news, 4)
  })

  test('passes the end of a segment that is there in chunks alone', async () => {
    const bench = synchronous()
    for (let at = 0; at < segmentSize - 400; at += 3996) await stored(bench, 3996)
    assert.equal(bench.durable, segmentSize - 400)
    await bench.receive(500)
    assert.deepEqual(bench.puts, ['0:15984-16384', '1:0-100'])
    await bench.answer('1:0-100')
    assert.equal(bench.durable, segmentSize - 400)
    await bench.answer('0:15984-16384')
    assert.equal(bench.durable, segmentSize + 100)
    await bench.archived(0)
    assert.deepEqual(bench.chunks, ['1:0-100'])
    assert.equal(bench.durable, segmentSize + 100)
    assertRight(bench)
  })

  test('waits for a whole segment with an end too long for a chunk', async () => {
    const bench = synchronous()
    await bench.receive(segmentSize + 7)
    assert.deepEqual(bench.puts, ['1:0-7'])
    await bench.answer('1:0-7')
    assert.equal(bench.durable, 0)
    await bench.archived(0)
    assert.equal(bench.durable, segmentSize + 7)
  })

  test('the end of a segment has a place of its own, beside the four', async () => {
    const bench = synchronous()
    await stored(bench, 4000)
    await stored(bench, 4000)
    await stored(bench, 4000)
    for (const bytes of [3000, 10, 10, 10]) await bench.receive(bytes)
    await bench.receive(segmentSize - 15_030 + 100)
    assert.deepEqual(bench.puts, ['0:12000-15000', '0:15000-15010', '0:15010-15020', '0:15020-15030', '0:15030-16384'])
    await bench.answer('0:15030-16384')
    assert.deepEqual(bench.puts.length, 4)
    await bench.answer('0:15010-15020')
    assert.ok(bench.puts.includes('1:0-100'))
    assertRight(bench)
  })
})

describe('many small chunks', () => {
  test('become one, and go when that is durable', async () => {
    const bench = synchronous()
    for (let count = 0; count < 31; count++) {
      await bench.receive(10)
      await bench.answer(bench.puts[0] ?? '')
    }
    assert.equal(bench.chunks.length, 31)
    await bench.receive(10)
    assert.deepEqual(bench.puts, ['0:310-320', '0:0-310'])
    await bench.answer('0:0-310')
    assert.deepEqual(bench.chunks, ['0:0-310'])
    await bench.answer('0:310-320')
    assert.deepEqual(bench.chunks, ['0:0-310', '0:310-320'])
    assert.equal(bench.durable, 320)
    assertRight(bench)
  })

  test('are no more than a few dozen, however long a segment takes', async () => {
    const bench = synchronous()
    bench.archive.isManual = false
    let most = 0
    for (let count = 0; count < 1500; count++) {
      await bench.receive(10)
      most = Math.max(most, bench.chunks.length)
      assert.equal(bench.durable, 10 * (count + 1))
    }
    assert.ok(most <= 40, `${most} chunks`)
    assert.deepEqual(bench.chunks.slice(0, 3), ['0:0-4096', '0:4090-4100', '0:4096-8192'])
    assertRight(bench)
  })

  test('are left as they are where a few fill the longest one', async () => {
    const bench = synchronous()
    bench.archive.isManual = false
    for (let count = 0; count < 8; count++) await bench.receive(2000)
    const ranges = [0, 2000, 4000, 6000, 8000, 10_000, 12_000, 14_000].map((from) => `0:${from}-${from + 2000}`)
    assert.deepEqual(bench.chunks, ranges)
    assert.deepEqual(bench.archive.deleted, [])
  })

  test('stay while what is to take their place is not durable', async () => {
    const bench = synchronous()
    for (let count = 0; count < 31; count++) {
      await bench.receive(10)
      await bench.answer(bench.puts[0] ?? '')
    }
    await bench.receive(10)
    await bench.answer('0:310-320')
    for (let count = 0; count < 60; count++) {
      await bench.answer('0:0-310', storageOut())
      await bench.receive(10)
      for (const put of bench.puts) await bench.answer(put)
      await bench.pass(5000)
    }
    assert.deepEqual(bench.puts, ['0:0-310'], 'one at a time')
    assert.deepEqual(bench.archive.deleted, [])
    assert.equal(bench.durable, 920)
    await bench.answer('0:0-310')
    await bench.receive(10)
    assert.deepEqual(bench.puts, ['0:920-930', '0:0-920'])
    await bench.answer('0:0-920')
    assert.deepEqual(bench.chunks, ['0:0-920'])
    assertRight(bench)
  })
})

describe('a chunk that cannot be stored, whatever is tried', () => {
  const defect = new WalrxError('WALRX_INTERNAL', 'a defect (test)')

  test('ends a flush with the reason: what comes after it is not durable', async () => {
    const bench = synchronous()
    await bench.receive(100)
    const flushed = assert.rejects(bench.tails.flush(), defect)
    bench.archive.pending[0]?.fail(defect)
    await flushed
    assert.match(bench.logged[0] ?? '', /a chunk could not be stored/)
    await bench.receive(100)
    bench.archive.pending[0]?.succeed()
    await settle()
    assert.equal(bench.durable, 0)
    await assert.rejects(bench.tails.flush(), defect)
  })

  test('is made up for by the whole segment: a flush waits for that', async () => {
    const bench = synchronous()
    await bench.receive(100)
    bench.archive.pending[0]?.fail(defect)
    await settle()
    bench.archive.isManual = false
    await bench.receive(segmentSize)
    let isFlushed = false
    const flushed = bench.tails.flush().then(() => (isFlushed = true))
    await settle()
    assert.equal(isFlushed, false)
    await bench.archived(0)
    await flushed
    assert.equal(bench.durable, segmentSize + 100)
  })
})
