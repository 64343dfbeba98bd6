import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WalrxError } from '../../src/primitives/errors.ts'
import { silentLog } from '../../src/observe/log.ts'
import { overBudgetReason, SlotLagLimit } from '../../src/receive/slot/slot-lag-limit.ts'
import { segmentSize } from '../faults/recorded-wal.ts'
import { copyBoth, errorMessage, keepaliveMessage } from '../postgres/server-messages.ts'
import { settle } from './fakes.ts'
import { at, nameOf, ReceiverBench, refuseUnhandledRejections } from './receiver-bench.ts'

refuseUnhandledRejections()

/** A receiver with a slot that may keep seven segments; once it is dropped, a new one begins at 3.5. */
function setUp() {
  const lags: number[] = []
  const bench: ReceiverBench = new ReceiverBench({
    guard: new SlotLagLimit({
      slot: 'walrx',
      server: { connect: (signal, judge) => bench.connect(signal, judge) },
      limitBytes: 7 * segmentSize,
      action: 'drop',
      clock: { now: () => bench.clock.now(), setTimer: (ms, fire) => bench.clock.setTimer(ms, fire) },
      random: () => 0,
      log: silentLog,
      onLag: (lagBytes) => lags.push(lagBytes / segmentSize),
    }),
  })
  bench.prepare = (session) => {
    session.redoLsn = at(3.5)
    const did = (call: string) => bench.sessions.some(({ calls }) => calls.includes(call))
    if (!did('drop walrx')) return
    session.slots.delete('walrx')
    if (did('create walrx')) session.setSlot('walrx', at(3.5))
  }
  return { bench, lags }
}

/** Streams up to 1.5, and lets the server go on until the slot keeps too much: it is dropped, and a new stream begins. */
async function overBudget() {
  const { bench, lags } = setUp()
  await bench.streaming()
  await bench.send(0, 1.5)
  bench.socket.deliver(keepaliveMessage(at(8)))
  await settle()
  assert.deepEqual([bench.sessions.length, lags.at(-1)], [1, 7], 'just as much as it may')
  bench.socket.deliver(keepaliveMessage(at(8.25)))
  await settle()
  const [first, second, third] = bench.sessions
  assert.equal(first?.isClosed, true)
  assert.deepEqual([second?.calls, second?.isClosed], [['drop walrx'], true])
  assert.deepEqual(
    third?.calls.filter((call) => call.endsWith('walrx')),
    ['read walrx', 'create walrx', 'read walrx'],
  )
  assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/600000/, 'what the server still has is not given up')
  return { bench, lags }
}

test('above the budget the slot is dropped after its stream, and the run goes on with a new one', async () => {
  const { bench, lags } = await overBudget()
  await bench.begin()
  assert.equal(lags.at(-1)?.toFixed(1), '3.4')
  await bench.send(1, 4.2)
  assert.deepEqual(
    bench.archive.segmentNames,
    [0, 1, 2, 3].map((index) => nameOf(index)),
  )
  const flushed = bench.socket.statuses.filter(({ flush }) => flush > 0n).map(({ flush }) => flush)
  assert.deepEqual(flushed, [at(4)], 'the new slot is never moved back')
  assert.deepEqual([bench.archive.gaps, bench.outcome], [[], undefined])
})

test('what the server has removed by then is a gap that says why', async () => {
  const { bench } = await overBudget()
  for (let turn = 0; turn < 2; turn++) {
    bench.socket.deliver(copyBoth, errorMessage('58P01', 'has already been removed'))
    await bench.pass(1_000)
  }
  assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/800000/)
  const [gap, ...more] = bench.archive.gaps
  assert.deepEqual([gap?.startLsn, gap?.endLsn, gap?.reason, more], [at(1), at(3), overBudgetReason, []])
  await bench.begin()
  await bench.send(3, 4)
  assert.deepEqual(bench.archive.segmentNames, [nameOf(0), nameOf(3)])
})

test('a stop while the slot cannot be dropped ends at once', async () => {
  const { bench } = setUp()
  await bench.streaming()
  await bench.send(0, 1)
  const prepare = bench.prepare
  bench.prepare = (session) => {
    prepare(session)
    session.dropFailure = new WalrxError('WALRX_SLOT_ACTIVE', 'is active (test)')
  }
  bench.socket.deliver(keepaliveMessage(at(9)))
  await bench.pass(1_000)
  bench.drain.abort()
  await settle()
  assert.equal(bench.outcome, 'stopped')
  await bench.assertNothingLeft()
})
