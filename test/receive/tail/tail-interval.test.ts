/** The tail goes to the archive by interval, in chunks that take each other's place. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { addBytes } from '../../../src/postgres/lsn.ts'
import { tailMemory } from '../../../src/receive/tail/tail-pace.ts'
import { settle, storageOut } from '../fakes.ts'
import { bytesMax, nameOf, segmentSize, start, TailBench, walBytes } from './tail-bench.ts'

/** The bytes of a chunk were right whenever somebody looked. */
function assertRight(bench: TailBench): void {
  assert.deepEqual(bench.archive.wrong, [])
}

describe('the pace', () => {
  test('is one chunk at once, and then one an interval while there is something new', async () => {
    const bench = new TailBench()
    await bench.pass(5000)
    assert.deepEqual(bench.puts, [], 'nothing has arrived')
    await bench.receive(100)
    assert.deepEqual(bench.puts, ['0:0-100'])
    await bench.answer('0:0-100')
    await bench.receive(50)
    await bench.pass(999)
    assert.deepEqual(bench.puts, [])
    await bench.pass(1)
    assert.deepEqual(bench.puts, ['0:0-150'])
    await bench.answer('0:0-150')
    await bench.pass(10_000)
    assert.deepEqual(bench.puts, [], 'nothing is new')
    await bench.receive(1)
    assert.deepEqual(bench.puts, ['0:0-151'], 'the interval is over long since')
    assertRight(bench)
  })

  test('is kept however often something arrives', async () => {
    const bench = new TailBench()
    bench.archive.isManual = false
    const begun: number[] = []
    bench.archive.onPut = () => begun.push(bench.clock.now())
    for (let step = 0; step < 200; step++) {
      await bench.receive(7)
      await bench.pass(50)
    }
    assert.equal(begun.length, 11)
    assert.deepEqual(
      begun.map((at) => at - (begun[0] ?? 0)),
      begun.map((_, index) => index * 1000),
    )
    assert.deepEqual(bench.chunks, ['0:0-1400'])
    assertRight(bench)
  })

  test('of 0 sends nothing, and flushes nothing', async () => {
    const bench = new TailBench({ intervalMs: 0 })
    await bench.receive(100)
    await bench.tails.flush()
    assert.deepEqual(bench.archive.calls, [])
    assert.equal(tailMemory({ intervalMs: 0, bytesMax, isSynchronous: false }), 0)
  })
})

describe('a chunk', () => {
  test('takes the place of the one before, which goes only when the larger is durable', async () => {
    const bench = new TailBench()
    await bench.receive(100)
    await bench.answer('0:0-100')
    await bench.receive(100)
    await bench.pass(1000)
    assert.deepEqual(bench.archive.deleted, [])
    assert.equal(bench.durable, 100)
    await bench.answer('0:0-200')
    assert.deepEqual(bench.chunks, ['0:0-200'])
    assert.equal(bench.durable, 200)
    assert.equal(bench.news, 2)
  })

  test('has the longest length at most: then the next begins after it, and it stays', async () => {
    const bench = new TailBench()
    await bench.receive(3000)
    await bench.answer('0:0-3000')
    await bench.receive(2000)
    await bench.pass(1000)
    assert.deepEqual(bench.puts, ['0:0-4096', '0:4096-5000'])
    for (const put of bench.puts) await bench.answer(put)
    await bench.receive(500)
    await bench.pass(1000)
    await bench.answer('0:4096-5500')
    assert.deepEqual(bench.chunks, ['0:0-4096', '0:4096-5500'])
    assert.equal(bench.durable, 5500)
    assertRight(bench)
  })

  test('that is slow does not hold up the next, but there are never more than two', async () => {
    const bench = new TailBench()
    for (let step = 1; step <= 5; step++) {
      await bench.receive(100)
      await bench.pass(1000)
    }
    assert.deepEqual(bench.puts, ['0:0-100', '0:0-200'])
    await bench.answer('0:0-200')
    assert.equal(bench.durable, 200, 'the larger one has all of it')
    assert.deepEqual(bench.puts, ['0:0-100', '0:0-500'], 'what was due goes when there is room')
    await bench.answer('0:0-100')
    assert.equal(bench.durable, 200)
    await bench.answer('0:0-500')
    assert.deepEqual(bench.chunks, ['0:0-500'])
    assert.equal(bench.archive.memory.size, 2)
    assertRight(bench)
  })

  test('that the store does not take is put again until it does, and WAL is received meanwhile', async () => {
    const bench = new TailBench()
    await bench.receive(100)
    for (let failure = 0; failure < 20; failure++) {
      await bench.answer('0:0-100', storageOut())
      await bench.receive(10)
      await bench.pass(5000)
      assert.ok(bench.puts.includes('0:0-100'))
    }
    assert.equal(bench.meter.failures, 20)
    assert.deepEqual(bench.logged, ['could not store a chunk, trying again'], 'reported once')
    assert.equal(bench.assembler.nextLsn, addBytes(start, 300))
    await bench.answer('0:0-100')
    assert.equal(bench.durable, 100)
    assert.deepEqual(bench.conflicts, [])
    assertRight(bench)
  })

  test('that cannot be stored for another reason is made up for by the next', async () => {
    const bench = new TailBench()
    await bench.receive(100)
    await bench.answer('0:0-100', new WalrxError('WALRX_INTERNAL', 'a defect (test)'))
    await bench.pass(10_000)
    assert.deepEqual(bench.puts, [])
    assert.deepEqual(bench.logged, ['a chunk could not be stored'])
    await bench.receive(100)
    await bench.answer('0:0-200')
    assert.equal(bench.durable, 200)
  })

  test('that contradicts the archive ends the receiver', async () => {
    const bench = new TailBench()
    await bench.receive(100)
    await bench.answer('0:0-100', new WalrxError('WALRX_ARCHIVE_CONFLICT', 'other bytes (test)'))
    assert.deepEqual(
      bench.conflicts.map(({ code }) => code),
      ['WALRX_ARCHIVE_CONFLICT'],
    )
    assert.equal(bench.durable, 0)
  })
})

