/** What a base backup delivers, and to whom. */
import type { Busy } from '../protocol/copy-reader.ts'
import type { ErrorFields } from '../protocol/server-error.ts'

/** One archive of the backup. */
export interface BackupTablespace {
  /** Undefined for the data directory. */
  readonly oid: number | undefined
  /** As the server says it: an absolute path, `pg_tblspc/<oid>` for a tablespace in place, '' for the data directory. */
  readonly location: string
  /** The server's estimate in bytes, a multiple of 1024. */
  readonly sizeBytes: number | undefined
}

/** A notice or warning of the server's, by the letters of its fields: S severity, C SQLSTATE, M message, D detail. */
export type ServerNotice = ErrorFields

/**
 * Where a backup is delivered to. Bytes are valid during the call and until the promise that it returns has resolved:
 * so long nothing more is delivered, and the socket is not read. What was read already waits in a buffer of its own, at
 * most one read of 256 KiB. Whatever a method throws ends the backup with it.
 */
export interface BaseBackupSink {
  /** An archive begins: that of the data directory last (basebackup.c). */
  onArchive(tablespace: BackupTablespace): Busy
  /** Bytes of the archive: a whole tar with its two closing zero blocks, from 14 as well. Never empty. */
  onData(bytes: Buffer): Busy
  /** The manifest begins, behind all archives. Not called where none was asked for. */
  onManifest(): Busy
  onManifestData(bytes: Buffer): Busy
  /** Bytes that the server has read so far, of all archives together, at most once a second (15 and later). */
  onProgress?(bytesDone: number): void
  onNotice?(notice: ServerNotice): void
}
