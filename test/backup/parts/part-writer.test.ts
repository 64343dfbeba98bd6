import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { ChunkPool } from '../../../src/backup/parts/chunk-pool.ts'
import { PartWriter, type PartWriterOptions } from '../../../src/backup/parts/part-writer.ts'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { Random } from '../../harness/random.ts'
import { type Entry, readParts, write } from './entries.ts'
import { forever, settle, WatchedStorage, withNothingUnhandled } from './watched-storage.ts'

const timeout = 120_000
const mega = 1024 * 1024
/** What a backup may hold of what has been received and not been compressed. */
const poolBytesMax = 24 * mega
const codec = openWriteCodec('zstd')

function openWriter(more: Partial<PartWriterOptions> = {}): { storage: WatchedStorage; writer: PartWriter } {
  const storage = new WatchedStorage()
  const signal = new AbortController().signal
  const writer = new PartWriter({
    storage,
    codec,
    folder: 'basebackups_005/b/',
    partBytesMax: 4 * mega,
    laneCount: 3,
    signal,
    ...more,
  })
  return { storage, writer }
}

/** Counts the chunks of every pool that are in somebody's hands, and those who wait for one. */
function countChunks(t: TestContext): { heldBytesMax: number; waits: number } {
  const counts = { heldBytesMax: 0, waits: 0 }
  const held = new Set<Buffer>()
  const { give, take, taken } = ChunkPool.prototype
  const hold = (chunk: Buffer) => {
    held.add(chunk)
    counts.heldBytesMax = Math.max(counts.heldBytesMax, held.size * chunk.length)
    return chunk
  }
  t.mock.method(ChunkPool.prototype, 'take', function (this: ChunkPool) {
    const chunk = take.call(this)
    return chunk && hold(chunk)
  })
  t.mock.method(ChunkPool.prototype, 'taken', async function (this: ChunkPool) {
    counts.waits++
    return hold(await taken.call(this))
  })
  t.mock.method(ChunkPool.prototype, 'give', function (this: ChunkPool, chunk: Buffer) {
    assert.ok(held.delete(chunk), 'a chunk was given back that nobody had')
    chunk.fill(0xee)
    give.call(this, chunk)
  })
  return counts
}

/** Writes files of 700 kB until it fails. */
async function writeOn(writer: PartWriter): Promise<void> {
  for (let count = 0; count < 60; count++) {
    await write(writer, { name: `/f${count}`, content: Buffer.alloc(700_000, count) })
  }
}

