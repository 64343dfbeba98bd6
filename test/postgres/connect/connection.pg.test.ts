import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer, type PgServerOptions } from '../../../src/postgres/connect/connection.ts'
import type { WalrxError } from '../../../src/primitives/errors.ts'
import { startStandby } from '../../harness/postgres/postgres-copies.ts'
import { freePort } from '../../harness/ports.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'

let server: TestPostgres
let closedPort: number

before(async () => {
  server = await startPostgres({ major: 17 })
  await server.sql(`
    set password_encryption = 'scram-sha-256';
    create role scram login replication password 'right';
    set password_encryption = 'md5';
    create role hashed login replication password 'right';
    create role plain login;
    create role sleeping replication;`)
  await server.configure({
    hba: `local replication all trust
      host replication scram 127.0.0.1/32 scram-sha-256
      host replication hashed 127.0.0.1/32 md5
      host replication plain,sleeping,postgres,missing 127.0.0.1/32 trust`,
  })
  await server.reload()
  closedPort = await freePort()
})

after(async () => server[Symbol.asyncDispose]())

/** Connects by `text` (a port is added where it has none) and returns the host that it came to. */
async function connect(text: string, options: Partial<PgServerOptions> & { home?: string } = {}): Promise<string> {
  const withPort = text.includes('port=') ? text : `${text} port=${server.port}`
  const conninfo = parseConninfo(withPort, { env: {}, osUser: 'postgres', home: options.home })
  const session = await new PgServer({ conninfo, ...options }).connect()
  try {
    const identity = await session.identifySystem()
    assert.equal(identity.systemId, server.systemId)
    return session.host
  } finally {
    await session.close()
  }
}

const local = 'host=127.0.0.1'

describe('passwords', () => {
  test('the right one is taken and the wrong one refused, by SCRAM and by md5', async () => {
    for (const user of ['scram', 'hashed']) {
      await connect(`${local} user=${user} password=right`)
      await assert.rejects(connect(`${local} user=${user} password=wrong`), (error: WalrxError) => {
        assert.equal(error.code, 'WALRX_AUTH_FAILED')
        assert.equal(error.transient, false)
        assert.match(
          error.message,
          /^127\.0\.0\.1:\d+ refused the login \(without TLS\): password authentication failed/,
        )
        assert.equal(
          error.hint,
          `check the password of role "${user}": it came from PGPASSWORD, a service or the connection string`,
        )
        return true
      })
    }
  })

  test('the password file is asked by host, port, replication and user', async () => {
    const home = await mkdtemp(join(tmpdir(), 'walrx-home-'))
    try {
      const path = join(home, '.pgpass')
      await writeFile(path, `127.0.0.1:${server.port}:replication:scram:right\n*:*:*:*:wrong\n`, { mode: 0o600 })
      await connect(`${local} user=scram`, { home })
      await writeFile(path, '*:*:*:*:wrong\n', { mode: 0o600 })
      await assert.rejects(connect(`${local} user=scram`, { home }), (error: WalrxError) => {
        assert.match(error.hint ?? '', /it came from .*\.pgpass, from the first line that matches 127\.0\.0\.1:/)
        return true
      })
      await assert.rejects(connect(`${local} user=hashed`, { home }), { code: 'WALRX_AUTH_FAILED', sqlstate: '28P01' })
      await connect(`${local} user=hashed password=right`, { home })
      await chmod(path, 0o644)
      await assert.rejects(connect(`${local} user=scram`, { home }), /asks for the password .* none was given/)
    } finally {
      await rm(home, { recursive: true })
    }
  })

  test('require_auth keeps md5 away', async () => {
    await connect(`${local} user=scram password=right require_auth=scram-sha-256`)
    await assert.rejects(connect(`${local} user=hashed password=right require_auth=scram-sha-256`), {
      message: /login method md5, which require_auth does not allow/,
    })
    await assert.rejects(connect(`${local} user=postgres require_auth=!none`), { message: /asks for no login at all/ })
  })
})

