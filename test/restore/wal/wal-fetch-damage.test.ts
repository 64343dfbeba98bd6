import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import { silentLog } from '../../../src/observe/log.ts'
import { type ErrorCode, hasCode } from '../../../src/primitives/errors.ts'
import type { WalFetchOptions } from '../../../src/restore/wal/wal-fetch.ts'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { madeSegmentSize, madeSystemId, makeSegment } from '../../harness/made/made-wal.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { FastClock } from '../../harness/time/fast-clock.ts'
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

describe('a damaged object', () => {
  const objects: [string, Buffer][] = [
    ['cut short', zstdCompressSync(makeSegment(name)).subarray(0, -5)],
    ['no zstd', Buffer.from('garbage')],
    ['empty', Buffer.alloc(0)],
    ['shorter than a segment', zstdCompressSync(makeSegment(name).subarray(0, 100_000))],
    ['longer than a segment', zstdCompressSync(Buffer.concat([makeSegment(name), Buffer.alloc(8192)]))],
    ['another segment', zstdCompressSync(makeSegment(later))],
    ['no WAL', zstdCompressSync(Buffer.alloc(madeSegmentSize, 'x'))],
    ['only zeros', zstdCompressSync(Buffer.alloc(madeSegmentSize))],
    ['a newer timeline', zstdCompressSync(makeSegment(name, { timeline: 2 }))],
  ]

  test('is never delivered, and what was at the destination stays', async () => {
    await writeFile(dest, 'before')
    for (const [what, object] of objects) {
      storage.seed(`wal_005/${name}.zst`, object)
      await fails(fetch(), 'WALRX_OBJECT_DAMAGED', new RegExp(`wal_005/${name}\\.zst`))
      assert.equal(await readFile(dest, 'utf8'), 'before', what)
      assert.deepEqual(await readdir(directory), ['RECOVERYXLOG'], what)
    }
  })

  test('is tried again: the transfer may have damaged it', async () => {
    archive(name)
    let isFirst = true
    storage.body = async function* (_key, chunks) {
      for await (const chunk of chunks) {
        if (isFirst) chunk[0] = 0
        isFirst = false
        yield chunk
      }
    }
    assert.equal(await fetch({ retryTimeoutMs: 30_000 }), 'delivered')
  })

  /** Counts the attempts that read the object. */
  const reads = () => storage.log.filter((call) => call === `get wal_005/${name}.zst`).length
  const damaged = objects[0]?.[1] ?? Buffer.alloc(0)
  const patient = { retryTimeoutMs: 60_000 }

  test('is not tried for ever: the same object that is damaged twice stays so', async () => {
    storage.seed(`wal_005/${name}.zst`, damaged)
    await fails(fetch(patient), 'WALRX_OBJECT_DAMAGED', /\(tried 2 times in 0\.\d s\)$/)
    assert.equal(reads(), 2)
  })

  test('is tried again when another object is there, as one that is being written shows', async () => {
    storage.seed(`wal_005/${name}.zst`, damaged, 1000)
    let attempts = 0
    storage.before = ({ key, operation }) => {
      if (operation !== 'get' || key !== `wal_005/${name}.zst` || ++attempts < 2) return
      if (attempts === 2) storage.seed(key, damaged.subarray(0, -1), 2000)
      else archive(name)
    }
    assert.equal(await fetch({ ...patient, clock: new FastClock(20) }), 'delivered')
    assert.equal(attempts, 3)
  })

  test('is waited for where the tail is damaged: the whole segment may come', async () => {
    storage.seed(`walrx_005/tail/00000001/${name}/00000000-00002000`, 'damaged')
    let listings = 0
    storage.before = ({ operation }) => {
      if (operation === 'list' && ++listings === 12) archive(name)
    }
    assert.equal(await fetch({ ...patient, clock: new FastClock(20) }), 'delivered')
  })

  describe('in a directory', () => {
    let archiveRoot: string
    let inDirectory: FileStorage
    let gets: number
    beforeEach(async () => {
      archiveRoot = await mkdtemp(join(tmpdir(), 'walrx-fetch-archive-'))
      await mkdir(join(archiveRoot, 'wal_005'))
      inDirectory = new FileStorage({ root: archiveRoot, folders: archiveFolders })
      const get = inDirectory.get.bind(inDirectory)
      gets = 0
      inDirectory.get = (key, options) => {
        if (key === `wal_005/${name}.zst`) gets++
        return get(key, options)
      }
    })
    afterEach(() => rm(archiveRoot, { recursive: true }))
    const file = () => join(archiveRoot, `wal_005/${name}.zst`)

    test('is read once', async () => {
      await writeFile(file(), damaged)
      await utimes(file(), new Date(), new Date(Date.now() - 60_000))
      await fails(fetch({ ...patient, storage: inDirectory }), 'WALRX_OBJECT_DAMAGED', /zst: [^(]*$/)
      assert.equal(gets, 1)
    })

    test('is read again where somebody writes it just now', async () => {
      await writeFile(file(), damaged)
      const log = { ...silentLog, warn: () => writeFileSync(file(), zstdCompressSync(makeSegment(name))) }
      assert.equal(await fetch({ ...patient, storage: inDirectory, log }), 'delivered')
      assert.equal(gets, 2)
    })
  })

  test('in a codec that walrx cannot read is reported at once', async () => {
    storage.seed(`wal_005/${name}.lzo`, 'x')
    await fails(fetch({ retryTimeoutMs: 60_000 }), 'WALRX_CODEC_UNSUPPORTED', /\.lzo/)
  })
})

describe('a segment of another cluster', () => {
  test('is refused when the archive is bound to another', async () => {
    archive(name, makeSegment(name, { systemId: 1n }))
    storage.seed('walrx_005/system.json', `{"SystemIdentifier":${madeSystemId},"WalSegmentSize":${madeSegmentSize}}`)
    await fails(
      fetch({ retryTimeoutMs: 60_000 }),
      'WALRX_OTHER_CLUSTER',
      /identifier 1, but the archive is bound to 7455/,
    )
  })

  test('is refused when the recovering server is another', async () => {
    archive(name)
    await mkdir(join(directory, 'global'))
    const control = Buffer.alloc(8192)
    control.writeBigUInt64LE(madeSystemId + 1n)
    await writeFile(join(directory, 'global', 'pg_control'), control)
    await fails(fetch({ retryTimeoutMs: 60_000 }), 'WALRX_OTHER_CLUSTER', /but the server has 7455523487659893046/)
    control.writeBigUInt64LE(madeSystemId)
    await writeFile(join(directory, 'global', 'pg_control'), control)
    assert.equal(await fetch(), 'delivered')
  })

  test('is not detected by a damaged system marker: recovery continues', async () => {
    archive(name)
    storage.seed('walrx_005/system.json', '{')
    assert.equal(await fetch(), 'delivered')
  })
})
