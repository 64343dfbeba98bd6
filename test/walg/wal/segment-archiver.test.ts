/** Every whole segment is checked, then shown, then encoded, then stored; what fails ends it there. */
import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { encodeSlack } from '../../../src/walg/stored/stored-form.ts'
import { openReadCodec, openWriteCodec } from '../../../src/compression/codecs.ts'
import { parseSegmentName, segmentStartLsn } from '../../../src/postgres/wal/wal-file.ts'
import {
  SegmentArchiver,
  type SegmentArchiverOptions,
  type WholeSegment,
} from '../../../src/walg/wal/segment-archiver.ts'
import { WalArchive } from '../../../src/walg/wal/wal-archive.ts'
import { decodeStream } from '../../harness/made/codec-streams.ts'
import { madeSegmentSize, makeSegment } from '../../harness/made/made-wal.ts'
import { MemoryStorage, unavailable } from '../../harness/store/memory-storage.ts'

const name = '000000010000000000000005'
const startLsn = segmentStartLsn(parseSegmentName(name, madeSegmentSize)!, madeSegmentSize)

let storage: MemoryStorage
let events: string[]
beforeEach(() => {
  storage = new MemoryStorage()
  events = []
})

/** A segment in a buffer of the pool's size, damaged at one byte where that is given. */
function segment(damagedAt?: number): WholeSegment {
  const buffer = Buffer.alloc(madeSegmentSize + encodeSlack(madeSegmentSize))
  makeSegment(name).copy(buffer)
  if (damagedAt !== undefined) buffer.writeUInt8(buffer.readUInt8(damagedAt) ^ 0xff, damagedAt)
  return { timeline: 1, startLsn, buffer }
}

/** An archiver that writes down what happens, in order. */
function archiver(over: Partial<SegmentArchiverOptions> = {}): SegmentArchiver {
  const archive = new WalArchive(storage, openWriteCodec('zstd'))
  return new SegmentArchiver({
    archive: {
      encodeInPlace: (buffer, length) => {
        events.push('encode')
        return archive.encodeInPlace(buffer, length)
      },
      archive: (file, encoded, options) => {
        events.push(`store ${file}`)
        return archive.archive(file, encoded, options)
      },
    },
    segmentSize: madeSegmentSize,
    systemId: undefined,
    magic: () => undefined,
    onSegment: ({ bytes, startLsn: start, timeline }) => {
      assert.ok(bytes.equals(makeSegment(name)), 'the bytes as they came')
      assert.deepEqual([timeline, start], [1, startLsn])
      events.push('see')
    },
    ...over,
  })
}

describe('a segment', () => {
  test('is seen before it is encoded, and stored under its name', async () => {
    assert.equal(await archiver().archive(segment()), 'created')
    assert.deepEqual(events, ['see', 'encode', `store ${name}`])
    const stored = storage.peek(`wal_005/${name}.zst`)
    assert.ok(stored)
    assert.deepEqual(await decodeStream(openReadCodec('zstd'), [stored]), makeSegment(name))
    assert.equal(await archiver().archive(segment()), 'same')
  })

  test('is seen once, however often it is stored', async () => {
    const segments = archiver()
    const encoded = await segments.encode(segment())
    storage.before = () => Promise.reject(unavailable())
    await assert.rejects(segments.store(name, encoded), { code: 'WALRX_STORAGE_UNAVAILABLE' })
    storage.before = undefined
    assert.equal(await segments.store(name, encoded), 'created')
    assert.deepEqual(events, ['see', 'encode', `store ${name}`, `store ${name}`])
  })

  test('with a bad page is neither seen nor stored', async () => {
    // The address of the first page, and the magic of the third.
    for (const damagedAt of [8, 2 * 8192]) {
      await assert.rejects(archiver().archive(segment(damagedAt)), { code: 'WALRX_WAL_INVALID' })
    }
    await assert.rejects(archiver({ systemId: 1n }).archive(segment()), { code: 'WALRX_WAL_INVALID' })
    await assert.rejects(archiver({ magic: () => 0xd000 }).archive(segment()), { code: 'WALRX_WAL_INVALID' })
    assert.deepEqual([events, storage.objects.size], [[], 0])
  })

  test('may have other pages after the first, where only that one counts', async () => {
    const onSegment = () => events.push('see')
    await archiver({ pages: 'first', onSegment }).archive(segment(2 * 8192))
    await assert.rejects(archiver({ pages: 'first', onSegment }).archive(segment(8)), { code: 'WALRX_WAL_INVALID' })
    assert.deepEqual(events, ['see', 'encode', `store ${name}`])
  })

  test('is not stored when its observer fails', async () => {
    const defect = new Error('a defect')
    const segments = archiver({
      onSegment: () => {
        throw defect
      },
    })
    await assert.rejects(segments.archive(segment()), (error) => error === defect)
    assert.deepEqual(events, [])
  })

  test('needs no observer', async () => {
    assert.equal(await archiver({ onSegment: undefined }).archive(segment()), 'created')
    assert.deepEqual(events, ['encode', `store ${name}`])
  })
})
