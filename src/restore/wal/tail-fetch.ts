/**
 * A segment of which the archive has only the beginning, for a recovering server: what is there, and zeros behind it, as
 * in the segment that a crashed server finds in its own pg_wal. Recovery ends where the records end.
 *
 * A timeline may have gone on behind the place where a newer one left it: those bytes belong to no later timeline, and a
 * server that follows a newer one would replay them all the same (it asks for the old timeline's segment where it lacks
 * the new one's, and looks at no position in it). So nothing behind such a fork is given out; `walrx wal-finalize` makes
 * a segment of all that is there, for who wants to recover to the end of the old timeline.
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

/** The beginning of a segment. */
export interface SegmentBeginning extends AssembledTail {
  /** As its first page says. */
  readonly segmentSize: number
}

/**
 * What the archive has of a segment that is not there as a whole, up to where a newer timeline left this one.
 * @returns undefined where there is nothing, or the whole segment has appeared meanwhile
 * @throws WALRX_ARCHIVE_CONFLICT or WALRX_OBJECT_DAMAGED for chunks that cannot be right, and what the storage says
 */
export async function segmentBeginning(
  reader: WalReader,
  name: string,
  options?: StorageCallOptions,
): Promise<SegmentBeginning | undefined> {
  const tail = await assembleForked(reader, name, options)
  if (!tail) return undefined
  const segmentSize = decodePageHeader(tail.bytes)?.long?.segmentSize
  const id = segmentSize === undefined ? undefined : parseSegmentName(name, segmentSize)
  if (segmentSize === undefined || !id) {
    throw new WalrxError('WALRX_OBJECT_DAMAGED', `${reader.location}/${tailFolderOf(name)} does not begin as ${name}`)
  }
  const startLsn = segmentStartLsn(id, segmentSize)
  const fork = await firstFork(reader, id.timeline, options)
  const end = fork === undefined ? tail.bytes.length : Math.min(tail.bytes.length, Number(fork - startLsn))
  const length = withoutTornHeader(end)
  return length > 0 ? { ...tail, bytes: tail.bytes.subarray(0, length), segmentSize } : undefined
}

/** The lowest position at which a timeline that the archive knows left this one; undefined where none did. */
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

/** A beginning as the file that a server wants: padded with zeros to a whole segment. */
export function paddedFile(beginning: SegmentBeginning): OpenedWalFile {
  return { key: tailFolderOf(beginning.segment), extension: '', body: padded(beginning) }
}

async function* padded({ bytes, segmentSize }: SegmentBeginning): AsyncGenerator<Uint8Array, undefined> {
  const pieceBytes = 1024 * 1024
  const zeros = Buffer.alloc(pieceBytes)
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes)
  await Promise.resolve()
  for (let at = bytes.length; at < segmentSize; at += pieceBytes) yield zeros.subarray(0, segmentSize - at)
}
