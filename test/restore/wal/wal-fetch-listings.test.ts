/**
 * wal-fetch on stores whose listings lie (seaweedfs #11321, #10652): what is there is delivered, and "absent" is never
 * said of what is missing. And how few requests "nothing new yet" takes on a sound store.
 */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import { toLsn } from '../../../src/postgres/lsn.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import type { WalFetchOptions } from '../../../src/restore/wal/wal-fetch.ts'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { archiveFolders, tailKey } from '../../../src/walg/names.ts'
import { writeGap } from '../../../src/walg/wal/gap-records.ts'
import { madeSegmentSize, madeSystemId, makeHistory, makeSegment } from '../../harness/made/made-wal.ts'
import { type FaultyS3, type FaultyS3Options, startFaultyS3 } from '../../harness/store/faulty-s3/faulty-s3.ts'
import { fetchOnce } from './fetch-once.ts'

const nameOf = (number: number) => segmentName(1, BigInt(number), madeSegmentSize)
const marker = Buffer.from(`{"SystemIdentifier":${madeSystemId},"WalSegmentSize":${madeSegmentSize}}`)

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walrx-listings-'))
})
afterEach(() => rm(directory, { recursive: true }))

interface World extends AsyncDisposable {
  readonly store: FaultyS3
  readonly storage: S3Storage
  put(key: string, body: Uint8Array): void
  /** One call, as by a new process. */
  fetch(name: string, options?: Partial<WalFetchOptions>): Promise<'delivered' | 'absent'>
}

/** An archive with segments 1 to `count`. */
async function openWorld(traits: FaultyS3Options, count = 40): Promise<World> {
  const store = await startFaultyS3(traits)
  const storages: S3Storage[] = []
  const open = () => {
    const storage = new S3Storage({
      ...store,
      folders: archiveFolders,
      prefix: 'db1',
      forcePathStyle: true,
      retryDelayFirstMs: 1,
      retryTimeMaxMs: 100,
    })
    storages.push(storage)
    return storage
  }
  const put = (key: string, body: Uint8Array) =>
    void store.store.objects.set(`db1/${key}`, { body: Buffer.from(body), etag: '"1"', modifiedMs: Date.now() })
  for (let number = 1; number <= count; number++) put(`wal_005/${nameOf(number)}.zst`, Buffer.from('not read'))
  return {
    store,
    storage: open(),
    put,
    fetch: (name, options) =>
      fetchOnce({ storage: open(), name, dest: join(directory, 'RECOVERYXLOG'), dataDir: directory, ...options }),
    async [Symbol.asyncDispose]() {
      await Promise.all(storages.map((storage) => storage.close()))
      await store[Symbol.asyncDispose]()
    },
  }
}

const stores: readonly FaultyS3Options[] = [
  {},
  { startAfter: 'empty' },
  { startAfter: 'empty', pageSize: 7 },
  { startAfter: 'ignored' },
  { startAfter: 'ignored', pageSize: 7 },
  { startAfter: 'inclusive' },
  { endsPagesEarly: true },
  { endsPagesEarly: true, pageSize: 2 },
  { endsPagesEarly: true, pageSize: 7, startAfter: 'empty' },
  { losesTokens: true, pageSize: 3 },
]

for (const traits of stores) {
  describe(`wal-fetch on a store ${JSON.stringify(traits)}`, () => {
    test('says absent at the end of the archive', async () => {
      await using world = await openWorld(traits)
      assert.equal(await world.fetch(nameOf(41)), 'absent')
      assert.equal(await world.fetch('00000002.history'), 'absent')
      assert.equal(await world.fetch(nameOf(41), { isStandby: true }), 'absent')
    })

    test('delivers what is there, in whatever form', async () => {
      for (const extension of ['', '.zst']) {
        await using world = await openWorld(traits)
        const content = makeSegment(nameOf(41))
        world.put(`wal_005/${nameOf(41)}${extension}`, extension === '' ? content : zstdCompressSync(content))
        world.put('wal_005/00000002.history', Buffer.from(makeHistory(2)))
        for (const configured of ['zst', 'lz4', '']) {
          assert.equal(await world.fetch(nameOf(41), { extension: configured }), 'delivered')
          assert.deepEqual(await readFile(join(directory, 'RECOVERYXLOG')), content)
          assert.equal(await world.fetch('00000002.history', { extension: configured }), 'delivered')
        }
      }
    })

    test('never says absent of a hole, wherever the next segment is', async () => {
      for (const next of [43, 57, 300, 5000]) {
        await using world = await openWorld(traits)
        world.put(`wal_005/${nameOf(next)}.zst`, Buffer.from('later'))
        await assert.rejects(world.fetch(nameOf(42)), { code: 'WALRX_ARCHIVE_HOLE' }, `${next}`)
        await assert.rejects(world.fetch(nameOf(41)), { code: 'WALRX_ARCHIVE_HOLE' }, `${next}`)
      }
    })

    test('never says absent of a recorded gap, and delivers a tail', async () => {
      await using world = await openWorld(traits)
      world.put('walrx_005/system.json', marker)
      for (const timeline of [1, 2]) {
        await writeGap(world.storage, {
          timeline,
          startLsn: toLsn(BigInt(50 * madeSegmentSize)),
          endLsn: toLsn(BigInt(60 * madeSegmentSize)),
          detectedAt: '2026-03-01T12:00:00Z',
          reason: 'test',
          host: 'db1',
          slot: undefined,
        })
      }
      await assert.rejects(world.fetch(nameOf(55)), { code: 'WALRX_ARCHIVE_HOLE' })
      const whole = makeSegment(nameOf(41))
      const step = 0x10000
      for (let at = 0; at < 4 * step; at += step) {
        const range = { from: at, to: at + step }
        world.put(tailKey(nameOf(41), range, ''), whole.subarray(range.from, range.to))
      }
      assert.equal(await world.fetch(nameOf(41)), 'delivered')
      const delivered = await readFile(join(directory, 'RECOVERYXLOG'))
      assert.ok(delivered.subarray(0, 4 * step).equals(whole.subarray(0, 4 * step)), 'a chunk was lost')
    })
  })
}

