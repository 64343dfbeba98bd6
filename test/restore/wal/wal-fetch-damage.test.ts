import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import { type ErrorCode, hasCode } from '../../../src/primitives/errors.ts'
import type { WalFetchOptions } from '../../../src/restore/wal/wal-fetch.ts'
import { madeSegmentSize, madeSystemId, makeSegment } from '../../harness/made/made-wal.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
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
