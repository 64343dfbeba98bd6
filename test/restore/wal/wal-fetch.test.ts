import assert from 'node:assert/strict'
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { Keyring } from '../../../src/crypto/keyring.ts'
import type { Logger } from '../../../src/observe/log.ts'
import { silentLog } from '../../../src/observe/log.ts'
import { type ErrorCode, hasCode, WalrxError } from '../../../src/primitives/errors.ts'
import { toLsn } from '../../../src/postgres/lsn.ts'
import type { WalFetchOptions } from '../../../src/restore/wal/wal-fetch.ts'
import { sweepTemporaries } from '../../../src/restore/wal/wal-temporaries.ts'
import { StoredWriter } from '../../../src/walg/stored/stored-writer.ts'
import { writeGap } from '../../../src/walg/wal/gap-records.ts'
import { FastClock } from '../../harness/time/fast-clock.ts'
import { madeSegmentSize, makeHistory, makeSegment } from '../../harness/made/made-wal.ts'
import { MemoryStorage, unavailable } from '../../harness/store/memory-storage.ts'
import { testKey } from '../../harness/store/test-keys.ts'
import { fetchOnce } from './fetch-once.ts'

const name = '000000010000000000000005'
const later = '000000010000000000000009'

let directory: string
let dest: string
let storage: MemoryStorage
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walrx-fetch-'))
  dest = join(directory, 'RECOVERYXLOG')
  storage = new MemoryStorage()
})
afterEach(async () => {
  assert.equal(storage.openBodies, 0, 'a body was left open')
  assert.deepEqual(
    (await readdir(directory)).filter((file) => file.includes('.walrx-')),
    [],
    'a temporary file is left',
  )
  await rm(directory, { recursive: true })
})

const archive = (segment: string, bytes: Uint8Array = makeSegment(segment)) =>
  storage.seed(`wal_005/${segment}.zst`, zstdCompressSync(bytes))

/** Fetches `name` without retries, from a data directory without a server. */
const fetch = (options: Partial<WalFetchOptions> = {}) =>
  fetchOnce({ storage, name, dest, dataDir: directory, ...options })

const fails = (promise: Promise<unknown>, code: ErrorCode, message = /./) =>
  assert.rejects(promise, (error) => {
    assert.ok(hasCode(error, code), `${code} expected: ${String(error)}`)
    assert.match(error.message, message)
    return true
  })

describe('a file that is there', () => {
  test('is delivered byte for byte, for its owner alone, in place of what was there', async () => {
    archive(name)
    await writeFile(dest, 'an old file', { mode: 0o666 })
    assert.equal(await fetch(), 'delivered')
    assert.deepEqual(await readFile(dest), makeSegment(name))
    assert.equal((await stat(dest)).mode & 0o777, 0o600)
  })

  test('is found in every form: each codec, no extension, a trailing dot, both histories', async () => {
    for (const [file, key, content] of [
      [name, `${name}`, makeSegment(name)],
      [name, `${name}.`, makeSegment(name)],
      ['00000002.history', '00000002.history', makeHistory(2)],
      ['00000002.history', '00000002.history.', makeHistory(2)],
    ] as const) {
      storage.objects.clear()
      storage.seed(`wal_005/${key}`, content)
      assert.equal(await fetch({ name: file }), 'delivered', key)
      assert.deepEqual(await readFile(dest), Buffer.from(content as Uint8Array), key)
    }
    storage.objects.clear()
    storage.seed('wal_005/00000002.history.zst', zstdCompressSync(makeHistory(2)))
    assert.equal(await fetch({ name: '00000002.history' }), 'delivered')
    assert.equal(await readFile(dest, 'utf8'), makeHistory(2))
  })

  test('is asked for under the configured extension first where a lookup is cheap', async () => {
    storage.seed(`wal_005/${name}`, makeSegment(name))
    Object.assign(storage, { hasCheapHeads: true })
    assert.equal(await fetch({ extension: '' }), 'delivered')
    assert.ok(!storage.log.some((call) => call.startsWith('list')), storage.log.join('\n'))
  })

  test('is found by one small listing and read once, in the configured form where there are several', async () => {
    storage.seed(`wal_005/${name}`, 'damaged')
    storage.seed(`wal_005/${name}.lz4`, 'damaged')
    archive(name)
    assert.equal(await fetch({ extension: 'zst' }), 'delivered')
    const calls = storage.log.filter((call) => call.includes('wal_005/') || call.startsWith('list'))
    assert.deepEqual(calls, ['list wal', `get wal_005/${name}.zst`])
  })

  test('reports the segment size once', async () => {
    archive(name)
    const sizes: number[] = []
    await fetch({ onSegment: (size) => sizes.push(size) })
    assert.deepEqual(sizes, [madeSegmentSize])
  })
})

