/**
 * The tail of a segment for a recovering server: the archived bytes, padded with zeros to a whole segment. This is what
 * a crashed server finds in its own pg_wal. Recovery ends where the records end.
 *
 * A timeline may continue after the position where a newer one forked from it. Those bytes belong to no newer timeline,
 * but a server that follows a newer one would replay them: where it lacks the new timeline's segment, it asks for the
 * old one's and does not check positions in it. So nothing after such a fork is delivered. To recover to the end of the
 * old timeline, `walrx wal-finalize` makes a segment of the whole tail.
 */
import { parseSegmentName, segmentStartLsn } from '../../postgres/wal/wal-file.ts'
import { decodePageHeader } from '../../postgres/wal/wal-page.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { tailFolderOf } from '../../walg/names.ts'
import { assembleForked } from '../../walg/wal/forked-tail.ts'
import type { AssembledTail } from '../../walg/wal/tail-reader.ts'
import { withoutTornHeader } from '../../walg/wal/zero-padding.ts'
import type { OpenedWalFile, WalReader } from '../../walg/wal/wal-reader.ts'

/** The tail of a segment. */
export interface SegmentTail extends AssembledTail {
  /** The segment size in bytes, from its first page. */
  readonly segmentSize: number
}

/**
 * Reads the tail of a segment that the archive lacks as a whole, up to the fork of a newer timeline.
 * @returns undefined where there is no tail, or where the whole segment has been archived meanwhile
 * @throws WALRX_ARCHIVE_CONFLICT or WALRX_OBJECT_DAMAGED for chunks that contradict each other or the name; what the
 * storage throws
 */
export async function segmentTail(
  reader: WalReader,
  name: string,
  options?: StorageCallOptions,
): Promise<SegmentTail | undefined> {
  const tail = await assembleForked(reader, name, options)
  if (!tail) return undefined
  const segmentSize = decodePageHeader(tail.bytes)?.long?.segmentSize
  const id = segmentSize === undefined ? undefined : parseSegmentName(name, segmentSize)
  if (segmentSize === undefined || !id) {
    throw new WalrxError(
      'WALRX_OBJECT_DAMAGED',
      `${reader.location}/${tailFolderOf(name)} does not start with the first page of ${name}`,
    )
  }
  const startLsn = segmentStartLsn(id, segmentSize)
  const fork = await firstFork(reader, id.timeline, options)
  const end = fork === undefined ? tail.bytes.length : Math.min(tail.bytes.length, Number(fork - startLsn))
  const length = withoutTornHeader(end)
  return length > 0 ? { ...tail, bytes: tail.bytes.subarray(0, length), segmentSize } : undefined
}

/** The lowest LSN at which an archived timeline forked from this one; undefined where none did. */
async function firstFork(
  reader: WalReader,
  timeline: number,
  options?: StorageCallOptions,
): Promise<bigint | undefined> {
  let first: bigint | undefined
  for await (const { switchpoint } of reader.forksOf(timeline, options)) {
    if (first === undefined || switchpoint < first) first = switchpoint
  }
  return first
}

/** A tail as the file that a server needs: padded with zeros to a whole segment. */
export function paddedFile(tail: SegmentTail): OpenedWalFile {
  return { key: tailFolderOf(tail.segment), extension: '', body: padded(tail) }
}

async function* padded({ bytes, segmentSize }: SegmentTail): AsyncGenerator<Uint8Array, undefined> {
  const blockBytes = 1024 * 1024
  const zeros = Buffer.alloc(blockBytes)
  for (let at = 0; at < bytes.length; at += blockBytes) yield bytes.subarray(at, at + blockBytes)
  await Promise.resolve()
  for (let at = bytes.length; at < segmentSize; at += blockBytes) yield zeros.subarray(0, segmentSize - at)
}
