import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type ErrorCode, WalrxError } from '../../../src/primitives/errors.ts'
import { combineFailures, connectError } from '../../../src/postgres/protocol/connect-error.ts'
import { loginError, type LoginAttempt, serverErrorFromFields } from '../../../src/postgres/protocol/server-error.ts'
import { TlsError } from '../../../src/postgres/protocol/transport.ts'

const attempt: LoginAttempt = {
  host: 'db:5432',
  user: 'walrx',
  database: 'replication',
  clientAddress: '10.0.0.5',
  encrypted: false,
  passwordHint: 'set PGPASSWORD',
}

describe('answers of the server', () => {
  test('a command and its SQLSTATE decide the code', () => {
    const expected: [string, string, ErrorCode, boolean][] = [
      ['START_REPLICATION', '58P01', 'WALRX_WAL_REMOVED', false],
      ['START_REPLICATION', '55000', 'WALRX_SLOT_INVALIDATED', false],
      ['START_REPLICATION', '55006', 'WALRX_SLOT_ACTIVE', true],
      ['START_REPLICATION', '42704', 'WALRX_SLOT_UNUSABLE', true],
      ['START_REPLICATION', 'XX000', 'WALRX_SERVER_ERROR', true],
      ['START_REPLICATION', '57P01', 'WALRX_CONNECTION_LOST', true],
      ['START_REPLICATION', '08006', 'WALRX_CONNECTION_LOST', true],
      ['CREATE_REPLICATION_SLOT', '53400', 'WALRX_SLOT_UNUSABLE', true],
      ['CREATE_REPLICATION_SLOT', '55000', 'WALRX_SLOT_UNUSABLE', false],
      ['TIMELINE_HISTORY', '58P01', 'WALRX_SERVER_ERROR', true],
      ['SHOW', '42501', 'WALRX_NO_PRIVILEGE', false],
      ['SHOW', '42704', 'WALRX_SERVER_ERROR', true],
    ]
    for (const [command, state, code, transient] of expected) {
      const error = serverErrorFromFields({ C: state, M: 'words' }, 'db:5432', command)
      assert.deepEqual([error.code, error.transient, error.sqlstate], [code, transient, state], `${command} ${state}`)
    }
  })

  test("the server's words, detail and hint are kept", () => {
    const fields = { C: 'XX000', M: 'it broke', D: 'In two.', H: 'Mend it.' }
    const error = serverErrorFromFields(fields, 'db:5432', 'SHOW')
    assert.equal(error.message, 'db:5432 answered SHOW with: it broke; In two (SQLSTATE XX000)')
    assert.equal(error.hint, 'Mend it.')
    assert.equal(error.detail, 'In two.')
    const unasked = serverErrorFromFields({ C: '57P01', M: 'bye' }, 'db:5432', undefined)
    assert.equal(unasked.message, 'db:5432 ended the connection with: bye (SQLSTATE 57P01)')
    assert.match(serverErrorFromFields({}, 'db', 'SHOW').message, /no message \(SQLSTATE missing\)/)
  })

  test('a refused login says what to change', () => {
    const refused = (state: string, more: Partial<LoginAttempt> = {}) =>
      loginError({ C: state, M: 'no' }, { ...attempt, ...more })
    assert.deepEqual(
      ['28000', '28P01', '42501', '53300', '57P03', '57P01', '3D000'].map((state) => refused(state).code),
      [
        'WALRX_AUTH_FAILED',
        'WALRX_AUTH_FAILED',
        'WALRX_NO_PRIVILEGE',
        'WALRX_NO_WALSENDER',
        'WALRX_SERVER_STARTING',
        'WALRX_SERVER_STARTING',
        'WALRX_SERVER_ERROR',
      ],
    )
    assert.equal(refused('28000').message, 'db:5432 refused the login (without TLS): no (SQLSTATE 28000)')
    assert.match(refused('28000').hint ?? '', /: host replication walrx 10\.0\.0\.5\/32 scram-sha-256$/)
    const encrypted = { clientAddress: 'fe80::1', encrypted: true }
    assert.match(refused('28000', encrypted).hint ?? '', /: hostssl replication walrx fe80::1\/128 scram-sha-256$/)
    assert.match(refused('28000', { clientAddress: '::ffff:10.0.0.5' }).hint ?? '', / 10\.0\.0\.5\/32 /)
    assert.match(refused('28000', { clientAddress: undefined }).hint ?? '', /: local replication walrx peer$/)
    assert.match(refused('28P01').hint ?? '', /password of role "walrx": set PGPASSWORD/)
    assert.match(refused('42501').hint ?? '', /ALTER ROLE "walrx" REPLICATION/)
    assert.match(refused('53300').hint ?? '', /max_wal_senders/)
  })
})

