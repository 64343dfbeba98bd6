/** WAL that the server no longer has: slots that keep nothing are created again, and nothing goes on after WAL that is lost and not recorded. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { segmentSize, timelineOne } from '../faults/recorded-wal.ts'
import { copyBoth, errorMessage } from '../postgres/server-messages.ts'
import { settle, storageOut } from './fakes.ts'
import { at, nameOf, ReceiverBench, refuseUnhandledRejections } from './receiver-bench.ts'

refuseUnhandledRejections()

describe('a receiver', () => {
  test('goes on with a new slot where the server has invalidated the old one, and reports the gap', async () => {
    for (const [state, text] of [
      ['55000', 'can no longer access replication slot'],
      ['58P01', 'has already been removed'],
    ] as const) {
      const bench = new ReceiverBench()
      bench.archive.files.set(nameOf(0), Buffer.from(timelineOne.bytes.subarray(0, segmentSize)))
      bench.slotLsn = at(1.5)
      bench.prepare = (session) => (session.redoLsn = at(3.5))
      bench.start()
      await settle()
      assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/600000/)
      bench.socket.deliver(copyBoth, errorMessage(state, text))
      await bench.pass(200)
      assert.deepEqual(
        bench.session.calls.filter((call) => call.endsWith('walrx')),
        ['read walrx', 'drop walrx', 'create walrx', 'read walrx'],
      )
      bench.slotLsn = at(3.5)
      // What the archive lacks is tried first: by the run that was open, and then by a new one.
      for (let turn = 0; turn < 2 && bench.archive.gaps.length === 0; turn++) {
        assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/600000/)
        bench.socket.deliver(copyBoth, errorMessage('58P01', 'has already been removed'))
        await bench.pass(1_000)
      }
      assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/800000/)
      const [gap] = bench.archive.gaps
      assert.match(gap?.reason ?? '', /invalidated the slot/)
      assert.deepEqual([gap?.startLsn, gap?.endLsn, gap?.host, gap?.slot], [at(1), at(3), 'fake:5432', 'walrx'])
      await bench.begin()
      await bench.send(3, 4)
      assert.deepEqual(bench.archive.segmentNames, [nameOf(0), nameOf(3)])
    }
  })

  test('ends for a slot that cannot be read and that the server refuses: it is a logical one', async () => {
    const bench = new ReceiverBench()
    bench.prepare = (session) => session.slots.set('walrx', { kind: 'unreadable' })
    bench.start()
    await settle()
    bench.socket.deliver(errorMessage('55000', 'cannot use a logical replication slot for physical replication'))
    await settle()
    assert.equal(bench.code, 'WALRX_SLOT_INVALIDATED')
    await bench.assertNothingLeft()
  })

  test('creates a slot again that cannot be read when WAL is gone, for it may keep nothing', async () => {
    const bench = new ReceiverBench()
    bench.archive.files.set(nameOf(0), Buffer.from(timelineOne.bytes.subarray(0, segmentSize)))
    bench.prepare = (session) => {
      session.slots.set('walrx', { kind: 'unreadable' })
      session.oldestLsn = at(6)
    }
    bench.start()
    await settle()
    assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/600000/)
    bench.socket.deliver(copyBoth, errorMessage('58P01', 'has already been removed'))
    await bench.pass(0)
    await settle()
    assert.deepEqual(bench.meter.lines, ['gap 0/600000 0/B00000'])
    assert.ok(bench.session.calls.includes('drop walrx'))
    assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/b00000/i)
  })

  test('goes on without a slot when its first segment is removed before it is sent, and receives the rest', async () => {
    const bench = new ReceiverBench({ slot: undefined })
    bench.slotLsn = undefined
    let end = 1.5
    bench.prepare = (session) => {
      session.xlogpos = at(end)
      session.oldestLsn = at(2)
    }
    bench.start()
    await settle()
    assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/600000/)
    // A backup switches to the next segment, and its checkpoint removes the one before.
    end = 3.5
    bench.socket.deliver(copyBoth, errorMessage('58P01', 'has already been removed'))
    await bench.pass(200)
    assert.equal(bench.outcome, undefined)
    assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/700000/)
    assert.deepEqual(bench.meter.lines, ['gap 0/600000 0/700000'])
    await bench.begin()
    await bench.send(2, 3)
    assert.deepEqual(bench.archive.segmentNames, [nameOf(2)])
  })

  test('never goes on after a gap that could not be recorded', async () => {
    const bench = new ReceiverBench()
    bench.archive.files.set(nameOf(0), Buffer.from(timelineOne.bytes.subarray(0, segmentSize)))
    bench.slotLsn = at(3.5)
    bench.start()
    await settle()
    bench.archive.gapOutage = storageOut()
    bench.socket.deliver(copyBoth, errorMessage('58P01', 'has already been removed'))
    await bench.pass(120_000)
    assert.deepEqual([bench.sessions.length, bench.socket.writes, bench.archive.gaps], [2, [], []])
    bench.archive.gapOutage = undefined
    await bench.pass(20_000)
    assert.equal(bench.archive.gaps.length, 1)
    assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/800000/)
    bench.drain.abort()
    await settle()
  })

  test('can be stopped while a gap cannot be recorded', async () => {
    const bench = new ReceiverBench()
    bench.archive.files.set(nameOf(0), Buffer.from(timelineOne.bytes.subarray(0, segmentSize)))
    bench.slotLsn = at(3.5)
    bench.start()
    await settle()
    bench.archive.gapOutage = storageOut()
    bench.socket.deliver(copyBoth, errorMessage('58P01', 'has already been removed'))
    await bench.pass(5_000)
    bench.drain.abort()
    await settle()
    assert.equal(bench.outcome, 'stopped')
    await bench.assertNothingLeft()
  })

  test('goes on after a gap where the slot was created again, and reports it', async () => {
    const bench = new ReceiverBench()
    bench.archive.files.set(nameOf(0), Buffer.from(timelineOne.bytes.subarray(0, segmentSize)))
    bench.slotLsn = at(3.5)
    bench.start()
    await settle()
    assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/600000/)
    bench.socket.deliver(copyBoth, errorMessage('58P01', 'has already been removed'))
    await settle()
    assert.deepEqual(bench.meter.lines, ['gap 0/600000 0/800000'])
    assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/800000/)
    await bench.begin()
    await bench.send(3, 4)
    assert.deepEqual(bench.archive.segmentNames, [nameOf(0), nameOf(3)])
  })
})
