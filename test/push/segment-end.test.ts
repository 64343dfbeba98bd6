import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import { hasCode } from '../../src/primitives/errors.ts'
import { MadeRecords, otherRecord, switchRecord } from '../harness/made/made-records.ts'
import { makeSegment } from '../harness/made/made-wal.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'
import { pushOnce } from './push-once.ts'
import { nth, ServerFiles } from './server-files.ts'

let files: ServerFiles
let storage: MemoryStorage
beforeEach(async () => {
  files = await ServerFiles.make()
  storage = new MemoryStorage()
})
afterEach(() => files.remove())

const push = (path: string) => pushOnce(storage, path)
const name = nth(5)
const archived = () =>
  [...storage.objects.keys()].filter((key) => key.startsWith('wal_005/')).map((key) => key.slice('wal_005/'.length))
const content = (file: string) => zstdDecompressSync(storage.peek(`wal_005/${file}.zst`) ?? '')

/** A segment of which the standby received so many bytes, in the file of an older one, or of none. */
function received(bytes: number, isRecycled: boolean): Buffer {
  const segment = isRecycled ? makeSegment(nth(1)) : Buffer.alloc(makeSegment(name).length)
  makeSegment(name).copy(segment, 0, 0, bytes)
  return segment
}

/** The history of timeline 2, which leaves timeline 1 so many bytes after the start of the segment. */
const leaves = (bytes: number) =>
  files.put('00000002.history', `1\t0/${(5 * 1024 * 1024 + bytes).toString(16).toUpperCase()}\tno recovery target\n`)

const isDamaged = (error: unknown) => hasCode(error, 'WALRX_WAL_INVALID')

describe('a segment within which its timeline ends', () => {
  for (const isRecycled of [false, true]) {
    test(`is archived as a partial one${isRecycled ? ', also in a recycled file' : ''}`, async () => {
      leaves(20_000)
      assert.equal(await push(files.put(name, received(20_000, isRecycled))), 'created')
      assert.deepEqual(archived(), [`${name}.partial.zst`])
      assert.deepEqual(content(`${name}.partial`), received(20_000, false))
      assert.equal(await push(files.path(name)), 'same')
    })
  }

  test('is whole where it goes on: another server has left the timeline there', async () => {
    leaves(20_000)
    assert.equal(await push(files.segment(name)), 'created')
    assert.equal(await push(files.segment(nth(6), { pages: 9 })), 'created')
    assert.deepEqual(archived(), [`${name}.zst`, `${nth(6)}.zst`])
    assert.equal(await push(files.put(nth(5), makeSegment(name))), 'same')
  })

  test('is whole where a WAL switch ends it after that', async () => {
    leaves(20_000)
    assert.equal(await push(files.segment(name, { pages: 9 })), 'created')
    assert.deepEqual(archived(), [`${name}.zst`])
  })

  test('is damaged where that is not by the end', async () => {
    leaves(20_000)
    const bytes = received(20_000, true)
    bytes.writeUInt16LE(7, 8192)
    await assert.rejects(push(files.put(name, bytes)), isDamaged)
    leaves(2 * 1024 * 1024)
    await assert.rejects(push(files.put(name, received(20_000, true))), isDamaged)
    files.put('00000002.history', 'no history')
    await assert.rejects(push(files.put(name, received(20_000, true))), isDamaged)
    assert.deepEqual(archived(), [])
  })
})

describe('a segment that a WAL switch ends', () => {
  /** Its bytes on the primary, and where the switch ends. */
  function switched(recordBytes: number): { readonly bytes: Buffer; readonly end: number } {
    const records = new MadeRecords(name, 1)
    records.add(otherRecord(recordBytes))
    records.add(switchRecord)
    const bytes = Buffer.from(records.segment(0))
    const end = bytes.findLastIndex((byte) => byte !== 0) + 1
    return { bytes, end }
  }

  /** It in the file of an older segment, of which some of the zeros were received. */
  function recycled({ bytes, end }: ReturnType<typeof switched>, zeros: number): Buffer {
    const file = makeSegment(nth(1))
    bytes.copy(file, 0, 0, end + zeros)
    return file
  }

  test('is what the primary has, though the standby did not receive all zeros', async () => {
    // The last one leaves 16 bytes of a page to the switch.
    for (const recordBytes of [1000, 30_000, 8192 - 40 - 24 - 16]) {
      const primary = switched(recordBytes)
      for (const zeros of [0, 100, 50_000]) {
        storage.objects.clear()
        await push(files.put(name, recycled(primary, zeros)))
        assert.deepEqual(archived(), [`${name}.zst`])
        assert.ok(content(name).equals(primary.bytes), `${recordBytes} bytes, ${zeros} zeros`)
      }
    }
  })

  test('is damaged where the switch cannot be read', async () => {
    const primary = switched(30_000)
    const file = recycled(primary, 100)
    file.writeUInt8(file.readUInt8(20_000) ^ 1, 20_000)
    await assert.rejects(push(files.put(name, file)), isDamaged)
    const older = recycled(primary, 100)
    older.fill(0, 20_000, 20_100)
    await assert.rejects(push(files.put(name, older)), isDamaged)
  })
})