describe('a writer of parts', { timeout }, () => {
  test('puts every entry whole into one part of several lanes, within the memory of its pool', async (t) => {
    const seed = Math.floor(Math.random() * 2 ** 32)
    t.diagnostic(`seed ${seed}`)
    const random = new Random(seed)
    const counts = countChunks(t)
    const { storage, writer } = openWriter()
    storage.onPiece = () => (random.chance(0.3) ? settle() : undefined)
    const entries = Array.from({ length: 60 }, (_, index): Entry => {
      const length = random.pick([0, 10, 8192, 300_000, mega, 3 * mega, 5 * mega])
      return { name: `/base/${index}`, content: random.chance(0.1) ? undefined : Buffer.alloc(length, index) }
    })
    for (const each of entries) await write(writer, each, random.pick([8192, 65_536, 262_144]))
    const parts = await writer.finish()
    const read = await readParts(storage, codec, 'basebackups_005/b/', parts, 4 * mega)
    const order = new Map(entries.map(({ name }, index) => [name, index]))
    // Within a part in the order in which they came.
    for (const part of read) {
      const indexes = part.map(({ name }) => order.get(name) ?? -1)
      assert.deepEqual(
        indexes,
        [...indexes].sort((a, b) => a - b),
      )
    }
    assert.deepEqual(
      read.flat().sort((a, b) => (order.get(a.name) ?? 0) - (order.get(b.name) ?? 0)),
      entries,
    )
    assert.ok(storage.openPutsMax > 1, 'one lane did it all')
    assert.ok(counts.heldBytesMax <= poolBytesMax, `${counts.heldBytesMax} bytes`)
  })

  test('keeps to one lane while that one is quick enough, so that parts are few', async () => {
    const { storage, writer } = openWriter({ partBytesMax: 64 * mega })
    for (let count = 0; count < 50; count++) await write(writer, { name: `/f${count}`, content: Buffer.alloc(1000) })
    assert.equal((await writer.finish()).length, 1)
    assert.equal(storage.objects.size, 1)
  })

  test('never holds more than its pool while the storage stands still', async (t) => {
    const counts = countChunks(t)
    const { storage, writer } = openWriter()
    const gate = Promise.withResolvers<undefined>()
    storage.before = () => gate.promise.then(() => {})
    const writing = writeOn(writer)
    while (counts.waits === 0) await settle()
    const heldBytes = counts.heldBytesMax
    assert.ok(heldBytes <= poolBytesMax, `${heldBytes} bytes`)
    gate.resolve(undefined)
    await writing
    const read = await readParts(storage, codec, 'basebackups_005/b/', await writer.finish(), 4 * mega)
    assert.equal(read.flat().length, 60)
    assert.equal(counts.heldBytesMax, heldBytes)
  })

  for (const [when, arm] of [
    ['before a body is read', (storage: WatchedStorage) => (storage.before = fail)],
    ['in the second part', (storage: WatchedStorage) => (storage.onPiece = ({ key }) => key.includes('002') && fail())],
    ['by a lost answer', (storage: WatchedStorage) => (storage.after = fail)],
    [
      'in one lane, while the others are silent and everybody waits for a chunk',
      (storage: WatchedStorage, counts: { readonly waits: number }) => {
        storage.before = async ({ key, signal }) => {
          if (!key.includes('001')) await forever(signal)
          while (counts.waits === 0) await settle()
          fail()
        }
      },
    ],
  ] as const) {
    test(`ends whole when its storage fails ${when}`, async (t) => {
      await withNothingUnhandled(async () => {
        const counts = countChunks(t)
        const { storage, writer } = openWriter()
        arm(storage as never, counts)
        await assert.rejects(async () => {
          await writeOn(writer)
          await writer.finish()
        }, broken)
        await writer.drop(new Error('dropped'))
        assert.equal(storage.openPuts, 0)
        assert.throws(() => writer.place('/x', 512), broken)
        await assert.rejects(writer.finish())
      })
    })
  }

  test('that fails while it is finished leaves no put once it is dropped', async () => {
    await withNothingUnhandled(async () => {
      const { storage, writer } = openWriter({ partBytesMax: 64 * mega })
      storage.before = async ({ key, signal }) => (key.includes('001') ? settle().then(fail) : forever(signal))
      await assert.rejects(async () => {
        for (let count = 0; count < 12; count++) {
          await write(writer, { name: `/f${count}`, content: Buffer.alloc(mega, count) })
        }
        await writer.finish()
      }, broken)
      await writer.drop(new Error('dropped'))
      assert.deepEqual([storage.openPuts, storage.objects.size], [0, 0])
    })
  })

  test('is dropped in every state, and keeps what is durable', async () => {
    await withNothingUnhandled(async () => {
      const idle = openWriter()
      await idle.writer.drop(new Error('dropped'))
      await idle.writer.drop(new Error('dropped'))
      assert.equal(idle.storage.calls.length, 0)

      const busy = openWriter()
      busy.storage.before = ({ signal }) => forever(signal)
      const writing = writeOn(busy.writer)
      const refused = assert.rejects(writing, { message: 'dropped' })
      for (let turn = 0; turn < 10; turn++) await settle()
      await busy.writer.drop(new Error('dropped'))
      await refused
      assert.deepEqual([busy.storage.openPuts, busy.storage.objects.size], [0, 0])

      const over = openWriter()
      await write(over.writer, { name: '/f', content: Buffer.alloc(10) })
      const parts = await over.writer.finish()
      await over.writer.drop(new Error('dropped'))
      await readParts(over.storage, codec, 'basebackups_005/b/', parts, 4 * mega)
    })
  })

  test('ends by the signal, everybody gets its reason, and a lane that was aborted before begins nothing', async () => {
    await withNothingUnhandled(async () => {
      const stop = new AbortController()
      const { storage, writer } = openWriter({ signal: stop.signal })
      storage.onPiece = ({ signal }) => forever(signal)
      const refused = assert.rejects(writeOn(writer), { message: 'stopped by hand' })
      for (let turn = 0; turn < 10; turn++) await settle()
      stop.abort(new Error('stopped by hand'))
      await refused
      await writer.drop(new Error('dropped'))
      assert.deepEqual([storage.openPuts, storage.objects.size], [0, 0])

      const late = openWriter({ signal: stop.signal })
      assert.throws(() => late.writer.place('/x', 512), { message: 'stopped by hand' })
      await late.writer.drop(new Error('dropped'))
      assert.equal(late.storage.calls.length, 0)
    })
  })

  test('listens to the signal no longer when it has ended', async () => {
    const listeners = new Set<unknown>()
    const stop = new AbortController()
    const { addEventListener, removeEventListener } = AbortSignal.prototype
    Object.assign(stop.signal, {
      addEventListener(...call: Parameters<typeof addEventListener>) {
        listeners.add(call[1])
        addEventListener.apply(stop.signal, call)
      },
      removeEventListener(...call: Parameters<typeof removeEventListener>) {
        listeners.delete(call[1])
        removeEventListener.apply(stop.signal, call)
      },
    })
    for (const end of ['finish', 'drop'] as const) {
      const { writer } = openWriter({ signal: stop.signal })
      await write(writer, { name: '/f', content: Buffer.alloc(10) })
      assert.equal(listeners.size, 1)
      await (end === 'finish' ? writer.finish() : writer.drop(new Error('dropped')))
      assert.equal(listeners.size, 0)
    }
  })
})

function fail(): never {
  throw new Error('broken')
}

function broken(error: unknown): boolean {
  return error instanceof Error && error.message === 'broken'
}
