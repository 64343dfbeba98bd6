import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { openWriteCodec } from '../../src/compression/codecs.ts'
import { silentLog } from '../../src/observe/log.ts'
import { systemClock } from '../../src/primitives/clock.ts'
import { type ErrorCode, hasCode } from '../../src/primitives/errors.ts'
import { knowledgePath } from '../../src/push/known-archive.ts'
import { WalPusher, type WalPusherOptions } from '../../src/push/wal-pusher.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { madeSegmentSize, makeHistory, makeSegment } from '../harness/made/made-wal.ts'
import { MemoryStorage, unavailable } from '../harness/store/memory-storage.ts'
import { testKeyring } from '../harness/store/test-keys.ts'
import { until } from '../harness/time/until.ts'
import { nth, ServerFiles } from './server-files.ts'
import { backupHistory } from './wal-label.ts'

let files: ServerFiles
let storage: MemoryStorage
beforeEach(async () => {
  files = await ServerFiles.make()
  storage = new MemoryStorage()
})
afterEach(() => {
  assert.equal(storage.openBodies, 0, 'a body was left open')
  files.remove()
})

const signal = new AbortController().signal

/** A pusher as `walrx wal-push` has one. */
function open(options: Partial<WalPusherOptions> & { readonly method?: 'zstd' | 'lz4' | 'none' } = {}): WalPusher {
  const { method = 'zstd', ...others } = options
  const used: Storage = options.storage ?? storage
  return new WalPusher({
    storage: used,
    codec: openWriteCodec(method),
    identity: used.location,
    knowledgePath: knowledgePath(files.path('x')),
    log: silentLog,
    clock: systemClock,
    memoryBytes: undefined,
    concurrency: 16,
    filesMax: 32,
    renameReady: false,
    isLasting: false,
    ...others,
  })
}

/** What one archive_command does. */
async function push(path: string, options?: Parameters<typeof open>[0]): Promise<string> {
  const pusher = open(options)
  try {
    const outcome = await pusher.push(path, signal)
    await pusher.end(10_000)
    return outcome
  } finally {
    pusher.destroy()
  }
}

const fails = (promise: Promise<unknown>, code: ErrorCode, message = /./) =>
  assert.rejects(promise, (error) => {
    assert.ok(hasCode(error, code), `${code} expected: ${String(error)}`)
    assert.match(error.message, message)
    return true
  })

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Bytes of buffers that something still refers to. */
function buffersNow(): number {
  collectGarbage()
  return process.memoryUsage().arrayBuffers
}

const keys = (folder: string) => [...storage.objects.keys()].filter((key) => key.startsWith(folder)).sort()
const archived = (name: string) => {
  const object = storage.peek(`wal_005/${name}.zst`)
  return object && zstdDecompressSync(object)
}

