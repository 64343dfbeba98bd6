import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import { openWriteCodec } from '../../src/compression/codecs.ts'
import { askDaemon } from '../../src/daemon/daemon-client.ts'
import { DaemonRequests } from '../../src/daemon/daemon-requests.ts'
import { DaemonServer } from '../../src/daemon/daemon-server.ts'
import { encodeArguments, type ReplyType, requestFrame } from '../../src/daemon/frames.ts'
import { type LogFields, silentLog } from '../../src/observe/log.ts'
import { systemClock } from '../../src/primitives/clock.ts'
import { type ErrorCode, hasCode } from '../../src/primitives/errors.ts'
import { WalPusher } from '../../src/push/wal-pusher.ts'
import { fetchWalFile } from '../../src/restore/wal/wal-fetch.ts'
import { makeHistory, makeSegment } from '../harness/made/made-wal.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'
import { until } from '../harness/time/until.ts'
import { nth, ServerFiles } from '../push/server-files.ts'
import { backupHistory } from '../push/wal-label.ts'

const [name, other] = [nth(5), nth(6)]
const signal = new AbortController().signal

let files: ServerFiles
let storage: MemoryStorage
let socketPath: string
let server: DaemonServer
let pusher: WalPusher
let errors: string[]
let uploadTimeoutMs = 60_000

beforeEach(async () => {
  files = await ServerFiles.make()
  storage = new MemoryStorage()
  socketPath = join(files.dataDir, 's')
  errors = []
  await open()
})
afterEach(async () => {
  uploadTimeoutMs = 60_000
  pusher.destroy()
  const now = new AbortController()
  now.abort()
  await server.close(now.signal)
  assert.ok(!existsSync(socketPath), 'the socket is left')
  files.remove()
})

async function open(): Promise<void> {
  const log = { ...silentLog, error: (_: string, fields?: LogFields) => void errors.push(String(fields?.['error'])) }
  pusher = new WalPusher({
    storage,
    codec: openWriteCodec('zstd'),
    identity: storage.location,
    knowledgePath: undefined,
    log,
    clock: systemClock,
    memoryBytes: undefined,
    concurrency: 16,
    filesMax: 32,
    renameReady: false,
    isLasting: true,
  })
  const { dataDir } = files
  const requests = new DaemonRequests({
    dataDir,
    pusher,
    fetch: (file, dest, stop) =>
      fetchWalFile({ storage, name: file, dest, dataDir, retryTimeoutMs: 0, isStandby: false, signal: stop, log }),
    uploadTimeoutMs,
    clock: systemClock,
    log,
  })
  server = new DaemonServer({ handle: (frame, gone) => requests.handle(frame, gone), clock: systemClock, log })
  await server.listen(socketPath)
}

/** Sends bytes, and returns all that comes until the daemon closes the connection. */
async function exchange(...pieces: (Uint8Array | string)[]): Promise<string> {
  const socket = connect(socketPath)
  const answer: Buffer[] = []
  socket.on('data', (piece: Buffer) => void answer.push(piece))
  socket.on('error', () => {})
  const closed = new Promise((resolve) => socket.once('close', resolve))
  for (const piece of pieces) {
    await new Promise<void>((sent) => socket.write(piece, 'latin1' as BufferEncoding, () => sent()))
    await new Promise((turn) => setImmediate(turn))
  }
  await closed
  return Buffer.concat(answer).toString('latin1')
}

const ask = (frame: Buffer): Promise<ReplyType> =>
  askDaemon({ socketPath, frame, connectTimeoutMs: 5000, timeoutMs: 20_000, signal })
const push = (text: string) => ask(requestFrame('F', Buffer.from(text)))
const fetch = (...words: string[]) => ask(requestFrame('f', encodeArguments(words)))
const keys = () => [...storage.objects.keys()].filter((key) => key.startsWith('wal_005/'))
const [done, failed] = ['O\0\x03', 'E\0\x03']

