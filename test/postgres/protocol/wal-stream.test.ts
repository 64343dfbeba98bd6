import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { encodeCopyDone, encodeStandbyStatus } from '../../../src/postgres/protocol/frames.ts'
import { formatLsn, type Lsn, parseLsn, toLsn } from '../../../src/postgres/lsn.ts'
import { type StreamEnd, type WalSink, WalStream } from '../../../src/postgres/protocol/wal-stream.ts'
import { FakeSocket } from '../fake-socket.ts'
import {
  commandComplete,
  copyBoth,
  copyDone,
  endOfTimeline,
  errorMessage,
  keepaliveMessage,
  message,
  noticeMessage,
  parameterStatus,
  readyForQuery,
  rowMessage,
  walMessage,
} from '../server-messages.ts'

const startLsn = parseLsn('0/5000000')
const start = { slot: 'walrx', timeline: 1, startLsn }

/** Records everything that it gets; takes all bytes unless a test changes that. */
class RecordingSink implements WalSink {
  /** WAL positions and bytes, runs joined; keepalives and the server's end between them. */
  readonly events: string[] = []
  readonly wal: Buffer[] = []
  /** Bytes that the next calls take, in turn; everything once the list is empty. */
  takes: number[] = []
  refusal: WalrxError | undefined
  #nextLsn: Lsn | undefined

  onWal(lsn: Lsn, bytes: Uint8Array): number {
    if (this.refusal) throw this.refusal
    const taken = Math.min(this.takes.shift() ?? bytes.length, bytes.length)
    if (taken === 0) return 0
    if (lsn !== this.#nextLsn) this.events.push(`wal at ${formatLsn(lsn)}`)
    this.#nextLsn = toLsn(lsn + BigInt(taken))
    this.wal.push(Buffer.from(bytes.subarray(0, taken)))
    return taken
  }

  onServerEnd(serverEnd: Lsn, replyRequested: boolean): void {
    this.events.push(`end ${formatLsn(serverEnd)}${replyRequested ? ', reply' : ''}`)
  }

  get bytes(): Buffer {
    return Buffer.concat(this.wal)
  }
}

function open(): { socket: FakeSocket; sink: RecordingSink; stream: WalStream } {
  const [socket, sink] = [new FakeSocket(), new RecordingSink()]
  const stream = new WalStream(socket, 'fake:5432', sink)
  stream.start(start)
  return { socket, sink, stream }
}

/** One message of a script, with what it must lead to. */
interface Scripted {
  readonly bytes: Buffer
  readonly wal: Buffer
  readonly events: readonly string[]
}

const anyPiece = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.uint8Array({ minLength: 0, maxLength: 300 }).map((wal) => ({ kind: 'wal' as const, wal })),
  },
  { weight: 2, arbitrary: fc.boolean().map((reply) => ({ kind: 'keepalive' as const, reply })) },
  { weight: 1, arbitrary: fc.string({ maxLength: 20 }).map((text) => ({ kind: 'notice' as const, text })) },
  { weight: 1, arbitrary: fc.string({ maxLength: 20 }).map((text) => ({ kind: 'parameter' as const, text })) },
)
type Piece = typeof anyPiece extends fc.Arbitrary<infer T> ? T : never

/** A server's half of a stream: what it writes, and what the receiver must make of it. */
function script(pieces: readonly Piece[]): Scripted {
  const bytes: Buffer[] = [copyBoth]
  const wal: Buffer[] = []
  const events: string[] = []
  let lsn: bigint = startLsn
  let isFirst = true
  for (const piece of pieces) {
    const serverEnd = toLsn(lsn + 1_000n)
    if (piece.kind === 'wal') {
      bytes.push(walMessage(lsn, piece.wal, serverEnd))
      events.push(`end ${formatLsn(serverEnd)}`)
      if (isFirst && piece.wal.length > 0) events.push(`wal at ${formatLsn(startLsn)}`)
      if (piece.wal.length > 0) isFirst = false
      wal.push(Buffer.from(piece.wal))
      lsn += BigInt(piece.wal.length)
    } else if (piece.kind === 'keepalive') {
      bytes.push(keepaliveMessage(serverEnd, piece.reply))
      events.push(`end ${formatLsn(serverEnd)}${piece.reply ? ', reply' : ''}`)
    } else
      bytes.push(piece.kind === 'notice' ? noticeMessage(piece.text) : parameterStatus('in_hot_standby', piece.text))
  }
  return { bytes: Buffer.concat(bytes), wal: Buffer.concat(wal), events }
}

