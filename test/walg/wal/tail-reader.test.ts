/** A tail is worth what its chunks cover from the first byte on, and nothing that contradicts itself is given out. */
import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import type { WriteMethod } from '../../../src/compression/codec.ts'
import { extensions, openWriteCodec } from '../../../src/compression/codecs.ts'
import { type ErrorCode, hasCode } from '../../../src/primitives/errors.ts'
import { parseTailKey, parseWalKey, tailFolderOf, tailKey } from '../../../src/walg/names.ts'
import { assembleTail, coveredLength, listTails, readChunks, tailOf } from '../../../src/walg/wal/tail-reader.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { encodeCopy, walLikeBytes } from '../../harness/made/codec-streams.ts'
import { MemoryStorage, unavailable } from '../../harness/store/memory-storage.ts'

const segment = '000000010000000000000007'
const size = 64 * 1024
const full = Buffer.from(walLikeBytes(1, size)).map((byte) => byte | 1)

let storage: MemoryStorage
let reader: WalReader
beforeEach(() => {
  storage = new MemoryStorage()
  reader = new WalReader(storage)
})

const seed = (from: number, to: number, bytes: Uint8Array = full.subarray(from, to), name = segment) =>
  storage.seed(tailKey(name, { from, to }, ''), bytes)

const assemble = () => assembleTail(reader, segment)

const fails = (promise: Promise<unknown>, code: ErrorCode, message: RegExp) =>
  assert.rejects(promise, (error) => {
    assert.ok(hasCode(error, code), `${code} expected: ${String(error)}`)
    assert.match(error.message, message)
    return true
  })

describe('keys', () => {
  const hex = (length: number) =>
    fc
      .array(fc.constantFrom(...'0123456789ABCDEF'), { minLength: length, maxLength: length })
      .map((digits) => digits.join(''))
  const range = fc
    .tuple(fc.integer({ min: 0, max: 2 ** 32 - 2 }), fc.integer({ min: 1, max: 2 ** 30 }))
    .map(([from, length]) => ({ from, to: Math.min(2 ** 32 - 1, from + length) }))

  test('come back as what they were made of, and sort by where chunks begin', () => {
    const extension = fc.constantFrom(...Object.values(extensions))
    fc.assert(
      fc.property(hex(24), range, range, extension, (name, one, other, end) => {
        assert.deepEqual(parseTailKey(tailKey(name, one, end)), { segment: name, ...one, extension: end })
        const byKey = tailKey(name, one, end) < tailKey(name, other, end)
        assert.equal(byKey, one.from < other.from || (one.from === other.from && one.to < other.to))
      }),
    )
  })

  test('of anything else are none, and a chunk is no WAL file', () => {
    const key = tailKey(segment, { from: 0, to: 256 }, 'zst')
    assert.equal(key, `walrx_005/tail/00000001/${segment}/00000000-00000100.zst`)
    assert.equal(parseWalKey(key), undefined)
    const others = [
      key.replace('tail', 'aside'),
      key.replace('walrx_005', 'wal_005'),
      key.replace('00000001/', '00000002/'),
      key.replace('-00000100', '-00000000'),
      key.replace('-', '_'),
      key.replace('-00000100', '-100'),
      key.replace('-00000100', '-0000010g'),
      key.replace('7/', 'a/'),
      `${key}.tmp`,
      `${key}/x`,
      `x${key}`,
      key.replace('.zst', '.'),
      'walrx_005/system.json',
      `walrx_005/partial/${segment}.partial.0123456789abcdef.zst`,
      'walrx_005/gap/00000001/x.json',
      tailFolderOf(segment),
    ]
    for (const other of others) assert.equal(parseTailKey(other), undefined, other)
    fc.assert(
      fc.property(fc.nat(key.length - 5), fc.string({ minLength: 1, maxLength: 1 }), (at, character) => {
        const changed = key.slice(0, at) + character + key.slice(at + 1)
        const parsed = parseTailKey(changed)
        if (parsed) assert.equal(tailKey(parsed.segment, parsed, parsed.extension), changed)
      }),
    )
  })

  test('under walrx_005 that are no chunks are passed over', async () => {
    seed(0, 100)
    for (const key of ['tail/x', `tail/00000001/${segment}/x`, `aside/00000001/${segment}/00000000-00000200`])
      storage.seed(`walrx_005/${key}`, 'x')
    seed(0, 50, undefined, '000000010000000000000008')
    seed(0, 50, undefined, '000000020000000000000001')
    const found: string[] = []
    for await (const { chunks, segment: name } of listTails(storage, undefined)) found.push(`${name} ${chunks.length}`)
    assert.deepEqual(found, [`${segment} 1`, '000000010000000000000008 1', '000000020000000000000001 1'])
    const ofTwo: string[] = []
    for await (const { segment: name } of listTails(storage, 2)) ofTwo.push(name)
    assert.deepEqual(ofTwo, ['000000020000000000000001'])
    assert.deepEqual(await tailOf(storage, '000000030000000000000001'), {
      segment: '000000030000000000000001',
      chunks: [],
    })
  })
})

