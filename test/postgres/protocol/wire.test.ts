import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer } from '../../../src/postgres/connect/connection.ts'
import type { PgSession } from '../../../src/postgres/connect/pg-session.ts'
import {
  errorResponse,
  message,
  type ScriptedConnection,
  ScriptedServer,
  welcome,
} from '../../harness/postgres/scripted-server.ts'
import { connectTo, type Script } from '../../harness/postgres/scripted-session.ts'

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
      // In the same write as the welcome: nothing after it may be lost.
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

  test('bytes that arrived before there was a listener are given to the next owner of the socket', async () => {
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
          await assert.rejects(session.readSlot(slot), { code: 'WALRX_USAGE', message: /is not a valid name/ })
          await assert.rejects(session.createSlot(slot), { code: 'WALRX_USAGE' })
        }
        await assert.rejects(session.show('a; drop'), { code: 'WALRX_USAGE' })
      },
    )
  })
})