describe('a segment', () => {
  test('is archived as it is, and the archive bound to its cluster', async () => {
    assert.equal(await push(files.segment(nth(5))), 'created')
    assert.deepEqual(archived(nth(5)), makeSegment(nth(5)))
    assert.match(String(storage.peek('walrx_005/system.json')), /7455523487659893045/)
    assert.ok(existsSync(files.status(nth(5))), 'the marks are PostgreSQL’s')
  })

  test('that is there is the same, and nothing is sent', async () => {
    await push(files.segment(nth(5)))
    storage.calls.length = 0
    assert.equal(await push(files.path(nth(5))), 'same')
    assert.deepEqual(
      storage.log.filter((call) => /^put|^delete/.test(call)),
      [],
    )
  })

  test('that is there in another codec is the same, and stays the only one', async () => {
    await push(files.segment(nth(5)), { method: 'lz4' })
    assert.equal(await push(files.path(nth(5))), 'same')
    assert.deepEqual(keys('wal_005/'), [`wal_005/${nth(5)}.lz4`])
  })

  test('never replaces other bytes', async () => {
    const other = zstdCompressSync(makeSegment(nth(5), { pages: 3 }))
    storage.seed(`wal_005/${nth(5)}.zst`, other)
    await fails(push(files.segment(nth(5))), 'WALRX_ARCHIVE_CONFLICT', /holds different bytes from byte 24\d\d\d on/)
    await fails(push(files.segment(nth(5)), { method: 'lz4' }), 'WALRX_ARCHIVE_CONFLICT')
    assert.deepEqual(storage.peek(`wal_005/${nth(5)}.zst`), other)
    assert.deepEqual(keys('wal_005/'), [`wal_005/${nth(5)}.zst`])
  })

  test('that a receiver puts at the same moment is the same', async () => {
    await push(files.segment(nth(4)))
    storage.before = ({ key, operation }) => {
      if (operation !== 'putIfAbsent' || key !== `wal_005/${nth(5)}.zst`) return
      storage.seed(key, zstdCompressSync(makeSegment(nth(5)), { params: {} }))
    }
    assert.equal(await push(files.segment(nth(5))), 'same')
  })

  test('is archived again by the next call when the answer to the put was lost', async () => {
    storage.after = ({ key, operation }) => {
      if (operation === 'putIfAbsent' && key.startsWith('wal_005/')) throw unavailable()
    }
    await fails(push(files.segment(nth(5))), 'WALRX_STORAGE_UNAVAILABLE')
    storage.after = undefined
    assert.equal(await push(files.path(nth(5))), 'same')
  })

  test('of another cluster is refused before anything is written', async () => {
    await push(files.segment(nth(5)))
    const before = new Map(storage.objects)
    rmSync(join(files.dataDir, 'global'), { recursive: true })
    await fails(push(files.segment(nth(6), { systemId: 1n })), 'WALRX_OTHER_CLUSTER', /7455523487659893045.* 1$/)
    await fails(push(files.segment(nth(7), { segmentSize: 2 * madeSegmentSize })), 'WALRX_OTHER_CLUSTER', /2097152/)
    assert.deepEqual(storage.objects, before)
  })

  test('that is damaged, cut, or under another name is refused before anything is written', async () => {
    const whole = makeSegment(nth(5))
    const damaged = Buffer.from(whole)
    damaged.writeUInt16LE(1, 5 * 8192)
    await fails(push(files.put(nth(5), damaged)), 'WALRX_WAL_INVALID', /has magic 0x0001/)
    await fails(push(files.put(nth(5), whole.subarray(0, -1))), 'WALRX_WAL_INVALID', /it has 1048575 bytes/)
    await fails(push(files.put(nth(5), '')), 'WALRX_WAL_INVALID', /it has 0 bytes/)
    await fails(
      push(files.put(nth(5), Buffer.alloc(madeSegmentSize))),
      'WALRX_WAL_INVALID',
      /not begin with a WAL page/,
    )
    await fails(push(files.put(nth(5), whole.subarray(0, 20))), 'WALRX_WAL_INVALID', /it has 20 bytes/)
    await fails(push(files.put(nth(6), whole)), 'WALRX_WAL_INVALID', /holds the page at 0\/500000/)
    await fails(push(files.put(`${'0'.repeat(15)}2${nth(5).slice(16)}`, whole)), 'WALRX_WAL_INVALID')
    assert.equal(storage.objects.size, 0)
  })

  test('of a history that has gone on may be whole in the archive already, with its tail', async () => {
    storage.seed(`walrx_005/tail/00000001/${nth(5)}/00000000-00002000`, makeSegment(nth(5)).subarray(0, 8192))
    assert.equal(await push(files.segment(nth(5))), 'created')
    assert.equal(keys('walrx_005/tail/').length, 1, 'the receiver removes it, at its next start at the latest')
  })
})

