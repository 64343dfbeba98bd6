/**
 * BASE_BACKUP over a replication connection: the server's tar archives, one after the other, and its manifest.
 *
 * What the server sends (basebackup.c, basebackup_copy.c; seen on 14 to 18), all of it answers to one command:
 *   result set    start LSN as text, its timeline
 *   result set    a row for each archive: tablespace oid, location, size in kB; both NULL for the data directory, last
 *   15 and later  one COPY OUT whose messages begin with a letter: `n` an archive begins (two cstrings: its file name,
 *                 the tablespace's path), `d` its bytes, `m` the manifest begins (its bytes come as `d`), `p` int64
 *                 bytes done. Archives end with two zero blocks
 *   14            one COPY OUT per archive, in the order of the rows and without the zero blocks, then one for the manifest
 *   result set    end LSN, its timeline
 *   CommandComplete, ReadyForQuery; or an ErrorResponse in place of anything, checksum failures at the very end
 */
import { WalrxError } from '../primitives/errors.ts'
import { type BaseBackupOptions, baseBackupCommand } from './base-backup-command.ts'
import { CopyReader } from './copy-reader.ts'
import { encodeQuery, parseDataRow, parseErrorFields, type Row } from './frames.ts'
import { type Lsn, parseLsn, type Timeline } from './lsn.ts'
import type { PgSession } from './pg-session.ts'
import { type ErrorFields, ServerError, serverErrorFromFields } from './server-error.ts'

export type { BaseBackupOptions } from './base-backup-command.ts'

/** One archive of the backup. */
export interface BackupTablespace {
  /** Undefined for the data directory. */
  readonly oid: number | undefined
  /** As the server says it: an absolute path, `pg_tblspc/<oid>` for a tablespace in place, '' for the data directory. */
  readonly location: string
  /** The server's estimate in bytes. */
  readonly sizeBytes: number | undefined
}

/** What is known when the backup has begun. */
export interface BaseBackupStart {
  readonly startLsn: Lsn
  readonly timeline: Timeline
  readonly tablespaces: readonly BackupTablespace[]
}

/** What is known when it has ended. */
export interface BaseBackupEnd {
  /** One past the last WAL that a recovery needs. */
  readonly endLsn: Lsn
  readonly endTimeline: Timeline
}

/** A notice or warning of the server's, by the letters of its fields: S severity, C SQLSTATE, M message, D detail. */
export type ServerNotice = ErrorFields

/**
 * Where a backup is delivered to. Bytes are valid during the call only, or until the promise that it returns resolves:
 * until then nothing more is read from the server. Whatever a method throws ends the backup with it.
 */
export interface BaseBackupSink {
  /** An archive begins. */
  onArchive(tablespace: BackupTablespace): void | Promise<void>
  /** Bytes of the archive: tar. */
  onData(bytes: Buffer): void | Promise<void>
  /** The manifest begins, behind all archives. */
  onManifest(): void | Promise<void>
  onManifestData(bytes: Buffer): void | Promise<void>
  /** Bytes that the server has read of the present archive, at most once a second (15 and later). */
  onProgress?(bytesDone: number): void
  onNotice?(notice: ServerNotice): void
}

/** SQLSTATE of data_corrupted: what a backup ends with when checksums failed. */
const dataCorrupted = 'XX001'

/** Notices that are kept for the error of a backup that fails. */
const noticesMax = 200

/** Why nothing is delivered. */
type Phase = 'start' | 'tablespaces' | 'copy' | 'end' | 'ended'

/**
 * Sends BASE_BACKUP and waits until the first archive is about to come, which takes as long as the server's checkpoint.
 * The session is used up.
 * @throws ServerError, WALRX_CONNECTION_LOST, WALRX_PROTOCOL, WALRX_USAGE; the signal's reason
 */
export async function startBaseBackup(
  session: PgSession,
  options: BaseBackupOptions,
  signal: AbortSignal = new AbortController().signal,
): Promise<BaseBackup> {
  const command = baseBackupCommand(session.serverVersion, options)
  signal.throwIfAborted()
  const backup = new BaseBackup(session, command)
  await backup.begin(signal)
  return backup
}

/** A base backup under way. Made by {@link startBaseBackup}. */
export class BaseBackup {
  readonly #session: PgSession
  readonly #reader: CopyReader
  readonly #isTagged: boolean
  readonly #writeCommand: () => void
  readonly #began = Promise.withResolvers<undefined>()
  readonly #done = Promise.withResolvers<BaseBackupEnd>()
  #phase: Phase = 'start'
  #rows: Row[] = []
  #start: BaseBackupStart | undefined
  #end: BaseBackupEnd | undefined
  #sink: BaseBackupSink | undefined
  /** COPY OUTs begun, for 14. */
  #copies = 0
  #inManifest = false
  /** Type letter of the present CopyData (15 and later), and its bytes where it is a small one. */
  #letter = 0
  #small: Buffer = Buffer.alloc(0)
  #fields: ErrorFields | undefined
  readonly #notices: ServerNotice[] = []

