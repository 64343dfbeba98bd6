import assert from 'node:assert/strict'
import { test } from 'node:test'
import { durationText } from '../../../src/cli/terminal/duration-text.ts'
import { canRedraw, columnsOf, wantsColours } from '../../../src/cli/terminal/terminal-rules.ts'

const terminal = { isTTY: true, columns: 100 }
const pipe = {}

test('a terminal has colours unless it is dumb or somebody forbids them', () => {
  assert.equal(wantsColours(terminal, { TERM: 'xterm' }), true)
  assert.equal(wantsColours(terminal, {}), true)
  for (const forbidding of [
    { NO_COLOR: '1' },
    { NO_COLOR: '0' },
    { TERM: 'dumb' },
    { CLICOLOR: '0' },
    { FORCE_COLOR: '0' },
  ]) {
    assert.equal(wantsColours(terminal, forbidding), false, JSON.stringify(forbidding))
  }
  assert.equal(wantsColours(terminal, { NO_COLOR: '' }), true, 'an empty variable is none')
})

test('anything else has colours where they are asked for', () => {
  assert.equal(wantsColours(pipe, { TERM: 'xterm' }), false)
  for (const asking of [{ FORCE_COLOR: '1' }, { FORCE_COLOR: 'true' }, { CLICOLOR_FORCE: '1' }]) {
    assert.equal(wantsColours(pipe, asking), true, JSON.stringify(asking))
  }
  assert.equal(wantsColours(pipe, { CLICOLOR_FORCE: '0' }), false)
  assert.equal(wantsColours(pipe, { CLICOLOR_FORCE: '1', NO_COLOR: '1' }), false)
})

test('only a terminal that is not dumb is drawn over', () => {
  assert.deepEqual(
    [canRedraw(terminal, {}), canRedraw(terminal, { TERM: 'dumb' }), canRedraw(pipe, {})],
    [true, false, false],
  )
})

test('COLUMNS goes before the width of the terminal, where it is a number', () => {
  assert.equal(columnsOf(terminal, { COLUMNS: '70' }, 110), 70)
  assert.equal(columnsOf(pipe, { COLUMNS: '70' }, 110), 70)
  for (const COLUMNS of ['', '0', '-5', 'wide', '1e3'])
    assert.equal(columnsOf(terminal, { COLUMNS }, 110), 100, COLUMNS)
  assert.equal(columnsOf(pipe, {}, 110), 110)
  assert.equal(columnsOf({ isTTY: true, columns: 0 }, {}, 110), 110, 'a terminal that does not say it')
  assert.equal(columnsOf(pipe, { COLUMNS: '3' }, 110), 40)
})

test('a duration that nobody knows is no number', () => {
  for (const seconds of [Infinity, NaN]) assert.equal(durationText(seconds), 'an unknown time')
})
