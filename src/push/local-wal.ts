/** A WAL file on the server's disk, as an archive_command is asked to archive it. */
import { type FileHandle, open } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { toWalrxError, WalrxError } from '../primitives/errors.ts'
import { type Lsn, type Timeline } from '../postgres/lsn.ts'
import { readSystemIdentifier } from '../postgres/system-identifier.ts'
import {
  parseSegmentName,
  segmentSizeMax,
  segmentStartLsn,
  walFileKind,
  type WalFileKind,
} from '../postgres/wal/wal-file.ts'
import { checkSegmentHeader, decodePageHeader, longHeaderSize } from '../postgres/wal/wal-page.ts'

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

/** Takes a path apart. Throws WALRX_USAGE for one that names no WAL file. */
export function localWalFile(path: string): LocalWalFile {
  const name = basename(path)
  const kind = walFileKind(name)
  if (kind !== undefined) return { path, name, kind }
  throw new WalrxError('WALRX_USAGE', `"${path}" is not the path of a WAL file`, {
    hint: "write archive_command = 'walrx wal-push %p'",
  })
}

/** The server's system identifier, by the data directory that the file lies in; undefined where that cannot be read. */
export async function systemOfServer({ path }: LocalWalFile): Promise<bigint | undefined> {
  const folder = dirname(path)
  const dataDir = basename(folder) === 'pg_wal' ? dirname(folder) : '.'
  return readSystemIdentifier(dataDir).catch(() => undefined)
}

/** Opens a file. Throws WALRX_SYSTEM. */
export async function openLocal({ path }: LocalWalFile): Promise<FileHandle> {
  try {
    return await open(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new WalrxError('WALRX_SYSTEM', `there is no file ${path} in ${process.cwd()}`, {
      hint: 'PostgreSQL runs archive_command in its data directory, and %p is a path from there',
      cause: error,
    })
  }
}

/**
 * Reads what a segment, or a partial one, is.
 * @throws WALRX_WAL_INVALID when its header, its name and its length disagree
 */
export async function readSegmentHeader(file: FileHandle, { name, path }: LocalWalFile): Promise<LocalSegment> {
  const { bytesRead, buffer } = await file.read(Buffer.alloc(longHeaderSize), 0, longHeaderSize, 0)
  const head = buffer.subarray(0, bytesRead)
  const long = decodePageHeader(head)?.long
  const { size } = await file.stat()
  const segmentSize = long?.segmentSize ?? size
  const isSize = segmentSize > 0 && segmentSize <= segmentSizeMax && (segmentSize & (segmentSize - 1)) === 0
  const id = isSize ? parseSegmentName(name.slice(0, 24), segmentSize) : undefined
  if (long && !id) throw damaged(path, `segments of ${segmentSize} bytes have no such name`)
  const { timeline, segno } = id ?? { timeline: 1, segno: 0n }
  const startLsn = segmentStartLsn({ timeline, segno }, isSize ? segmentSize : 1)
  try {
    checkSegmentHeader(head, { name, timeline, startLsn, segmentSize, systemId: undefined, magic: undefined })
  } catch (error) {
    throw damaged(path, toWalrxError(error).message, error)
  }
  if (size !== segmentSize) throw damaged(path, `it has ${size} bytes, and its header says ${segmentSize}`)
  return { timeline, startLsn, segmentSize, systemId: long?.systemId ?? 0n }
}

/**
 * Reads a whole file into the beginning of a buffer.
 * @throws WALRX_WAL_INVALID where it has fewer bytes than it had
 */
export async function readInto(file: FileHandle, buffer: Buffer, length: number, path: string): Promise<void> {
  for (let at = 0; at < length;) {
    const { bytesRead } = await file.read(buffer, at, length - at, at)
    if (bytesRead === 0) throw damaged(path, `it ends after ${at} bytes instead of ${length}`)
    at += bytesRead
  }
}

/** Reads a history file or a backup label. Throws WALRX_WAL_INVALID for one that is empty, or too long to be one. */
export async function readText(file: FileHandle, { path }: LocalWalFile): Promise<Buffer> {
  const { size } = await file.stat()
  if (size === 0 || size > textBytesMax) throw damaged(path, `it has ${size} bytes`)
  const buffer = Buffer.alloc(size)
  await readInto(file, buffer, size, path)
  return buffer
}

/** The error of a file that is not what its name says. */
export function damaged(path: string, problem: string, cause?: unknown): WalrxError {
  return new WalrxError('WALRX_WAL_INVALID', `${path} is damaged, and is not archived: ${problem}`, {
    hint: `check the disk; recovery could not use this file. To go on without it, take a base backup, then rename ${readyPath(path)}.ready to .done`,
    cause,
  })
}

function readyPath(path: string): string {
  return join(dirname(path), 'archive_status', basename(path))
}
