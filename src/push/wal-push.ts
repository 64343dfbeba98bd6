/**
 * Archives one WAL file of the server's disk: what an archive_command does. It returns when the file is durable in the
 * archive, under its name, with its bytes, written by any tool: a receiver that streams from the same server mostly was
 * faster. Nothing there is ever replaced by other bytes, but for a partial by a longer one with the same beginning.
 */
import type { FileHandle } from 'node:fs/promises'
import type { Logger } from '../observe/log.ts'
import { encodeSlack } from '../walg/stored/stored-form.ts'
import { hasCode } from '../primitives/errors.ts'
import { SegmentArchiver } from '../walg/wal/segment-archiver.ts'
import type { PartialOutcome } from '../walg/wal/wal-archive.ts'
import type { ByteBudget, Lease } from './byte-budget.ts'
import type { GuardedArchive } from './guarded-archive.ts'
import {
  damaged,
  isFilled,
  isTornBackupHistory,
  type LocalSegment,
  type LocalWalFile,
  openLocal,
  readInto,
  readSegmentHeader,
  readText,
  systemOfServer,
} from './local-wal.ts'
import { formsOf, isStoredAlready } from './stored-already.ts'

/** What {@link pushFile} needs. */
export interface PushFileOptions {
  readonly guarded: GuardedArchive
  readonly budget: ByteBudget
  /** True goes before others that wait for memory. */
  readonly isFirst: boolean
  /** Called before a segment is sent that the archive lacks, with its size in bytes. */
  readonly onSend?: ((segmentSize: number) => void) | undefined
  readonly signal: AbortSignal
  readonly log: Logger
}

/** What became of a file. `left out`: it has nothing to archive, and PostgreSQL need not ask again. */
export type PushOutcome = 'created' | 'left out' | PartialOutcome

/**
 * Archives a file.
 * @throws WALRX_ARCHIVE_CONFLICT when other bytes are there; WALRX_WAL_INVALID for a damaged file; WALRX_OTHER_CLUSTER;
 * WALRX_KEY_…; WALRX_SYSTEM for a file that cannot be read; what the storage says; the signal's reason
 */
export async function pushFile(local: LocalWalFile, options: PushFileOptions): Promise<PushOutcome> {
  await using file = await openLocal(local)
  if (await isTornBackupHistory(file, local)) {
    options.log.warn('a backup history file is empty or torn: it is not archived', {
      file: local.path,
      hint: 'no recovery needs it; PostgreSQL does not sync it, so a power failure may have cut it off',
    })
    return 'left out'
  }
  if (local.kind === 'history' || local.kind === 'backup') {
    return await pushText(local, await readText(file, local), options)
  }
  const segment = await readSegmentHeader(file, local)
  const belongs = options.guarded.belongsTo(segment, options.signal)
  belongs.catch(() => {})
  const size = segment.segmentSize
  const lease = await options.budget.take(size + encodeSlack(size), options.isFirst)
  try {
    options.signal.throwIfAborted()
    if (local.kind === 'partial') {
      const [buffer] = await Promise.all([readWhole(file, local, size), belongs])
      return await pushPartial(local, segment, buffer, options)
    }
    return await pushSegment({ file, local, segment, lease, belongs }, options)
  } finally {
    lease.release()
  }
}

/** A segment that is to be read. */
interface OpenSegment {
  readonly file: FileHandle
  readonly local: LocalWalFile
  readonly segment: LocalSegment
  readonly lease: Lease
  /** Settles when the archive was found to be of the segment's cluster. */
  readonly belongs: Promise<void>
}

async function pushSegment(
  { belongs, file, lease, local, segment }: OpenSegment,
  options: PushFileOptions,
): Promise<PushOutcome> {
  const { guarded, onSend, signal } = options
  const { archive } = guarded
  const { segmentSize } = segment
  const { name } = local
  // The archive is asked while the segment is read and compressed.
  const forms = formsOf(archive, name, { signal })
  forms.catch(() => {})
  const segments = new SegmentArchiver({ archive, segmentSize, systemId: undefined, magic: () => undefined })
  const content = await readContent(segments, file, local, segment)
  if ('partial' in content) {
    await belongs
    return await pushUnfinished(local, segment, content, options)
  }
  const { encoded } = content
  lease.shrink(encoded.length)
  await belongs
  if (await isStoredAlready(archive, await forms, { name, encoded }, { signal })) return 'same'
  onSend?.(segmentSize)
  await guarded.makeWritable(segment, signal)
  return await segments.store(name, encoded, { signal })
}