describe('the bytes', () => {
  test('a check leaves the connection open, a push ends it: as walg_archive asks', async () => {
    files.segment(name)
    assert.equal(await exchange('C\0\x08CHECK', `F\0\x1b${name}`), done + done)
    assert.deepEqual(keys(), [`wal_005/${name}.zst`])
  })

  test('requests may come in any pieces, and several at once', async () => {
    files.segment(name)
    assert.equal(await exchange(...`C\0\x08CHECKC\0\x03F\0\x1b${name}`), done + done + done)
    assert.equal(await exchange(`C\0\x03C\0\x03F\0\x1b${name}C\0\x03`), done + done + done, 'nothing after a push')
  })

  test('a name is cut at a zero: walg_archive fills its field up with whatever there is', async () => {
    files.put('00000002.history', makeHistory(2))
    assert.equal(await exchange('F\0\x1b00000002.history\0\xffg/../x'), done)
    assert.deepEqual(keys(), ['wal_005/00000002.history.zst'])
  })

  test('a name that walg_archive has cut means what waits', async () => {
    files.put(`${name}.partial`, makeSegment(name, { pages: 3 }))
    assert.equal(await exchange(`F\0\x1b${name}`), done)
    files.segment(other)
    assert.equal(await exchange(`F\0\x1b${other}`), done)
    files.put(`${other}.00000028.backup`, backupHistory(other, '0/600028'))
    assert.equal(await exchange(`F\0\x1b${other}`), done, 'the segment waits, too, and comes first')
    rmSync(files.status(other))
    assert.equal(keys().length, 2)
    assert.equal(await exchange(`F\0\x1b${other}`), done)
    assert.deepEqual(keys().sort(), [
      `wal_005/${name}.partial.zst`,
      `wal_005/${other}.00000028.backup.zst`,
      `wal_005/${other}.zst`,
    ])
  })

  test('what is no request is answered with an error, and the connection closed', async () => {
    for (const bytes of [
      'X\0\x03',
      'C\0\x02',
      'C\0\0',
      'O\0\x03',
      'f\0\x03',
      'f\0\x04\0',
      'f\0\x08\x02\0\x01a\0',
      'F\0\x03',
    ]) {
      assert.equal(await exchange(bytes), failed, JSON.stringify(bytes))
    }
    assert.equal(await exchange('C\0\x03', '?\0\x03'), done + failed)
  })

  test('a request that ends in the middle is an error, a connection without one is none', async () => {
    for (const [bytes, answer] of [
      ['F\0\x1b0000', failed],
      ['C', failed],
      ['', ''],
    ] as const) {
      const socket = connect({ path: socketPath, allowHalfOpen: true })
      let text = ''
      socket.on('data', (piece: Buffer) => (text += piece.toString('latin1')))
      socket.end(bytes, 'latin1')
      await once(socket, 'close')
      assert.equal(text, answer, JSON.stringify(bytes))
    }
    assert.equal(await exchange('C\0\x03', 'X\0\x03'), done + failed, 'the daemon goes on')
  })
})

describe('names and paths', () => {
  test('lie in pg_wal and in the data directory, and nowhere else', async () => {
    files.segment(name)
    mkdirSync(join(files.dataDir, 'elsewhere'))
    writeFileSync(join(files.dataDir, 'elsewhere', name), makeSegment(name))
    for (const text of [
      '',
      '.',
      '../x',
      `../${name}`,
      `elsewhere/${name}`,
      `/etc/${name}`,
      `${name}/`,
      'PG_VERSION',
      `${name}.zst`,
    ]) {
      assert.equal(await push(text), 'E', text)
    }
    assert.deepEqual(keys(), [])
    for (const text of [`pg_wal/${name}`, `${files.pgWal}/${name}`, name]) assert.equal(await push(text), 'O', text)
    for (const dest of ['', '..', '../x', '/tmp/walrx-x', 'a/../../x', '.', files.dataDir, 'global/pg_control']) {
      assert.equal(await fetch(name, dest), 'E', dest)
    }
    assert.equal(await fetch('../../etc/passwd', 'pg_wal/x'), 'E')
    assert.equal(statSync(join(files.dataDir, 'global', 'pg_control')).size, 8192)
  })

  test('a file is fetched to where PostgreSQL wants it, in place of what is there', async () => {
    storage.seed(`wal_005/${name}.zst`, zstdCompressSync(makeSegment(name)))
    writeFileSync(files.path('RECOVERYXLOG'), 'old')
    assert.equal(await fetch(name, 'pg_wal/RECOVERYXLOG'), 'O')
    assert.deepEqual(readFileSync(files.path('RECOVERYXLOG')), makeSegment(name))
    assert.equal(await fetch(name, join(files.dataDir, 'pg_wal', 'x')), 'O', 'a whole path, as pg_rewind has it')
    assert.equal(await fetch(name, 'fetched'), 'O')
    assert.equal(await fetch(other, 'pg_wal/RECOVERYXLOG'), 'N')
    assert.equal(await fetch(name), 'E')
    assert.equal(await fetch(name, 'a', 'b'), 'E')
  })
})

describe('a client that goes', () => {
  test('gets no file later: the next request for that place is another one', async () => {
    storage.seed(`wal_005/${name}.zst`, zstdCompressSync(makeSegment(name)))
    storage.seed(`wal_005/${other}.zst`, zstdCompressSync(makeSegment(other)))
    const waiting = Promise.withResolvers<void>()
    let isAsked = false
    storage.before = async ({ key }) => {
      if (!key.includes(name)) return
      isAsked = true
      await waiting.promise
    }
    const frame = requestFrame('f', encodeArguments([name, 'pg_wal/RECOVERYXLOG']))
    const given = new AbortController()
    const gone = askDaemon({ socketPath, frame, connectTimeoutMs: 0, timeoutMs: 60_000, signal: given.signal })
    gone.catch(() => {})
    await until('the request', () => isAsked)
    given.abort()
    await assert.rejects(gone)
    assert.equal(await fetch(other, 'pg_wal/RECOVERYXLOG'), 'O')
    waiting.resolve()
    await until('the end of the first', () => errors.length > 0)
    assert.deepEqual(readFileSync(files.path('RECOVERYXLOG')), makeSegment(other))
  })

  test('does not end the upload, which the next request joins', async () => {
    files.segment(name)
    const waiting = Promise.withResolvers<void>()
    storage.before = async ({ key, operation }) => {
      if (operation === 'putIfAbsent' && key.startsWith('wal_005')) await waiting.promise
    }
    const socket: Socket = connect(socketPath)
    socket.write(`F\0\x1b${name}`, 'latin1')
    const isPut = () => storage.log.some((call) => call.startsWith('putIfAbsent wal_005'))
    await until('the put', isPut)
    socket.destroy()
    const again = push(name)
    waiting.resolve()
    assert.equal(await again, 'O')
    assert.equal(storage.log.filter((call) => call.startsWith('putIfAbsent wal_005')).length, 1)
  })
})

