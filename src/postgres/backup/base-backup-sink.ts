/** The archives of a base backup, and their receiver. */
import type { Busy } from '../protocol/copy-reader.ts'
import type { ErrorFields } from '../protocol/server-error.ts'

/** One archive of the backup. */
export interface BackupTablespace {
  /** Undefined for the data directory. */
  readonly oid: number | undefined
  /**
   * As the server sends it: an absolute path, `pg_tblspc/<oid>` for an in-place tablespace, '' for the data directory.
   */
  readonly location: string
  /** The server's estimate in bytes, a multiple of 1024. */
  readonly sizeBytes: number | undefined
}

/** A notice or warning of the server, by the letters of its fields: S severity, C SQLSTATE, M message, D detail. */
export type ServerNotice = ErrorFields

/**
 * The receiver of a backup. Bytes are valid during the call and until the returned promise has resolved: until then
 * nothing more is delivered, and the socket is not read. Bytes that were read before wait in another buffer, at most
 * one read of 256 KiB. An error of a method ends the backup.
 */
export interface BaseBackupSink {
  /** An archive begins; the one of the data directory is the last (basebackup.c). */
  onArchive(tablespace: BackupTablespace): Busy
  /** Bytes of the archive: a whole tar with its two final zero blocks, also from 14. Never empty. */
  onData(bytes: Buffer): Busy
  /** The manifest begins, after all archives. Not called where none was requested. */
  onManifest(): Busy
  onManifestData(bytes: Buffer): Busy
  /** Bytes that the server has read so far, of all archives together, at most once a second (15 and later). */
  onProgress?(bytesDone: number): void
  onNotice?(notice: ServerNotice): void
}
