/** Services as libpq reads them. Public report of a client that did not: node-postgres #416. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Conninfo, parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { type ErrorCode, WalrxError } from '../../../src/primitives/errors.ts'

const own = '/home/me/.pg_service.conf'
const system = '/etc/postgresql-common/pg_service.conf'

interface Given {
  readonly env?: Record<string, string>
  readonly flags?: Record<string, string>
}

function parse(files: Record<string, string>, text: string, { env = {}, flags = {} }: Given = {}): Conninfo {
  return parseConninfo(text, {
    env: { ...env, ...flags },
    flags,
    osUser: 'me',
    home: '/home/me',
    readFile: (path) => files[path],
  })
}

function refusal(files: Record<string, string>, text: string, given: Given = {}, code: ErrorCode = 'WALRX_USAGE') {
  try {
    parse(files, text, given)
  } catch (error) {
    assert.ok(error instanceof WalrxError, String(error))
    assert.equal(error.code, code, error.message)
    assert.doesNotMatch(`${error.message} ${error.hint}`, /s3cret/)
    return error.message
  }
  return assert.fail('was taken')
}

describe('a service', () => {
  const file =
    '# all\n[a]\nhost=ha\nuser=ua\n\n  [db1]  \r\nhost=h1\r\n  port=6001\n#host=x\nhost=h2\npassword= a=b #c\n[c]\nhost=hc'

  test('is its section, and the first of several lines counts', () => {
    for (const given of [
      { text: 'service=db1', env: {} },
      { text: 'postgresql:///?service=db1', env: {} },
      { text: '', env: { PGSERVICE: 'db1' } },
      { text: 'service=db1', env: { PGSERVICE: 'a' } },
    ]) {
      const parsed = parse({ [own]: file }, given.text, given)
      assert.deepEqual(parsed.hosts, [{ host: 'h1', hostaddr: undefined, port: 6001 }])
      assert.equal(parsed.password, ' a=b #c', 'a value is taken as it is')
      assert.equal(parsed.user, 'me')
    }
    assert.equal(parse({ [own]: file }, 'service=c').hosts[0]?.host, 'hc')
  })

  test('comes after connection string and flags, and before variables and defaults', () => {
    const files = { [own]: '[db1]\nhost=service\nuser=service\ndbname=service\nsslmode=' }
    const env = { PGHOST: 'env', PGUSER: 'env', PGDATABASE: 'env', PGPASSWORD: 'env', PGSSLMODE: 'require' }
    const parsed = parse(files, "service=db1 host=text application_name=''", { env, flags: { PGUSER: 'flag' } })
    assert.equal(parsed.hosts[0]?.host, 'text')
    assert.equal(parsed.user, 'flag')
    assert.equal(parsed.database, 'service')
    assert.equal(parsed.password, 'env')
    assert.equal(parsed.tls.mode, 'prefer', 'an empty value hides the variable')
  })

  test('of the user hides that of the system, and each is looked for in both', () => {
    const files = { [own]: '[a]\nhost=own', [system]: '[a]\nhost=system\n[b]\nhost=b' }
    assert.equal(parse(files, 'service=a').hosts[0]?.host, 'own')
    assert.equal(parse(files, 'service=b').hosts[0]?.host, 'b')
    const elsewhere = { '/x/pg_service.conf': '[a]\nhost=x' }
    assert.equal(parse(elsewhere, 'service=a', { env: { PGSYSCONFDIR: '/x' } }).hosts[0]?.host, 'x')
  })

  test('is looked for in the file that is named, then in that of the system, and never in the home directory', () => {
    const files = { '/f': '[a]\nhost=f', '/g': '[a]\nhost=g', [own]: '[b]\nhost=own', [system]: '[c]\nhost=c' }
    const env = { PGSERVICEFILE: '/f' }
    assert.equal(parse(files, 'service=a', { env }).hosts[0]?.host, 'f')
    assert.equal(parse(files, 'service=a servicefile=/g', { env }).hosts[0]?.host, 'g', 'as in PostgreSQL 18')
    assert.equal(parse(files, 'service=c', { env }).hosts[0]?.host, 'c')
    assert.equal(refusal(files, 'service=b', { env }), 'definition of service "b" not found')
    assert.equal(refusal(files, 'service=a servicefile=/h'), 'service file "/h" not found')
  })

  test('that is not there is an error, whatever else is given', () => {
    assert.equal(refusal({}, 'service=db1 host=h'), 'definition of service "db1" not found')
    assert.equal(
      refusal({ [own]: '[db11]\n[db1' }, '', { env: { PGSERVICE: 'db1' } }),
      'definition of service "db1" not found',
    )
    assert.equal(parse({}, '', { env: { PGSERVICE: '' } }).hosts[0]?.host, undefined)
  })

  test('with a line that libpq refuses is refused, with its number and without its text', () => {
    const at = `service file "${own}", line 2`
    const lineTwo = (line: string) => ({ [own]: `[db1]\n${line}\n` })
    for (const line of ['s3cret', 'host = s3cret', 's3cret=1', 'Host=s3cret', '=s3cret']) {
      assert.equal(refusal(lineTwo(line), 'service=db1'), `syntax error in ${at}`, line)
    }
    assert.equal(refusal(lineTwo('service=x'), 'service=db1'), `nested service specifications not supported in ${at}`)
    assert.equal(
      refusal(lineTwo('servicefile=x'), 'service=db1'),
      `nested servicefile specifications not supported in ${at}`,
    )
    assert.equal(refusal(lineTwo(`password=s3cret${'x'.repeat(1010)}`), 'service=db1'), `line too long in ${at}`)
    assert.match(
      refusal(lineTwo('ldap://s3cret.example/dc=x'), 'service=db1', {}, 'WALRX_OPTION_UNSUPPORTED'),
      /LDAP.*line 2/,
    )
    assert.equal(parse({ [own]: '[other]\nbroken\n[db1]\nhost=h' }, 'service=db1').hosts[0]?.host, 'h')
  })

  test('is named where one of its values is wrong, and refused where walrx cannot honour it', () => {
    assert.match(
      refusal({ [own]: '[db1]\nport=x' }, 'service=db1'),
      /^port of service "db1" is not a number from 1 to 65535/,
    )
    const peer = { [own]: '[db1]\nrequirepeer=postgres' }
    assert.match(refusal(peer, 'service=db1', {}, 'WALRX_OPTION_UNSUPPORTED'), /^requirepeer of service "db1": /)
  })
})
