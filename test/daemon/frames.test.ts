import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeArguments, encodeArguments, FrameReader, replyFrame, requestFrame } from '../../src/daemon/frames.ts'
import { Random } from '../harness/random.ts'

test('requests are the bytes that WAL-G’s clients send', () => {
  // As walg_archive and cmd/daemonclient send them.
  assert.equal(requestFrame('C', Buffer.from('CHECK')).toString('hex'), '430008434845434b')
  const name = '000000010000000000000001'
  assert.equal(requestFrame('F', Buffer.from(name)).toString('latin1'), `F\0\x1b${name}`)
  const fetch = requestFrame('f', encodeArguments([name, 'pg_wal/RECOVERYXLOG']))
  assert.equal(fetch.toString('latin1'), `f\0\x33\x02\0\x18${name}\0\x13pg_wal/RECOVERYXLOG`)
  assert.deepEqual([...replyFrame('O')], [0x4f, 0, 3])
})

test('a frame of more than 65535 bytes is refused', () => {
  assert.equal(requestFrame('F', Buffer.alloc(65_532)).length, 65_535)
  assert.throws(() => requestFrame('F', Buffer.alloc(65_533)), /65536 bytes/)
})

test('frames come together from any pieces', () => {
  const random = new Random(7)
  const frames = [...Array(50).keys()].map((index) => requestFrame('F', Buffer.alloc(random.int(0, 300), index)))
  const stream = Buffer.concat(frames)
  const reader = new FrameReader()
  const found: Buffer[] = []
  for (let at = 0; at < stream.length;) {
    const end = at + random.int(1, 40)
    reader.add(stream.subarray(at, end))
    at = end
    for (let frame = reader.next(); frame; frame = reader.next()) found.push(requestFrame('F', frame.body))
  }
  assert.deepEqual(found, frames)
  assert.equal(reader.pendingBytes, 0)
})

test('arguments are exactly what the body says', () => {
  const words = ['one', '', 'ü'.repeat(300)]
  assert.deepEqual(decodeArguments(encodeArguments(words)), words)
  assert.deepEqual(decodeArguments(Buffer.from([0])), [])
  const wrong = [[], [1], [1, 0], [1, 0, 5, 97], [1, 0, 1, 97, 98], [2, 0, 1, 97], [0, 0]]
  for (const body of wrong) assert.equal(decodeArguments(Buffer.from(body)), undefined, body.join())
})