describe('other files', () => {
  const partial = (pages: number) => makeSegment(nth(5), { pages })
  const name = `${nth(5)}.partial`

  test('a partial is stored, and replaces only a shorter one with the same beginning', async () => {
    assert.equal(await push(files.put(name, partial(3))), 'created')
    assert.equal(await push(files.path(name)), 'same')
    assert.equal(await push(files.put(name, partial(9))), 'replaced a shorter one')
    assert.equal(await push(files.put(name, partial(3))), 'kept a longer one')
    assert.deepEqual(archived(name), partial(9))
  })

  test('a partial with another end than the receiver’s is kept beside it: the archiver must go on', async () => {
    await push(files.put(name, partial(3)))
    const recycled = Buffer.concat([partial(2).subarray(0, 2 * 8192), makeSegment(nth(1)).subarray(2 * 8192)])
    assert.equal(await push(files.put(name, recycled)), 'diverged, kept beside')
    assert.equal(await push(files.put(name, recycled)), 'diverged, kept beside')
    assert.deepEqual(archived(name), partial(3))
    const [beside = '', ...more] = keys('walrx_005/partial/')
    assert.deepEqual(more, [])
    assert.deepEqual(zstdDecompressSync(storage.peek(beside) ?? ''), recycled)
  })

  test('a history is stored once; WAL-RUS’s bare one will do; another one is refused', async () => {
    assert.equal(await push(files.put('00000002.history', makeHistory(2))), 'created')
    assert.equal(await push(files.path('00000002.history')), 'same')
    storage.seed('wal_005/00000003.history', makeHistory(3))
    assert.equal(await push(files.put('00000003.history', makeHistory(3))), 'same')
    assert.deepEqual(keys('wal_005/'), ['wal_005/00000002.history.zst', 'wal_005/00000003.history'])
    const other = makeHistory(2).replace('3000098', '3000099')
    await fails(push(files.put('00000002.history', other)), 'WALRX_ARCHIVE_CONFLICT')
    await fails(push(files.put('00000004.history', 'x')), 'WALRX_WAL_INVALID', /invalid line/)
    await fails(push(files.put('00000004.history', '')), 'WALRX_WAL_INVALID', /it has 0 bytes/)
  })

  test('a backup label is stored as WAL-G does it', async () => {
    const label = `${nth(5)}.00000028.backup`
    const content = backupHistory(nth(5), '0/500028')
    for (const expected of ['created', 'same']) assert.equal(await push(files.put(label, content)), expected)
    assert.deepEqual(archived(label)?.toString(), content)
    for (const torn of ['', 'START WAL LOC']) assert.equal(await push(files.put(label, torn)), 'left out')
  })

  test('a history of another cluster is refused, by the data directory that it lies in', async () => {
    storage.seed('walrx_005/system.json', '{"SystemIdentifier":1,"WalSegmentSize":1048576}')
    await fails(push(files.put('00000002.history', makeHistory(2))), 'WALRX_OTHER_CLUSTER', /identifier 1, /)
    assert.deepEqual(keys('wal_005/'), [])
  })
})