/** Cuts bytes at positions drawn as fractions of the whole. */
function chunks(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [0, ...cuts.map((cut) => Math.floor(cut * bytes.length)).sort((a, b) => a - b), bytes.length]
  return at.slice(1).map((end, index) => bytes.subarray(at[index], end))
}

const anyCuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 40 })
const anyScript = fc.array(anyPiece, { maxLength: 12 }).map(script)
const ends: readonly { name: string; bytes: Buffer; end: StreamEnd }[] = [
  {
    name: 'timeline',
    bytes: Buffer.concat([copyDone, endOfTimeline(3, '0/5400000')]),
    end: { kind: 'timeline', nextTimeline: 3, switchpoint: parseLsn('0/5400000') },
  },
  { name: 'shutdown', bytes: commandComplete('COPY 0'), end: { kind: 'shutdown' } },
]

describe('framing', () => {
  test('any chunking of the stream gives the same WAL, the same events and the same end', async () => {
    await fc.assert(
      fc.asyncProperty(anyScript, fc.constantFrom(...ends), anyCuts, async (scripted, ending, cuts) => {
        const { socket, sink, stream } = open()
        for (const chunk of chunks(Buffer.concat([scripted.bytes, ending.bytes]), cuts)) socket.deliver(chunk)
        assert.deepEqual(await stream.ended, ending.end)
        assert.ok(sink.bytes.equals(scripted.wal))
        assert.deepEqual(sink.events, scripted.events)
      }),
      { numRuns: 300 },
    )
  })

  test('one byte at a time is a chunking too', async () => {
    const wal = Buffer.from(Array.from({ length: 256 }, (_, index) => index))
    for (const ending of ends) {
      const { socket, sink, stream } = open()
      const bytes = Buffer.concat([copyBoth, keepaliveMessage(9n, true), walMessage(startLsn, wal, 9n), ending.bytes])
      for (const byte of bytes) socket.deliver(Buffer.from([byte]))
      assert.deepEqual(await stream.ended, ending.end)
      assert.ok(sink.bytes.equals(wal))
      assert.deepEqual(sink.events, ['end 0/9, reply', 'end 0/9', 'wal at 0/5000000'])
    }
  })

  test('a sink that takes as little as it likes gets every byte once, in order', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyScript,
        anyCuts,
        fc.array(fc.nat({ max: 200 }), { maxLength: 30 }),
        fc.boolean(),
        async (scripted, cuts, takes, isRude) => {
          const { socket, sink, stream } = open()
          sink.takes = [...takes]
          for (const chunk of chunks(Buffer.concat([scripted.bytes, commandComplete('COPY 0')]), cuts)) {
            if (isRude && socket.isPaused) socket.deliverThoughPaused(chunk)
            else socket.deliver(chunk)
          }
          for (let turn = 0; turn <= takes.length; turn++) {
            stream.resume()
            await new Promise<void>((resolve) => queueMicrotask(resolve))
          }
          assert.deepEqual(await stream.ended, { kind: 'shutdown' })
          assert.ok(sink.bytes.equals(scripted.wal))
          assert.deepEqual(sink.events, scripted.events)
        },
      ),
      { numRuns: 300 },
    )
  })

  test('lengths that no message can have end the stream as a broken protocol, without collecting them', async () => {
    const withLength = (type: string, length: number) => {
      const head = message(type)
      head.writeUInt32BE(length, 1)
      return head
    }
    const cases: readonly [string, Buffer, RegExp][] = [
      ['a length below its own size', withLength('d', 3), /impossible length 3/],
      ['length 0', withLength('Z', 0), /impossible length 0/],
      ['a control message beyond any size', withLength('N', 1024 * 1024 + 1), /control message of 1048577 bytes/],
      ['a length with the sign bit', withLength('E', 0x8000_0005), /control message of 2147483653 bytes/],
      ['WAL without its header', Buffer.concat([withLength('d', 28), Buffer.from('w')]), /WAL message of 28 bytes/],
      ['a keepalive of the wrong size', message('d', Buffer.from('k123')), /CopyData of kind 0x6b and 4 bytes/],
      ['empty CopyData', message('d'), /CopyData of kind 0xundefined and 0 bytes/],
      ['CopyData of an unknown kind', message('d', Buffer.from('p')), /CopyData of kind 0x70/],
      ['an unknown message', message('!'), /message of type 0x21/],
      ['a second CopyBothResponse', copyBoth, /CopyBothResponse/],
    ]
    for (const [name, bytes, expected] of cases) {
      const { socket, stream } = open()
      socket.deliver(copyBoth)
      socket.deliver(bytes)
      await assert.rejects(stream.ended, { code: 'WALRX_PROTOCOL', message: expected }, name)
      assert.ok(socket.isDestroyed, name)
    }
  })

  test('garbage of any kind ends the stream with a named error, never as a defect of ours', async () => {
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.uint8Array({ minLength: 1, maxLength: 80 }), async (hasStarted, garbage) => {
        const { socket, stream } = open()
        if (hasStarted) socket.deliver(copyBoth)
        socket.deliver(Buffer.from(garbage))
        socket.close()
        const outcome: unknown = await stream.ended.catch((error: unknown) => error)
        if (outcome instanceof Error) assert.ok(outcome instanceof WalrxError && outcome.code !== 'WALRX_INTERNAL')
      }),
      { numRuns: 500 },
    )
  })

  test('messages where they do not belong are a broken protocol', async () => {
    const beforeTheCopy: readonly Buffer[] = [
      walMessage(startLsn, Buffer.from('x')),
      keepaliveMessage(1n),
      copyDone,
      readyForQuery,
      Buffer.concat([rowMessage('2', 'nonsense'), readyForQuery]),
      Buffer.concat([rowMessage('2', null), readyForQuery]),
      message('D', Buffer.from([0, 9])),
    ]
    for (const bytes of beforeTheCopy) {
      const { socket, stream } = open()
      socket.deliver(bytes)
      await assert.rejects(stream.started, { code: 'WALRX_PROTOCOL' })
      await assert.rejects(stream.ended, { code: 'WALRX_PROTOCOL' })
    }
  })
})

