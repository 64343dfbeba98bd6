import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { type Conninfo, type ConninfoSurroundings, parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { type Keyword, keywords } from '../../../src/postgres/connect/conninfo-keywords.ts'
import { redactText } from '../../../src/observe/redact.ts'
import { type ErrorCode, WalrxError } from '../../../src/primitives/errors.ts'

const nobody: ConninfoSurroundings = { env: {}, osUser: 'me', home: '/home/me' }

function parse(text: string, env: Record<string, string> = {}): Conninfo {
  return parseConninfo(text, { ...nobody, env })
}

function hosts(text: string, env: Record<string, string> = {}): string[] {
  return parse(text, env).hosts.map(({ host, hostaddr, port }) => `${host}|${hostaddr}|${port}`)
}

function refusal(text: string, env: Record<string, string> = {}, code: ErrorCode = 'WALRX_USAGE'): string {
  try {
    parse(text, env)
  } catch (error) {
    assert.ok(error instanceof WalrxError, String(error))
    assert.equal(error.code, code, error.message)
    return error.message
  }
  return assert.fail(`"${text}" was taken`)
}

describe('defaults', () => {
  test('an empty string means what libpq would do', () => {
    assert.deepEqual(parse(''), {
      hosts: [{ host: undefined, hostaddr: undefined, port: 5432 }],
      user: 'me',
      database: undefined,
      password: undefined,
      passFile: '/home/me/.pgpass',
      applicationName: 'walrx',
      options: undefined,
      connectTimeoutMs: undefined,
      keepAlive: true,
      keepAliveIdleMs: undefined,
      targetSessionAttributes: 'any',
      loadBalance: 'disable',
      authMethods: new Set(['password', 'md5', 'gss', 'sspi', 'scram-sha-256', 'oauth', 'none']),
      channelBinding: 'prefer',
      tls: {
        mode: 'prefer',
        negotiation: 'postgres',
        rootCert: undefined,
        crl: undefined,
        cert: undefined,
        key: undefined,
        keyPassword: undefined,
        sendCert: true,
        sni: true,
        minVersion: 'TLSv1.2',
        maxVersion: undefined,
      },
      postgresHome: '/home/me/.postgresql',
      ignored: [],
    })
  })

  test('variables are defaults for the string, and an empty value in the string hides its variable', () => {
    const env = { PGHOST: 'db', PGPORT: '6000', PGUSER: 'u', PGPASSWORD: 'p', PGSSLMODE: 'require', PGAPPNAME: 'a' }
    const { applicationName, password, tls, user } = parse('user=v', env)
    assert.deepEqual([user, password, tls.mode, applicationName], ['v', 'p', 'require', 'a'])
    assert.deepEqual(hosts('', env), ['db|undefined|6000'])
    assert.deepEqual(hosts("host=''", env), ['undefined|undefined|6000'])
    assert.equal(parse('', { PGUSER: '' }).user, 'me')
  })

  test('a user without a name needs PGUSER', () => {
    assert.throws(() => parseConninfo('', { env: {} }), { code: 'WALRX_USAGE', message: /no role to log in as/ })
    assert.equal(parseConninfo('', { env: { PGUSER: 'x' } }).passFile, undefined)
  })

  test('times are in milliseconds, with the rounding of libpq', () => {
    assert.equal(parse('connect_timeout=7').connectTimeoutMs, 7000)
    assert.equal(parse('connect_timeout=1').connectTimeoutMs, 2000)
    assert.equal(parse('connect_timeout=0').connectTimeoutMs, 0)
    assert.equal(parse('connect_timeout=-1').connectTimeoutMs, 0)
    assert.equal(parse('keepalives_idle=3').keepAliveIdleMs, 3000)
    assert.equal(parse('keepalives_idle=0').keepAliveIdleMs, undefined)
    assert.equal(parse('keepalives=0').keepAlive, false)
  })
})

describe('keywords and values', () => {
  test('spaces, quotes and backslashes are read as libpq reads them', () => {
    const read = (text: string) => parse(text).password
    assert.equal(read("password='it''s'=x user=u".replace("''s'=x", "\\'s'")), "it's")
    assert.equal(read("  user = u   password = 'a b'  "), 'a b')
    assert.equal(read('password=a\\ b user=u'), 'a b')
    assert.equal(read("password='a\\\\b'"), 'a\\b')
    assert.equal(read('password=a=b'), 'a=b')
    assert.equal(read("password=one password='two'"), 'two')
    assert.equal(read("password=''"), undefined)
  })

  test('any values survive being quoted', () => {
    const value = fc.string({ unit: 'grapheme', minLength: 1 }).filter((text) => !text.includes('\0'))
    fc.assert(
      fc.property(value, value, (user, password) => {
        const quote = (text: string) => `'${text.replaceAll(/[\\']/g, '\\$&')}'`
        const parsed = parse(`user=${quote(user)} password=${quote(password)}`)
        assert.equal(parsed.user, user)
        assert.equal(parsed.password, password)
      }),
    )
  })

  test('broken strings are refused without repeating them', () => {
    for (const text of ['password=s3cret word', "password='s3cret", '=s3cret', 'password=a s3cret#x=y', 's3cret']) {
      assert.doesNotMatch(refusal(text), /s3cret/)
    }
    assert.match(refusal("host='a"), /quote at character 6 that is not closed/)
    assert.match(refusal('host=a nonsense'), /no "=" after the word at character 8/)
  })

  test('an unknown keyword is named, with the one that was meant', () => {
    assert.throws(() => parse('hots=a'), { message: /unknown keyword "hots"/, hint: 'did you mean host?' })
  })
})

describe('URIs', () => {
  test('every part is found', () => {
    const uri = 'postgresql://u:p@h1:1,h2:2/db?sslmode=verify-full&target_session_attrs=read-write&application_name=x'
    const parsed = parse(uri)
    assert.deepEqual(hosts(uri), ['h1|undefined|1', 'h2|undefined|2'])
    assert.deepEqual([parsed.user, parsed.password, parsed.database], ['u', 'p', 'db'])
    assert.deepEqual([parsed.tls.mode, parsed.targetSessionAttributes], ['verify-full', 'read-write'])
    assert.equal(parsed.applicationName, 'x')
  })

  test('parts may be missing', () => {
    assert.deepEqual(hosts('postgres://'), ['undefined|undefined|5432'])
    assert.deepEqual(hosts('postgresql://db'), ['db|undefined|5432'])
    assert.deepEqual(hosts('postgresql://db:'), ['db|undefined|5432'])
    assert.deepEqual(hosts('postgresql://,b:2'), ['undefined|undefined|5432', 'b|undefined|2'])
    assert.deepEqual(hosts('postgresql://u@'), ['undefined|undefined|5432'])
    assert.deepEqual(hosts('postgresql:///db?host=/run/postgresql&port=1'), ['/run/postgresql|undefined|1'])
    assert.deepEqual(hosts('postgresql://db?'), ['db|undefined|5432'])
    assert.equal(parse('postgresql:///db').database, 'db')
    assert.equal(parse('postgresql://u@h?ssl=true').tls.mode, 'require')
  })

  test('IPv6 addresses stand in brackets and sockets are percent-encoded', () => {
    assert.deepEqual(hosts('postgresql://[::1]:6000,[fe80::1%25eth0]/'), [
      '::1|undefined|6000',
      'fe80::1%eth0|undefined|5432',
    ])
    assert.deepEqual(hosts('postgresql://%2Frun%2Fpostgresql:77/db'), ['/run/postgresql|undefined|77'])
    assert.match(refusal('postgresql://[::1/db'), /neither a name, an address nor an IPv6 address/)
    assert.match(refusal('postgresql://[::1]x/db'), /neither a name/)
    assert.match(refusal('postgresql://::1/db'), /port is not a number/)
  })

  test('any user and password survive percent-encoding', () => {
    const value = fc.string({ unit: 'grapheme', minLength: 1 }).filter((text) => !text.includes('\0'))
    fc.assert(
      fc.property(value, value, value, (user, password, database) => {
        const [u, p, d] = [user, password, database].map(encodeURIComponent)
        const parsed = parse(`postgresql://${u}:${p}@h/${d}`)
        assert.deepEqual([parsed.user, parsed.password, parsed.database], [user, password, database])
      }),
    )
  })

  test('a question mark in the password is not the end of the URI', () => {
    assert.equal(parse('postgresql://u:a?b@h').password, 'a?b')
  })

  test('broken URIs are refused without repeating them', () => {
    assert.doesNotMatch(refusal('postgresql://u:s3cret%@h'), /s3cret/)
    assert.doesNotMatch(refusal('postgresql://u:s3cret%00@h'), /s3cret/)
    assert.doesNotMatch(refusal('postgresql://h?password'), /s3cret/)
    assert.doesNotMatch(refusal('postgresql://h?password=s3cret=x'), /s3cret/)
    assert.match(refusal('postgresql://h?nonsense=1'), /unknown keyword, its number 2/)
  })
})

// dbmate #784, certificates #1522
describe('a password that should have been encoded or quoted', () => {
  for (const text of [
    'postgresql://u:s3cr/et@h/db',
    'postgresql://u:s3cr@et@h:5432/db',
    'postgresql://u:s3cr:et/x@h',
    'postgresql://u:12/s3cr@h',
    'postgresql://u:s3cr?et=x@h',
    'postgresql://u:s3cr/et?x@h',
    'postgresql://u:s3cr/@et?sslmode=require',
    'postgresql://u:s3cr%et@h',
    'postgres://u:s3cr:et/@h',
    'host=h password=a s3cr=t user=u',
    'host=h password=a s3cret',
    "host=h password='a s3cret",
    "host=h password='a's3cr=et",
  ]) {
    test(text, () => {
      try {
        const { hosts, password } = parse(text)
        assert.deepEqual([password, hosts[0]?.host], ['s3cr?et=x', 'h'], 'taken as it was meant')
      } catch (error) {
        assert.ok(error instanceof WalrxError)
        assert.equal(error.code, 'WALRX_USAGE')
        const printed = redactText(`${error.message} ${error.hint}`)
        assert.doesNotMatch(printed, /s3cr|et@|et=|\bet\b/)
        assert.doesNotMatch(printed, /redacted/, 'no hint hides itself')
        assert.match(error.hint ?? '', /%2F for|application_name='/)
      }
      assert.doesNotMatch(redactText(`cannot use ${text.replace(/^host.*/, '')} for that`), /s3cr/)
    })
  }

  test('is taken when it is encoded as the hint says', () => {
    const parsed = parse('postgresql://u:a%2Fb%40c%3Ad%25@h/db%40x')
    assert.deepEqual([parsed.password, parsed.database], ['a/b@c:d%', 'db@x'])
  })
})

describe('several hosts', () => {
  test('one port serves all hosts, or each has its own', () => {
    assert.deepEqual(hosts('host=a,b port=6000'), ['a|undefined|6000', 'b|undefined|6000'])
    assert.deepEqual(hosts('host=a,b port=5432,5433'), ['a|undefined|5432', 'b|undefined|5433'])
    assert.deepEqual(hosts('host=a,,c port=1,,3'), ['a|undefined|1', 'undefined|undefined|5432', 'c|undefined|3'])
    assert.deepEqual(hosts('hostaddr=10.0.0.1,10.0.0.2'), ['undefined|10.0.0.1|5432', 'undefined|10.0.0.2|5432'])
    assert.deepEqual(hosts('host=a hostaddr=::1'), ['a|::1|5432'])
  })

  test('lists that do not match are refused with both numbers', () => {
    assert.match(refusal('host=a,b port=1,2,3'), /3 values in port do not match 2 hosts/)
    assert.match(refusal('host=a,b', { PGPORT: '1,2,3' }), /3 values in PGPORT do not match 2 hosts/)
    assert.match(refusal('host=a,b hostaddr=::1'), /2 values in host do not match 1 in hostaddr/)
  })

  test('a port outside 1 to 65535 is refused', () => {
    for (const port of ['0', '65536', '-1', '5432x', '1e3']) assert.match(refusal(`port=${port}`), /from 1 to 65535/)
    assert.match(refusal('', { PGPORT: 'abc' }), /PGPORT is not a number/)
  })
})

describe('settings that cannot be honoured', () => {
  test('what would weaken security if it were ignored is refused by name', () => {
    const refused = { code: 'WALRX_OPTION_UNSUPPORTED' } as const
    assert.match(refusal('requirepeer=postgres', {}, refused.code), /^requirepeer: /)
    assert.match(refusal('', { PGREQUIREPEER: 'postgres' }, refused.code), /^PGREQUIREPEER: /)
    assert.match(refusal('', { PGGSSENCMODE: 'require' }, refused.code), /^PGGSSENCMODE: /)
    assert.match(refusal('', { PGSSLCRLDIR: '/x' }, refused.code), /^PGSSLCRLDIR: /)
    assert.match(refusal('sslkey=pkcs11:id', {}, refused.code), /^sslkey: /)
    assert.equal(parse('gssencmode=prefer', { PGREQUIRESSL: '0' }).tls.mode, 'prefer')
  })

  test('what merely has no effect is taken and listed', () => {
    assert.deepEqual(parse('tcp_user_timeout=5', { PGCLIENTENCODING: 'LATIN1' }).ignored, [
      'tcp_user_timeout',
      'client_encoding',
    ])
  })

  test('every variable is read under its own name', () => {
    for (const [name, { env }] of Object.entries<Keyword>(keywords)) {
      if (env === undefined) continue
      const refusedOrTaken = (text: string, variables: Record<string, string>) => {
        try {
          // The file is read for a service only.
          const all = name === 'servicefile' ? { ...variables, PGSERVICE: 'x' } : variables
          const { ignored, ...parsed } = parse(text, all)
          return JSON.stringify([ignored, parsed, [...parsed.authMethods]])
        } catch (error) {
          return `${(error as Error).message.replaceAll(env, name)}`
        }
      }
      assert.equal(refusedOrTaken('', { [env]: '1' }), refusedOrTaken(`${name}=1`, {}), name)
      assert.notEqual(refusedOrTaken('', { [env]: '7' }), refusedOrTaken('', {}), name)
    }
  })

  test('choices are listed when the value is none of them', () => {
    assert.match(refusal('sslmode=on'), /sslmode is "on"; it must be one of disable, allow, prefer, require/)
    assert.match(refusal('', { PGTARGETSESSIONATTRS: 'master' }), /PGTARGETSESSIONATTRS is "master"/)
  })
})

describe('TLS and authentication', () => {
  test('sslrootcert=system means verify-full and nothing weaker', () => {
    assert.equal(parse('sslrootcert=system').tls.mode, 'verify-full')
    assert.match(refusal('sslrootcert=system sslmode=verify-ca'), /too weak for sslrootcert=system/)
  })

  test('sslnegotiation=direct wants at least sslmode=require', () => {
    assert.equal(parse('sslnegotiation=direct sslmode=require').tls.negotiation, 'direct')
    assert.match(refusal('sslnegotiation=direct'), /sslmode=prefer is too weak/)
  })

  test('require_auth lists what is allowed, or what is not', () => {
    assert.deepEqual([...parse('require_auth=scram-sha-256,md5').authMethods], ['md5', 'scram-sha-256'])
    assert.ok(!parse('require_auth=!password,!none').authMethods.has('none'))
    assert.ok(parse('require_auth=!password,!none').authMethods.has('md5'))
    assert.match(refusal('require_auth=md5,!none'), /mixes methods/)
    assert.match(refusal('require_auth=kerberos'), /names "kerberos"/)
  })
})
