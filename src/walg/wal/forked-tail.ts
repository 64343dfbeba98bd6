/**
 * The tail of a segment in which its timeline began. A new timeline has a copy of what its parent wrote in that segment
 * before the fork, and sends it again; until all of that is archived again, the parent's segment, its chunks or its
 * partial segment have more of it. A reader that stopped at the new timeline's first chunk would lose what had been
 * durable before.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { historyName, parseHistory, parseSegmentName, segmentStartLsn } from '../../postgres/wal/wal-file.ts'
import { decodePageHeader } from '../../postgres/wal/wal-page.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { readWhole } from '../stored/stored-reader.ts'
import { assembleTail, type AssembledTail } from './tail-reader.ts'
import type { WalReader } from './wal-reader.ts'

/**
 * As {@link assembleTail}, completed up to the fork by what the archive has of the parent's segment.
 * @returns undefined where there is nothing of the segment itself
 * @throws WALRX_ARCHIVE_CONFLICT when the two disagree before the fork, and what {@link assembleTail} throws
 */
export async function assembleForked(
  reader: WalReader,
  segment: string,
  options?: StorageCallOptions,
): Promise<AssembledTail | undefined> {
  const tail = await assembleTail(reader, segment, options)
  return tail && (await withParent(reader, tail, options))
}

async function withParent(
  reader: WalReader,
  tail: AssembledTail,
  options?: StorageCallOptions,
): Promise<AssembledTail> {
  const origin = await originOf(reader, parseInt(tail.segment.slice(0, 8), 16), options)
  if (!origin) return tail
  const known = forkOffset(tail.segment, tail.bytes, origin.switchpoint)
  if (known !== undefined && known <= tail.bytes.length) return tail
  const name = origin.timeline.toString(16).toUpperCase().padStart(8, '0') + tail.segment.slice(8)
  const parent = (await wholeSegment(reader, name, options)) ?? (await assembleForked(reader, name, options))?.bytes
  const fork = parent && (known ?? forkOffset(tail.segment, parent, origin.switchpoint))
  if (!parent || fork === undefined) return tail
  const before = parent.subarray(0, Math.max(0, Math.min(fork, parent.length)))
  const common = Math.min(before.length, tail.bytes.length)
  if (before.compare(tail.bytes, 0, common, 0, common) !== 0) {
    throw new WalrxError(
      'WALRX_ARCHIVE_CONFLICT',
      `the WAL of ${tail.segment} and of ${name} at ${reader.location} differs before the fork of the two timelines`,
      {
        hint: 'two servers were promoted independently, or one was restored: find out which timeline is the right one',
      },
    )
  }
  return before.length > tail.bytes.length ? { ...tail, bytes: before } : tail
}

/** Where a timeline left its parent; undefined for one without a history in the archive. */
async function originOf(
  reader: WalReader,
  timeline: number,
  options?: StorageCallOptions,
): Promise<ReturnType<typeof parseHistory>[number] | undefined> {
  if (timeline === 1) return undefined
  const name = historyName(timeline)
  const file = await reader.openWalFile(name, undefined, options)
  return file && parseHistory(await readWhole(file), name).at(-1)
}

async function wholeSegment(
  reader: WalReader,
  name: string,
  options?: StorageCallOptions,
): Promise<Buffer | undefined> {
  const file = await reader.openWalFile(name, undefined, options)
  return file && readWhole(file)
}

/** Offset of a position in the segment that begins with `bytes`; undefined when these lack its first page. */
function forkOffset(segment: string, bytes: Buffer, switchpoint: bigint): number | undefined {
  const segmentSize = decodePageHeader(bytes)?.long?.segmentSize
  const id = segmentSize === undefined ? undefined : parseSegmentName(segment, segmentSize)
  if (segmentSize === undefined || !id) return undefined
  const offset = Number(switchpoint - segmentStartLsn(id, segmentSize))
  return offset > segmentSize ? undefined : offset
}