describe('a file that is not there', () => {
  test('is absent when nothing later of its timeline is there either', async () => {
    archive('000000010000000000000004')
    archive('000000020000000000000009')
    assert.equal(await fetch(), 'absent')
    assert.equal(await fetch({ name: '00000003.history' }), 'absent')
    assert.equal(await fetch({ isStandby: true }), 'absent')
    assert.deepEqual(await readdir(directory), [])
  })

  test('is a gap when a later segment of its timeline is there', async () => {
    archive(later)
    await fails(fetch(), 'WALRX_ARCHIVE_HOLE', /lacks 000000010000000000000005/)
    await fails(fetch({ isStandby: true }), 'WALRX_ARCHIVE_HOLE')
  })

  test('is a gap when it is recorded as lost, although no later segment is archived yet', async () => {
    const size = 16 * 1024 * 1024
    storage.seed('walrx_005/system.json', JSON.stringify({ SystemIdentifier: 1, WalSegmentSize: size }))
    const gap = {
      timeline: 1,
      startLsn: toLsn(BigInt(5 * size)),
      endLsn: toLsn(BigInt(7 * size)),
      detectedAt: '2026-03-01T12:00:00Z',
      reason: 'test',
      host: 'db1',
      slot: undefined,
    }
    await writeGap(storage, gap)
    const expected = /lacks 000000010000000000000005: WAL from 0\/5000000 to 0\/7000000 on timeline 1 was lost/
    await fails(fetch(), 'WALRX_ARCHIVE_HOLE', expected)
    assert.equal(await fetch({ name: '000000010000000000000007' }), 'absent', 'WAL after the gap is not there yet')
    assert.equal(await fetch({ name: '000000020000000000000005' }), 'absent')
  })

  test('is no gap because of objects that are no segments: partials, labels, metadata, delta maps', async () => {
    for (const object of [
      `${later}.partial.zst`,
      `${later}.00000028.backup.zst`,
      `${later}.json`,
      `${later}_delta.zst`,
    ]) {
      storage.seed(`wal_005/${object}`, 'x')
    }
    assert.equal(await fetch(), 'absent')
  })

  test('is damage when its tail does not start with a first page', async () => {
    storage.seed(`wal_005/${name}.partial`, 'x')
    await fails(fetch(), 'WALRX_OBJECT_DAMAGED', /does not start with the first page of/)
  })

  test('is an outage when there is nothing at all: a mistyped prefix, or a directory that is not mounted', async () => {
    await fails(fetch(), 'WALRX_STORAGE_MISSING', /memory:\/\/test holds no object at all/)
    await fails(fetch({ name: '00000002.history' }), 'WALRX_STORAGE_MISSING')
    storage.seed('basebackups_005/x', 'x')
    assert.equal(await fetch(), 'absent')
  })

  test('is reported when it is the history file of a timeline with segments', async () => {
    archive('000000020000000000000007')
    const warnings: string[] = []
    const log: Logger = { ...silentLog, warn: (message) => warnings.push(message) }
    assert.equal(await fetch({ name: '00000002.history', log }), 'absent')
    assert.deepEqual(warnings, ['the archive lacks this history file, although it holds segments of its timeline'])
  })

  test('comes late: a segment that is uploaded in parallel may be there before its predecessor', async () => {
    archive(later)
    let listings = 0
    storage.before = ({ operation }) => {
      if (operation === 'list' && ++listings === 3) archive(name)
    }
    assert.equal(await fetch({ retryTimeoutMs: 30_000 }), 'delivered')
    assert.deepEqual(await readFile(dest), makeSegment(name))
  })
})

