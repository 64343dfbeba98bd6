import assert from 'node:assert/strict'
import { test } from 'node:test'
import { reportError } from '../../src/cli/report.ts'
import { createLog } from '../../src/observe/log.ts'
import { WalrxError } from '../../src/primitives/errors.ts'

test('where the log is JSON the error is a line of it, with code and hint', () => {
  const lines: string[] = []
  const log = createLog({ level: 'info', format: () => 'json', write: (line) => lines.push(line) })
  const error = new WalrxError('WALRX_SLOT_ACTIVE', 'slot "walrx" is in use', { hint: 'stop the other one' })
  reportError(error, { write: () => assert.fail('wrote text'), log })
  assert.equal(lines.length, 1)
  const { level, msg, code, hint } = JSON.parse(lines[0] ?? '') as Record<string, unknown>
  assert.deepEqual(
    { level, msg, code, hint },
    {
      level: 'error',
      msg: 'slot "walrx" is in use',
      code: 'WALRX_SLOT_ACTIVE',
      hint: 'stop the other one',
    },
  )
})

test('anything that is thrown can be reported', () => {
  const texts: string[] = []
  reportError('just text', { write: (text) => texts.push(text) })
  reportError(undefined, { write: (text) => texts.push(text), debug: true })
  assert.equal(texts[0], 'walrx: unexpected error: just text\n')
  assert.equal(texts[2], 'walrx: unexpected error: undefined\n')
})
