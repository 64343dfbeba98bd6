/** Chunks against what else the archive has of their segment, piece by piece: nothing is held in memory. */
import { createHash } from 'node:crypto'
import { partialName } from '../../postgres/wal/wal-file.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { firstDifference } from '../stored/compare-streams.ts'
import type { ReadableStorage } from '../stored/stored-reader.ts'
import { chunkContent, otherPartial, type SegmentTail } from './tail-reader.ts'
import type { WalReader } from './wal-reader.ts'
import { trimmedLength } from './zero-padding.ts'

/**
 * True when the chunks hold what these bytes of their segment do. Nothing is held in memory: digests are compared.
 * @param body the segment's bytes, read to the end
 * @throws DamagedChunk, WALRX_OBJECT_NOT_FOUND for a chunk that has gone, and what the storage says
 */
export async function areChunksOf(
  storage: ReadableStorage,
  body: AsyncIterable<Uint8Array>,
  { chunks }: SegmentTail,
  options: StorageCallOptions = {},
): Promise<boolean> {
  const ranges = chunks.map((chunk) => ({ chunk, hash: createHash('sha256') }))
  let length = 0
  for await (const piece of body) {
    for (const { chunk, hash } of ranges) {
      const [from, to] = [Math.max(0, chunk.from - length), Math.min(piece.length, chunk.to - length)]
      if (from >= piece.length) break
      if (from < to) hash.update(piece.subarray(from, to))
    }
    length += piece.length
  }
  if (chunks.some(({ to }) => to > length)) return false
  for (const { chunk, hash } of ranges) {
    const theirs = createHash('sha256')
    for await (const piece of chunkContent(storage, chunk, Infinity, options.signal)) theirs.update(piece)
    if (!theirs.digest().equals(hash.digest())) return false
  }
  return true
}

/**
 * Compares the partials of a segment with all that its chunks hold, piece by piece. The zeros at a partial's end may be
 * padding.
 * @param bytes the whole segment
 * @throws WALRX_ARCHIVE_CONFLICT when one holds other WAL, and what the storage says
 */
export async function refuseOtherPartials(
  reader: WalReader,
  segment: string,
  bytes: Buffer,
  options?: StorageCallOptions,
): Promise<void> {
  const name = partialName(segment)
  for (const { extension } of await reader.find(name, options)) {
    const file = await reader.openWalFile(name, extension, options)
    let offset = 0
    let hasDiffered = false
    for await (const piece of file?.body ?? []) {
      const theirs = Buffer.from(piece.buffer, piece.byteOffset, piece.length)
      const ours = bytes.subarray(offset, offset + theirs.length)
      const equal: number = hasDiffered ? 0 : firstDifference(theirs, ours, ours.length)
      hasDiffered ||= equal < ours.length
      if (hasDiffered && trimmedLength(theirs) > equal) throw otherPartial(reader, file?.key ?? name, segment)
      offset += theirs.length
    }
  }
}