describe('a storage that fails', () => {
  const refusals: [ErrorCode, string][] = [
    ['WALRX_STORAGE_UNAVAILABLE', 'no answer'],
    ['WALRX_STORAGE_DENIED', '403'],
    ['WALRX_STORAGE_MISSING', 'no such bucket'],
  ]

  test('is never the absence of the file, at whichever request it fails', async () => {
    for (const failing of ['get wal_005/', 'list wal_005/', 'list '] as const) {
      for (const [code, message] of refusals) {
        storage.before = ({ key, operation }) => {
          if (`${operation} ${key}`.startsWith(failing)) throw new WalrxError(code, message)
        }
        await fails(fetch(), code)
        await fails(fetch({ isStandby: true }), code)
      }
    }
  })

  test('is an error also where only the system marker of the archive cannot be read', async () => {
    archive(name)
    storage.before = ({ key }) => {
      if (key.startsWith('walrx_005/')) throw unavailable()
    }
    await fails(fetch(), 'WALRX_STORAGE_UNAVAILABLE')
  })

  test('is tried again until it answers, and reported once', async () => {
    archive(name)
    let failures = 3
    storage.before = ({ operation }) => {
      if (operation === 'get' && failures-- > 0) throw unavailable()
    }
    const warnings: unknown[] = []
    const log: Logger = { ...silentLog, warn: (message) => warnings.push(message) }
    assert.equal(await fetch({ retryTimeoutMs: 30_000, log }), 'delivered')
    assert.deepEqual(warnings, ['WAL file not delivered yet, trying again'])
  })

  test('is not waited for alone: a key service that does not answer is tried again too, and a key that is wrong is not', async () => {
    const key = await testKey('key')
    let failures: WalrxError[] = []
    const recognise = (head: Buffer) => {
      const failure = failures.shift()
      return failure ? Promise.reject(failure) : key.recognise(head)
    }
    const crypter = {
      ...{ method: key.method, label: key.label, headBytes: key.headBytes, canDecrypt: true, recognise },
      encrypt: (content: AsyncIterable<Uint8Array>) => key.encrypt(content),
      encryptInPlace: (buffer: Buffer, length: number) => key.encryptInPlace(buffer, length),
      decrypt: (stored: AsyncIterable<Uint8Array>) => key.decrypt(stored),
    }
    const keyring = new Keyring({ load: () => Promise.resolve({ writing: crypter, reading: [] }) })
    const encrypted = new MemoryStorage({ keyring })
    encrypted.seed(
      `wal_005/${name}.zst`,
      await new StoredWriter(encrypted, openWriteCodec('zstd')).encodeCopy(makeSegment(name)),
    )
    const outage = new WalrxError('WALRX_KEY_UNAVAILABLE', 'no answer', { transient: true })
    failures = [outage, outage]
    assert.equal(await fetch({ storage: encrypted, retryTimeoutMs: 30_000, clock: new FastClock(20) }), 'delivered')
    failures = [new WalrxError('WALRX_KEY_UNAVAILABLE', 'refused')]
    await fails(fetch({ storage: encrypted, retryTimeoutMs: 30_000 }), 'WALRX_KEY_UNAVAILABLE', /^refused$/)
    assert.equal(encrypted.openBodies, 0)
  })

  test('is given up after the time for it, with its own error, the attempts and the time', async () => {
    storage.before = () => {
      throw unavailable()
    }
    const clock = new FastClock(20)
    const start = clock.now()
    const failure = fetch({ retryTimeoutMs: 60_000, clock })
    await fails(failure, 'WALRX_STORAGE_UNAVAILABLE', /\(injected\) \(tried \d\d times in [4-6]\d\.\d s\)/)
    // A busy machine adds its own time, twenty times as fast.
    assert.ok(clock.now() - start <= 80_000)
  })

  test('keeps a standby waiting for one further attempt only', async () => {
    storage.before = () => {
      throw unavailable()
    }
    const clock = new FastClock(20)
    const start = clock.now()
    const failure = fetch({ retryTimeoutMs: 60_000, isStandby: true, clock })
    await fails(failure, 'WALRX_STORAGE_UNAVAILABLE', /tried 2 times/)
    assert.ok(clock.now() - start <= 5_000, `${clock.now() - start} ms`)
  })

  test('that never answers is given up too, also in the middle of a body', async () => {
    archive(name)
    const never = new Promise<never>(() => {})
    const hangs: (() => void)[] = [
      () => (storage.before = ({ key }) => (key.startsWith('wal_005/') ? never : undefined)),
      () => (storage.before = ({ key }) => (key.startsWith('walrx_005/') ? never : undefined)),
      () => (storage.body = stuckBody),
    ]
    for (const hang of hangs) {
      storage.before = undefined
      hang()
      for (const isStandby of [false, true]) {
        const failure = fetch({ clock: new FastClock(20), isStandby, retryTimeoutMs: 10_000 })
        await fails(failure, 'WALRX_STORAGE_UNAVAILABLE', /did not answer for (5|10) s/)
      }
    }
  })

  test('loses an object while it is read: that does not prove its absence', async () => {
    archive(name)
    storage.body = async function* (key, chunks) {
      for await (const chunk of chunks) {
        yield chunk.subarray(0, 10)
        throw new WalrxError('WALRX_OBJECT_NOT_FOUND', `${key} is gone`)
      }
    }
    await fails(fetch(), 'WALRX_STORAGE_UNAVAILABLE', /is gone/)
  })
})

