import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { describe, test } from 'node:test'
import { createServer as createTlsServer } from 'node:tls'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer } from '../../../src/postgres/connect/connection.ts'
import { TestAuthority, withoutOpenssl } from '../../harness/postgres/certificates.ts'
import {
  authentication,
  errorResponse,
  message,
  ScriptedConnection,
  ScriptedServer,
  welcome,
} from '../../harness/postgres/scripted-server.ts'
import { connectTo, type Script } from '../../harness/postgres/scripted-session.ts'

const ownTimeouts =
  '-c idle_session_timeout=0 -c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c lock_timeout=0'

describe('the startup message', () => {
  test('holds what was asked for and nothing from the environment', async () => {
    let startup = ''
    const script: Script = async (connection) => {
      startup = (await connection.readUntyped()).toString('latin1')
      connection.write(welcome())
    }
    // What pg would read by itself.
    const before = { ...process.env }
    Object.assign(process.env, { PGOPTIONS: '-c evil=1', PGAPPNAME: 'evil', PGUSER: 'evil', PGPASSWORD: 'evil' })
    try {
      await connectTo(script, undefined, 'application_name=mine')
    } finally {
      process.env = before
    }
    const [version, ...rest] = [startup.slice(0, 4), ...startup.slice(4).split('\0')]
    assert.equal(version, '\0\x03\0\0')
    assert.deepEqual(rest, [
      ...['user', 'someone', 'database', 'replication', 'application_name', 'mine', 'replication', 'true'],
      ...['options', ownTimeouts, 'client_encoding', 'UTF8', '', ''],
    ])
  })

  test('options of the connection string reach the server', async () => {
    let startup = ''
    const script: Script = async (connection) => {
      startup = (await connection.readUntyped()).toString('latin1')
      connection.write(welcome())
    }
    await connectTo(script, undefined, "options='-c wal_sender_timeout=5s'")
    assert.ok(startup.includes(`\0options\0${ownTimeouts} -c wal_sender_timeout=5s\0`))
  })

  test('has no options of ours where something on the way refuses them, and others only once', async () => {
    const startups: string[] = []
    const refusing =
      (sqlstate: string): Script =>
      async (connection) => {
        startups.push((await connection.readUntyped()).toString('latin1'))
        const isRefused = startups.at(-1)?.includes('idle_session_timeout') === true
        connection.write(isRefused ? errorResponse(sqlstate, 'unsupported startup parameter: options') : welcome())
      }
    for (const sqlstate of ['08P01', '42704', '0A000']) {
      startups.length = 0
      await connectTo(refusing(sqlstate), undefined, "options='-c wal_sender_timeout=5s'")
      assert.equal(startups.length, 2, sqlstate)
      assert.match(startups[1] ?? '', /\0options\0-c wal_sender_timeout=5s\0/)
    }
    startups.length = 0
    await assert.rejects(connectTo(refusing('28P01')), { code: 'WALRX_AUTH_FAILED' })
    assert.equal(startups.length, 1)
  })
})