describe('a stream', () => {
  test('asks for slot, position and timeline, and has started once the server copies', async () => {
    const { socket, stream } = open()
    assert.equal(socket.writes.length, 1)
    assert.match(String(socket.writes[0]), /START_REPLICATION SLOT "walrx" PHYSICAL 0\/5000000 TIMELINE 1/)
    socket.deliver(copyBoth.subarray(0, 3))
    assert.equal(stream.send(Buffer.from('x')), false, 'not yet')
    socket.deliver(copyBoth.subarray(3))
    await stream.started
    assert.equal(stream.send(Buffer.from('x')), true)
    assert.deepEqual(socket.writes[1], Buffer.from('x'))
  })

  test('answers the end of a timeline, and learns the next one even if its row arrives in several reads', async () => {
    const bytes = endOfTimeline(12, '16/B374D848')
    for (let cut = 0; cut <= bytes.length; cut++) {
      const { socket, stream } = open()
      socket.deliver(copyBoth, copyDone)
      assert.deepEqual(socket.writes.at(-1), encodeCopyDone())
      socket.deliver(bytes.subarray(0, cut))
      socket.deliver(bytes.subarray(cut))
      assert.deepEqual(await stream.ended, {
        kind: 'timeline',
        nextTimeline: 12,
        switchpoint: parseLsn('16/B374D848'),
      })
    }
  })

  test('a start at the very end of a finished timeline is answered without any copy', async () => {
    const { socket, stream } = open()
    socket.deliver(endOfTimeline(2, '0/5000000'))
    await stream.started
    assert.deepEqual(await stream.ended, { kind: 'timeline', nextTimeline: 2, switchpoint: startLsn })
    assert.equal(socket.writes.length, 1, 'nothing to answer')
  })

  test('errors are distinguished by SQLSTATE, before and after the start of the copy', async () => {
    const codes: readonly [string, string][] = [
      ['58P01', 'WALRX_WAL_REMOVED'],
      ['55006', 'WALRX_SLOT_ACTIVE'],
      ['XX000', 'WALRX_SERVER_ERROR'],
    ]
    for (const [sqlstate, code] of codes) {
      for (const first of [[], [copyBoth], [copyBoth, keepaliveMessage(1n), noticeMessage('first')]]) {
        const { socket, stream } = open()
        socket.deliver(...first, errorMessage(sqlstate, 'words'))
        await assert.rejects(stream.ended, { code, message: new RegExp(`words.*${sqlstate}`) })
        assert.ok(socket.isDestroyed)
      }
    }
  })

  test('ends with the reason when the connection breaks, at any moment', async () => {
    const before = open()
    before.socket.close(new Error('ECONNRESET'))
    await assert.rejects(before.stream.started, { code: 'WALRX_CONNECTION_LOST', message: /fake:5432.*ECONNRESET/ })
    const inside = open()
    inside.socket.deliver(copyBoth, walMessage(startLsn, Buffer.alloc(100)).subarray(0, 40))
    inside.socket.close()
    await assert.rejects(inside.stream.ended, { code: 'WALRX_CONNECTION_LOST', message: /closed by the server/ })
    assert.equal(inside.sink.bytes.length, 10, 'bytes of half a message are WAL all the same')
  })

  test('ends with what the sink refuses the WAL with', async () => {
    const { socket, sink, stream } = open()
    sink.refusal = new WalrxError('WALRX_WAL_GAP', 'a gap')
    socket.deliver(copyBoth, walMessage(startLsn, Buffer.from('x')))
    await assert.rejects(stream.ended, sink.refusal)
    assert.ok(socket.isDestroyed)
  })

  test('delivers nothing and sends nothing once it has ended', async () => {
    const { socket, sink, stream } = open()
    socket.deliver(copyBoth, commandComplete('COPY 0'), walMessage(startLsn, Buffer.from('late')))
    await stream.ended
    stream.resume()
    stream.close()
    stream.destroy()
    assert.deepEqual([sink.bytes.length, stream.send(Buffer.from('x'))], [0, false])
  })
})

