/** What its statistics alone show: over many seeds, and over what archives really hold. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { looksOrdered, looksRandom } from '../../src/crypto/looks-random.ts'
import { makeHistory, makeSegment } from '../harness/made/made-wal.ts'

/** As random as any cipher's output, and the same in every run. */
function randomBytesOf(seed: number, length: number): Buffer {
  const pieces: Buffer[] = []
  for (let at = 0; at * 32 < length; at++) pieces.push(createHash('sha256').update(`${seed} ${at}`).digest())
  return Buffer.concat(pieces).subarray(0, length)
}

test('random bytes of any length that an encrypted object has look random', () => {
  for (let seed = 0; seed < 20_000; seed++) {
    const bytes = randomBytesOf(seed, 128)
    for (const length of [41, 48, 64, 100, 128]) assert.ok(looksRandom(bytes.subarray(0, length)), `${seed} ${length}`)
  }
  for (let seed = 0; seed < 500; seed++) assert.ok(looksRandom(randomBytesOf(seed, 9000)), String(seed))
})

test('what archives hold does not, and neither does what is too short', () => {
  const label = 'START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000080\n'
  for (const bytes of [
    Buffer.alloc(0),
    Buffer.alloc(8192),
    randomBytesOf(1, 40),
    makeSegment('000000010000000000000002'),
    Buffer.from(makeHistory(3)),
    Buffer.from(label),
    Buffer.from(randomBytesOf(2, 3000).toString('base64')),
    Buffer.from(randomBytesOf(2, 48).toString('base64')),
    Buffer.from('{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 7455523487659893045,\n"Files": ['),
    Buffer.concat([randomBytesOf(3, 30), Buffer.alloc(8000)]),
  ]) {
    assert.equal(looksRandom(bytes), false, bytes.subarray(0, 20).toString('latin1'))
  }
})

test('a few bytes show order only where half of them are repeated', () => {
  for (let seed = 0; seed < 20_000; seed++) {
    const bytes = randomBytesOf(seed, 40)
    for (const length of [0, 11, 12, 20, 40]) assert.equal(looksOrdered(bytes.subarray(0, length)), false, `${seed}`)
  }
  assert.equal(looksOrdered(makeSegment('000000010000000000000002').subarray(0, 40)), true)
  assert.equal(looksOrdered(Buffer.alloc(12)), true)
  assert.equal(looksOrdered(Buffer.alloc(11)), false)
})
