import assert from 'node:assert/strict'
import { once } from 'node:events'
import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer } from '../../../src/postgres/connect/connection.ts'
import { encodeQuery } from '../../../src/postgres/protocol/frames.ts'
import { addBytes, formatLsn, parseLsn, segmentStart } from '../../../src/postgres/lsn.ts'
import { parseServerVersion, type PgSession } from '../../../src/postgres/connect/pg-session.ts'
import type { ByteSocket } from '../../../src/postgres/protocol/session.ts'
import { withNext } from '../../harness/extent.ts'
import { TestAuthority, withoutOpenssl } from '../../harness/postgres/certificates.ts'
import { startStandby } from '../../harness/postgres/postgres-copies.ts'
import { majorSkip, type PgMajor, pgMajors, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { generateWal } from '../../harness/made/wal-load.ts'

function connect(server: TestPostgres, more: string = '', user: string = 'repl'): Promise<PgSession> {
  return new PgServer({ conninfo: parseConninfo(`${server.conninfo(user)} ${more}`, { env: {} }) }).connect()
}

test('server versions are read in every spelling', () => {
  assert.equal(parseServerVersion('17.10 (Debian 17.10-1.pgdg120+1)'), 170_010)
  assert.equal(parseServerVersion('14.23'), 140_023)
  assert.equal(parseServerVersion('18beta1'), 180_000)
  assert.equal(parseServerVersion('19devel'), 190_000)
  assert.equal(parseServerVersion('18rc1'), 180_000)
  assert.equal(parseServerVersion('none'), 0)
})

for (const major of withNext(pgMajors)) {
  describe(`commands on PostgreSQL ${major}, by a role with REPLICATION alone`, { skip: majorSkip(major) }, () => {
    let server: TestPostgres
    let session: PgSession

    before(async () => {
      server = await startPostgres({ major, segmentSizeMb: 1, settings: { wal_level: 'logical' } })
      await server.sql('create role repl login replication')
      await server.sql("select pg_create_logical_replication_slot('logical_one', 'test_decoding')").catch(async () => {
        // Where the package lacks the module, the built-in one will do.
        await server.sql("select pg_create_logical_replication_slot('logical_one', 'pgoutput')")
      })
      // Nothing but replication connections: no ordinary one for this role.
      await server.configure({ hba: 'host replication repl 127.0.0.1/32 trust' })
      await server.reload()
      session = await connect(server)
    })

    after(async () => {
      await session.close()
      await server[Symbol.asyncDispose]()
    })

    test('the system is identified', async () => {
      const identity = await session.identifySystem()
      assert.equal(identity.systemId, server.systemId)
      assert.equal(identity.timeline, 1)
      const [row] = await server.sql<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn')
      assert.ok(identity.xlogpos <= parseLsn(row?.lsn ?? ''))
      assert.ok(identity.xlogpos > 0n)
      assert.equal(Math.floor(session.serverVersion / 10_000), major)
      assert.equal(session.inRecovery, false)
      const [own] = await server.sql<{ name: string }>(
        `select application_name as name from pg_stat_replication where pid = ${session.backendPid}`,
      )
      assert.equal(own?.name, 'walrx')
    })

    test('it is said which WAL the server still has, and the connection can be used afterwards', async () => {
      await generateWal(server, { segments: 3 })
      const { xlogpos } = await session.identifySystem()
      const written = segmentStart(addBytes(xlogpos, -2 * 1024 * 1024), 1024 * 1024)
      for (let turn = 0; turn < 3; turn++) {
        assert.equal(await session.hasWal(1, parseLsn('0/100000')), false)
        assert.equal(await session.hasWal(1, written), true)
      }
      await assert.rejects(session.hasWal(7, written), { code: 'WALRX_SERVER_ERROR' })
      assert.equal((await session.identifySystem()).timeline, 1)
      assert.equal(await session.show('wal_segment_size'), '1MB')
    })

    test('settings are shown, and what the role may not see is refused as such', async () => {
      assert.equal(await session.show('wal_segment_size'), '1MB')
      assert.equal(await session.show('wal_sender_timeout'), '1min')
      await assert.rejects(session.show('data_directory'), { code: 'WALRX_NO_PRIVILEGE', sqlstate: '42501' })
      await assert.rejects(session.show('no_such_setting'), { code: 'WALRX_SERVER_ERROR', sqlstate: '42704' })
      // An error leaves the connection usable.
      assert.equal(await session.show('wal_segment_size'), '1MB')
    })

    test('a slot is missing, is made once, and holds WAL from then on', async () => {
      const unreadable = major < 15
      const reading = () => session.readSlot('walrx')
      assert.deepEqual(await reading(), { kind: unreadable ? 'unreadable' : 'missing' })
      await session.createSlot('walrx')
      await session.createSlot('walrx')
      const [row] = await server.sql<{ lsn: string }>(
        "select restart_lsn::text as lsn from pg_replication_slots where slot_name = 'walrx'",
      )
      const physical = { kind: 'physical', restartLsn: parseLsn(row?.lsn ?? ''), restartTimeline: 1 }
      assert.deepEqual(await reading(), unreadable ? { kind: 'unreadable' } : physical)
    })

    test('a slot is dropped, and that there is none is no error', async () => {
      const count = async () => (await server.sql("select from pg_replication_slots where slot_name = 'doomed'")).length
      await session.createSlot('doomed')
      assert.equal(await count(), 1)
      await session.dropSlot('doomed')
      await session.dropSlot('doomed')
      assert.equal(await count(), 0)
      await assert.rejects(session.dropSlot('No Name'), { code: 'WALRX_USAGE' })
    })

    const noCommand = major < 15 ? { skip: 'PostgreSQL 14 has no command to read slots' } : {}
    test('a logical slot and one that holds nothing are distinguished', noCommand, async () => {
      assert.deepEqual(await session.readSlot('logical_one'), { kind: 'logical' })
      await server.sql("select pg_create_physical_replication_slot('idle_one')")
      assert.deepEqual(await session.readSlot('idle_one'), {
        kind: 'physical',
        restartLsn: undefined,
        restartTimeline: undefined,
      })
    })

    test('no more slots than the server has is an error with a remedy', async () => {
      const [row] = await server.sql<{ free: number }>(
        `select current_setting('max_replication_slots')::int - count(*)::int as free from pg_replication_slots`,
      )
      for (let index = 0; index < (row?.free ?? 0); index++) await session.createSlot(`filler_${index}`)
      await assert.rejects(session.createSlot('one_too_many'), {
        code: 'WALRX_SLOT_UNUSABLE',
        sqlstate: '53400',
        hint: /raise max_replication_slots/,
      })
    })

    test('the first timeline has no history, nor have timelines that never were', async () => {
      assert.equal(await session.timelineHistory(1), undefined)
      assert.equal(await session.timelineHistory(9), undefined)
    })
  })
}

test('PostgreSQL 14 reads slots over an ordinary connection where one is allowed', async () => {
  await using server = await startPostgres({ major: 14, settings: { wal_level: 'logical' } })
  const session = await connect(server, '', 'postgres')
  assert.deepEqual(await session.readSlot('walrx'), { kind: 'missing' })
  await session.createSlot('walrx')
  const reading = await session.readSlot('walrx')
  assert.ok(reading.kind === 'physical' && reading.restartLsn !== undefined)
  await server.sql("select pg_create_logical_replication_slot('logical_one', 'pgoutput')")
  assert.deepEqual(await session.readSlot('logical_one'), { kind: 'logical' })
  await session.close()
})

for (const major of [14, 18] as const satisfies PgMajor[]) {
  test(`the history of a promoted PostgreSQL ${major} is given byte for byte, whatever the bytes are`, async () => {
    await using primary = await startPostgres({ major, segmentSizeMb: 1 })
    await using standby = await startStandby(primary)
    const session = await connect(standby, '', 'postgres')
    assert.equal(session.inRecovery, true)
    await standby.promote()
    // A walsender of a standby goes on after the promotion, and hears of it.
    assert.equal((await session.identifySystem()).timeline, 2)
    assert.equal(session.inRecovery, false)
    const path = join(standby.pgWal(), '00000002.history')
    const strange = Buffer.from([...Array(255).keys()].map((byte) => byte + 1))
    await appendFile(path, Buffer.concat([Buffer.from('# '), strange, Buffer.from('\0\n')]))
    const history = await session.timelineHistory(2)
    assert.equal(history?.fileName, '00000002.history')
    assert.equal(history.timeline, 2)
    assert.deepEqual(history.content, await readFile(path))
    await session.close()
  })
}

/** Reads a stream in CopyBoth: checks the framing and collects WAL. */
class StreamReader {
  readonly types: string[] = []
  readonly wal: Buffer[] = []
  firstLsn: bigint | undefined
  byteCount = 0
  #rest = Buffer.alloc(0)
  #wake: (() => void) | undefined

  onBytes = (chunk: Uint8Array): void => {
    this.byteCount += chunk.length
    this.#rest = Buffer.concat([this.#rest, chunk])
    for (;;) {
      const length = this.#rest.length < 5 ? Infinity : 1 + this.#rest.readUInt32BE(1)
      if (this.#rest.length < length) break
      const message = this.#rest.subarray(0, length)
      this.#rest = this.#rest.subarray(length)
      const type = message.toString('latin1', 0, 1)
      this.types.push(type === 'd' ? `d${String.fromCharCode(message[5] ?? 0)}` : type)
      if (type === 'd' && message[5] === 0x77) {
        this.firstLsn ??= message.readBigUInt64BE(6)
        this.wal.push(Buffer.from(message.subarray(30)))
      }
    }
    this.#wake?.()
  }

  /** Resolves when `reached` is true of what has arrived; rejects when that takes half a minute. */
  async until(reached: () => boolean): Promise<void> {
    const deadline = AbortSignal.timeout(30_000)
    const tooLate = once(deadline, 'abort')
    while (!reached()) {
      await Promise.race([new Promise<void>((resolve) => (this.#wake = resolve)), tooLate])
      if (deadline.aborted) throw new Error(`nothing more arrived after ${this.byteCount} bytes`)
    }
  }

  get walBytes(): number {
    return this.wal.reduce((sum, piece) => sum + piece.length, 0)
  }
}

const skipTls = withoutOpenssl === undefined ? {} : { skip: withoutOpenssl }

for (const kind of ['plain', 'TLS'] as const) {
  describe(`a ${kind} socket that was taken over`, kind === 'TLS' ? skipTls : {}, () => {
    const megabyte = 1024 * 1024
    let server: TestPostgres
    let authority: TestAuthority | undefined

    before(async () => {
      if (kind === 'TLS') authority = await TestAuthority.create('walrx')
      const tls = await authority?.issue('db.test')
      server = await startPostgres({
        major: 17,
        segmentSizeMb: 1,
        settings: { wal_keep_size: '1GB' },
        ...(tls && { tls }),
      })
      await server.sql('create role repl login replication')
      await generateWal(server, { segments: 8, fill: 'full' })
    })

    after(async () => {
      await server[Symbol.asyncDispose]()
      await authority?.[Symbol.asyncDispose]()
    })

    const tlsMode = kind === 'TLS' ? 'sslmode=require' : 'sslmode=disable'

    /** Connects, takes the socket and asks for WAL from the segment of `startLsn` on. */
    async function stream(
      reader: StreamReader,
      onBytes: (chunk: Uint8Array, socket: ByteSocket) => void = reader.onBytes,
    ): Promise<{ session: PgSession; socket: ByteSocket; startLsn: bigint; closed: Promise<Error | undefined> }> {
      const session = await connect(server, tlsMode)
      assert.equal(session.isEncrypted, kind === 'TLS')
      const { timeline, xlogpos } = await session.identifySystem()
      const startLsn = (parseLsn(formatLsn(xlogpos)) / BigInt(megabyte)) * BigInt(megabyte) - BigInt(4 * megabyte)
      const socket = session.takeOver()
      let closings = 0
      const closed = new Promise<Error | undefined>((resolve) => {
        socket.start({
          onBytes: (chunk) => onBytes(chunk, socket),
          onClose: (error) => {
            closings++
            assert.equal(closings, 1)
            resolve(error)
          },
        })
      })
      const from = formatLsn(startLsn as never)
      socket.write(encodeQuery(`START_REPLICATION PHYSICAL ${from} TIMELINE ${timeline}`))
      return { session, socket, startLsn, closed }
    }

    test('streams the bytes of pg_wal', async () => {
      const reader = new StreamReader()
      const { closed, session, startLsn } = await stream(reader)
      await reader.until(() => reader.walBytes >= 4 * megabyte)
      assert.equal(reader.types[0], 'W')
      assert.ok(reader.types.slice(1).every((type) => type === 'dw' || type === 'dk'))
      assert.equal(reader.firstLsn, startLsn)
      const wal = Buffer.concat(reader.wal)
      for (let index = 0; index < 4; index++) {
        const number = (startLsn / BigInt(megabyte) + BigInt(index)).toString(16).toUpperCase().padStart(8, '0')
        const file = await readFile(join(server.pgWal(), `0000000100000000${number}`))
        assert.ok(wal.subarray(index * megabyte, (index + 1) * megabyte).equals(file), number)
      }
      await session.close()
      assert.equal(await closed, undefined)
      await session.close()
    })

    if (kind === 'plain') {
      test('reads into one buffer again and again', async () => {
        const reader = new StreamReader()
        const buffers = new Set<ArrayBufferLike>()
        let atStart = true
        const { session } = await stream(reader, (chunk) => {
          buffers.add(chunk.buffer)
          atStart &&= chunk.byteOffset === 0
          reader.onBytes(chunk)
        })
        await reader.until(() => reader.walBytes >= 4 * megabyte)
        assert.equal(buffers.size, 1)
        assert.equal(atStart, true)
        assert.equal([...buffers][0]?.byteLength, 256 * 1024)
        await session.close()
      })
    }

    test('reads nothing while it is paused, not even when paused by the callback, and everything afterwards', async () => {
      const reader = new StreamReader()
      let isPaused = false
      let stolen = 0
      const { session, socket, startLsn } = await stream(reader, (chunk, taken) => {
        if (isPaused) stolen++
        reader.onBytes(chunk)
        if (reader.byteCount > megabyte && !isPaused) {
          isPaused = true
          taken.pause()
        }
      })
      await reader.until(() => isPaused)
      const atPause = reader.byteCount
      const position = await generateWal(server, { segments: 16, fill: 'full' })
      // Sending goes on: the server takes our word for what we have.
      socket.write(standbyStatus(startLsn + 1n))
      const seen = async () => {
        const [row] = await server.sql<{ seen: boolean }>(
          `select write_lsn = '${formatLsn((startLsn + 1n) as never)}' as seen from pg_stat_replication
           where pid = ${session.backendPid}`,
        )
        return row?.seen === true
      }
      while (!(await seen()));
      assert.equal(reader.byteCount, atPause)
      assert.equal(stolen, 0)
      isPaused = false
      socket.resume()
      // From now on it pauses and resumes all the time.
      const timer = setInterval(() => {
        isPaused = false
        socket.resume()
      }, 1)
      const wanted = Number(parseLsn(position) - startLsn)
      await reader.until(() => reader.walBytes >= wanted - megabyte).finally(() => clearInterval(timer))
      const number = ((parseLsn(position) - 1n) / BigInt(megabyte) - 2n).toString(16).toUpperCase().padStart(8, '0')
      const file = await readFile(join(server.pgWal(), `0000000100000000${number}`))
      const offset = Number(`0x${number}`) * megabyte - Number(startLsn)
      assert.ok(
        Buffer.concat(reader.wal)
          .subarray(offset, offset + megabyte)
          .equals(file),
      )
      await session.close()
    })

    test('a server that stops closes it with the reason said, one that dies without', async () => {
      const reader = new StreamReader()
      const { closed } = await stream(reader)
      await reader.until(() => reader.walBytes > 0)
      await server.stop('immediate')
      await closed
      await server.start()
      const second = new StreamReader()
      const next = await stream(second)
      await second.until(() => second.walBytes > 0)
      await server.kill9()
      await next.closed
      next.socket.write(Buffer.from('nobody reads this'))
      next.socket.pause()
      next.socket.resume()
      next.socket.destroy()
      await next.session.close()
      await server.start()
    })

    test('our own destroy closes it at once, without an error', async () => {
      const reader = new StreamReader()
      const { closed, socket } = await stream(reader)
      socket.destroy()
      assert.equal(await closed, undefined)
    })
  })
}

/** A standby status update with a write position alone. */
function standbyStatus(write: bigint): Buffer {
  const message = Buffer.alloc(39)
  message.write('d', 0)
  message.writeUInt32BE(38, 1)
  message.write('r', 5)
  message.writeBigUInt64BE(write, 6)
  return message
}