describe('a whole segment', () => {
  test('takes the place of its chunks, those under way included, and only when it is durable itself', async () => {
    const bench = new TailBench()
    await bench.receive(5000)
    await bench.answer('0:0-4096')
    await bench.receive(100)
    await bench.pass(1000)
    assert.deepEqual(bench.puts, ['0:4096-5000', '0:4096-5100'])
    await bench.receive(segmentSize - 5100)
    await bench.pass(60_000)
    assert.deepEqual(bench.archive.deleted, [], 'it is whole, but not durable')
    assert.deepEqual(bench.chunks, ['0:0-4096'])
    await bench.archived(0)
    assert.deepEqual(bench.puts, [], 'their uploads end')
    assert.deepEqual(bench.chunks, [])
    const keys = ['0-4096', '4096-5000', '4096-5100'].map((range) => `${nameOf(0)}/${range}`)
    assert.deepEqual(bench.archive.deleted, keys, 'a put that was ended may have arrived')
    assert.equal(bench.durable, segmentSize)
    assertRight(bench)
  })

  test('begins the next one again: from its first byte on', async () => {
    const bench = new TailBench()
    await bench.receive(3000)
    await bench.answer('0:0-3000')
    await bench.receive(segmentSize - 3000 + 70)
    await bench.pass(1000)
    assert.deepEqual(bench.puts, ['1:0-70'])
    await bench.answer('1:0-70')
    assert.equal(bench.durable, 3000, 'the first is not whole in the archive')
    await bench.archived(0)
    assert.equal(bench.durable, segmentSize + 70)
    assert.deepEqual(bench.chunks, ['1:0-70'])
    assertRight(bench)
  })

  test('that is durable before the one ahead of it takes nothing back of what was durable', async () => {
    const bench = new TailBench({ isSynchronous: true })
    bench.archive.isManual = false
    for (let at = 0; at < 2 * segmentSize; at += bytesMax) await bench.receive(bytesMax)
    await bench.receive(200)
    assert.equal(bench.durable, 2 * segmentSize + 200)
    await bench.archived(1)
    assert.equal(bench.durable, 2 * segmentSize + 200, 'the second is whole in the archive')
    await bench.archived(0)
    assert.equal(bench.durable, 2 * segmentSize + 200)
    assert.deepEqual(bench.chunks, ['2:0-200'])
  })

  test('lets a put that does not end by itself come to its end before the chunk is removed', async () => {
    const bench = new TailBench()
    const slow = Promise.withResolvers<undefined>()
    bench.archive.putTailChunk = () => slow.promise
    await bench.receive(segmentSize - 1)
    await bench.receive(1)
    await bench.archived(0)
    assert.deepEqual(bench.archive.deleted, [], 'it would arrive after the removal')
    slow.resolve(undefined)
    await settle()
    assert.deepEqual(bench.archive.deleted, [`${nameOf(0)}/0-4096`, `${nameOf(0)}/4096-8192`])
    assert.equal(bench.durable, segmentSize)
  })

  test('removes its chunks however often the store refuses', async () => {
    const bench = new TailBench()
    bench.archive.isManual = false
    await bench.receive(100)
    let refusals = 8
    bench.archive.beforeDelete = () => (refusals-- > 0 ? Promise.reject(storageOut()) : Promise.resolve())
    await bench.receive(segmentSize - 100)
    await bench.archived(0)
    assert.deepEqual(bench.chunks, ['0:0-100'])
    await bench.pass(600_000)
    assert.deepEqual(bench.chunks, [])
  })
})

