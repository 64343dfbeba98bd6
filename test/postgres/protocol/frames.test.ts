import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  encodeCopyDone,
  encodeQuery,
  encodeStandbyStatus,
  encodeStartReplication,
  parseDataRow,
  parseErrorFields,
  parseNextTimeline,
  standbyStatusBytes,
} from '../../../src/postgres/protocol/frames.ts'
import { type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import { decodeStatuses } from '../fake-socket.ts'
import { errorMessage, rowMessage } from '../server-messages.ts'

const anyLsn = fc.bigInt({ min: 0n, max: 0xffffffffffffffffn }).map((value) => value as Lsn)

describe('commands', () => {
  test('a query is its text between length and zero byte, counted in bytes of UTF-8', () => {
    const message = encodeQuery('SHOW "zeitüberschreitung"')
    assert.equal(message.toString('latin1', 0, 1), 'Q')
    assert.equal(message.readUInt32BE(1), message.length - 1)
    assert.equal(message.toString('utf8', 5), 'SHOW "zeitüberschreitung"\0')
    assert.deepEqual(encodeCopyDone(), Buffer.from([0x63, 0, 0, 0, 4]))
  })

  test('START_REPLICATION always names position and timeline, and the slot where there is one', () => {
    const start = { timeline: 7, startLsn: parseLsn('16/B3000000') }
    const text = (slot: string | undefined) => encodeStartReplication({ ...start, slot }).toString('latin1', 5)
    assert.match(text('walrx'), /^START_REPLICATION SLOT "walrx" PHYSICAL 16\/B3000000 TIMELINE 7\0$/i)
    assert.match(text(undefined), /^START_REPLICATION PHYSICAL 16\/B3000000 TIMELINE 7\0$/i)
  })
})

describe('standby status updates', () => {
  test('hold the positions, the time since 2000 in microseconds, and the question for a reply', () => {
    const status = {
      write: parseLsn('1/2'),
      flush: parseLsn('0/0'),
      apply: parseLsn('FFFFFFFF/FFFFFFFF'),
      replyRequested: true,
    }
    const message = encodeStandbyStatus([status], Date.UTC(2000, 0, 1) + 1_500)
    assert.equal(message.toString('latin1', 0, 1), 'd')
    assert.equal(message.readUInt32BE(1), 38)
    assert.equal(message.toString('latin1', 5, 6), 'r')
    assert.equal(message.readBigInt64BE(30), 1_500_000n)
    assert.deepEqual(decodeStatuses(message), [status])
    assert.ok(encodeStandbyStatus([status], 0).readBigInt64BE(30) < 0n, 'a clock before 2000 is no failure')
  })

  test('several are one buffer, so that they leave in one write', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record(
            { write: anyLsn, flush: anyLsn, apply: anyLsn, replyRequested: fc.boolean() },
            { noNullPrototype: true },
          ),
          {
            minLength: 1,
            maxLength: 3,
          },
        ),
        fc.nat(),
        (statuses, nowMs) => {
          const message = encodeStandbyStatus(statuses, nowMs)
          assert.equal(message.length, standbyStatusBytes * statuses.length)
          assert.deepEqual(decodeStatuses(message), statuses)
        },
      ),
    )
  })
})

describe('rows', () => {
  test('are taken apart into raw columns, NULL apart from empty', () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.string()), { maxLength: 6 }), (columns) => {
        const row = parseDataRow(rowMessage(...columns).subarray(5))
        assert.deepEqual(
          row.map((column) => column?.toString() ?? null),
          columns,
        )
      }),
    )
  })

  test('a row that ends too early is a broken protocol, never a crash or a short column', () => {
    const whole = rowMessage('12', null, 'abc').subarray(5)
    for (let length = 0; length < whole.length; length++) {
      assert.throws(() => parseDataRow(whole.subarray(0, length)), { code: 'WALRX_PROTOCOL' }, `${length} bytes`)
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        try {
          parseDataRow(Buffer.from(bytes))
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'WALRX_PROTOCOL')
        }
      }),
    )
  })

  test('the next timeline is the number that the server names, with the place of the fork', () => {
    const parse = (...columns: (string | null)[]) => parseNextTimeline(parseDataRow(rowMessage(...columns).subarray(5)))
    assert.deepEqual(parse('5', '16/B374D848'), { nextTimeline: 5, switchpoint: parseLsn('16/B374D848') })
    assert.deepEqual(parse('4294967295', '0/0'), { nextTimeline: 4294967295, switchpoint: 0n })
    for (const other of [
      [],
      ['5'],
      ['5', null],
      [null, '0/1'],
      ['0', '0/1'],
      ['-1', '0/1'],
      ['5', 'abc'],
      ['x', '0/1'],
    ])
      assert.equal(parse(...other), undefined, JSON.stringify(other))
  })
})

describe('error fields', () => {
  test('are read by their codes, up to the closing zero byte', () => {
    assert.deepEqual(parseErrorFields(errorMessage('58P01', 'requested WAL segment is gone — 日本').subarray(5)), {
      S: 'ERROR',
      V: 'ERROR',
      C: '58P01',
      M: 'requested WAL segment is gone — 日本',
    })
    assert.deepEqual(parseErrorFields(Buffer.from('C58P01\0\0Mbehind the end\0')), { C: '58P01' })
  })

  test('any garbage gives fields or none, never an exception', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        parseErrorFields(Buffer.from(bytes))
      }),
    )
  })
})