describe('roles and servers that do not serve', () => {
  async function refusal(text: string): Promise<WalrxError> {
    const outcome: unknown = await connect(text).catch((error: unknown) => error)
    assert.ok(outcome instanceof Error, `${text} was served`)
    return outcome as WalrxError
  }

  test('a role without REPLICATION gets a hint with the command that grants it', async () => {
    const error = await refusal(`${local} user=plain`)
    assert.equal(error.code, 'WALRX_NO_PRIVILEGE')
    assert.equal(error.hint, 'let a superuser run: ALTER ROLE "plain" REPLICATION')
  })

  test('a role that may not log in, does not exist, or is in no line of pg_hba.conf, gets a hint with what it needs', async () => {
    for (const user of ['sleeping', 'missing', 'elsewhere']) {
      const error = await refusal(`${local} user=${user}`)
      assert.equal(error.code, 'WALRX_AUTH_FAILED')
      assert.match(error.message, new RegExp(`user "${user}"|role "${user}"`))
      assert.equal(
        error.hint,
        `the role needs LOGIN and REPLICATION, and pg_hba.conf a line such as: host replication ${user} 127.0.0.1/32 scram-sha-256`,
      )
    }
  })

  test('a server without walsenders says so before anything else', async () => {
    await using minimal = await startPostgres({ major: 17, settings: { wal_level: 'minimal', max_wal_senders: '0' } })
    const error = await refusal(`${local} port=${minimal.port} user=nobody`)
    assert.equal(error.code, 'WALRX_NO_WALSENDER')
    assert.match(error.hint ?? '', /raise max_wal_senders \(it is 0 where wal_level is minimal\)/)
  })

  test('the last walsender in use is no walsender for us', async () => {
    await using single = await startPostgres({ major: 14, settings: { max_wal_senders: '1' } })
    const conninfo = parseConninfo(single.conninfo(), { env: {} })
    const first = await new PgServer({ conninfo }).connect()
    await assert.rejects(new PgServer({ conninfo }).connect(), { code: 'WALRX_NO_WALSENDER', sqlstate: '53300' })
    await first.close()
  })

  test('a standby that accepts no connections is a server that starts', async () => {
    await using primary = await startPostgres({ major: 17 })
    await using cold = await startStandby(primary, { settings: { hot_standby: 'off' } })
    const error = await refusal(`${local} port=${cold.port} user=postgres`)
    assert.equal(error.code, 'WALRX_SERVER_STARTING')
    assert.equal(error.transient, true)
  })

  test('no server, no host and no socket are distinguished', async () => {
    const nothing = await refusal(`${local} port=${closedPort} user=x`)
    assert.equal(nothing.code, 'WALRX_CONNECT_FAILED')
    assert.equal(nothing.message, `127.0.0.1:${closedPort} accepts no connections (ECONNREFUSED)`)
    const nowhere = await refusal('host=no-such-host.invalid user=x')
    assert.equal(nowhere.code, 'WALRX_CONNECT_FAILED')
    assert.match(nowhere.message, /^no-such-host\.invalid:\d+ (has an unknown host name|cannot be looked up now)/)
    const noSocket = await refusal('host=/nowhere port=5432 user=x')
    assert.equal(noSocket.message, '/nowhere/.s.PGSQL.5432 does not exist (ENOENT)')
  })
})

describe('addresses', () => {
  test('a unix socket is found by its directory', async () => {
    const host = await connect(`host=${server.socketDir} user=postgres`)
    assert.equal(host, `${server.socketDir}/.s.PGSQL.${server.port}`)
  })

  test('all addresses of a name are tried: the server listens on one of them only', async () => {
    assert.equal(await connect('host=localhost user=postgres'), `localhost:${server.port}`)
  })

  test('without a host it is the usual socket where there is one, else localhost', async () => {
    assert.equal(await connect('user=postgres'), `localhost:${server.port}`)
    await using usual = await startPostgres({ major: 17 })
    await usual.configure({ settings: { unix_socket_directories: `${usual.socketDir},/tmp` } })
    await usual.restart()
    assert.equal(await connect(`port=${usual.port} user=postgres`), `/tmp/.s.PGSQL.${usual.port}`)
  })

  test('hostaddr is where to connect, host what it is called', async () => {
    assert.equal(await connect('host=db.test hostaddr=127.0.0.1 user=postgres'), `db.test:${server.port}`)
  })
})

