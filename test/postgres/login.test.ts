import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import { parseConninfo } from '../../src/postgres/conninfo.ts'
import { PgServer, type PgServerOptions } from '../../src/postgres/connection.ts'
import type { PgSession } from '../../src/postgres/pg-session.ts'
import {
  authentication,
  errorResponse,
  message,
  type ScriptedConnection,
  ScriptedServer,
  welcome,
} from '../harness/scripted-server.ts'

type Script = (connection: ScriptedConnection, number: number) => Promise<void>

/** Connects to a server that plays `script`; the connection string is extended by `more`. */
async function connectTo(
  script: Script,
  use: (session: PgSession, server: ScriptedServer) => Promise<void> = async () => {},
  more: string = '',
  options: Partial<PgServerOptions> = {},
): Promise<void> {
  await using server = await ScriptedServer.listen(script)
  const conninfo = parseConninfo(`${server.conninfo()} ${more}`, { env: {} })
  const session = await new PgServer({ conninfo, ...options }).connect()
  try {
    await use(session, server)
  } finally {
    await session.close()
  }
}

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
      ...['options', ' ', 'client_encoding', 'UTF8', '', ''],
    ])
  })

  test('options of the connection string reach the server', async () => {
    let startup = ''
    const script: Script = async (connection) => {
      startup = (await connection.readUntyped()).toString('latin1')
      connection.write(welcome())
    }
    await connectTo(script, undefined, "options='-c wal_sender_timeout=5s'")
    assert.match(startup, /\0options\0-c wal_sender_timeout=5s\0/)
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

  test('a method that walrx does not know is named', async () => {
    const ask = (code: number, rest?: string): Script => {
      return async (connection) => {
        await connection.readUntyped()
        connection.write(authentication(code, rest))
        await once(connection.socket, 'close')
      }
    }
    await assert.rejects(connectTo(ask(7)), { code: 'WALRX_AUTH_FAILED', message: /login method gss/ })
    await assert.rejects(connectTo(ask(99)), { message: /login method 99/ })
    await assert.rejects(connectTo(ask(10, 'OAUTHBEARER\0\0')), { message: /mechanisms OAUTHBEARER only/ })
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
    await assert.rejects(unbound, { message: /without TLS, so there is no channel to bind to/ })
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
      message: /server signature does not match/,
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
        assert.match(error.message, /asks for the password of role "someone", and none was given/)
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
      message: /something else than yes or no/,
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

describe('commands', () => {
  /** Serves logins, then calls `answer` for each command. */
  function serving(answer: (connection: ScriptedConnection, command: string) => void): Script {
    return async (connection) => {
      await connection.readUntyped()
      connection.write(welcome())
      for (;;) {
        const { body, type } = await connection.readMessage()
        if (type === 'X') {
          connection.socket.end()
          return
        }
        assert.equal(type, 'Q')
        answer(connection, body.toString('utf8').replace(/\0$/, ''))
      }
    }
  }

  test('one that is not answered in time means a dead connection', async () => {
    const silent = serving(() => {})
    const use = async (session: PgSession) => {
      await assert.rejects(session.identifySystem(), {
        code: 'WALRX_CONNECTION_LOST',
        message: /did not answer IDENTIFY_SYSTEM within 0\.05 s/,
      })
      await assert.rejects(session.show('x'), { code: 'WALRX_CONNECTION_LOST' })
    }
    await connectTo(silent, use, '', { commandTimeoutMs: 50 })
  })

  test('an answer that does not fit is a protocol error', async () => {
    const use = async (session: PgSession) => {
      await assert.rejects(session.identifySystem(), { code: 'WALRX_PROTOCOL' })
    }
    await connectTo(
      serving((connection) => connection.write(message('G', '\0\0\0'))),
      use,
    )
    await connectTo(
      serving((connection) => connection.write(message('D', '\0\x01\0\0\0\x09x'), message('Z', 'I'))),
      use,
    )
    await connectTo(
      serving((connection) => connection.write(message('C', 'X\0'), message('Z', 'I'))),
      use,
    )
    await connectTo(
      serving((connection) => connection.write('D\x7f\xff\xff\xff')),
      use,
    )
  })

  test('a server that ends the connection in the middle of a command says why', async () => {
    const dying = serving((connection) => {
      connection.write(errorResponse('57P01', 'terminating connection'))
      connection.socket.end()
    })
    await connectTo(dying, async (session) => {
      await assert.rejects(session.identifySystem(), {
        code: 'WALRX_CONNECTION_LOST',
        message: /answered IDENTIFY_SYSTEM with: terminating connection/,
      })
    })
  })

  test('a connection that the server ends while idle says why at the next command', async () => {
    const script: Script = async (connection) => {
      await connection.readUntyped()
      // In the same write as the welcome: nothing behind it may be lost.
      connection.write(welcome(), errorResponse('57P01', 'terminating connection'))
      connection.socket.end()
    }
    await connectTo(script, async (session) => {
      await assert.rejects(session.identifySystem(), { message: /ended the connection with: terminating connection/ })
    })
  })

  test('recovery that ends meanwhile is noticed', async () => {
    const answer = (connection: ScriptedConnection) => {
      connection.write(message('S', 'in_hot_standby\0off\0'), message('D', '\0\x01\0\0\0\x01x'), message('Z', 'I'))
    }
    const script: Script = async (connection, number) => {
      await connection.readUntyped()
      connection.write(welcome('17.1', 'on'))
      assert.equal(number, 1)
      await connection.readMessage()
      answer(connection)
    }
    await connectTo(script, async (session) => {
      assert.equal(session.inRecovery, true)
      await session.show('anything')
      assert.equal(session.inRecovery, false)
    })
  })

  test('two commands at once, and a socket that is taken while one runs, are defects', async () => {
    const slow = serving((connection) => {
      setTimeout(() => connection.write(message('D', '\0\x01\0\0\0\x01x'), message('Z', 'I')), 20)
    })
    await connectTo(slow, async (session) => {
      const first = session.show('a')
      await assert.rejects(session.show('b'), { code: 'WALRX_INTERNAL', message: /SHOW was sent .* while SHOW runs/ })
      assert.throws(() => session.takeOver(), { code: 'WALRX_INTERNAL' })
      assert.equal(await first, 'x')
      session.takeOver()
      await assert.rejects(session.show('c'), { code: 'WALRX_INTERNAL' })
    })
  })

  test('what arrived before anybody listened is given to whoever takes the socket', async () => {
    const notice = message('N', 'MHello\0\0')
    const script: Script = async (connection) => {
      await connection.readUntyped()
      connection.write(welcome(), notice.subarray(0, 3))
      await connection.readMessage()
    }
    await using server = await ScriptedServer.listen(async (connection, number) => {
      await script(connection, number)
    })
    const session = await new PgServer({ conninfo: parseConninfo(server.conninfo(), { env: {} }) }).connect()
    const socket = session.takeOver()
    const received: Buffer[] = []
    let closings = 0
    const closed = new Promise<void>((resolve) => {
      socket.start({
        onBytes: (chunk) => void received.push(Buffer.from(chunk)),
        onClose: () => {
          closings++
          resolve()
        },
      })
    })
    assert.deepEqual(Buffer.concat(received), notice.subarray(0, 3))
    socket.destroy()
    socket.destroy()
    socket.write(Buffer.from('ignored'))
    await closed
    await session.close()
    await session.close()
    assert.equal(closings, 1)
  })

  test('names that are no names never reach the server', async () => {
    await connectTo(
      serving((connection) => connection.socket.destroy()),
      async (session) => {
        for (const slot of ['', 'Slot', 'a-b', 'a"b', "a'b", 'a'.repeat(64), 'ä']) {
          await assert.rejects(session.readSlot(slot), { code: 'WALRX_USAGE', message: /cannot be the name/ })
          await assert.rejects(session.createSlot(slot), { code: 'WALRX_USAGE' })
        }
        await assert.rejects(session.show('a; drop'), { code: 'WALRX_USAGE' })
      },
    )
  })
})