describe('a store that cannot list all keys', () => {
  test('never makes wal-fetch say absent', async () => {
    for (const traits of [
      { startAfter: 'ignored', endsPagesEarly: true, pageSize: 2 },
      { startAfter: 'ignored', losesTokens: true, pageSize: 2 },
      { listsInDisorder: true },
    ] as const) {
      await using world = await openWorld(traits, 3)
      world.put(`wal_005/${nameOf(17)}.zst`, Buffer.from('later'))
      await assert.rejects(world.fetch(nameOf(4)), /./, JSON.stringify(traits))
    }
  })
})

describe('"nothing new yet"', () => {
  const archives: readonly [string, (world: World) => void][] = [
    ['that another tool wrote', () => {}],
    ['with the markers of walrx', (world) => world.put('walrx_005/system.json', marker)],
    [
      'with the tail of another segment, intents and an old gap',
      (world) => {
        world.put('walrx_005/system.json', marker)
        world.put('walrx_005/backups/base_000000010000000000000002.json', Buffer.from('{}'))
        world.put('walrx_005/gap/00000001/0000000000100000-0000000000200000.json', Buffer.from('{}'))
        world.put(tailKey(nameOf(77), { from: 0, to: 8192 }, 'zst'), Buffer.from('x'))
      },
    ],
    ['with a newer timeline', (world) => world.put(`wal_005/${segmentName(2, 90n, madeSegmentSize)}.zst`, marker)],
  ]
  for (const [what, fill] of archives) {
    test(`takes two requests at most in an archive ${what}`, async () => {
      await using world = await openWorld({})
      fill(world)
      for (const extension of ['zst', 'lz4', 'br', '']) {
        for (const isStandby of [true, false]) {
          for (const name of [nameOf(41), '00000003.history']) {
            world.store.log.length = 0
            assert.equal(await world.fetch(name, { extension, isStandby }), 'absent')
            assert.ok(world.store.log.length <= 2, `${name}: ${world.store.log.map(({ action }) => action).join(' ')}`)
          }
        }
      }
    })
  }

  test('takes two requests for a standby beside the unfinished segment, which grows all the time', async () => {
    await using world = await openWorld({})
    world.put('walrx_005/system.json', marker)
    const [next, chunk] = [nameOf(41), { from: 0, to: 8192 }]
    world.put(tailKey(next, chunk, ''), makeSegment(next).subarray(0, chunk.to))
    world.put(`wal_005/${next}.partial`, makeSegment(next))
    world.store.log.length = 0
    assert.equal(await world.fetch(next, { isStandby: true, wholeOnly: true }), 'absent')
    assert.ok(world.store.log.length <= 2, world.store.log.map(({ action }) => action).join(' '))
    assert.equal(await world.fetch(next), 'delivered')
  })

  test('takes two requests also at the ends of the names of segments', async () => {
    const usual = 16 * 1024 * 1024
    for (const number of [256n, 257n, 512n, 513n, 0x1ffn]) {
      await using world = await openWorld({}, 0)
      for (let at = number - 20n; at < number; at++) world.put(`wal_005/${segmentName(1, at, usual)}.zst`, marker)
      world.store.log.length = 0
      assert.equal(await world.fetch(segmentName(1, number, usual)), 'absent')
      assert.ok(world.store.log.length <= 2, String(number))
    }
  })
})