describe('our own goodbye', () => {
  test('sends CopyDone after the last status, drops WAL in transit, and ends when the server has answered', async () => {
    const { socket, sink, stream } = open()
    socket.deliver(copyBoth, walMessage(startLsn, Buffer.from('taken')))
    const report = encodeStandbyStatus(
      [{ write: startLsn, flush: startLsn, apply: startLsn, replyRequested: false }],
      0,
    )
    stream.send(report)
    stream.close()
    assert.deepEqual(socket.writes.slice(1), [report, encodeCopyDone()])
    socket.deliver(walMessage(startLsn + 5n, Buffer.from('dropped')), keepaliveMessage(1n, true))
    socket.deliver(copyDone, commandComplete('COPY 0'), readyForQuery)
    await stream.ended
    assert.equal(sink.bytes.toString(), 'taken')
  })

  test('keeps the framing when WAL was not taken: the answer is found after the dropped bytes', async () => {
    await fc.assert(
      fc.asyncProperty(anyScript, anyCuts, fc.nat({ max: 300 }), async (scripted, cuts, taken) => {
        const { socket, sink, stream } = open()
        sink.takes = [taken, ...Array.from({ length: 99 }, () => 0)]
        for (const chunk of chunks(scripted.bytes, cuts)) socket.deliver(chunk)
        stream.close()
        await new Promise<void>((resolve) => queueMicrotask(resolve))
        socket.deliver(copyDone, commandComplete('COPY 0'), readyForQuery)
        assert.deepEqual(await stream.ended, { kind: 'shutdown' })
        assert.ok(scripted.wal.subarray(0, sink.bytes.length).equals(sink.bytes))
      }),
      { numRuns: 200 },
    )
  })

  test('before the copy has begun there is nobody to say it to: the connection is dropped', async () => {
    const { socket, stream } = open()
    stream.close()
    await assert.rejects(stream.ended, { code: 'WALRX_CONNECTION_LOST' })
    assert.ok(socket.isDestroyed)
  })
})