describe('chunks of an earlier receiver', () => {
  /** The archive has the first bytes of the segment, and a chunk after a hole. */
  async function resumed(held: number): Promise<TailBench> {
    const bench = new TailBench()
    const keys = [`${nameOf(0)}/0-${held}`, `${nameOf(0)}/9000-9100`]
    for (const key of keys) bench.archive.chunks.set(key, Buffer.from('x'))
    const buffer = bench.pool.take()
    assert.ok(buffer)
    buffer.set(walBytes(start, held))
    bench.assembler.preload({ timeline: 1, startLsn: start, buffer, length: held })
    bench.assembler.begin(1, start)
    bench.tails.begin(held, keys)
    return Promise.resolve(bench)
  }

  test('count for what they hold, and what is new begins after them', async () => {
    const bench = await resumed(300)
    assert.equal(bench.durable, 300)
    await bench.receive(250)
    await bench.pass(5000)
    assert.deepEqual(bench.puts, [], 'it is there already')
    await bench.receive(250)
    assert.deepEqual(bench.puts, ['0:300-500'])
    await bench.answer('0:300-500')
    assert.equal(bench.durable, 500)
    assert.deepEqual(bench.archive.deleted, [])
    assertRight(bench)
  })

  test('go with the others when the segment is durable', async () => {
    const bench = await resumed(300)
    bench.archive.isManual = false
    await bench.receive(segmentSize)
    await bench.archived(0)
    assert.deepEqual(bench.chunks, [])
    assert.equal(bench.durable, segmentSize)
  })
})

describe('the end', () => {
  test('of receiving: all that is there goes at once, and is waited for', async () => {
    const bench = new TailBench()
    await bench.receive(100)
    await bench.receive(5000)
    let isFlushed = false
    const flushed = bench.tails.flush().then(() => (isFlushed = true))
    await settle()
    assert.deepEqual(bench.puts, ['0:0-100', '0:0-4096'])
    await bench.answer('0:0-4096')
    assert.deepEqual(bench.puts, ['0:0-100', '0:4096-5100'])
    await bench.answer('0:4096-5100')
    assert.equal(isFlushed, false, 'one is still under way')
    await bench.answer('0:0-100')
    await flushed
    assert.equal(bench.durable, 5100)
    assertRight(bench)
  })

  test('of patience: a flush ends with its signal, or with the writer', async () => {
    const bench = new TailBench()
    await bench.receive(100)
    const abort = new AbortController()
    const [first, second] = [bench.tails.flush(abort.signal), bench.tails.flush()]
    abort.abort(new Error('too late'))
    await assert.rejects(first, /too late/)
    bench.tails.destroy()
    await assert.rejects(second)
  })

  test('of a run ends what is under way and removes nothing', async () => {
    const bench = new TailBench()
    await bench.receive(100)
    await bench.answer('0:0-100')
    await bench.receive(100)
    await bench.pass(1000)
    await bench.receive(50)
    bench.assembler.takePartial()
    await bench.tails.settle()
    assert.deepEqual(bench.puts, [])
    await bench.pass(60_000)
    assert.deepEqual(bench.puts, [])
    assert.deepEqual(bench.chunks, ['0:0-100'])
    assert.deepEqual(bench.archive.deleted, [])
  })

  test('of a run waits until the chunks are gone that the archive has as a partial', async () => {
    const bench = new TailBench()
    await bench.receive(100)
    await bench.answer('0:0-100')
    const removal = Promise.withResolvers<undefined>()
    bench.archive.beforeDelete = () => removal.promise
    bench.assembler.takePartial()
    bench.tails.archived(start)
    let isSettled = false
    const settled = bench.tails.settle().then(() => (isSettled = true))
    await settle()
    assert.equal(isSettled, false, 'the next run would count on them')
    assert.ok(bench.durable < segmentSize, 'a partial is no whole segment')
    removal.resolve(undefined)
    await settled
    assert.deepEqual(bench.chunks, [])
  })

  test('of everything leaves nothing running', async () => {
    const bench = new TailBench()
    await bench.receive(100)
    await bench.answer('0:0-100')
    await bench.receive(100)
    bench.tails.destroy()
    await bench.pass(60_000)
    bench.tails.kick()
    await bench.receive(segmentSize)
    assert.deepEqual(bench.puts, [])
    assert.deepEqual(bench.chunks, ['0:0-100'])
  })

  test('of everything ends a removal that is tried again as well', async () => {
    const bench = new TailBench()
    await bench.receive(segmentSize - 1)
    for (const put of bench.puts) await bench.answer(put)
    await bench.receive(1)
    bench.archive.beforeDelete = () => Promise.reject(storageOut())
    await bench.archived(0)
    bench.tails.destroy()
    bench.archive.beforeDelete = undefined
    await bench.pass(600_000)
    assert.deepEqual(bench.archive.deleted, [])
  })
})

test('memory is bounded by what was asked for', async () => {
  for (const isSynchronous of [false, true]) {
    const bench = new TailBench({ isSynchronous })
    for (let step = 0; step < 60; step++) {
      await bench.receive(900)
      if (bench.whole.length === 3) break
      await bench.pass(1000)
      const [put] = bench.puts
      if (put !== undefined && step % 7 === 0) await bench.answer(put)
    }
    const bytes = [...bench.archive.memory].reduce((sum, { byteLength }) => sum + byteLength, 0)
    assert.ok(bytes <= tailMemory({ intervalMs: 1000, bytesMax, isSynchronous }), `${bytes} bytes`)
    assert.ok(bench.archive.putsMax <= (isSynchronous ? 6 : 2))
    assertRight(bench)
  }
})
