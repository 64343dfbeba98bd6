import assert from 'node:assert/strict'
import { chmod, copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer } from '../../../src/postgres/connect/connection.ts'
import { type CertificateFiles, TestAuthority, withoutOpenssl } from '../../harness/postgres/certificates.ts'
import { type PgMajor, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'

describe('TLS to a real server', withoutOpenssl === undefined ? {} : { skip: withoutOpenssl }, () => {
  let authority: TestAuthority
  let stranger: TestAuthority
  let certificate: CertificateFiles
  let server: TestPostgres
  let home: string

  before(async () => {
    authority = await TestAuthority.create('walrx test authority')
    stranger = await TestAuthority.create('somebody else')
    certificate = await authority.issue('db.test', 'DNS:localhost,DNS:*.db.test')
    home = await mkdtemp(join(tmpdir(), 'walrx-home-'))
    server = await startTlsServer(17)
  })

  after(async () => {
    await server[Symbol.asyncDispose]()
    await authority[Symbol.asyncDispose]()
    await stranger[Symbol.asyncDispose]()
    await rm(home, { recursive: true })
  })

  async function startTlsServer(major: PgMajor): Promise<TestPostgres> {
    return startPostgres({ major, tls: { ...certificate, ca: authority.cert } })
  }

  /** Connects; returns whether the server says that the connection is encrypted, which ours must say too. */
  async function connect(more: string, at: TestPostgres = server, user: string = 'postgres'): Promise<boolean> {
    const text = `host=127.0.0.1 port=${at.port} user=${user} ${more}`
    const session = await new PgServer({ conninfo: parseConninfo(text, { env: {}, home }) }).connect()
    try {
      await session.identifySystem()
      const [row] = await at.sql<{ ssl: boolean }>(`select ssl from pg_stat_ssl where pid = ${session.backendPid}`)
      assert.equal(session.isEncrypted, row?.ssl)
      return row?.ssl ?? false
    } finally {
      await session.close()
    }
  }

  async function setHba(at: TestPostgres, hba: string): Promise<void> {
    await at.configure({ hba })
    await at.reload()
  }

  const trust = (type: string) => `${type} replication all 127.0.0.1/32 trust`

  describe('sslmode', () => {
    test('disable and allow are plain, prefer and require are encrypted, where both are allowed', async () => {
      await setHba(server, trust('host'))
      const encrypted: boolean[] = []
      for (const mode of ['disable', 'allow', 'prefer', 'require']) encrypted.push(await connect(`sslmode=${mode}`))
      assert.deepEqual(encrypted, [false, false, true, true])
      assert.equal(await connect(''), true)
    })

    test('allow changes to TLS and prefer to plain where pg_hba.conf wants it', async () => {
      const refused = { code: 'WALRX_AUTH_FAILED', sqlstate: '28000' }
      await setHba(server, trust('hostssl'))
      assert.equal(await connect('sslmode=allow'), true)
      assert.equal(await connect('sslmode=prefer'), true)
      await assert.rejects(connect('sslmode=disable'), { ...refused, message: /\(without TLS\)/ })
      await setHba(server, trust('hostnossl'))
      assert.equal(await connect('sslmode=allow'), false)
      assert.equal(await connect('sslmode=prefer'), false)
      await assert.rejects(connect('sslmode=require'), { ...refused, message: /\(with TLS\)/ })
      await setHba(server, 'host replication nobody 127.0.0.1/32 trust')
      await assert.rejects(connect('sslmode=prefer'), {
        code: 'WALRX_AUTH_FAILED',
        message: /neither with TLS nor without it: .*\(with TLS\).*; .*\(without TLS\)/,
      })
      await setHba(server, trust('host'))
    })

    test('a server without TLS serves disable, allow and prefer, and require says so', async () => {
      await using plain = await startPostgres({ major: 17 })
      for (const mode of ['disable', 'allow', 'prefer']) assert.equal(await connect(`sslmode=${mode}`, plain), false)
      for (const mode of ['require', `verify-ca sslrootcert=${authority.cert}`]) {
        await assert.rejects(connect(`sslmode=${mode}`, plain), {
          code: 'WALRX_TLS_FAILED',
          message: /does not offer TLS, which sslmode=(require|verify-ca) requires/,
        })
      }
    })

    test('it is ignored on a unix socket', async () => {
      await setHba(server, 'local replication all trust')
      assert.equal(await connect(`host=${server.socketDir} sslmode=verify-full`), false)
      await setHba(server, trust('host'))
    })

    test('verify-ca needs a known authority, verify-full also the right name', async () => {
      const known = `sslrootcert=${authority.cert}`
      assert.equal(await connect(`sslmode=verify-ca ${known}`), true)
      assert.equal(await connect(`sslmode=verify-full ${known} host=localhost`), true)
      assert.equal(await connect(`sslmode=verify-full ${known} host=one.db.test hostaddr=127.0.0.1`), true)
      const strange = `sslrootcert=${stranger.cert}`
      for (const mode of ['require', 'verify-ca', 'verify-full']) {
        await assert.rejects(connect(`sslmode=${mode} ${strange} host=localhost`), {
          code: 'WALRX_TLS_FAILED',
          hint: /sslrootcert/,
        })
      }
      for (const host of ['127.0.0.1', 'two.one.db.test hostaddr=127.0.0.1', 'db.test hostaddr=127.0.0.1']) {
        await assert.rejects(connect(`sslmode=verify-full ${known} host=${host}`), {
          code: 'WALRX_TLS_FAILED',
          message: /ERR_TLS_CERT_ALTNAME_INVALID/,
        })
      }
      await assert.rejects(connect(`sslmode=verify-full ${known} host='' hostaddr=127.0.0.1`), { code: 'WALRX_USAGE' })
    })

    test('prefer goes on in plain when the authority is unknown, as libpq does', async () => {
      assert.equal(await connect(`sslmode=prefer sslrootcert=${stranger.cert}`), false)
    })

    test('a missing authority stops the verify modes only', async () => {
      assert.equal(await connect('sslmode=require sslrootcert=/nowhere/root.crt'), true)
      await assert.rejects(connect('sslmode=verify-ca sslrootcert=/nowhere/root.crt'), {
        code: 'WALRX_TLS_FAILED',
        message: 'root certificate file /nowhere/root.crt does not exist',
      })
      await assert.rejects(connect('sslmode=verify-full'), { message: /\.postgresql\/root\.crt does not exist/ })
      await assert.rejects(connect('sslrootcert=system host=localhost'), { code: 'WALRX_TLS_FAILED' })
    })

    test('a revoked certificate is refused where a list of revocations is given', async () => {
      const known = `sslmode=verify-ca sslrootcert=${authority.cert}`
      await using other = await TestAuthority.create('revoking')
      const files = await other.issue('db.test', 'DNS:localhost')
      await using revoked = await startPostgres({ major: 17, tls: files })
      const before = await other.revoke()
      assert.equal(await connect(`sslmode=verify-ca sslrootcert=${other.cert} sslcrl=${before}`, revoked), true)
      const list = await other.revoke(files)
      assert.equal(await connect(`sslmode=verify-ca sslrootcert=${other.cert}`, revoked), true)
      await assert.rejects(connect(`sslmode=verify-ca sslrootcert=${other.cert} sslcrl=${list}`, revoked), {
        code: 'WALRX_TLS_FAILED',
        message: /CERT_REVOKED/,
      })
      await assert.rejects(connect(`${known} sslcrl=/nowhere/crl`), { message: /revocation list \/nowhere\/crl/ })
    })

    test('direct TLS needs PostgreSQL 17', async () => {
      assert.equal(await connect('sslmode=require sslnegotiation=direct'), true)
      await using older = await startTlsServer(16)
      await assert.rejects(connect('sslmode=require sslnegotiation=direct', older), { code: 'WALRX_TLS_FAILED' })
    })

    test('protocol versions outside the bounds are not negotiated', async () => {
      assert.equal(await connect('sslmode=require ssl_min_protocol_version=TLSv1.3'), true)
      assert.equal(await connect('sslmode=require ssl_max_protocol_version=TLSv1.2'), true)
      await server.configure({ settings: { ssl_max_protocol_version: 'TLSv1.2' } })
      await server.restart()
      await assert.rejects(connect('sslmode=require ssl_min_protocol_version=TLSv1.3'), { code: 'WALRX_TLS_FAILED' })
      await server.configure({ settings: { ssl_max_protocol_version: '' } })
      await server.restart()
    })
  })

  describe('client certificates', () => {
    let client: CertificateFiles

    before(async () => {
      client = await authority.issue('certified')
      await server.sql('create role certified login replication')
      await setHba(server, 'hostssl replication certified 127.0.0.1/32 cert')
    })

    test('the role of the certificate gets in, nobody else does', async () => {
      const given = `sslmode=require sslcert=${client.cert} sslkey=${client.key}`
      assert.equal(await connect(given, server, 'certified'), true)
      await assert.rejects(connect(given), { code: 'WALRX_AUTH_FAILED' })
      await assert.rejects(connect('sslmode=require', server, 'certified'), { code: 'WALRX_AUTH_FAILED' })
      await assert.rejects(connect(`${given} sslcertmode=disable`, server, 'certified'), { code: 'WALRX_AUTH_FAILED' })
      const other = await authority.issue('other')
      const wrong = `sslmode=require sslcert=${other.cert} sslkey=${other.key}`
      await assert.rejects(connect(wrong, server, 'certified'), { code: 'WALRX_AUTH_FAILED' })
    })

    test('a certificate of a strange authority fails', async () => {
      const strange = await stranger.issue('certified')
      const given = `sslmode=require sslcert=${strange.cert} sslkey=${strange.key}`
      await assert.rejects(connect(given, server, 'certified'), { code: 'WALRX_TLS_FAILED' })
    })

    test('a key may be encrypted, and its password wrong', async () => {
      const secret = await authority.issue('certified', undefined, 'open sesame')
      const given = `sslmode=require sslcert=${secret.cert} sslkey=${secret.key}`
      assert.equal(await connect(`${given} sslpassword='open sesame'`, server, 'certified'), true)
      for (const wrong of [given, `${given} sslpassword=nonsense`]) {
        await assert.rejects(connect(wrong, server, 'certified'), (error: Error & { code: string }) => {
          assert.equal(error.code, 'WALRX_TLS_FAILED')
          assert.match(error.message, /^cannot use .*certified-\d+\.crt, .*certified-\d+\.key: /)
          assert.doesNotMatch(error.message, /nonsense/)
          return true
        })
      }
    })

    test('a key that other users may read, or that is missing, is refused with its path', async () => {
      const open = join(home, 'open.key')
      await copyFile(client.key, open)
      await chmod(open, 0o644)
      const given = `sslmode=require sslcert=${client.cert}`
      await assert.rejects(connect(`${given} sslkey=${open}`, server, 'certified'), {
        code: 'WALRX_TLS_FAILED',
        message: /other users may read the private key .*open\.key/,
      })
      await assert.rejects(connect(`${given} sslkey=/nowhere/key`, server, 'certified'), {
        message: /but its key .* does not/,
      })
    })

    test('files in ~/.postgresql are found without being named', async () => {
      const directory = join(home, '.postgresql')
      await mkdir(directory)
      await copyFile(client.cert, join(directory, 'postgresql.crt'))
      await copyFile(client.key, join(directory, 'postgresql.key'))
      await chmod(join(directory, 'postgresql.key'), 0o600)
      await copyFile(authority.cert, join(directory, 'root.crt'))
      assert.equal(await connect('sslmode=verify-full host=localhost', server, 'certified'), true)
      await copyFile(stranger.cert, join(directory, 'root.crt'))
      await assert.rejects(connect('sslmode=require', server, 'certified'), { code: 'WALRX_TLS_FAILED' })
      await rm(directory, { recursive: true })
    })
  })

  describe('channel binding', () => {
    before(async () => {
      await server.sql("create role bound login replication password 'pässword'")
      await setHba(server, 'host replication bound 127.0.0.1/32 scram-sha-256')
    })

    test('SCRAM binds to the TLS channel, and without TLS it cannot', async () => {
      const login = "password='pässword' channel_binding=require"
      assert.equal(await connect(`sslmode=require ${login}`, server, 'bound'), true)
      await assert.rejects(connect(`sslmode=disable ${login}`, server, 'bound'), {
        code: 'WALRX_AUTH_FAILED',
        message: /channel_binding=require is impossible/,
      })
      for (const binding of ['disable', 'prefer']) {
        const relaxed = `password='pässword' channel_binding=${binding}`
        assert.equal(await connect(`sslmode=require ${relaxed}`, server, 'bound'), true)
        assert.equal(await connect(`sslmode=disable ${relaxed}`, server, 'bound'), false)
      }
    })
  })
})