describe('several hosts', () => {
  test('the first that answers is taken', async () => {
    const ports = `port=${closedPort},${server.port}`
    assert.equal(await connect(`host=127.0.0.1,127.0.0.1 ${ports} user=postgres`), `127.0.0.1:${server.port}`)
    assert.equal(
      await connect(`host=no-such-host.invalid,127.0.0.1 user=postgres port=${server.port}`),
      `127.0.0.1:${server.port}`,
    )
  })

  test('one that refuses us does not hide the next, and all reasons are listed when none is left', async () => {
    const hosts = `host=127.0.0.1,${server.socketDir} port=${server.port}`
    assert.match(await connect(`${hosts} user=scram password=wrong`), /\.s\.PGSQL\./)
    const both = `host=127.0.0.1,127.0.0.1 port=${closedPort},${server.port}`
    await assert.rejects(connect(`${both} user=scram password=wrong`), (error: WalrxError) => {
      assert.equal(error.code, 'WALRX_AUTH_FAILED')
      assert.match(error.message, /^no host can be used: .*ECONNREFUSED.*; .*password authentication failed/)
      assert.match(error.hint ?? '', /check the password/)
      assert.equal(error.transient, true)
      return true
    })
  })

  test('load_balance_hosts=random draws the order', async () => {
    const hosts = `host=127.0.0.1,${server.socketDir} port=${server.port} user=postgres load_balance_hosts=random`
    assert.equal(await connect(hosts, { random: () => 0 }), `${server.socketDir}/.s.PGSQL.${server.port}`)
    assert.equal(await connect(hosts, { random: () => 0.99 }), `127.0.0.1:${server.port}`)
  })

  test('all are surveyed at once; those that do not answer, or fail, are left out', async () => {
    await using standby = await startStandby(server)
    const deaf = createServer().listen(0, '127.0.0.1')
    try {
      await once(deaf, 'listening')
      const ports = [closedPort, (deaf.address() as AddressInfo).port, server.port, standby.port]
      const hosts = `host=${ports.map(() => '127.0.0.1').join(',')} port=${ports.join(',')} user=postgres`
      const conninfo = parseConninfo(`${hosts} target_session_attrs=primary`, { env: {} })
      const seen: string[] = []
      await new PgServer({ conninfo }).survey(new AbortController().signal, async (session) => {
        await session.identifySystem()
        seen.push(session.host)
        if (session.inRecovery) throw new Error('a failure of the test')
      })
      assert.deepEqual(seen.toSorted(), [server.port, standby.port].map((port) => `127.0.0.1:${port}`).toSorted())
      const stop = new AbortController()
      const stopped = new PgServer({ conninfo }).survey(stop.signal, () => {
        stop.abort(new Error('stopped (test)'))
        return Promise.resolve()
      })
      await assert.rejects(stopped, /stopped \(test\)/)
    } finally {
      deaf.close()
    }
  })

  test('a standby is passed over or looked for, as target_session_attrs and acceptStandby say', async () => {
    await using standby = await startStandby(server)
    const user = 'user=postgres'
    const both = `host=127.0.0.1,127.0.0.1 port=${standby.port},${server.port} ${user}`
    const at = (port: number) => `127.0.0.1:${port}`
    assert.equal(await connect(both), at(standby.port))
    assert.equal(await connect(both, { acceptStandby: false }), at(server.port))
    assert.equal(await connect(`${both} target_session_attrs=any`, { acceptStandby: false }), at(server.port))
    assert.equal(await connect(`${both} target_session_attrs=standby`, { acceptStandby: false }), at(standby.port))
    for (const primary of ['primary', 'read-write']) {
      assert.equal(await connect(`${both} target_session_attrs=${primary}`), at(server.port))
    }
    const other = `host=127.0.0.1,127.0.0.1 port=${server.port},${standby.port} ${user}`
    for (const second of ['standby', 'prefer-standby', 'read-only']) {
      assert.equal(await connect(`${other} target_session_attrs=${second}`), at(standby.port))
    }
    const alone = `${local} ${user} port=${server.port}`
    assert.equal(await connect(`${alone} target_session_attrs=prefer-standby`), at(server.port))
    await assert.rejects(connect(`${alone} target_session_attrs=standby`), {
      code: 'WALRX_CONNECT_FAILED',
      message: /is not a standby, but target_session_attrs is standby/,
    })
    const onlyStandby = `${local} ${user} port=${standby.port}`
    assert.equal(await connect(onlyStandby, { acceptStandby: false }), at(standby.port))
    await assert.rejects(connect(`${onlyStandby} target_session_attrs=primary`), { code: 'WALRX_SOURCE_IN_RECOVERY' })
  })
})