/** What a segment's file has: a whole segment, as it is stored, or an unfinished one of so many bytes. */
type Content = { readonly encoded: Buffer } | { readonly partial: Buffer; readonly length: number }

/**
 * Reads and checks a segment. Nothing but this holds the memory that a whole one was read into: that is free when the lease
 * says so, and not when the store has answered.
 */
async function readContent(
  segments: SegmentArchiver,
  file: FileHandle,
  local: LocalWalFile,
  segment: LocalSegment,
): Promise<Content> {
  const { segmentSize, startLsn, timeline } = segment
  const buffer = await readWhole(file, local, segmentSize)
  const length = isFilled(local, segment, buffer) ? undefined : await lengthOf(local, segment, buffer)
  if (length !== undefined) return { partial: buffer, length }
  try {
    return { encoded: Buffer.from(await segments.encode({ timeline, startLsn, buffer })) }
  } catch (error) {
    throw hasCode(error, 'WALRX_WAL_INVALID') ? damaged(local, error.message, error) : error
  }
}

/** Loaded here, because most segments go on to their end. */
async function lengthOf(local: LocalWalFile, segment: LocalSegment, buffer: Buffer): Promise<number | undefined> {
  const { settleEnd } = await import('./segment-end.ts')
  return await settleEnd(local, segment, buffer)
}

/** The bytes of a segment, with room after them to encode them. */
async function readWhole(file: FileHandle, local: LocalWalFile, size: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(size + encodeSlack(size))
  await readInto(file, buffer, size, local)
  return buffer
}

/** Under its own name an unfinished segment would stand for a whole one, which another server may have. */
async function pushUnfinished(
  { name }: LocalWalFile,
  segment: LocalSegment,
  { length, partial }: { readonly partial: Buffer; readonly length: number },
  { guarded, log, signal }: PushFileOptions,
): Promise<PushOutcome> {
  await guarded.makeWritable(segment, signal)
  const raw = partial.subarray(0, segment.segmentSize)
  const outcome = await guarded.archive.archivePartial(name, raw, length, { signal })
  log.info('the server left this timeline within the segment: it is archived as a partial one', { file: name, outcome })
  return outcome
}

/**
 * PostgreSQL's own partial, which a promotion leaves of the last segment of a timeline. Its end may be pages of an older
 * segment, which no recovery reads; so one that differs from what a receiver has stored is kept beside it, and is no failure:
 * the archiver would try it again for ever.
 */
async function pushPartial(
  { name }: LocalWalFile,
  segment: LocalSegment,
  buffer: Buffer,
  { guarded, log, signal }: PushFileOptions,
): Promise<PushOutcome> {
  await guarded.makeWritable(segment, signal)
  const { segmentSize } = segment
  const raw = buffer.subarray(0, segmentSize)
  const outcome = await guarded.archive.archivePartial(name.slice(0, 24), raw, segmentSize, { signal })
  if (outcome === 'diverged, kept beside') {
    log.warn('the archive holds another partial segment of this name: this one is kept beside it', { file: name })
  }
  return outcome
}

async function pushText(
  local: LocalWalFile,
  content: Buffer,
  { guarded, signal }: PushFileOptions,
): Promise<PushOutcome> {
  const { name } = local
  await guarded.belongsToSystem(await systemOfServer(local), signal)
  const { archive } = guarded
  const encoded = await archive.encodeCopy(content)
  const forms = await formsOf(archive, name, { signal })
  if (await isStoredAlready(archive, forms, { name, encoded }, { signal })) return 'same'
  await guarded.makeWritable(undefined, signal)
  return await archive.archive(name, encoded, { signal })
}
