import assert from 'node:assert/strict'
import { test } from 'node:test'
import { alignColumns } from '../../../src/cli/terminal/align-columns.ts'

test('columns are as wide as their widest cell, and the last one is not filled up', () => {
  const rows = [
    ['a', 'long', 'b'],
    ['longer', '', 'longest'],
  ]
  assert.equal(alignColumns(rows, '  '), 'a       long  b\nlonger        longest\n')
})

test('rows may end early, and a table may be empty', () => {
  assert.equal(alignColumns([['a'], ['bcd', 'e']], ' '), 'a\nbcd e\n')
  assert.equal(alignColumns([], ' '), '')
})
