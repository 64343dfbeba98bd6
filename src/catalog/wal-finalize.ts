/**
 * Turns the last, unfinished segment of a timeline into an ordinary one, so that WAL-G and WAL-RUS recover as far as walrx:
 * they know nothing of chunks, and a server never asks for a `.partial`. Zeros follow the last byte, as in the
 * segment that a crashed server finds in its own pg_wal.
 *
 * Only for a timeline that nothing is written to any more: a receiver that comes to the segment's end finds other bytes
 * under its name then, and stops.
 */
import { encodeSlack } from '../walg/stored/stored-form.ts'
import { hasCode, WalrxError } from '../primitives/errors.ts'
import { addBytes, formatLsn, type Lsn, type Timeline } from '../postgres/lsn.ts'
import { parseSegmentName, segmentName, segmentStartLsn, walFileKind } from '../postgres/wal/wal-file.ts'
import { checkSegmentHeader, decodePageHeader } from '../postgres/wal/wal-page.ts'
import type { Storage, StorageCallOptions } from '../storage/storage.ts'
import { parseWalKey, walFolder } from '../walg/names.ts'
import { setObjectAside } from '../walg/wal/set-aside.ts'
import { assembleForked } from '../walg/wal/forked-tail.ts'
import { type AssembledTail, listTails, tailOf } from '../walg/wal/tail-reader.ts'
import { SegmentArchiver, type SegmentObserver } from '../walg/wal/segment-archiver.ts'
import { withoutTornHeader } from '../walg/wal/zero-padding.ts'
import type { WalArchive } from '../walg/wal/wal-archive.ts'

/** Options of {@link finalizeTimeline}. */
export interface FinalizeOptions extends StorageCallOptions {
  readonly archive: WalArchive
  /** Undefined: the newest timeline that has a tail, up to where a newer one left it. */
  readonly timeline: Timeline | undefined
  /** Called with the WAL beyond the place where a newer timeline left this one, which is not taken. */
  readonly onPastFork?: ((segment: string, fork: Fork) => void) | undefined
  /** Called when the storage does not let us remove the chunks of a segment that is whole now: nothing reads them. */
  readonly onChunksKept?: ((segment: string, error: WalrxError) => void) | undefined
  /** Looks at every segment that is made, before it is compressed; default nobody. */
  readonly onSegment?: SegmentObserver | undefined
  /** True also where the segment grew a moment ago. */
  readonly force: boolean
  /** True changes nothing. */
  readonly dryRun: boolean
  /** Milliseconds since 1970. */
  readonly nowMs: number
}

/** Where a newer timeline left the one that is finalised. */
export interface Fork {
  readonly timeline: Timeline
  readonly switchpoint: Lsn
}

/** What became of a segment. */
export interface FinalizedSegment {
  readonly segment: string
  /** One past the last byte of WAL in it. */
  readonly endLsn: Lsn
  readonly outcome: 'created' | 'same' | 'would be created'
}

/** Who wrote a segment is not asked, and its last pages may be what PostgreSQL leaves in a partial. */
const unknownServer = { systemId: undefined, magic: () => undefined, pages: 'first' } as const

/** A receiver that wrote to a segment within this time probably still does. */
const restMs = 60_000

/**
 * Finalises the unfinished segments of one timeline in WAL order, up to the first that is not there to its last byte:
 * what lies beyond that one can't be reached.
 * @throws WALRX_USAGE when a receiver is running there; WALRX_ARCHIVE_CONFLICT for chunks that disagree; what the storage
 * says
 */
export async function finalizeTimeline(options: FinalizeOptions): Promise<FinalizedSegment[]> {
  const { archive } = options
  const done: FinalizedSegment[] = []
  for (const segment of await unfinished(options)) {
    if (await archive.has(segment, options)) continue
    const assembled = await assembleForked(archive, segment, options)
    const tail = assembled && (await upToFork(assembled, options))
    if (!tail) continue
    const last = done.at(-1)
    if (last && !(await isReached(segment, last, tail, options))) break
    const finalized = await finalizeSegment(tail, options)
    done.push(finalized.segment)
    if (tail.bytes.length < finalized.segmentSize) break
  }
  return done
}

/**
 * What comes before the place where a newer timeline left this one, if no timeline was asked for: recovery follows the
 * newer one, and what the old primary has written beyond that place is not part of its history.
 * @returns undefined where nothing does, and where the newer timeline has its copy of the segment
 */
async function upToFork(tail: AssembledTail, options: FinalizeOptions): Promise<AssembledTail | undefined> {
  const { archive, onPastFork, timeline } = options
  if (timeline !== undefined) return tail
  const { bytes, segment } = tail
  let fork: Fork | undefined
  for await (const newer of archive.forksOf(parseInt(segment.slice(0, 8), 16), options)) fork = newer
  const segmentSize = decodePageHeader(bytes)?.long?.segmentSize
  const id = segmentSize === undefined ? undefined : parseSegmentName(segment, segmentSize)
  if (!fork || segmentSize === undefined || !id) return tail
  const length = Number(fork.switchpoint - segmentStartLsn(id, segmentSize))
  if (length >= segmentSize) return tail
  if (bytes.length > Math.max(0, length)) onPastFork?.(segment, fork)
  if (length <= 0) return undefined
  if (await archive.has(segmentName(fork.timeline, id.segno, segmentSize), options)) return undefined
  return { ...tail, bytes: bytes.subarray(0, length) }
}

