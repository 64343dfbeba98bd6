/** A WAL file on the server's disk, as an archive_command is asked to archive it. */
import { existsSync } from 'node:fs'
import { type FileHandle, readlink, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, resolve } from 'node:path'
import { toWalrxError, WalrxError } from '../primitives/errors.ts'
import { openRegular } from '../primitives/regular-file.ts'
import { shellWord } from '../primitives/shell-word.ts'
import { type Lsn, type Timeline } from '../postgres/lsn.ts'
import { readSystemIdentifier } from '../postgres/system-identifier.ts'
import {
  parseSegmentName,
  segmentSizeMax,
  segmentSizeMin,
  segmentStartLsn,
  walFileKind,
  type WalFileKind,
} from '../postgres/wal/wal-file.ts'
import { checkPageHeader, checkSegmentHeader, decodePageHeader, longHeaderSize } from '../postgres/wal/wal-page.ts'
import { checkBackupHistory, checkHistory, hasBackupHistoryHead } from '../postgres/wal/wal-text-file.ts'

/** A file by its path. */
export interface LocalWalFile {
  readonly path: string
  readonly name: string
  readonly kind: WalFileKind
}

/** What the first page of a segment says, which agrees with its name and its length. */
export interface LocalSegment {
  readonly timeline: Timeline
  readonly startLsn: Lsn
  /** Bytes of the file. */
  readonly segmentSize: number
  readonly systemId: bigint
}

/** A history file or backup label is a few lines. */
const textBytesMax = 1024 * 1024

/** Path of a mark of PostgreSQL's (xlogarchive.c, XLogArchiveNotify). */
export function statusPath(path: string, mark: 'ready' | 'done'): string {
  return join(dirname(path), 'archive_status', `${basename(path)}.${mark}`)
}

/** Takes a path apart. Throws WALRX_USAGE for one that names no WAL file. */
export function localWalFile(path: string): LocalWalFile {
  const name = basename(path)
  const kind = walFileKind(name)
  if (kind !== undefined) return { path, name, kind }
  throw new WalrxError('WALRX_USAGE', `"${path}" is not the path of a WAL file`, { hint: rightCommand })
}

const rightCommand = "write archive_command = 'walrx wal-push %p'"

/** The server's system identifier, by the data directory that the file lies in; undefined where that cannot be read. */
export async function systemOfServer({ path }: LocalWalFile): Promise<bigint | undefined> {
  const folder = dirname(resolve(path))
  const dataDir = basename(folder) === 'pg_wal' ? dirname(folder) : '.'
  return readSystemIdentifier(dataDir).catch(() => undefined)
}

/**
 * Opens a file; a symbolic link to one will do.
 * @throws WALRX_SYSTEM for one that is not there, that this user may not read, or that is no regular file
 */