describe('servers that cannot be reached', () => {
  const errno = (code: string) => Object.assign(new Error(`connect ${code}`), { code })

  test('errno says why in words', () => {
    assert.equal(
      connectError(errno('ECONNREFUSED'), 'db:1', 'prefer').message,
      'db:1 accepts no connections (ECONNREFUSED)',
    )
    assert.equal(
      connectError(errno('ENOTFOUND'), 'db:1', 'prefer').message,
      'db:1 has an unknown host name (ENOTFOUND)',
    )
    for (const code of [
      'ECONNREFUSED',
      'ENOENT',
      'EACCES',
      'ENOTFOUND',
      'EAI_AGAIN',
      'ETIMEDOUT',
      'ECONNRESET',
      'EMFILE',
    ]) {
      const error = connectError(errno(code), 'db:1', 'prefer')
      assert.equal(error.code, 'WALRX_CONNECT_FAILED')
      assert.ok(error.transient)
      assert.match(error.message, new RegExp(`^db:1 .*${code}`))
    }
  })

  test('failures of TLS have their own code and remedy', () => {
    const unavailable = connectError(new TlsError('no', true), 'db:1', 'require')
    assert.equal(unavailable.message, 'db:1 does not offer TLS, which sslmode=require requires')
    const unknown = connectError(
      new TlsError('Self-signed certificate', false, errno('SELF_SIGNED_CERT_IN_CHAIN')),
      'db:1',
      '',
    )
    assert.equal(unknown.code, 'WALRX_TLS_FAILED')
    assert.equal(unknown.message, 'TLS with db:1 failed: self-signed certificate (SELF_SIGNED_CERT_IN_CHAIN)')
    assert.match(unknown.hint ?? '', /sslrootcert/)
    assert.equal(unknown.transient, false)
    assert.equal(connectError(new TlsError('gone', false, errno('ECONNRESET')), 'db:1', '').transient, true)
  })

  test('of several hosts every reason is listed, and the most telling one leads', () => {
    const down = connectError(errno('ECONNREFUSED'), 'a:1', 'prefer')
    const denied = loginError({ C: '28P01', M: 'wrong password' }, { ...attempt, host: 'b:2' })
    const starting = loginError({ C: '57P03', M: 'starting up' }, { ...attempt, host: 'c:3' })
    const all = combineFailures([down, denied, starting], 'no host can be used')
    assert.equal(all.code, 'WALRX_AUTH_FAILED')
    assert.match(
      all.message,
      /^no host can be used: a:1 accepts no .*; b:2 refused .*wrong password.*; c:3 .*starting up/,
    )
    assert.equal(all.hint, denied.hint)
    assert.equal(all.transient, true)
    assert.equal(combineFailures([down, starting], '').code, 'WALRX_SERVER_STARTING')
    assert.equal(combineFailures([denied], 'x'), denied)
    assert.equal(combineFailures([down, down], 'x'), down)
    const usage = new WalrxError('WALRX_USAGE', 'wrong')
    assert.equal(combineFailures([down, usage], 'x').code, 'WALRX_USAGE')
  })
})
