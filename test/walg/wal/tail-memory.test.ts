/** What is read of chunks and whole segments stays out of memory, however large they are, but for the caller's buffer. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { tailKey } from '../../../src/walg/names.ts'
import { WalArchive } from '../../../src/walg/wal/wal-archive.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const MiB = 1024 * 1024
const segmentSize = 128 * MiB
const segment = '000000010000000000000001'
/** All that is stored: bodies are views of it, so that only what a reader keeps takes memory. */
const zeros = Buffer.alloc(segmentSize)
/** A window of chunks that are read ahead, and what the garbage collector has not come to. */
const allowedBytes = 32 * MiB

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Does the work; returns the most that it added to the memory of buffers, in bytes. */
async function peakOf(storage: MemoryStorage, work: () => Promise<void>): Promise<number> {
  collectGarbage()
  const before = process.memoryUsage().arrayBuffers
  let peak = 0
  const look = () => void (peak = Math.max(peak, process.memoryUsage().arrayBuffers - before))
  storage.body = async function* (_key, chunks) {
    for await (const chunk of chunks) {
      yield chunk
      look()
    }
  }
  storage.before = look
  await work()
  look()
  return peak
}

function archiveWith(chunks: readonly (readonly [number, number])[]): { archive: WalArchive; storage: MemoryStorage } {
  const storage = new MemoryStorage({ sharesBytes: true })
  const put = (key: string, length: number) =>
    storage.objects.set(key, { bytes: zeros.subarray(0, length), lastModifiedMs: 0 })
  for (const [from, to] of chunks) put(tailKey(segment, { from, to }, ''), to - from)
  return { archive: new WalArchive(storage, openWriteCodec('none')), storage }
}

/** Chunks as long as they can be, with two that overlap, and many small ones at the end. */
const manyChunks = [
  [0, 64 * MiB],
  [32 * MiB, 96 * MiB],
  ...Array.from(
    { length: 128 },
    (_, index) => [96 * MiB + (index * MiB) / 4, 96 * MiB + ((index + 1) * MiB) / 4] as const,
  ),
] as const

describe('beside its buffer', () => {
  test('a segment that is whole in its chunks takes little memory, a partial that is compared included', async () => {
    const { archive, storage } = archiveWith(manyChunks)
    storage.objects.set(`wal_005/${segment}.partial`, { bytes: zeros, lastModifiedMs: 0 })
    const buffer = Buffer.alloc(segmentSize, 1)
    const found: string[] = []
    const peak = await peakOf(storage, async () => {
      for await (const name of archive.completeTails(buffer, segmentSize)) found.push(name)
    })
    assert.ok(peak < allowedBytes, `${Math.round(peak / MiB)} MiB`)
    assert.deepEqual([found, buffer.equals(zeros)], [[segment], true])
  })

  test('the beginning of a segment takes little memory', async () => {
    const { archive, storage } = archiveWith(manyChunks)
    const buffer = Buffer.alloc(segmentSize, 1)
    let length = 0
    const peak = await peakOf(storage, async () => void ({ length } = await archive.readTail(segment, buffer)))
    assert.deepEqual([length, buffer.equals(zeros)], [segmentSize, true])
    assert.ok(peak < allowedBytes, `${Math.round(peak / MiB)} MiB`)
  })

  test('chunks are compared with the whole segment in little memory', async () => {
    const { archive, storage } = archiveWith(manyChunks)
    storage.objects.set(`wal_005/${segment}`, { bytes: zeros, lastModifiedMs: 0 })
    let removed = 0
    const peak = await peakOf(storage, async () => void ({ removed } = await archive.clearTails()))
    assert.equal(removed, manyChunks.length)
    assert.ok(peak < allowedBytes, `${Math.round(peak / MiB)} MiB`)
  })
})