describe('a call that cannot succeed', () => {
  test('ends at once for a segment size that is not the archive', async () => {
    archive(name)
    await fails(fetch({ segmentSize: 16 * madeSegmentSize, retryTimeoutMs: 60_000 }), 'WALRX_USAGE', /wal_segment_size/)
  })

  test('ends at once for a destination that cannot be written', async () => {
    archive(name)
    const patient = { retryTimeoutMs: 60_000 }
    await fails(fetch({ ...patient, dest: join(directory, 'none', 'x') }), 'WALRX_DESTINATION', /ENOENT/)
    await fails(fetch({ ...patient, dest: directory }), 'WALRX_DESTINATION', /is not a regular file/)
    await symlink('/dev/null', join(directory, 'link'))
    await fails(fetch({ ...patient, dest: join(directory, 'link') }), 'WALRX_DESTINATION', /is not a regular file/)
  })

  test(
    'ends at once where the directory is not ours',
    { skip: process.getuid?.() === 0 && 'root may write' },
    async () => {
      archive(name)
      await chmod(directory, 0o500)
      await fails(fetch({ retryTimeoutMs: 60_000 }), 'WALRX_DESTINATION', /EACCES/)
      await chmod(directory, 0o700)
    },
  )

  test('ends at once on a full disk', { skip: process.platform !== 'linux' }, async () => {
    // Every write to it fails with ENOSPC.
    archive(name)
    await fails(fetch({ dest: '/dev/full', retryTimeoutMs: 60_000 }), 'WALRX_DESTINATION')
  })
})

describe('a signal', () => {
  test('ends the wait between attempts, and an attempt that hangs', async () => {
    const abort = new AbortController()
    storage.before = () => {
      abort.abort()
      throw unavailable()
    }
    await fails(fetch({ retryTimeoutMs: 60_000, signal: abort.signal }), 'WALRX_INTERRUPTED', /before 0{7}1/)
    const hanging = new AbortController()
    storage.before = () => {
      setImmediate(() => hanging.abort())
      return new Promise(() => {})
    }
    await fails(fetch({ retryTimeoutMs: 60_000, signal: hanging.signal }), 'WALRX_INTERRUPTED')
    await fails(fetch({ retryTimeoutMs: 60_000, signal: AbortSignal.abort() }), 'WALRX_INTERRUPTED')
  })

  test('in the middle of a download leaves no file', async () => {
    archive(name)
    const abort = new AbortController()
    const reached = fetch({ signal: abort.signal, onSegment: () => abort.abort() })
    await fails(reached, 'WALRX_INTERRUPTED')
    assert.deepEqual(await readdir(directory), [])
  })
})

test('temporary files of processes that are gone are swept, and only those', async () => {
  const own = `.RECOVERYXLOG.walrx-${process.pid}`
  for (const file of ['.RECOVERYXLOG.walrx-999999999', own, 'RECOVERYXLOG.walrx-999999999', '.x.walrx-y']) {
    await writeFile(join(directory, file), '')
  }
  await sweepTemporaries(dest)
  assert.deepEqual((await readdir(directory)).sort(), [own, '.x.walrx-y', 'RECOVERYXLOG.walrx-999999999'])
  // A killed process with our id has left one: that must not matter.
  archive(name)
  assert.equal(await fetch(), 'delivered')
  for (const file of ['.x.walrx-y', 'RECOVERYXLOG.walrx-999999999']) await rm(join(directory, file))
})

/** Delivers a few bytes and then nothing, but ends when its reader does. */
function stuckBody(_key: string, chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const source = chunks[Symbol.asyncIterator]()
  let isFirst = true
  return {
    [Symbol.asyncIterator]: () => ({
      async next() {
        const { value } = await source.next()
        if (!isFirst) await new Promise(() => {})
        isFirst = false
        return { done: false, value: (value as Uint8Array).subarray(0, 10) }
      },
      async return() {
        await source.return?.()
        return { done: true, value: undefined }
      },
    }),
  }
}