describe('what is known of the archive', () => {
  const probes = () => storage.log.filter((call) => /walrx_005\/probe|basebackups_005/.test(call)).length

  test('is found out by the first call alone', async () => {
    await push(files.segment(nth(1)))
    storage.calls.length = 0
    await push(files.segment(nth(2)))
    assert.equal(probes(), 0, storage.log.join('\n'))
    writeFileSync(knowledgePath(files.path('x')) ?? '', '{"archive":')
    await push(files.segment(nth(3)))
    assert.ok(probes() > 0, 'what cannot be read counts for nothing')
  })

  test('holds for one archive, and one key', async () => {
    await push(files.segment(nth(1)))
    const plain = storage
    storage = new MemoryStorage({ location: 'memory://other', keyring: testKeyring('a') })
    assert.equal(await push(files.segment(nth(1))), 'created')
    assert.ok(probes() > 0)
    storage.calls.length = 0
    await push(files.segment(nth(2)))
    assert.equal(probes(), 0, storage.log.join('\n'))
    assert.doesNotMatch(readFileSync(knowledgePath(files.path('x')) ?? '', 'utf8'), /WALRX_/)
    const { objects } = storage
    storage = new MemoryStorage({ location: 'memory://other', keyring: testKeyring('b'), objects })
    await fails(push(files.segment(nth(3))), 'WALRX_KEY_WRONG')
    // Another key that only reads does not stand for the one that writes.
    storage = new MemoryStorage({ location: 'memory://other', keyring: testKeyring('b', { reading: ['a'] }), objects })
    storage.calls.length = 0
    await push(files.segment(nth(3)))
    assert.ok(probes() > 0)
    storage = new MemoryStorage({ location: 'memory://other', objects })
    await fails(push(files.segment(nth(4))), 'WALRX_KEY_MISSING')
    assert.ok(!objects.has(`wal_005/${nth(4)}.zst`), 'nothing is written without the key')
    storage = plain
  })

  test('counts no more once the archive was emptied and begun again with a key', async () => {
    await push(files.segment(nth(1)))
    const encrypted = new MemoryStorage({ keyring: testKeyring('a') })
    await push(files.path(nth(1)), { storage: encrypted, knowledgePath: undefined })
    storage.objects.clear()
    for (const [key, object] of encrypted.objects) storage.objects.set(key, { ...object, lastModifiedMs: 7 })
    await fails(push(files.segment(nth(2))), 'WALRX_KEY_MISSING')
    assert.equal(archived(nth(2)), undefined)
    // Also where the marker is gone.
    storage.objects.delete('walrx_005/system.json')
    await fails(push(files.path(nth(2))), 'WALRX_KEY_MISSING')
  })

  test('counts for a day', async () => {
    let nowMs = Date.now()
    const clock = { ...systemClock, now: () => nowMs }
    await push(files.segment(nth(1)), { clock })
    for (const [hours, again] of [
      [23, false],
      [25, true],
      [26, false],
      [1, true],
    ] as const) {
      storage.calls.length = 0
      nowMs = Date.now() + hours * 3_600_000
      await push(files.segment(nth(100 + hours + (again ? 0 : 50))), { clock })
      assert.equal(probes() > 0, again, `after ${hours} hours`)
    }
  })

  test('is not needed where pg_wal cannot be written to', async () => {
    const pusher = open({ knowledgePath: '/proc/nowhere/push.json' })
    assert.equal(await pusher.push(files.segment(nth(1)), signal), 'created')
    await pusher.end(0)
  })
})