describe('what chunks cover', () => {
  const length = 60
  const ranges = fc.array(
    fc.tuple(fc.nat(length - 1), fc.integer({ min: 1, max: 25 })).map(([from, more]) => ({
      from,
      to: Math.min(length, from + more),
    })),
    { maxLength: 12 },
  )

  test('ends at the first byte that none of them has, and is what was put there', async () => {
    await fc.assert(
      fc.asyncProperty(ranges, async (chunks) => {
        storage.objects.clear()
        const has = Array.from({ length }, () => false)
        for (const { from, to } of chunks) {
          seed(from, to)
          has.fill(true, from, to)
        }
        const expected = has.includes(false) ? has.indexOf(false) : length
        const tail = await tailOf(storage, segment)
        assert.equal(coveredLength(tail.chunks), expected)
        const buffer = Buffer.alloc(length)
        assert.equal(await readChunks(storage, tail, buffer), expected)
        assert.deepEqual(buffer.subarray(0, expected), Buffer.from(full.subarray(0, expected)))
        const assembled = await assemble()
        assert.equal(assembled?.bytes.length ?? 0, expected)
      }),
    )
    assert.equal(storage.openBodies, 0)
  })

  test('is refused where two disagree in any byte that both have, with the key of the second', async () => {
    await fc.assert(
      fc.asyncProperty(ranges, fc.nat(length), async (chunks, wrongAt) => {
        storage.objects.clear()
        for (const { from, to } of chunks) seed(from, to)
        const tail = await tailOf(storage, segment)
        const expected = coveredLength(tail.chunks)
        const [first, wrong] = tail.chunks
        if (!first || !wrong || wrong.from >= expected) return
        const at = wrong.from + (wrongAt % (wrong.to - wrong.from))
        const bytes = Buffer.from(full.subarray(wrong.from, wrong.to))
        bytes.writeUInt8(bytes.readUInt8(at - wrong.from) ^ 0xff, at - wrong.from)
        seed(wrong.from, wrong.to, bytes)
        const isElsewhere = tail.chunks.some(
          ({ from, key, to }) => key !== wrong.key && from < expected && from <= at && at < to,
        )
        if (isElsewhere) await fails(assemble(), 'WALRX_ARCHIVE_CONFLICT', /memory:\/\/test\/walrx_005\/tail\//)
        else assert.equal((await assemble())?.bytes.length, expected)
      }),
    )
    storage.objects.clear()
    seed(0, 30)
    seed(20, 40, Buffer.alloc(20, 2))
    await fails(assemble(), 'WALRX_ARCHIVE_CONFLICT', /0{7}1\/\w{24}\/00000014-00000028 holds different bytes/)
    assert.equal(storage.openBodies, 0)
  })

  test('is the same in every codec, mixed as well, and in pieces of any size', async () => {
    const methods: WriteMethod[] = ['zstd', 'lz4', 'brotli', 'none']
    for (const chunkBytes of [1, 7, 100_000]) {
      storage = new MemoryStorage({ chunkBytes: chunkBytes === 1 ? 50 : chunkBytes })
      reader = new WalReader(storage)
      for (const [index, method] of methods.entries()) {
        const range = { from: index * 900, to: index * 1000 + 1200 }
        const encoded = await encodeCopy(openWriteCodec(method), full.subarray(range.from, range.to))
        storage.seed(tailKey(segment, range, extensions[method]), encoded)
      }
      assert.deepEqual((await assemble())?.bytes, Buffer.from(full.subarray(0, 4200)))
    }
  })

  test('is damaged where a chunk is shorter or longer than its name says, or no longer its codec', async () => {
    seed(0, 100, full.subarray(0, 99))
    await fails(assemble(), 'WALRX_OBJECT_DAMAGED', /00000000-00000064 holds 99 bytes, its name says 100/)
    seed(0, 100, full.subarray(0, 101))
    await fails(assemble(), 'WALRX_OBJECT_DAMAGED', /holds 101 or more bytes, its name says 100/)
    seed(0, 100, Buffer.alloc(0))
    await fails(assemble(), 'WALRX_OBJECT_DAMAGED', /holds 0 bytes/)
    storage.objects.clear()
    storage.seed(tailKey(segment, { from: 0, to: 100 }, 'zst'), 'no zstd')
    await fails(assemble(), 'WALRX_OBJECT_DAMAGED', /00000064\.zst/)
    storage.objects.clear()
    storage.seed(tailKey(segment, { from: 0, to: 100 }, 'lzo'), 'x')
    await fails(assemble(), 'WALRX_CODEC_UNSUPPORTED', /lzo/)
    assert.equal(storage.openBodies, 0)
  })

  test('is damaged where a chunk is longer than the segment is', async () => {
    seed(0, 100)
    const tail = await tailOf(storage, segment)
    await fails(readChunks(storage, tail, Buffer.alloc(99)), 'WALRX_OBJECT_DAMAGED', /00000064/)
  })

  test('does not need what lies after a hole', async () => {
    seed(0, 100)
    seed(101, 300, Buffer.from('damaged'))
    assert.equal((await assemble())?.bytes.length, 100)
  })
})

describe('while the archive changes', () => {
  test('a chunk that vanishes between being listed and being read is looked for again', async () => {
    seed(0, 100)
    seed(100, 150)
    let isReplaced = false
    storage.before = ({ operation }) => {
      if (operation !== 'get' || isReplaced) return
      isReplaced = true
      storage.objects.clear()
      seed(0, 200)
    }
    assert.deepEqual((await assemble())?.bytes, Buffer.from(full.subarray(0, 200)))
    assert.ok(isReplaced)
  })

  test('chunks that vanish again and again are a fault of the storage, not the absence of WAL', async () => {
    seed(0, 100)
    storage.before = ({ operation }) => {
      if (operation === 'get') storage.objects.clear()
      else seed(0, 100)
    }
    await fails(assemble(), 'WALRX_STORAGE_UNAVAILABLE', /gone when they are read/)
  })

  test('a segment that has become whole meanwhile has no tail', async () => {
    seed(0, 100)
    let gets = 0
    storage.before = ({ operation }) => {
      if (operation === 'get' && gets++ === 0) storage.seed(`wal_005/${segment}.zst`, 'x')
    }
    assert.equal(await assemble(), undefined)
    storage.before = undefined
    storage.objects.clear()
    assert.equal(await assemble(), undefined, 'nothing at all')
  })

  test('a partial that vanishes is none', async () => {
    seed(0, 100)
    storage.seed(`wal_005/${segment}.partial`, full.subarray(0, 200))
    storage.before = ({ key, operation }) => {
      if (operation === 'get' && key.endsWith('.partial')) storage.objects.delete(key)
    }
    assert.equal((await assemble())?.bytes.length, 100)
  })
})

describe('a partial', () => {
  /** What follows the WAL of a partial is zeros. */
  const partial = (length: number, change: (bytes: Buffer) => void = () => {}, ms?: number) => {
    const bytes = Buffer.alloc(size)
    bytes.set(full.subarray(0, length))
    change(bytes)
    storage.seed(`wal_005/${segment}.partial`, bytes, ms)
  }
  const lengthOf = async () => (await assemble())?.bytes.length

  test('that reaches farther is what there is, without its padding; a shorter one adds nothing', async () => {
    partial(300)
    assert.equal(await lengthOf(), 300)
    seed(0, 200)
    assert.equal(await lengthOf(), 300)
    seed(200, 400)
    assert.equal(await lengthOf(), 400)
    assert.deepEqual((await assemble())?.bytes, Buffer.from(full.subarray(0, 400)))
  })

  test('of another receiver with another codec hides no longer one', async () => {
    const bytes = Buffer.alloc(size)
    bytes.set(full.subarray(0, 250))
    storage.seed(`wal_005/${segment}.partial.zst`, zstdCompressSync(bytes))
    for (const length of [200, 300]) {
      partial(length)
      assert.equal(await lengthOf(), Math.max(length, 250))
    }
  })

  test('that contradicts the chunks is an error, whichever is longer', async () => {
    const change = (bytes: Buffer) => bytes.writeUInt8(0x80 ^ bytes.readUInt8(50), 50)
    for (const [of, to] of [
      [300, 100],
      [100, 300],
      [100, 100],
    ] as const) {
      storage.objects.clear()
      partial(of, change)
      seed(0, to)
      await fails(assemble(), 'WALRX_ARCHIVE_CONFLICT', /partial and the chunks under .* hold different WAL/)
    }
  })

  test('that has WAL where the chunks have zeros contradicts them', async () => {
    const bytes = Buffer.from(full.subarray(0, 100)).fill(0, 60)
    for (const length of [80, 100, 120]) {
      storage.objects.clear()
      seed(0, 100, bytes)
      partial(length)
      await fails(assemble(), 'WALRX_ARCHIVE_CONFLICT', /hold different WAL/)
    }
  })

  test('may end in the zeros with which the chunks go on', async () => {
    const bytes = Buffer.from(full.subarray(0, 100)).fill(0, 60)
    seed(0, 100, bytes)
    partial(60)
    assert.deepEqual((await assemble())?.bytes, bytes)
  })

  test('makes nothing look older than its chunks are', async () => {
    partial(300, undefined, 1000)
    storage.seed(tailKey(segment, { from: 0, to: 100 }, ''), full.subarray(0, 100), 5000)
    assert.equal((await assemble())?.lastModifiedMs, 5000)
    partial(300, undefined, 9000)
    assert.equal((await assemble())?.lastModifiedMs, 9000)
    storage.seed(tailKey(segment, { from: 0, to: 400 }, ''), full.subarray(0, 400), 2000)
    assert.equal((await assemble())?.lastModifiedMs, 5000, 'what is there of chunks')
  })
})

describe('chunks are read', () => {
  /** Reads a tail of chunks of this length; says how many were asked for, and read, at once. */
  async function readAtOnce(count: number, length: number): Promise<{ requests: number; bytes: number }> {
    const most = { requests: 0, bytes: 0 }
    const under = new Map<string, number>()
    const note = () => {
      most.requests = Math.max(most.requests, under.size)
      most.bytes = Math.max(most.bytes, under.size * length)
    }
    storage = new MemoryStorage({
      before: async ({ key, operation }) => {
        if (operation !== 'get') return
        under.set(key, length)
        note()
        await setImmediate()
        under.delete(key)
      },
    })
    const whole = Buffer.alloc(count * length, 'walrx')
    for (let index = 0; index < count; index++) {
      const range = { from: index * length, to: (index + 1) * length }
      storage.seed(tailKey(segment, range, ''), whole.subarray(range.from, range.to))
    }
    const buffer = Buffer.alloc(whole.length)
    assert.equal(await readChunks(storage, await tailOf(storage, segment), buffer), whole.length)
    assert.ok(buffer.equals(whole))
    return most
  }

  test('several at a time, but neither too many nor too much', async () => {
    const small = await readAtOnce(40, 1000)
    assert.ok(small.requests > 8 && small.requests <= 16, `${small.requests} small ones at once`)
    const large = await readAtOnce(12, 4 * 1024 * 1024)
    assert.ok(large.bytes > 4 * 1024 * 1024 && large.bytes <= 8 * 1024 * 1024, `${large.bytes} bytes at once`)
    assert.equal((await readAtOnce(2, 12 * 1024 * 1024)).requests, 1, 'one that is larger than the bound, alone')
  })

  test('until the first that fails, or an abort: then nothing is under way any more', async () => {
    const never = new Promise<void>(() => {})
    const signals: AbortSignal[] = []
    storage = new MemoryStorage({
      before: ({ key, operation, signal }) => {
        if (operation !== 'get') return undefined
        if (signal) signals.push(signal)
        return key.includes('00000000-') && !stalls ? Promise.reject(unavailable()) : never
      },
    })
    let stalls = false
    for (let from = 0; from < 500; from += 100)
      storage.seed(tailKey(segment, { from, to: from + 100 }, ''), Buffer.alloc(100))
    const tail = await tailOf(storage, segment)
    await assert.rejects(readChunks(storage, tail, Buffer.alloc(500)), { code: 'WALRX_STORAGE_UNAVAILABLE' })
    assert.deepEqual([signals.length, signals.every(({ aborted }) => aborted)], [5, true])
    stalls = true
    const stop = new AbortController()
    const stopped = readChunks(storage, tail, Buffer.alloc(500), { signal: stop.signal })
    stop.abort(new Error('stopped (test)'))
    await assert.rejects(stopped, /stopped \(test\)/)
  })
})
