import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseChecksumState, parseShownState } from '../../src/postgres/control-file.ts'
import { madeControl } from '../harness/made/made-control.ts'

const states = ['off', 'on', 'inprogress-off', 'inprogress-on'] as const

test('pg_control shows whether pages have checksums, in the layout of each version', () => {
  for (const version of [960, 1300, 1700, 1800, 1905] as const) {
    for (const [number, state] of states.entries()) {
      for (const seed of [1, 2, 3]) {
        assert.equal(parseChecksumState(madeControl(version, number, seed)), state, `${version} ${state}`)
      }
    }
    assert.equal(parseChecksumState(madeControl(version, 4)), undefined)
  }
})

test('nothing is known of a damaged one, of one that is too short, and of an unknown version', () => {
  const good = madeControl(1700, 1)
  for (const at of [0, 9, 100, 252, 287, 288]) {
    const damaged = Buffer.from(good)
    damaged[at]! ^= 1
    assert.equal(parseChecksumState(damaged), undefined, `byte ${at}`)
  }
  assert.equal(parseChecksumState(good.subarray(0, 400)), undefined)
  assert.equal(parseChecksumState(Buffer.alloc(8192)), undefined)
})

test('a word of a server that walrx does not know is no promise', () => {
  assert.deepEqual([...states, 'half'].map(parseShownState), [...states, 'inprogress-on'])
})