  constructor(session: PgSession, command: string) {
    this.#session = session
    this.#isTagged = session.serverVersion >= 150_000
    const socket = session.takeOver()
    this.#writeCommand = () => socket.write(encodeQuery(command))
    this.#reader = new CopyReader(socket, {
      onCopyData: (bytes, isFirst) => (this.#isTagged ? this.#onTagged(bytes, isFirst) : this.#deliver(bytes)),
      onMessage: (type, body) => this.#onMessage(type, body),
      onClose: (error) => this.#fail(this.#lost(error)),
      onError: (error) => this.#fail(error),
    })
    this.#began.promise.catch(() => {})
    this.#done.promise.catch(() => {})
  }

  /** Where the backup starts, and its archives. */
  get start(): BaseBackupStart {
    if (!this.#start) throw new WalrxError('WALRX_INTERNAL', 'the base backup has not begun')
    return this.#start
  }

  /** Warnings of the server so far, the first 200. */
  get notices(): readonly ServerNotice[] {
    return this.#notices
  }

  /** Sends the command; called by {@link startBaseBackup}. */
  async begin(signal: AbortSignal): Promise<void> {
    this.#reader.start()
    this.#writeCommand()
    await this.#unlessAborted(this.#began.promise, signal)
  }

  /**
   * Receives everything.
   * @returns when the server has confirmed the whole backup
   * @throws WALRX_BACKUP_CHECKSUM when the server found damaged pages (after all data), other errors of the server,
   * WALRX_CONNECTION_LOST, what the sink threw, or the signal's reason
   */
  async receive(sink: BaseBackupSink, signal: AbortSignal = new AbortController().signal): Promise<BaseBackupEnd> {
    this.#sink = sink
    for (const notice of this.#notices) sink.onNotice?.(notice)
    this.#reader.release()
    return this.#unlessAborted(this.#done.promise, signal)
  }

  /** Drops the connection; the server notices and ends the backup. Harmless twice. */
  async close(): Promise<void> {
    this.#fail(new WalrxError('WALRX_CONNECTION_LOST', `the backup of ${this.#session.host} was given up`))
    await this.#session.close()
  }

  async #unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
    const onAbort = () => this.#fail(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    try {
      return await promise
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  #onMessage(type: string, body: Buffer): void {
    switch (type) {
      case 'T': // RowDescription
        this.#rows = []
        return
      case 'D': // DataRow
        this.#rows.push(parseDataRow(body))
        return
      case 'C': // CommandComplete
        return this.#onResult()
      case 'H': // CopyOutResponse
        return this.#onCopy()
      case 'c': // CopyDone
      case 'S': // ParameterStatus
        return
      case 'N':
        return this.#onNotice(parseErrorFields(body))
      case 'E':
        this.#fields = parseErrorFields(body)
        // Nothing follows a FATAL one, but the end of the connection.
        if (this.#fields['V'] === 'FATAL') this.#fail(this.#serverError(this.#fields))
        return
      case 'Z':
        return this.#onReady()
    }
    throw this.#unexpected(`message of type "${type}"`)
  }

  #onResult(): void {
    const rows = this.#rows
    this.#rows = []
    if (this.#phase === 'start') {
      const { lsn, timeline } = this.#position(rows[0])
      this.#start = { startLsn: lsn, timeline, tablespaces: [] }
      this.#phase = 'tablespaces'
    } else if (this.#phase === 'tablespaces') {
      this.#start = { ...this.start, tablespaces: rows.map((row) => this.#tablespace(row)) }
      this.#phase = 'copy'
      // Until somebody wants them, the archives wait in the server.
      this.#reader.hold()
      this.#began.resolve(undefined)
    } else if (this.#phase === 'copy' && rows.length > 0) {
      const { lsn, timeline } = this.#position(rows[0])
      this.#end = { endLsn: lsn, endTimeline: timeline }
      this.#phase = 'end'
    }
  }

  #position(row: Row | undefined): { lsn: Lsn; timeline: Timeline } {
    const [position, timeline] = (row ?? []).map((column) => column?.toString('latin1') ?? '')
    if (!/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/i.test(position ?? '') || !/^[1-9]\d*$/.test(timeline ?? '')) {
      throw this.#unexpected('position')
    }
    return { lsn: parseLsn(position ?? ''), timeline: Number(timeline) }
  }

  #tablespace(row: Row): BackupTablespace {
    const [oid, location, size] = row.map((column) => column?.toString('utf8'))
    if (oid !== undefined && !/^\d+$/.test(oid)) throw this.#unexpected('tablespace')
    return {
      oid: oid === undefined ? undefined : Number(oid),
      location: location ?? '',
      sizeBytes: size === undefined || !/^\d+$/.test(size) ? undefined : Number(size) * 1024,
    }
  }

  /** CopyOutResponse: in 14 the next archive begins with it, or the manifest. */
  #onCopy(): void {
    if (this.#isTagged) return
    const tablespace = this.start.tablespaces[this.#copies++]
    this.#inManifest = tablespace === undefined
    this.#hold(tablespace ? this.#sink?.onArchive(tablespace) : this.#sink?.onManifest())
  }

  /** Lets nothing more come before `busy` has resolved. */
  #hold(busy: void | Promise<void>): void {
    if (!busy) return
    this.#reader.hold()
    busy.then(
      () => this.#reader.release(),
      (error: unknown) => this.#fail(error instanceof Error ? error : new Error(String(error))),
    )
  }

  #deliver(bytes: Buffer): void | Promise<void> {
    if (bytes.length === 0) return
    return this.#inManifest ? this.#sink?.onManifestData(bytes) : this.#sink?.onData(bytes)
  }

  #onTagged(bytes: Buffer, isFirst: boolean): void | Promise<void> {
    let body = bytes
    if (isFirst) {
      this.#letter = bytes[0] ?? 0
      this.#small = Buffer.alloc(0)
      body = bytes.subarray(1)
    }
    switch (String.fromCharCode(this.#letter)) {
      case 'd':
        return this.#deliver(body)
      case 'n':
        return this.#onNewArchive(body)
      case 'm':
        this.#inManifest = true
        return this.#sink?.onManifest()
      case 'p':
        return this.#onProgress(body)
    }
    throw this.#unexpected(`piece of type ${this.#letter}`)
  }

  /** Two cstrings: `<oid>.tar` or `base.tar`, and the tablespace's path. */
  #onNewArchive(body: Buffer): void | Promise<void> {
    this.#small = Buffer.concat([this.#small, body])
    const end = this.#small.indexOf(0)
    if (end === -1 || this.#small.indexOf(0, end + 1) === -1) return
    const name = this.#small.toString('utf8', 0, end)
    this.#small = Buffer.alloc(0)
    const tablespace = this.start.tablespaces.find(
      ({ oid }) => name === (oid === undefined ? 'base.tar' : `${oid}.tar`),
    )
    if (!tablespace) throw this.#unexpected(`archive "${name}"`)
    return this.#sink?.onArchive(tablespace)
  }

  #onProgress(body: Buffer): void {
    this.#small = Buffer.concat([this.#small, body])
    if (this.#small.length === 8) this.#sink?.onProgress?.(Number(this.#small.readBigUInt64BE()))
  }

  #onNotice(notice: ServerNotice): void {
    if (this.#notices.length < noticesMax) this.#notices.push(notice)
    this.#sink?.onNotice?.(notice)
  }

  #onReady(): void {
    if (this.#fields) return this.#fail(this.#serverError(this.#fields))
    if (!this.#end) throw this.#unexpected('end of the backup')
    this.#phase = 'ended'
    this.#done.resolve(this.#end)
  }

  #serverError(fields: ErrorFields): WalrxError {
    const error = serverErrorFromFields(fields, this.#session.host, 'BASE_BACKUP')
    if (fields['C'] !== dataCorrupted) return error
    const damage = this.#notices.map(({ M }) => M ?? '').join('; ')
    return new ServerError(
      'WALRX_BACKUP_CHECKSUM',
      `${this.#session.host} found damaged pages: ${damage || fields['M']}`,
      fields,
      {
        hint: 'restore these files from an older backup, or find out by pg_amcheck what is lost; --no-verify backs them up as they are',
      },
    )
  }

  #lost(error: Error | undefined): Error {
    if (this.#fields) return this.#serverError(this.#fields)
    const why = error ? `: ${error.message}` : ' by the server'
    const message = `the connection to ${this.#session.host} was closed in the middle of the backup${why}`
    return new WalrxError('WALRX_CONNECTION_LOST', message, { cause: error })
  }

  #unexpected(what: string): WalrxError {
    return new WalrxError('WALRX_PROTOCOL', `${this.#session.host} sent an unexpected ${what} during BASE_BACKUP`)
  }

  #fail(error: Error): void {
    if (this.#phase === 'ended') return
    this.#phase = 'ended'
    this.#reader.destroy()
    this.#began.reject(error)
    this.#done.reject(error)
  }
}
