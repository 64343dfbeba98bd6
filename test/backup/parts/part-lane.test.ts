import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { type LaneSettings, PartLane } from '../../../src/backup/parts/part-lane.ts'
import { tarTrailer } from '../../../src/backup/parts/tar-header.ts'
import type { EntryPlacer } from '../../../src/backup/parts/entry-target.ts'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { CountingPool } from './counting-pool.ts'
import { append, type Entry, entryBytes, readParts, write } from './entries.ts'
import { forever, settle, WatchedStorage, withNothingUnhandled } from './watched-storage.ts'

const timeout = 120_000
const codec = openWriteCodec('zstd')

/** A lane over a small pool, and all that it touches. */
function openLane(settings: Partial<LaneSettings> & { chunkBytes?: number; chunks?: number } = {}) {
  const { chunkBytes = 4096, chunks = 4, ...rest } = settings
  const storage = new WatchedStorage()
  const pool = new CountingPool(chunkBytes, chunks)
  const failures: Error[] = []
  let number = 0
  const lane = new PartLane({
    storage,
    codec,
    pool,
    folder: 'basebackups_005/b/',
    partBytesMax: 20_000,
    nextNumber: () => ++number,
    onFailure: (error) => failures.push(error),
    signal: new AbortController().signal,
    ...rest,
  })
  const placer: EntryPlacer = {
    place: (name, bytes) => lane.begin(name, bytes)?.then(() => lane) ?? lane,
  }
  return { failures, lane, placer, pool, storage }
}

const entry = fc.record(
  {
    name: fc.stringMatching(/^\/[a-z]{1,8}\/[0-9]{1,5}$/),
    content: fc.option(
      fc.tuple(fc.oneof(fc.nat(9000), fc.constantFrom(0, 512, 3072, 30_000)), fc.nat(255)).map(([length, fill]) => {
        return Buffer.alloc(length, fill)
      }),
      { nil: undefined },
    ),
  },
  { noNullPrototype: true },
)

/** Fills a lane until somebody waits for a chunk; resolves with the promise of the one that fills it. */
async function fill({ placer, pool }: ReturnType<typeof openLane>): Promise<{ readonly filling: Promise<void> }> {
  const filling = (async () => {
    for (let count = 0; count < 200; count++) {
      await write(placer, { name: `/f${count}`, content: Buffer.alloc(10_000, count) }, 1500)
    }
  })()
  filling.catch(() => {})
  for (let turn = 0; turn < 100 && pool.waits === 0; turn++) await settle()
  assert.ok(pool.waits > 0, 'nobody waits')
  return { filling }
}

