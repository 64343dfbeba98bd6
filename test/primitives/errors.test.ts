import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { describe, test } from 'node:test'
import {
  type ErrorCode,
  errorTable,
  exitStatuses,
  hasCode,
  isAbort,
  toWalrxError,
  WalrxError,
} from '../../src/primitives/errors.ts'

const codes = Object.keys(errorTable) as ErrorCode[]

describe('the table of errors', () => {
  test('every code is WALRX_ in capitals, with a meaning in lower case and no full stop', () => {
    for (const code of codes) {
      assert.match(code, /^WALRX(_[A-Z0-9]+)+$/)
      assert.match(errorTable[code].meaning, /^[^.]*[^.]$/, code)
      assert.doesNotMatch(errorTable[code].meaning, /^[A-Z][a-z]/, code)
    }
  })

  test('every exit status of an error is documented', () => {
    const documented = Object.keys(exitStatuses).map(Number)
    for (const code of codes) assert.ok(documented.includes(errorTable[code].exitStatus), code)
  })

  test('no error ends with the status of a process killed by SIGTERM', () => {
    for (const code of codes) assert.notEqual(errorTable[code].exitStatus, 143)
  })
})

describe('WalrxError', () => {
  test('takes exit status and transience from the table, and transience from the cause that knows better', () => {
    const error = new WalrxError('WALRX_STORAGE_UNAVAILABLE', 'no answer')
    assert.equal(error.exitStatus, 4)
    assert.equal(error.transient, true)
    assert.equal(new WalrxError('WALRX_STORAGE_UNAVAILABLE', 'x', { transient: false }).transient, false)
  })

  test('keeps hint and cause, and has no cause where none was given', () => {
    const cause = new Error('ECONNREFUSED')
    const error = new WalrxError('WALRX_CONNECT_FAILED', 'db1:5432 refused', { hint: 'start it', cause })
    assert.equal(error.hint, 'start it')
    assert.equal(error.cause, cause)
    assert.equal('cause' in new WalrxError('WALRX_USAGE', 'x'), false)
  })

  test('is distinguished from other errors by its code', () => {
    assert.ok(hasCode(new WalrxError('WALRX_USAGE', 'x'), 'WALRX_USAGE'))
    assert.ok(!hasCode(new WalrxError('WALRX_USAGE', 'x'), 'WALRX_INTERNAL'))
    assert.ok(!hasCode(new Error('WALRX_USAGE'), 'WALRX_USAGE'))
  })
})

test('whatever is thrown becomes a WalrxError that keeps it', () => {
  const known = new WalrxError('WALRX_USAGE', 'x')
  assert.equal(toWalrxError(known), known)
  const error = new TypeError('undefined is not a function')
  assert.equal(toWalrxError(error).code, 'WALRX_INTERNAL')
  assert.equal(toWalrxError(error).cause, error)
  assert.equal(toWalrxError('text').message, 'text')
})

test('a failed system call is a matter of the machine or of the network, and no defect', async () => {
  const call = await readFile('/nonexistent/x').catch((error: unknown) => error)
  const found = toWalrxError(call)
  assert.deepEqual([found.code, found.exitStatus], ['WALRX_SYSTEM', 9])
  assert.equal(found.message, 'open /nonexistent/x: no such file or directory (ENOENT)')
  assert.equal(found.hint, 'create it, or correct the path')
  assert.equal(found.cause, call)
  const refused = await fetchNothing()
  assert.deepEqual([refused.code, refused.exitStatus], ['WALRX_CONNECTION_LOST', 3])
  assert.equal(refused.message, 'connect 127.0.0.1:1: ECONNREFUSED')
  const all = new AggregateError([refused.cause], '')
  assert.equal(toWalrxError(all).code, 'WALRX_CONNECTION_LOST')
  const madeUp = Object.assign(new TypeError('The argument must be a string'), { code: 'ERR_INVALID_ARG_TYPE' })
  assert.equal(toWalrxError(madeUp).code, 'WALRX_INTERNAL')
})

/** The error of a connection that nobody accepts. */
async function fetchNothing(): Promise<WalrxError> {
  const { promise, resolve } = Promise.withResolvers<Error>()
  connect(1, '127.0.0.1').on('error', resolve)
  return toWalrxError(await promise)
}

test('an aborted signal is recognised, and nothing else', () => {
  const controller = new AbortController()
  controller.abort()
  assert.ok(isAbort(controller.signal.reason))
  assert.ok(!isAbort(new Error('AbortError')))
  assert.ok(!isAbort('AbortError'))
})