export async function openLocal({ name, path }: LocalWalFile): Promise<FileHandle> {
  try {
    return await openRegular(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') throw await missing(path, name, error)
    if (code === 'EACCES' || code === 'EPERM') throw await forbidden(path, error)
    throw error
  }
}

async function missing(path: string, name: string, cause: unknown): Promise<WalrxError> {
  const link = await readlink(path).catch(() => undefined)
  const isThere = (at: string) => stat(at).then(Boolean, () => false)
  if (link !== undefined) {
    const text = `${path} is a symbolic link to ${link}, and there is nothing`
    return new WalrxError('WALRX_SYSTEM', text, { hint: 'mount what it leads to, or correct the link', cause })
  }
  const text = `there is no file ${isAbsolute(path) ? path : `${path} in ${process.cwd()}`}`
  const hint = (await isThere(dirname(path)))
    ? path === name && (await isThere(join('pg_wal', name)))
      ? `%f gives the name alone: ${rightCommand}`
      : 'the server has removed it, or it is on another server: ls -l shows what is there'
    : isAbsolute(path)
      ? 'correct the path, or mount what is missing'
      : 'PostgreSQL runs archive_command in its data directory, and %p is a path from there'
  return new WalrxError('WALRX_SYSTEM', text, { hint, cause })
}

async function forbidden(path: string, cause: unknown): Promise<WalrxError> {
  const stats = await stat(path).catch(() => undefined)
  const owner = stats && ` (owner ${stats.uid}, mode ${(stats.mode & 0o7777).toString(8).padStart(4, '0')})`
  const text = `user ${process.getuid?.() ?? ''} may not read ${path}${owner ?? ''}`
  return new WalrxError('WALRX_SYSTEM', text, {
    hint: 'run walrx as the user of the server: as its archive_command, or by sudo -u postgres',
    cause,
  })
}

/**
 * Reads what a segment, or a partial one, is.
 * @throws WALRX_WAL_INVALID when its header, its name and its length disagree; WALRX_OTHER_CLUSTER for one of another server
 */
export async function readSegmentHeader(file: FileHandle, local: LocalWalFile): Promise<LocalSegment> {
  const { name } = local
  const { bytesRead, buffer } = await file.read(Buffer.alloc(longHeaderSize), 0, longHeaderSize, 0)
  const head = buffer.subarray(0, bytesRead)
  const { size } = await file.stat()
  if (size < longHeaderSize) throw damaged(local, `it has ${size} bytes, less than the header of a page`)
  const long = decodePageHeader(head)?.long
  const segmentSize = long?.segmentSize ?? size
  const isSize =
    segmentSize >= segmentSizeMin && segmentSize <= segmentSizeMax && (segmentSize & (segmentSize - 1)) === 0
  const id = isSize ? parseSegmentName(name.slice(0, 24), segmentSize) : undefined
  if (long && !isSize) throw damaged(local, `its header says segments of ${segmentSize} bytes, which no server has`)
  if (long && !id) throw damaged(local, `segments of ${segmentSize} bytes have no such name`)
  const { timeline, segno } = id ?? { timeline: 1, segno: 0n }
  const startLsn = segmentStartLsn({ timeline, segno }, isSize ? segmentSize : 1)
  try {
    checkSegmentHeader(head, { name, timeline, startLsn, segmentSize, systemId: undefined, magic: undefined })
  } catch (error) {
    throw damaged(local, toWalrxError(error).message, error)
  }
  if (size !== segmentSize) throw damaged(local, `it has ${size} bytes, and its header says ${segmentSize}`)
  const systemId = long?.systemId ?? 0n
  await checkServer(local, systemId)
  return { timeline, startLsn, segmentSize, systemId }
}

/** A server writes WAL of its own system identifier alone; another cluster's must not bind an archive that is bound to none. */
async function checkServer({ path }: LocalWalFile, systemId: bigint): Promise<void> {
  const folder = dirname(resolve(path))
  if (basename(folder) !== 'pg_wal') return
  const server = await readSystemIdentifier(dirname(folder)).catch(() => undefined)
  if (server === undefined || server === systemId) return
  throw new WalrxError(
    'WALRX_OTHER_CLUSTER',
    `${path} has the system identifier ${systemId}, and the server of ${dirname(folder)} has ${server}`,
    { hint: 'this file is of another cluster, and this server cannot use it: move it away' },
  )
}

/**
 * True where the last page of a segment is its own: then all others are, or it is damaged.
 * @param buffer begins with the segment, whose first page was checked
 */
export function isFilled({ name }: LocalWalFile, segment: LocalSegment, buffer: Buffer): boolean {
  const { long, magic = 0 } = decodePageHeader(buffer) ?? {}
  const last = segment.segmentSize - (long?.pageSize ?? 0)
  try {
    return checkPageHeader(buffer, last, { ...segment, name, magic }, last)
  } catch {
    return false
  }
}

/**
 * Reads a whole file into the beginning of a buffer.
 * @throws WALRX_WAL_INVALID where it has fewer bytes than it had
 */
export async function readInto(file: FileHandle, buffer: Buffer, length: number, local: LocalWalFile): Promise<void> {
  for (let at = 0; at < length;) {
    const { bytesRead } = await file.read(buffer, at, length - at, at)
    if (bytesRead === 0) throw damaged(local, `it ends after ${at} bytes instead of ${length}`)
    at += bytesRead
  }
}

/**
 * Reads a history file or a backup history file.
 * @throws WALRX_WAL_INVALID for one that PostgreSQL cannot have written under this name
 */
export async function readText(file: FileHandle, local: LocalWalFile): Promise<Buffer> {
  const { size } = await file.stat()
  if (size === 0 || size > textBytesMax) throw damaged(local, `it has ${size} bytes`)
  const buffer = Buffer.alloc(size)
  await readInto(file, buffer, size, local)
  const check = local.kind === 'history' ? checkHistory : checkBackupHistory
  try {
    check(buffer, local.name)
  } catch (error) {
    throw damaged(local, toWalrxError(error).message, error)
  }
  return buffer
}

/**
 * True for a backup history file without its first lines. PostgreSQL does not sync it (do_pg_backup_stop in xlog.c), so a power
 * failure may leave it empty, and no recovery reads it: the WAL after it must not wait for it.
 */
export async function isTornBackupHistory(file: FileHandle, { kind }: LocalWalFile): Promise<boolean> {
  if (kind !== 'backup') return false
  const head = Buffer.alloc(textBytesMax)
  const { bytesRead } = await file.read(head, 0, head.length, 0)
  return !hasBackupHistoryHead(head.subarray(0, bytesRead))
}

/** The error of a file that is not what its name says. */
export function damaged(local: LocalWalFile, problem: string, cause?: unknown): WalrxError {
  return new WalrxError('WALRX_WAL_INVALID', `${local.path} is damaged, and is not archived: ${problem}`, {
    hint: lossOf(local.kind) + withoutIt(local),
    cause,
  })
}

/** PostgreSQL asks for a file no more when its mark says that it is archived. */
function withoutIt({ path }: LocalWalFile): string {
  const [ready, done] = (['ready', 'done'] as const).map((mark) => resolve(statusPath(path, mark)))
  if (ready === undefined || done === undefined || !existsSync(ready)) return ''
  return `. To go on without it, run: mv ${shellWord(ready)} ${shellWord(done)}`
}

/** What is lost with a file. */
function lossOf(kind: WalFileKind): string {
  if (kind === 'backup') return 'no recovery reads this file'
  if (kind === 'partial') return 'a recovery along the next timeline does not need this file'
  if (kind === 'history') return 'check the disk; recovery along this timeline needs this file'
  return 'check the disk; recovery could not use this file, and needs a base backup from after it'
}
