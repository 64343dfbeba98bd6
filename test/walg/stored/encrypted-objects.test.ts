/** Objects that are encrypted by libsodium, read as everything in walrx reads them: no change of one passes. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { hasCode, type ErrorCode, type WalrxError } from '../../../src/primitives/errors.ts'
import { openObject, readWhole } from '../../../src/walg/stored/stored-reader.ts'
import { StoredWriter } from '../../../src/walg/stored/stored-writer.ts'
import { randomBytesOf, walLikeBytes } from '../../harness/made/codec-streams.ts'
import { chunkRanges, keyringOf, headerBytes } from '../../harness/made/secretstreams.ts'
import { Random } from '../../harness/random.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const methods = ['zstd', 'lz4', 'brotli', 'none'] as const
const segment = 'wal_005/000000010000000000000002'
/** A tail that compresses, then bytes that do not: objects of several chunks, of each codec. */
const content = Buffer.concat([walLikeBytes(1, 50_000), randomBytesOf(2, 100_000)])

/** Everything that an object gave out, and how that ended. */
interface Outcome {
  readonly bytes: Buffer
  readonly error: unknown
}

/** Reads an object in each way that there is. */
async function readings(storage: MemoryStorage, name: { key: string; extension: string }): Promise<Outcome[]> {
  const collect = async (body: AsyncIterable<Uint8Array>): Promise<Outcome> => {
    const chunks: Buffer[] = []
    try {
      for await (const chunk of body) chunks.push(Buffer.from(chunk))
      return { bytes: Buffer.concat(chunks), error: undefined }
    } catch (error) {
      return { bytes: Buffer.concat(chunks), error }
    }
  }
  const { pieces } = await openObject(storage, name)
  const freed = async function* () {
    for await (const { bytes, free } of pieces?.() ?? []) {
      yield bytes
      free()
    }
  }
  const whole = readWhole(await openObject(storage, name)).then(
    (bytes) => ({ bytes, error: undefined }),
    (error: unknown) => ({ bytes: Buffer.alloc(0), error }),
  )
  return [await collect((await openObject(storage, name)).body), await collect(freed()), await whole]
}

function assertError(error: unknown, codes: readonly ErrorCode[], key: string, how: string): void {
  assert.ok(
    codes.some((code) => hasCode(error, code)),
    `${how}: ${String(error)}`,
  )
  assert.ok((error as WalrxError).message.startsWith(`memory://test/${key}`), (error as WalrxError).message)
}

/** A change of an object. */
function change(object: Buffer, random: Random): { how: string; changed: Buffer } {
  const ranges = chunkRanges(object.length)
  const chunks = ranges.map(({ end, start }) => object.subarray(start, end))
  const head = object.subarray(0, headerBytes)
  const at = random.int(0, chunks.length - 1)
  const to = (at + random.int(1, chunks.length - 1)) % chunks.length
  const taken = chunks[at]!
  switch (random.pick(['flip', 'cut', 'end', 'swap', 'repeat', 'drop', 'append'] as const)) {
    case 'flip': {
      const bit = random.int(0, object.length * 8 - 1)
      const changed = Buffer.from(object)
      changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      return { how: `bit ${bit}`, changed }
    }
    case 'cut': {
      const cut = random.int(0, object.length - 1)
      return { how: `cut at ${cut}`, changed: object.subarray(0, cut) }
    }
    case 'end':
      return { how: `cut before chunk ${at}`, changed: object.subarray(0, ranges[at]!.start) }
    case 'swap': {
      const order = chunks.with(at, chunks[to]!).with(to, taken)
      return { how: `${at} and ${to} exchanged`, changed: Buffer.concat([head, ...order]) }
    }
    case 'repeat':
      return { how: `${at} again`, changed: Buffer.concat([head, ...chunks.toSpliced(to, 0, taken)]) }
    case 'drop':
      return { how: `without ${at}`, changed: Buffer.concat([head, ...chunks.toSpliced(at, 1)]) }
    case 'append': {
      const tail = randomBytesOf(at, random.int(1, 20_000))
      return { how: `and ${tail.length} bytes`, changed: Buffer.concat([object, tail]) }
    }
  }
}