/** True when the segment before is the last that was made, or is there. */
async function isReached(
  segment: string,
  last: FinalizedSegment,
  { bytes }: AssembledTail,
  { archive, ...options }: FinalizeOptions,
): Promise<boolean> {
  const segmentSize = decodePageHeader(bytes)?.long?.segmentSize
  const id = segmentSize === undefined ? undefined : parseSegmentName(segment, segmentSize)
  // It is refused for that.
  if (segmentSize === undefined || !id) return true
  if (segmentStartLsn(id, segmentSize) === last.endLsn) return true
  return archive.has(segmentName(id.timeline, id.segno - 1n, segmentSize), options)
}

/** Names of the timeline's segments that have a tail or a partial segment, in WAL order. */
async function unfinished({ archive, timeline, ...options }: FinalizeOptions): Promise<string[]> {
  const names = new Set<string>()
  for await (const { segment } of listTails(archive.storage, timeline, options)) names.add(segment)
  for await (const { kind, name } of archive.walObjects(options)) {
    const segment = name.slice(0, 24)
    if (kind === 'partial' && (timeline === undefined || parseInt(name.slice(0, 8), 16) === timeline))
      names.add(segment)
  }
  const newest = [...names].sort().at(-1)?.slice(0, 8)
  return [...names].filter((name) => name.slice(0, 8) === newest).sort()
}

async function finalizeSegment(
  { bytes, lastModifiedMs, segment }: AssembledTail,
  { archive, dryRun, force, nowMs, onChunksKept, onSegment, ...options }: FinalizeOptions,
): Promise<{ segment: FinalizedSegment; segmentSize: number }> {
  const segmentSize = decodePageHeader(bytes)?.long?.segmentSize
  const id = segmentSize === undefined ? undefined : parseSegmentName(segment, segmentSize)
  if (segmentSize === undefined || !id) {
    throw new WalrxError(
      'WALRX_OBJECT_DAMAGED',
      `the tail of ${segment} at ${archive.location} does not begin with the header of a segment`,
    )
  }
  const startLsn = segmentStartLsn(id, segmentSize)
  const expected = { name: segment, timeline: id.timeline, startLsn, segmentSize }
  checkSegmentHeader(bytes, { ...expected, systemId: undefined, magic: undefined })
  const byteCount = withoutTornHeader(bytes.length)
  const endLsn = addBytes(startLsn, byteCount)
  const ageMs = nowMs - lastModifiedMs
  if (ageMs < restMs && !force) {
    throw new WalrxError(
      'WALRX_USAGE',
      `${segment} grew ${Math.max(0, Math.round(ageMs / 1000))} s ago, to ${formatLsn(endLsn)}: is its receiver still running?`,
      {
        hint: `stop the receiver and try again in a minute, or use --force: a receiver that goes on with this segment will then fail`,
      },
    )
  }
  if (dryRun) return { segment: { segment, endLsn, outcome: 'would be created' }, segmentSize }
  const buffer = Buffer.alloc(segmentSize + encodeSlack(segmentSize))
  bytes.copy(buffer, 0, 0, byteCount)
  const segments = new SegmentArchiver({ archive, onSegment, segmentSize, ...unknownServer })
  const outcome = await segments.archive({ timeline: id.timeline, startLsn, buffer }, options)
  const { chunks } = await tailOf(archive.storage, segment, options)
  // What reaches farther is not in the segment: it lies beyond a hole, or was written a moment ago.
  const keys = chunks.filter(({ to }) => to <= bytes.length).map(({ key }) => key)
  try {
    await archive.deleteTailChunks(keys, options)
  } catch (error) {
    if (!hasCode(error, 'WALRX_STORAGE_DENIED')) throw error
    onChunksKept?.(segment, error)
  }
  return { segment: { segment, endLsn, outcome }, segmentSize }
}

/**
 * Moves objects to `walrx_005/aside/`, where nobody reads them: the chunks of a segment, because the server lost the WAL
 * in them, or all of a timeline, because it is not the one that goes on. A timeline's history goes last: until then no
 * receiver goes on with the timeline that it left.
 * @param name of a segment, or of a history file
 * @returns how many objects there were
 * @throws what the storage says; what was moved by then is moved, and to be called again moves the rest
 */
export async function setAside(storage: Storage, name: string, options?: StorageCallOptions): Promise<number> {
  const keys: string[] = []
  if (walFileKind(name) === 'segment') {
    for (const { key } of (await tailOf(storage, name, options)).chunks) keys.push(key)
  } else {
    const timeline = name.slice(0, 8)
    for await (const { chunks } of listTails(storage, parseInt(timeline, 16), options)) {
      keys.push(...chunks.map(({ key }) => key))
    }
    const histories: string[] = []
    for await (const { key } of storage.list(walFolder + timeline, options)) {
      if (parseWalKey(key)?.kind === 'history') histories.push(key)
      else keys.push(key)
    }
    keys.push(...histories)
  }
  for (const key of keys) await setObjectAside(storage, key, options)
  return keys.length
}
