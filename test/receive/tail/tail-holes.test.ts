import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toLsn } from '../../../src/postgres/lsn.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { TailHoles } from '../../../src/receive/tail/tail-holes.ts'

const failure = new WalrxError('WALRX_STORAGE_DENIED', 'no')
const [first, second] = [toLsn(0n), toLsn(1024n)]

test('a hole is filled by what covers all of it in its own segment, and by nothing else', () => {
  const holes = new TailHoles()
  holes.add({ startLsn: first, from: 10, to: 20, failure })
  for (const [startLsn, from, to] of [
    [first, 11, 20],
    [first, 10, 19],
    [second, 0, 1024],
  ] as const) {
    assert.equal(holes.fill(startLsn, from, to), false)
    assert.equal(holes.failureIn(first), failure)
  }
  assert.equal(holes.fill(first, 10, 20), true)
  assert.deepEqual([holes.isEmpty, holes.failureIn(first)], [true, undefined])
})

test('another run has none', () => {
  const holes = new TailHoles()
  holes.add({ startLsn: second, from: 0, to: 1, failure })
  assert.deepEqual([holes.isEmpty, holes.failureIn(first), holes.failureIn(second)], [false, undefined, failure])
  holes.clear()
  assert.equal(holes.isEmpty, true)
})