test('an upload that takes too long is answered with an error, and goes on', async () => {
  uploadTimeoutMs = 60
  const now = new AbortController()
  now.abort()
  await server.close(now.signal)
  await open()
  files.segment(name)
  const waiting = Promise.withResolvers<void>()
  storage.before = async ({ key, operation }) => {
    if (operation === 'putIfAbsent' && key.startsWith('wal_005')) await waiting.promise
  }
  assert.equal(await push(name), 'E')
  assert.match(errors.join(), /was not archived within 0.06 s/)
  waiting.resolve()
  await until('the upload', () => keys().length === 1)
})

test('an archived file is remembered, and what PostgreSQL has removed since is no failure', async () => {
  files.segment(name)
  assert.equal(await push(name), 'O')
  rmSync(files.path(name))
  assert.equal(await push(name), 'O')
  assert.equal(await push(other), 'E')
})

test('files that wait are archived ahead, and a later request finds them done', async () => {
  for (let segno = 5; segno <= 12; segno++) files.segment(nth(segno))
  assert.equal(await push(name), 'O')
  await until('all of them', () => keys().length === 8)
  storage.calls.length = 0
  for (let segno = 6; segno <= 12; segno++) assert.equal(await push(nth(segno)), 'O')
  assert.equal(storage.log.filter((call) => call.startsWith('put')).length, 0)
})

test('a stop finishes what is under way, and lets go of those who ask nothing', async () => {
  files.segment(name)
  const waiting = Promise.withResolvers<void>()
  storage.before = async ({ key, operation }) => {
    if (operation === 'putIfAbsent' && key.startsWith('wal_005')) await waiting.promise
  }
  const idle = exchange('C\0\x03')
  const busy = push(name)
  await until('the put', () => storage.log.some((call) => call.startsWith('putIfAbsent wal_005')))
  const closed = server.close(signal)
  assert.equal(await idle, done)
  waiting.resolve()
  assert.equal(await busy, 'O')
  await closed
  await open()
})

describe('the socket', () => {
  const fails = (promise: Promise<unknown>, code: ErrorCode, message: RegExp) =>
    assert.rejects(promise, (error) => hasCode(error, code) && message.test(error.message))
  const another = () => new DaemonServer({ handle: () => Promise.resolve('O'), clock: systemClock, log: silentLog })

  test('is open to its owner, and to the group where the umask lets it', () => {
    assert.equal((statSync(socketPath).mode & 0o777 & ~0o660).toString(8), '0')
  })

  test('of a running daemon, and a file of another kind, stay as they are', async () => {
    await fails(another().listen(socketPath), 'WALRX_USAGE', /another daemon listens/)
    const path = files.path('x')
    writeFileSync(path, 'x')
    await fails(another().listen(path), 'WALRX_USAGE', /is no socket/)
    assert.equal(readFileSync(path, 'utf8'), 'x')
    await fails(another().listen(`/${'x'.repeat(110)}`), 'WALRX_USAGE', /at most 107/)
    await fails(another().listen('/nowhere/s'), 'WALRX_SYSTEM', /no socket can be made/)
  })

  test('of a daemon that was killed is taken over', async () => {
    const path = join(files.dataDir, 'old')
    const program = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`
    assert.equal(spawnSync(process.execPath, ['-e', program]).signal, 'SIGKILL')
    assert.ok(existsSync(path), 'the socket is there')
    const next = another()
    await next.listen(path)
    await next.close(signal)
    assert.ok(!existsSync(path))
  })
})

test('the client takes the one byte of WAL-G’s daemon, and knows what is no answer', async () => {
  const path = join(files.dataDir, 'walg')
  for (const [answer, means] of [
    ['O', 'O'],
    ['N', 'N'],
    ['E', 'E'],
    ['O\0\x03', 'O'],
    ['x', undefined],
    ['', undefined],
  ] as const) {
    const walg = createServer((socket) => socket.once('data', () => socket.end(answer))).listen(path)
    await once(walg, 'listening')
    const asked = askDaemon({
      socketPath: path,
      frame: requestFrame('C', Buffer.alloc(0)),
      connectTimeoutMs: 0,
      timeoutMs: 0,
      signal,
    })
    if (means === undefined) await assert.rejects(asked, (error) => hasCode(error, 'WALRX_DAEMON_FAILED'))
    else assert.equal(await asked, means)
    await new Promise((closed) => walg.close(closed))
  }
})