describe('a lane', { timeout }, () => {
  test('ends each part before it gets too long, and every entry is whole in one of them', async () => {
    const entries = fc.array(entry, { maxLength: 25 })
    const bounds = fc.constantFrom(1, 1536, 12_000, 20_000, 1e9)
    await fc.assert(
      fc.asyncProperty(entries, bounds, fc.integer({ min: 1, max: 7000 }), async (all, partBytesMax, pieceBytes) => {
        const { lane, placer, pool, storage } = openLane({ partBytesMax })
        for (const each of all) await write(placer, each, pieceBytes)
        const parts = await lane.finish()
        const read = await readParts(storage, codec, 'basebackups_005/b/', parts, partBytesMax)
        assert.deepEqual(read.flat(), all)
        // No part ends before it must.
        for (const [index, part] of parts.entries()) {
          const next = read[index + 1]?.[0]
          if (next) assert.ok(part.tarBytes + entryBytes(next).length > partBytesMax, 'ended too early')
        }
        assert.deepEqual([pool.held.size, lane.queuedBytes, storage.openPuts], [0, 0, 0])
      }),
      { numRuns: 40 },
    )
  })

  test('fills a part to the last byte that it may have, and not beyond', async () => {
    const two: Entry[] = ['/a', '/b'].map((name) => ({ name, content: Buffer.alloc(1000, 0x61) }))
    const exact = two.reduce((sum, each) => sum + entryBytes(each).length, tarTrailer.length)
    for (const [partBytesMax, count] of [
      [exact, 1],
      [exact - 1, 2],
    ] as const) {
      const { lane, placer, storage } = openLane({ partBytesMax })
      for (const each of two) await write(placer, each)
      const parts = await lane.finish()
      assert.equal(parts.length, count)
      await readParts(storage, codec, 'basebackups_005/b/', parts, partBytesMax)
    }
  })

  test('gives a file that is longer than any part one of its own', async () => {
    const { lane, placer, storage } = openLane({ partBytesMax: 5000 })
    const all: Entry[] = [
      { name: '/small', content: Buffer.from('1') },
      { name: '/large', content: Buffer.alloc(60_000, 7) },
      { name: '/dir', content: undefined },
      { name: '/other', content: Buffer.from('2') },
    ]
    for (const each of all) await write(placer, each)
    const parts = await lane.finish()
    const read = await readParts(storage, codec, 'basebackups_005/b/', parts, 5000)
    assert.deepEqual(
      read.map((part) => part.map(({ name }) => name)),
      [['/small'], ['/large'], ['/dir', '/other']],
    )
  })

  test('that is given nothing stores nothing', async () => {
    const { lane, storage } = openLane()
    assert.deepEqual(await lane.finish(), [])
    assert.equal(storage.calls.length, 0)
  })

  test('waits for the storage with no more than the pool in memory, and goes on', async () => {
    const world = openLane({ partBytesMax: 1e9 })
    const gate = Promise.withResolvers<undefined>()
    world.storage.before = () => gate.promise.then(() => {})
    const { filling } = await fill(world)
    assert.equal(world.pool.held.size, 4)
    gate.resolve(undefined)
    await filling
    const parts = await world.lane.finish()
    assert.equal((await readParts(world.storage, codec, 'basebackups_005/b/', parts, 1e9)).flat().length, 200)
    assert.deepEqual([world.pool.heldMax, world.pool.held.size], [4, 0])
  })

  for (const [when, arm] of [
    ['before a body is read', (storage: WatchedStorage) => (storage.before = fail)],
    ['in the first piece of a body', (storage: WatchedStorage) => (storage.onPiece = fail)],
    ['in the second part', (storage: WatchedStorage) => (storage.onPiece = ({ key }) => key.includes('002') && fail())],
    ['by a lost answer', (storage: WatchedStorage) => (storage.after = fail)],
    [
      'while everybody waits for a chunk',
      (storage: WatchedStorage, pool: CountingPool) => {
        storage.before = async () => {
          while (pool.waits === 0) await settle()
          fail()
        }
      },
    ],
  ] as const) {
    for (const drops of [true, false]) {
      test(`with a storage that fails ${when} ends ${drops ? 'when it is dropped' : 'when it is finished'}`, async () => {
        await withNothingUnhandled(async () => {
          const { failures, lane, placer, pool, storage } = openLane()
          arm(storage as never, pool)
          await assert.rejects(async () => {
            for (let count = 0; count < 100; count++) {
              await write(placer, { name: `/f${count}`, content: Buffer.alloc(5000, count) }, 1500)
            }
            await lane.finish()
          }, broken)
          if (drops) await lane.drop(new Error('dropped'))
          else await assert.rejects(lane.finish(), broken)
          assert.deepEqual(
            failures.map(({ message }) => message),
            ['broken'],
          )
          assert.equal(storage.openPuts, 0)
          assert.throws(() => lane.append(Buffer.alloc(1)), broken)
        })
      })
    }
  }

  test('gives its chunks back when it fails, so that others of the pool go on', async () => {
    await withNothingUnhandled(async () => {
      const world = openLane({ partBytesMax: 1e9 })
      const gate = Promise.withResolvers<undefined>()
      world.storage.before = () => gate.promise.then(fail)
      const { filling } = await fill(world)
      const others = [world.pool.taken(), world.pool.taken(), world.pool.taken()]
      gate.resolve(undefined)
      await assert.rejects(filling, broken)
      assert.equal(new Set(await Promise.all(others)).size, 3)
    })
  })

  test('is dropped in every state, and what was not durable is not there', async () => {
    const dropped = new Error('dropped')
    await withNothingUnhandled(async () => {
      const idle = openLane()
      await idle.lane.drop(dropped)
      await idle.lane.drop(dropped)
      assert.equal(idle.storage.calls.length, 0)

      const begun = openLane()
      await begun.lane.begin('/x', 10_000)
      await append(begun.lane, Buffer.alloc(3000), 1000)
      await begun.lane.drop(dropped)

      const busy = openLane()
      for (const name of ['/1', '/2', '/3']) await write(busy.placer, { name, content: Buffer.alloc(15_000) })
      await busy.lane.drop(dropped)
      await assert.rejects(busy.lane.finish(), { message: 'dropped' })

      const over = openLane()
      await write(over.placer, { name: '/1', content: Buffer.alloc(15_000) })
      const parts = await over.lane.finish()
      await over.lane.drop(dropped)
      await readParts(over.storage, codec, 'basebackups_005/b/', parts, 20_000)

      for (const { failures, pool, storage } of [idle, begun, busy, over]) {
        assert.deepEqual([storage.openPuts, pool.held.size], [0, 0])
        assert.ok(failures.every((error) => error === dropped))
      }
      assert.equal(begun.storage.objects.size, 0)
    })
  })

  for (const where of ['before', 'within'] as const) {
    test(`ends by the signal while the storage is silent ${where} a body and somebody waits for a chunk`, async () => {
      await withNothingUnhandled(async () => {
        const stop = new AbortController()
        const world = openLane({ signal: stop.signal, partBytesMax: 1e9 })
        if (where === 'before') world.storage.before = ({ signal }) => forever(signal)
        else world.storage.onPiece = ({ signal }) => forever(signal)
        const { filling } = await fill(world)
        stop.abort(new Error('stopped by hand'))
        await assert.rejects(filling, { message: 'stopped by hand' })
        await assert.rejects(world.lane.finish(), { message: 'stopped by hand' })
        await world.lane.drop(new Error('dropped'))
        assert.deepEqual([world.storage.objects.size, world.storage.openPuts], [0, 0])
      })
    })
  }
})

function fail(): never {
  throw new Error('broken')
}

function broken(error: unknown): boolean {
  return error instanceof Error && error.message === 'broken'
}
