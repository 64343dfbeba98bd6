import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import { pulse, quietStatus } from '../../../src/receive/stream/flush-rule.ts'
import { parseTimeoutMs, streamTimings } from '../../../src/receive/stream/stream-timings.ts'

const anyLsn = fc.bigInt({ min: 0n, max: 0xffffffffffffffffn }).map((value) => value as Lsn)

describe('what is reported', () => {
  test('progress alone promises nothing: neither flush nor apply', () => {
    const received = parseLsn('1/5000000')
    assert.deepEqual(quietStatus(received), { write: received, flush: 0n, apply: 0n, replyRequested: false })
    assert.equal(quietStatus(received, true).replyRequested, true)
  })

  test('a pulse moves the slot to the durable end and takes the flush position back', () => {
    fc.assert(
      fc.property(anyLsn, anyLsn, (received, durable) => {
        const [moving, quiet] = pulse(received, durable)
        assert.equal(moving.flush, durable)
        assert.equal(moving.write, durable, 'while we may be a synchronous standby, write promises no more than flush')
        assert.deepEqual(quiet, quietStatus(received))
        assert.deepEqual([moving.apply, quiet.apply], [0n, 0n], 'nothing is ever replayed')
        assert.equal(quiet.flush, 0n, 'at rest we are no candidate for synchronous replication')
      }),
    )
  })
})

describe('the periods of a stream', () => {
  test('keep the connection alive and find a dead one, for every wal_sender_timeout', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.integer({ min: 4, max: 3_000 }), fc.integer({ min: 4, max: 2 ** 31 - 1 })),
        (timeoutMs) => {
          const timings = streamTimings(timeoutMs)
          assert.ok(timings.statusMs < timeoutMs / 2, `status every ${timings.statusMs} of ${timeoutMs} ms`)
          assert.ok(timings.statusMs >= 1 && timings.statusMs <= 10_000)
          assert.ok(timings.probeAfterMs >= 1_000 && timings.probeAfterMs <= 30_000)
          assert.ok(timings.deadAfterMs >= 5_000 && timings.deadAfterMs <= 60_000, 'a busy server is given time')
          assert.ok(timings.replySpacingMs >= 5)
        },
      ),
    )
  })

  test("without a timeout of the server's they are those of its default", () => {
    assert.deepEqual(streamTimings(0), streamTimings(60_000))
    assert.deepEqual(streamTimings(60_000), {
      statusMs: 10_000,
      probeAfterMs: 30_000,
      deadAfterMs: 60_000,
      replySpacingMs: 5,
    })
    assert.equal(streamTimings(1_000).statusMs, 250)
    assert.equal(streamTimings(1).statusMs, 1, 'nobody can keep this up, but it is no timer of zero')
  })
})

describe('SHOW wal_sender_timeout', () => {
  test('is read with every unit that PostgreSQL writes', () => {
    const cases: readonly [string, number][] = [
      ['1min', 60_000],
      ['60s', 60_000],
      ['1000ms', 1_000],
      ['250', 250],
      ['0', 0],
      ['2h', 7_200_000],
      ['24d', 2_073_600_000],
      [' 5 s ', 5_000],
      ['500us', 0.5],
    ]
    for (const [text, ms] of cases) assert.equal(parseTimeoutMs(text), ms, text)
  })

  test('is taken for the default when it makes no sense', () => {
    for (const text of ['', 'off', '-1', '1 fortnight']) assert.equal(parseTimeoutMs(text), 60_000, text)
  })
})