describe('files that wait', () => {
  test('are archived meanwhile, and their marks stay', async () => {
    for (let segno = 1; segno <= 12; segno++) files.segment(nth(segno))
    files.put('00000002.history', makeHistory(2))
    writeFileSync(files.path(nth(14)), makeSegment(nth(14)))
    assert.equal(await push(files.path(nth(1))), 'created')
    const { length } = keys('wal_005/')
    assert.ok(length > 2, `${length} were archived`)
    assert.equal(archived(nth(14)), undefined, 'what PostgreSQL still writes has no mark')
    assert.equal(readdirSync(`${files.pgWal}/archive_status`).filter((name) => name.endsWith('.ready')).length, 13)
    for (let segno = 2; segno <= 12; segno++) await push(files.path(nth(segno)))
    for (let segno = 1; segno <= 12; segno++) assert.deepEqual(archived(nth(segno)), makeSegment(nth(segno)))
  })

  test('are archived in whatever number is allowed, and one at a time where that is asked for', async () => {
    for (let segno = 1; segno <= 9; segno++) files.segment(nth(segno))
    const slow = async () => {
      storage.before = async ({ key, operation }) => {
        if (operation !== 'putIfAbsent' || !key.includes(nth(1))) return
        await until('two more', () => keys('wal_005/').length >= 3)
      }
    }
    await slow()
    await push(files.path(nth(1)), { filesMax: 4 })
    assert.deepEqual(
      keys('wal_005/').map((key) => key.slice(8, 32)),
      [1, 2, 3, 4].map(nth),
    )
    storage.before = undefined
    storage.objects.clear()
    await push(files.path(nth(1)), { concurrency: 1 })
    assert.equal(keys('wal_005/').length, 1)
  })

  test('are never more than 63 segments ahead: so far a receiver looks back for holes', async () => {
    for (let segno = 1; segno <= 80; segno++) if (segno !== 2) files.segment(nth(segno))
    storage.before = async ({ key, operation }) => {
      if (operation === 'putIfAbsent' && key.includes(nth(1)))
        await until('all that may be', () => keys('wal_005/').length === 62)
    }
    await push(files.path(nth(1)), { filesMax: 1000 })
    assert.deepEqual(keys('wal_005/').at(-1)?.slice(8, 32), nth(64))
  })

  test('fail for themselves, and are reported when they are asked for', async () => {
    for (let segno = 1; segno <= 4; segno++) files.segment(nth(segno))
    storage.seed(`wal_005/${nth(2)}.zst`, zstdCompressSync(makeSegment(nth(2), { pages: 1 })))
    assert.equal(await push(files.path(nth(1))), 'created')
    await fails(push(files.path(nth(2))), 'WALRX_ARCHIVE_CONFLICT')
  })

  test('are marked as done where WALG_PG_READY_RENAME says so, once they are archived', async () => {
    for (let segno = 1; segno <= 6; segno++) files.segment(nth(segno))
    storage.seed(`wal_005/${nth(2)}.zst`, zstdCompressSync(makeSegment(nth(2), { pages: 1 })))
    storage.before = async ({ key, operation }) => {
      if (operation === 'putIfAbsent' && key.includes(nth(1)))
        await until('three more', () => keys('wal_005/').length >= 4)
    }
    await push(files.path(nth(1)), { renameReady: true })
    assert.ok(existsSync(files.status(nth(1))), 'PostgreSQL renames the one that it asked for')
    assert.ok(existsSync(files.status(nth(2))), 'not archived: the archive has other bytes')
    const done = [3, 4, 5, 6].filter((segno) => existsSync(files.status(nth(segno), 'done')))
    assert.ok(done.length >= 3, `${done.join()} are done`)
    for (const segno of done) {
      assert.ok(!existsSync(files.status(nth(segno))))
      assert.deepEqual(archived(nth(segno)), makeSegment(nth(segno)))
    }
  })

  test('take no more memory than is allowed', async () => {
    for (let segno = 1; segno <= 12; segno++) files.segment(nth(segno))
    let most = 0
    let now = 0
    storage.before = async ({ operation, key }) => {
      if (operation !== 'putIfAbsent' || !key.startsWith('wal_005/')) return
      most = Math.max(most, ++now)
      await new Promise((resolve) => setTimeout(resolve, 5))
      now--
    }
    // Bytes that do not compress.
    await push(files.path(nth(1)), { memoryBytes: 2 * madeSegmentSize, method: 'none' })
    assert.ok(most <= 2, `${most} segments were held at once`)
  })

  test('give back the memory that they were read into before the store has them', async () => {
    const count = 8
    for (let segno = 1; segno <= count; segno++) files.segment(nth(segno))
    const held = Promise.withResolvers<void>()
    let now = 0
    storage.before = async ({ operation, key }) => {
      if (operation !== 'putIfAbsent' || !key.startsWith('wal_005/')) return
      now++
      await held.promise
    }
    const before = buffersNow()
    const pushed = push(files.path(nth(1)), { memoryBytes: (count + 1) * madeSegmentSize })
    await until('all are sent', () => now === count)
    // What they hold encoded is some kilobytes; the collector takes its time.
    await until('the memory is given back', () => buffersNow() - before < 2 * madeSegmentSize)
    held.resolve()
    await pushed
  })
})