for (const method of methods) {
  describe(`an encrypted object under ${method}`, () => {
    const codec = openWriteCodec(method)
    const { extension } = codec
    const name = { extension, key: extension === '' ? segment : `${segment}.${extension}` }
    const made = async (storage: MemoryStorage) => new StoredWriter(storage, codec).encodeCopy(content)

    test('that is changed is reported by its name, and nothing comes out that was not put in', async () => {
      const object = await made(new MemoryStorage({ keyring: keyringOf([1]) }))
      for (let seed = 0; seed < 25; seed++) {
        const random = new Random(seed)
        const chunkBytes = Math.ceil(2 ** (random.next() * 20)) + 100
        const storage = new MemoryStorage({ keyring: keyringOf([1]), chunkBytes })
        const { changed, how } = change(object, random)
        storage.seed(name.key, changed)
        for (const { bytes, error } of await readings(storage, name)) {
          assertError(error, ['WALRX_OBJECT_DAMAGED', 'WALRX_KEY_WRONG'], name.key, `seed ${seed}, ${how}`)
          assert.ok(content.subarray(0, bytes.length).equals(bytes), `seed ${seed}, ${how}: other bytes came out`)
        }
        assert.equal(storage.openBodies, 0, `seed ${seed}, ${how}`)
      }
    })

    test('is read by any of the keys, in pieces of any size', async () => {
      for (const chunkBytes of [500, 8209, 65_536, 1 << 20]) {
        const writer = new MemoryStorage({ keyring: keyringOf([2]) })
        const storage = new MemoryStorage({ keyring: keyringOf([1, 3, 2]), chunkBytes })
        storage.seed(name.key, await made(writer))
        for (const { bytes, error } of await readings(storage, name)) {
          assert.equal(error, undefined)
          assert.ok(bytes.equals(content))
        }
      }
    })

    test('is read from a storage that uses the memory of a chunk again', async () => {
      for (const chunkBytes of [200, 5000, 65_536]) {
        const memory = Buffer.alloc(chunkBytes)
        const body = async function* (_key: string, chunks: AsyncIterable<Uint8Array>) {
          for await (const chunk of chunks) {
            memory.set(chunk)
            yield memory.subarray(0, chunk.length)
            memory.fill(0)
          }
        }
        const storage = new MemoryStorage({ keyring: keyringOf([1, 3]), chunkBytes, body })
        storage.seed(name.key, await made(storage))
        for (const { bytes, error } of await readings(storage, name)) {
          assert.equal(error, undefined)
          assert.ok(bytes.equals(content))
        }
      }
    })

    test('is freed at once when its reader has enough, while a read ahead waits', async () => {
      let freed = 0
      // Enough for two blocks that are decrypted; nothing comes of the third.
      const stalling = (_key: string, chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> => {
        const source = chunks[Symbol.asyncIterator]()
        let count = 0
        const iterator: AsyncIterator<Uint8Array> = {
          next: () => (count++ < 12 ? source.next() : new Promise(() => {})),
          return: () => {
            freed++
            return Promise.resolve({ done: true, value: undefined })
          },
        }
        return { [Symbol.asyncIterator]: () => iterator }
      }
      const storage = new MemoryStorage({ keyring: keyringOf([1]), body: stalling })
      storage.seed(name.key, await new StoredWriter(storage, codec).encodeCopy(randomBytesOf(3, 2_000_000)))
      const reading = (await openObject(storage, name)).body[Symbol.asyncIterator]()
      assert.ok(!(await reading.next()).done)
      await reading.return?.()
      assert.equal(freed, 1)
    })

    test('of another key gives nothing out', async () => {
      const storage = new MemoryStorage({ keyring: keyringOf([1, 3]) })
      storage.seed(name.key, await made(new MemoryStorage({ keyring: keyringOf([2]) })))
      for (const { bytes, error } of await readings(storage, name)) {
        assertError(error, ['WALRX_KEY_WRONG'], name.key, 'another key')
        assert.equal(bytes.length, 0)
      }
    })

    test('that is empty, or is what WAL-G makes of an empty file, is refused', async () => {
      for (const acceptsUnencrypted of [false, true]) {
        const storage = new MemoryStorage({ keyring: keyringOf([1], acceptsUnencrypted) })
        for (const bytes of [Buffer.alloc(0), Buffer.from('9c08f276d1f4bc1e88fd630d9ff14d74bf', 'hex')]) {
          storage.seed(name.key, bytes)
          // Without compression, what is not encrypted may be any bytes.
          if (acceptsUnencrypted && method === 'none' && bytes.length > 0) continue
          for (const { bytes: output, error } of await readings(storage, name)) {
            // Fewer bytes than a guess needs may be of any form.
            const codes = ['WALRX_OBJECT_DAMAGED', ...(bytes.length > 0 ? (['WALRX_KEY_WRONG'] as const) : [])] as const
            assertError(error, codes, name.key, `${bytes.length} bytes`)
            assert.equal(output.length, 0)
          }
        }
      }
    })
  })
}
