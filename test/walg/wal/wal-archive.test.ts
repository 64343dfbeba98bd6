import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import type { WriteMethod } from '../../../src/compression/codec.ts'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { WalArchive } from '../../../src/walg/wal/wal-archive.ts'
import { encodeCopy, randomBytesOf, walLikeBytes } from '../../harness/made/codec-streams.ts'
import { MemoryStorage, unavailable } from '../../harness/store/memory-storage.ts'
import { Random } from '../../harness/random.ts'

const segment = '000000010000000000000007'
const content = walLikeBytes(1, 3 * 1024 * 1024)
const other = Buffer.from(content)
other.writeUInt8(other.readUInt8(2_000_000) ^ 1, 2_000_000)

const encode = (data: Uint8Array, method: WriteMethod = 'zstd') => encodeCopy(openWriteCodec(method), data)

let storage: MemoryStorage
let archive: WalArchive
beforeEach(() => {
  storage = new MemoryStorage()
  archive = new WalArchive(storage, openWriteCodec('zstd'))
})

describe('archive', () => {
  test('a new segment is one conditional put under the extension of the codec, and a look for other forms', async () => {
    const encoded = await encode(content)
    assert.equal(await archive.archive(segment, encoded), 'created')
    assert.deepEqual(storage.log, [`putIfAbsent wal_005/${segment}.zst`, `list wal_005/${segment}`])
    assert.ok(storage.peek(`wal_005/${segment}.zst`)?.equals(encoded))
  })

  test('the same bytes again are the same, however they were compressed', async () => {
    storage.seed(`wal_005/${segment}.zst`, await encodeCopy(openWriteCodec('zstd', { level: 7 }), content))
    assert.equal(await archive.archive(segment, await encode(content)), 'same')
    assert.equal(storage.openBodies, 0)
  })

  test('an object without a byte is never taken for the segment, under our extension or another one', async () => {
    for (const extension of ['zst', 'lz4', 'br']) {
      storage = new MemoryStorage()
      archive = new WalArchive(storage, openWriteCodec('zstd'))
      storage.seed(`wal_005/${segment}.${extension}`, Buffer.alloc(0))
      assert.equal(await archive.isWhole(segment, content.length), false)
      await assert.rejects(archive.archive(segment, await encode(content)), (error) => {
        return hasCode(error, 'WALRX_ARCHIVE_CONFLICT') && error.message.includes(`wal_005/${segment}.${extension}`)
      })
    }
  })

  test('other bytes are a conflict that names the object, the place and both lengths, and nothing is written', async () => {
    const before = await encode(content)
    for (const [theirs, ours, offset] of [
      [content, other, 2_000_000],
      [content, content.subarray(0, 1_500_000), 1_500_000],
      [content.subarray(0, 8192), content, 8192],
      [Buffer.alloc(0), content, 0],
    ] as const) {
      storage.seed(`wal_005/${segment}.zst`, await encode(theirs))
      const stored = storage.peek(`wal_005/${segment}.zst`)
      await assert.rejects(archive.archive(segment, await encode(ours)), (error) => {
        assert.ok(hasCode(error, 'WALRX_ARCHIVE_CONFLICT'))
        for (const part of [
          `memory://test/wal_005/${segment}.zst`,
          `byte ${offset}`,
          `${theirs.length} bytes`,
          `${ours.length} bytes`,
        ]) {
          assert.ok(error.message.includes(part), `${error.message} lacks ${part}`)
        }
        return true
      })
      assert.equal(storage.peek(`wal_005/${segment}.zst`), stored)
      assert.equal(storage.openBodies, 0)
    }
    assert.ok(before.length > 0)
  })

  test('an object that cannot be decoded is a conflict that says so', async () => {
    const encoded = await encode(content)
    for (const damaged of [
      encoded.subarray(0, 1000),
      Buffer.alloc(50_000),
      Buffer.alloc(0),
      Buffer.concat([encoded, Buffer.alloc(1)]),
    ]) {
      storage.seed(`wal_005/${segment}.zst`, damaged)
      await assert.rejects(
        archive.archive(segment, encoded),
        (error) => hasCode(error, 'WALRX_ARCHIVE_CONFLICT') && error.message.includes('cannot be compared'),
      )
      assert.equal(storage.openBodies, 0)
    }
  })

  test('a storage that fails during the comparison is no conflict', async () => {
    storage.seed(`wal_005/${segment}.zst`, await encode(content))
    storage.before = ({ operation }) => {
      if (operation === 'get') throw unavailable()
    }
    await assert.rejects(archive.archive(segment, await encode(content)), (error) =>
      hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'),
    )
    storage.before = undefined
    storage.body = async function* (_key, chunks) {
      for await (const chunk of chunks) {
        yield chunk
        throw unavailable('in the middle')
      }
    }
    await assert.rejects(archive.archive(segment, await encode(content)), (error) =>
      hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'),
    )
    assert.equal(storage.openBodies, 0)
  })

  test('an answer that was lost does not hurt: the same call again finds its own object', async () => {
    const encoded = await encode(content)
    storage.after = ({ operation }) => {
      if (operation === 'putIfAbsent') throw unavailable('the answer was lost')
    }
    await assert.rejects(archive.archive(segment, encoded), (error) => hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
    storage.after = undefined
    assert.equal(await archive.archive(segment, encoded), 'same')
  })

  test('an object that vanishes between put and comparison is written after all', async () => {
    storage.seed(`wal_005/${segment}.zst`, await encode(other))
    storage.after = ({ operation, key }) => {
      if (operation === 'putIfAbsent') storage.objects.delete(key)
      storage.after = undefined
    }
    assert.equal(await archive.archive(segment, await encode(content)), 'created')
  })

  test('an object that is there for puts and never for gets ends as a fault of the storage', async () => {
    storage.seed(`wal_005/${segment}.zst`, await encode(content))
    const { get } = storage
    storage.get = (key, options) => get.call(storage, `${key}-gone`, options)
    await assert.rejects(archive.archive(segment, await encode(content)), (error) =>
      hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'),
    )
  })

  test('an abort ends the comparison with its reason', async () => {
    storage.seed(`wal_005/${segment}.zst`, await encode(randomBytesOf(1, 3_000_000)))
    const controller = new AbortController()
    const reason = new Error('stop')
    storage.body = async function* (_key, chunks) {
      for await (const chunk of chunks) {
        yield chunk
        controller.abort(reason)
      }
    }
    const same = await encode(randomBytesOf(1, 3_000_000))
    await assert.rejects(archive.archive(segment, same, { signal: controller.signal }), (error) => error === reason)
  })
})

describe('other forms of the name', () => {
  test('they are looked for once, ahead, and then compared; the bare form of the first segment too', async () => {
    for (const [key, bytes] of [
      [segment, content],
      ['000000010000000000000008.lz4', await encode(content, 'lz4')],
      ['000000010000000000000009.', content],
      ['00000001000000000000000A.br', await encode(other, 'brotli')],
      ['000000010000000000000006.lz4', await encode(other, 'lz4')],
    ] as const) {
      storage.seed(`wal_005/${key}`, bytes)
    }
    await archive.lookAhead(segment)
    const encoded = await encode(content)
    for (const name of [segment, '000000010000000000000008', '000000010000000000000009']) {
      assert.equal(await archive.archive(name, encoded), 'same', name)
    }
    await assert.rejects(archive.archive('00000001000000000000000A', encoded), (error) =>
      hasCode(error, 'WALRX_ARCHIVE_CONFLICT'),
    )
    storage.calls.length = 0
    assert.equal(await archive.archive('00000001000000000000000B', encoded), 'created')
    assert.deepEqual(storage.log, [
      'putIfAbsent wal_005/00000001000000000000000B.zst',
      'list wal_005/00000001000000000000000B',
    ])
    assert.equal([...storage.objects.keys()].filter((key) => key.endsWith('.zst')).length, 1)
  })

  test('our own form is no other one', async () => {
    storage.seed(`wal_005/${segment}.zst`, await encode(content))
    assert.equal(await archive.isSameUnderAnotherName(segment, await encode(content)), false)
  })

  test('one in a codec that cannot be read is a conflict', async () => {
    storage.seed(`wal_005/${segment}.lzo`, 'lzo')
    await assert.rejects(
      archive.isSameUnderAnotherName(segment, await encode(content)),
      (error) => hasCode(error, 'WALRX_ARCHIVE_CONFLICT') && error.message.includes('.lzo'),
    )
  })

  test('labels, partials, metadata and delta maps of the same segment are not taken for it', async () => {
    for (const end of ['.partial.lz4', '.partial', '.00000028.backup.zst', '_delta.lz4', '.json']) {
      storage.seed(`wal_005/${segment}${end}`, 'something else')
    }
    await archive.lookAhead(segment)
    assert.equal(await archive.isSameUnderAnotherName(segment, await encode(content)), false)
    assert.equal(await archive.archive(segment, await encode(content)), 'created')
  })
})

describe('another receiver with another codec', () => {
  /** Names of what is there under `wal_005`. */
  const stored = () => [...storage.objects.keys()].filter((key) => key.startsWith('wal_005/')).sort()

  test('writes its form at the same time: only their bytes distinguish the two', async () => {
    for (const wrote of ['before the put', 'after the put'] as const) {
      for (const [theirs, isSame] of [
        [content, true],
        [other, false],
      ] as const) {
        storage.objects.clear()
        const form = await encode(theirs, 'lz4')
        const write = ({ operation }: { operation: string }) => {
          if (operation === 'putIfAbsent') storage.seed(`wal_005/${segment}.lz4`, form)
        }
        storage[wrote === 'before the put' ? 'before' : 'after'] = write
        const ours = await encode(content)
        if (isSame) {
          assert.equal(await archive.archive(segment, ours), 'created', wrote)
          assert.deepEqual(stored(), [`wal_005/${segment}.lz4`, `wal_005/${segment}.zst`])
        } else {
          await assert.rejects(
            archive.archive(segment, ours),
            (error) => hasCode(error, 'WALRX_ARCHIVE_CONFLICT') && error.message.includes(`${segment}.lz4`),
          )
          assert.deepEqual(stored(), [`wal_005/${segment}.lz4`], 'ours gives way')
          const [aside = ''] = [...storage.objects.keys()].filter((key) => key.startsWith('walrx_005/aside/'))
          assert.ok(storage.peek(aside)?.equals(ours), 'and is not lost')
        }
        storage.before = undefined
        storage.after = undefined
      }
    }
  })

  test('never gets away with other bytes, in whichever order they come', async () => {
    for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
      storage.objects.clear()
      const random = new Random(seed)
      storage.before = async () => {
        for (let turns = random.int(0, 4); turns > 0; turns--) await setImmediate()
      }
      const receivers = [archive, new WalArchive(storage, openWriteCodec('lz4'))]
      const forms = [await encode(content), await encode(other, 'lz4')]
      const outcomes = await Promise.allSettled(
        receivers.map((receiver, index) => receiver.archive(segment, forms[index] as Buffer)),
      )
      const done = outcomes.filter(({ status }) => status === 'fulfilled').length
      assert.ok(done <= 1, `seed ${seed}: two receivers archived different bytes`)
      assert.equal(stored().length, done, `seed ${seed}: what is there is what a call succeeded with`)
    }
    storage.before = undefined
  })

  describe('with different bytes, where a call of ours has failed after its put', () => {
    const [ours, theirs] = [`wal_005/${segment}.zst`, `wal_005/${segment}.lz4`]
    const nowMs = Date.now()

    /** A put that loses its answer, or a look for other forms that fails; then the same call again. */
    async function archiveTwice(lost: 'putIfAbsent' | 'list', theirsAtMs: number): Promise<void> {
      storage.seed(theirs, await encode(other, 'lz4'), theirsAtMs)
      const encoded = await encode(content)
      storage[lost === 'list' ? 'before' : 'after'] = ({ operation }) => {
        if (operation === lost) throw unavailable()
      }
      await assert.rejects(archive.archive(segment, encoded), { code: 'WALRX_STORAGE_UNAVAILABLE' })
      assert.ok(storage.objects.has(ours), 'the put was carried out')
      storage.before = undefined
      storage.after = undefined
      await assert.rejects(archive.archive(segment, encoded), { code: 'WALRX_ARCHIVE_CONFLICT' })
    }

    test('ours gives way as if the answer had come', async () => {
      for (const lost of ['putIfAbsent', 'list'] as const) {
        storage.objects.clear()
        await archiveTwice(lost, nowMs - 60_000)
        assert.deepEqual(stored(), [theirs], lost)
        assert.equal([...storage.objects.keys()].filter((key) => key.startsWith('walrx_005/aside/')).length, 1)
      }
    })

    test('both stay where ours may be another receiver’s, which succeeded before theirs came', async () => {
      await archiveTwice('putIfAbsent', nowMs + 60_000)
      assert.deepEqual(stored(), [theirs, ours])
    })

    test('what was there before is not ours, however often a call fails', async () => {
      const encoded = await encode(content)
      storage.seed(ours, encoded, nowMs)
      storage.before = ({ operation }) => {
        if (operation === 'list') throw unavailable()
      }
      await assert.rejects(archive.archive(segment, encoded), { code: 'WALRX_STORAGE_UNAVAILABLE' })
      storage.before = undefined
      storage.seed(theirs, await encode(other, 'lz4'), nowMs - 60_000)
      await assert.rejects(archive.archive(segment, encoded), { code: 'WALRX_ARCHIVE_CONFLICT' })
      assert.deepEqual(stored(), [theirs, ours])
    })
  })

  test('that had written other bytes is found where ours were there too', async () => {
    storage.seed(`wal_005/${segment}.zst`, await encode(content))
    storage.seed(`wal_005/${segment}.lz4`, await encode(other, 'lz4'))
    await assert.rejects(archive.archive(segment, await encode(content)), (error) =>
      hasCode(error, 'WALRX_ARCHIVE_CONFLICT'),
    )
    assert.equal(stored().length, 2, 'which call succeeded with which is not known: both stay')
  })
})

describe('histories', () => {
  const history = Buffer.from('1\t0/3000000\tno recovery target specified\n')

  test('a history is written compressed, once', async () => {
    assert.equal(await archive.archiveHistory('00000002.history', history), 'created')
    assert.equal(await archive.archiveHistory('00000002.history', history), 'same')
    assert.deepEqual([...storage.objects.keys()], ['wal_005/00000002.history.zst'])
  })

  test('the bare form of WAL-RUS will do when it says the same, and is a conflict when not', async () => {
    storage.seed('wal_005/00000002.history', history)
    storage.seed('wal_005/00000003.history.gz', gzipSync(history))
    assert.equal(await archive.archiveHistory('00000002.history', history), 'same')
    assert.equal(await archive.archiveHistory('00000003.history', history), 'same')
    await assert.rejects(archive.archiveHistory('00000002.history', Buffer.from('1\t0/4000000\tother\n')), (error) =>
      hasCode(error, 'WALRX_ARCHIVE_CONFLICT'),
    )
    assert.equal(storage.objects.size, 2)
  })
})