describe('the login', () => {
  test('reads version, recovery and process id, however the bytes are cut', async () => {
    const script: Script = async (connection) => {
      await connection.readUntyped()
      for (const byte of welcome('18beta1 (Debian 18~beta1-1)', 'on')) {
        connection.write(Buffer.from([byte]))
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    await connectTo(script, (session) => {
      assert.deepEqual([session.serverVersion, session.inRecovery, session.backendPid], [180_000, true, 1234])
      return Promise.resolve()
    })
  })

  test('a server older than 14 is refused by its version', async () => {
    const script: Script = async (connection) => {
      await connection.readUntyped()
      connection.write(welcome('13.20'))
    }
    await assert.rejects(connectTo(script), { code: 'WALRX_SERVER_UNSUPPORTED', message: /is PostgreSQL 13; .*14/ })
  })

  test('a method that walrx does not support is reported with its name', async () => {
    const ask = (code: number, rest?: string): Script => {
      return async (connection) => {
        await connection.readUntyped()
        connection.write(authentication(code, rest))
        await once(connection.socket, 'close')
      }
    }
    await assert.rejects(connectTo(ask(7)), { code: 'WALRX_AUTH_FAILED', message: /login method gss/ })
    await assert.rejects(connectTo(ask(99)), { message: /login method 99/ })
    await assert.rejects(connectTo(ask(10, 'OAUTHBEARER\0\0')), {
      message: /offers only the login mechanisms OAUTHBEARER/,
    })
  })

  test('require_auth refuses before anything made from the password is sent', async () => {
    let answered = false
    const ask = (first: Buffer): Script => {
      return async (connection) => {
        await connection.readUntyped()
        connection.write(first)
        connection.socket.once('data', () => (answered = true))
        await once(connection.socket, 'close')
      }
    }
    const cleartext = connectTo(ask(authentication(3)), undefined, 'password=x require_auth=scram-sha-256')
    await assert.rejects(cleartext, { message: /login method password, which require_auth does not allow/ })
    const none = connectTo(ask(welcome()), undefined, 'password=x require_auth=scram-sha-256')
    await assert.rejects(none, { message: /asks for no login at all/ })
    const unbound = connectTo(ask(authentication(10, 'SCRAM-SHA-256\0\0')), undefined, 'channel_binding=require')
    await assert.rejects(unbound, { message: /without TLS, so channel_binding=require is impossible/ })
    assert.equal(answered, false)
  })

  test('a server that skips its half of SCRAM is not believed', async () => {
    const script: Script = async (connection) => {
      await connection.readUntyped()
      connection.write(authentication(10, 'SCRAM-SHA-256\0\0'))
      const { body } = await connection.readMessage()
      const nonce = /r=(.*)$/.exec(body.toString('latin1'))?.[1] ?? ''
      connection.write(authentication(11, `r=${nonce}more,s=c2FsdA==,i=4096`))
      await connection.readMessage()
      connection.write(welcome())
    }
    await assert.rejects(connectTo(script, undefined, 'password=x'), {
      code: 'WALRX_AUTH_FAILED',
      message: /did not finish SCRAM/,
    })
  })

  test('a server that proves the wrong password is not believed', async () => {
    const script: Script = async (connection) => {
      await connection.readUntyped()
      connection.write(authentication(10, 'SCRAM-SHA-256\0\0'))
      const { body } = await connection.readMessage()
      const nonce = /r=(.*)$/.exec(body.toString('latin1'))?.[1] ?? ''
      connection.write(authentication(11, `r=${nonce}more,s=c2FsdA==,i=4096`))
      await connection.readMessage()
      // In one write, so that what follows the false proof is there already.
      connection.write(authentication(12, `v=${Buffer.alloc(32).toString('base64')}`), welcome())
    }
    await assert.rejects(connectTo(script, undefined, 'password=x'), {
      code: 'WALRX_AUTH_FAILED',
      message: /does not know the password/,
    })
  })

  test('a password that is asked for and missing is an error with both ways to give it', async () => {
    const script: Script = async (connection) => {
      await connection.readUntyped()
      connection.write(authentication(3))
    }
    await assert.rejects(
      connectTo(script, undefined, 'passfile=/nowhere/pgpass'),
      (error: Error & { hint: string }) => {
        assert.match(error.message, /asks for the password of role "someone", but none was given/)
        assert.match(
          error.hint,
          /set PGPASSWORD, or put the line 127\.0\.0\.1:\d+:replication:someone:PASSWORD into \/nowhere/,
        )
        return true
      },
    )
  })

  test('a cleartext password is sent as it is', async () => {
    let password = ''
    const script: Script = async (connection) => {
      await connection.readUntyped()
      connection.write(authentication(3))
      password = (await connection.readMessage()).body.toString('utf8')
      connection.write(welcome())
    }
    await connectTo(script, undefined, "password='ä b'")
    assert.equal(password, 'ä b\0')
  })

  test('a server that breaks off, babbles or stays silent ends the attempt with a reason', async () => {
    const say = (...parts: Buffer[]): Script => {
      return async (connection) => {
        await connection.readUntyped()
        connection.write(...parts)
        if (parts.length === 0) connection.socket.destroy()
      }
    }
    await assert.rejects(connectTo(say()), { code: 'WALRX_CONNECTION_LOST' })
    await assert.rejects(connectTo(say(message('x', 'y'))), { code: 'WALRX_PROTOCOL' })
    await assert.rejects(connectTo(say(Buffer.from('HTTP/1.1 400 Bad Request\r\n'))), { code: 'WALRX_PROTOCOL' })
    await assert.rejects(connectTo(say(message('R', ''))), { code: 'WALRX_PROTOCOL' })
    await assert.rejects(connectTo(say(message('Z', 'I'))), { message: /became ready without a login/ })
    await assert.rejects(connectTo(say(errorResponse('57P03', 'starting'))), { code: 'WALRX_SERVER_STARTING' })
    const silent = connectTo(() => Promise.resolve(), undefined, '', { connectTimeoutMs: 50 })
    await assert.rejects(silent, { code: 'WALRX_CONNECT_FAILED', message: /did not answer within 0\.05 s/ })
  })

  test('the signal ends an attempt with its own reason', async () => {
    await using server = await ScriptedServer.listen(async (connection) => {
      await connection.readUntyped()
      controller.abort(new Error('enough'))
    })
    const controller = new AbortController()
    const conninfo = parseConninfo(server.conninfo(), { env: {} })
    await assert.rejects(new PgServer({ conninfo }).connect(controller.signal), { message: 'enough' })
    await assert.rejects(new PgServer({ conninfo }).connect(controller.signal), { message: 'enough' })
    assert.equal(server.connectionCount, 1)
  })
})

describe('TLS before the login', () => {
  test('bytes that follow the answer in the clear are refused', async () => {
    const script: Script = async (connection) => {
      await connection.readUntyped()
      connection.write('S', errorResponse('28000', 'smuggled'))
    }
    await assert.rejects(connectTo(script, undefined, 'sslmode=require'), {
      code: 'WALRX_TLS_FAILED',
      message: /something other than yes or no/,
    })
  })

  test('sslmode=require takes no for a failure, and sslmode=prefer goes on without', async () => {
    const script: Script = async (connection, number) => {
      const first = await connection.readUntyped()
      if (first.length === 4) connection.write('N')
      else connection.write(welcome())
      assert.ok(number <= 3)
    }
    await assert.rejects(connectTo(script, undefined, 'sslmode=require'), { message: /does not offer TLS/ })
    await connectTo(script, undefined, 'sslmode=prefer')
  })

  test('a server that does not answer the request for TLS runs into the time-out', async () => {
    const silent = connectTo(() => Promise.resolve(), undefined, 'sslmode=require', { connectTimeoutMs: 50 })
    await assert.rejects(silent, { code: 'WALRX_CONNECT_FAILED' })
  })
})

describe('TLS without a question', { skip: withoutOpenssl }, () => {
  test('sslnegotiation=direct begins with TLS at once and names the protocol; sslsni decides whether the host is sent', async () => {
    await using authority = await TestAuthority.create('walrx')
    const { cert, key } = await authority.issue('db.test', 'DNS:db.test')
    const names: (string | false | null)[] = []
    const server = createTlsServer({
      cert: await readFile(cert),
      key: await readFile(key),
      ALPNProtocols: ['postgresql'],
    })
    server.on('secureConnection', (socket) => {
      assert.equal(socket.alpnProtocol, 'postgresql')
      names.push(socket.servername)
      void new ScriptedConnection(socket).readUntyped().then(() => socket.write(welcome()))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const base = `hostaddr=127.0.0.1 port=${port} user=x sslnegotiation=direct sslrootcert=${authority.cert}`
    try {
      for (const more of ['host=db.test', 'host=db.test sslsni=0', 'host=127.0.0.1']) {
        const mode = more.includes('db.test') ? 'verify-full' : 'verify-ca'
        const conninfo = parseConninfo(`${base} sslmode=${mode} ${more}`, { env: {} })
        const session = await new PgServer({ conninfo }).connect()
        assert.equal(session.isEncrypted, true)
        await session.close()
      }
    } finally {
      server.close()
    }
    assert.deepEqual(names, ['db.test', false, false])
  })
})
