/**
 * BASE_BACKUP over a replication connection: the server's tar archives, one after the other, and its manifest.
 *
 * The server's answer (basebackup.c, basebackup_copy.c; observed on 14 to 18), all of it to one command:
 *   result set    start LSN as text, its timeline
 *   result set    a row for each archive: tablespace oid, location, size in kB; oid and location NULL for the data
 *                 directory, last
 *   COPY OUT      the archives, then the manifest: the framing of 14 differs from that of 15 and later
 *   result set    end LSN, its timeline
 *   CommandComplete, ReadyForQuery; or an ErrorResponse in place of anything. The one for checksum failures comes after
 *   the end LSN, when everything has been sent
 */
import { WalrxError } from '../../primitives/errors.ts'
import { type Busy, CopyReader } from '../protocol/copy-reader.ts'
import { encodeQuery, parseDataRow, parseErrorFields, type Row } from '../protocol/frames.ts'
import { type Lsn, parseLsn, type Timeline } from '../lsn.ts'
import { type ErrorFields, ServerError, serverErrorFromFields } from '../protocol/server-error.ts'
import type { ByteSocket, ReplicationSession } from '../protocol/session.ts'
import { type BaseBackupOptions, baseBackupCommand } from './base-backup-command.ts'
import { type BackupFraming, PlainFraming, TaggedFraming } from './base-backup-framing.ts'
import type { BackupTablespace, BaseBackupSink, ServerNotice } from './base-backup-sink.ts'
import { type ChecksumFailure, ChecksumFailures } from './checksum-failures.ts'

/** The facts at the start of the backup. */
export interface BaseBackupStart {
  readonly startLsn: Lsn
  readonly timeline: Timeline
  readonly tablespaces: readonly BackupTablespace[]
}

/** The facts at the end of the backup. */
export interface BaseBackupEnd {
  /** One past the last WAL that a recovery needs. */
  readonly endLsn: Lsn
  readonly endTimeline: Timeline
  /** Damage in the backup; empty unless `acceptChecksumFailures` allowed it. */
  readonly checksumFailures: readonly ChecksumFailure[]
}

/** WALRX_BACKUP_CHECKSUM, with the damaged files. */
export class BackupChecksumError extends ServerError {
  readonly failures: readonly ChecksumFailure[]

  constructor(host: string, fields: ErrorFields, failures: ChecksumFailures) {
    const what = failures.describe() || (fields['M'] ?? 'the server did not report where')
    super('WALRX_BACKUP_CHECKSUM', `${host} found data pages with wrong checksums: ${what}`, fields, {
      hint:
        'find the lost data with pg_amcheck and restore it from an older backup; a backup without verification takes ' +
        'the damaged pages as they are',
    })
    this.failures = failures.list
  }
}

/** SQLSTATE data_corrupted: a backup ends with it when checksums failed. */
const dataCorrupted = 'XX001'

/** The expected part of the answer. */
type Phase = 'start' | 'tablespaces' | 'copy' | 'end' | 'ended'

/**
 * Sends BASE_BACKUP and waits for the first archive, which takes as long as the server's checkpoint. The session cannot
 * be used again afterwards; the caller must close it unless a backup is returned.
 * @throws ServerError, WALRX_CONNECTION_LOST, WALRX_PROTOCOL, WALRX_USAGE; the signal's reason
 */
export async function startBaseBackup(
  session: ReplicationSession,
  options: BaseBackupOptions,
  signal: AbortSignal = new AbortController().signal,
): Promise<BaseBackup> {
  const command = baseBackupCommand(session.serverVersion, options)
  signal.throwIfAborted()
  const backup = new BaseBackup(session, options.acceptChecksumFailures ?? false)
  await backup.begin(command, signal)
  return backup
}

/** How many messages of the server are kept, to know them again. */
const saidMax = 1000

/** A running base backup. Created by {@link startBaseBackup}. */
export class BaseBackup {
  readonly #session: ReplicationSession
  readonly #socket: ByteSocket
  readonly #reader: CopyReader
  readonly #acceptsFailures: boolean
  readonly #began = Promise.withResolvers<undefined>()
  readonly #done = Promise.withResolvers<BaseBackupEnd>()
  #phase: Phase = 'start'
  #rows: Row[] = []
  #start: BaseBackupStart | undefined
  #position: Position | undefined
  #sink: BaseBackupSink | undefined
  #framing: BackupFraming | undefined
  #fields: ErrorFields | undefined
  /** Notices that came before there was a sink: a server sends few about a checkpoint. */
  #early: ServerNotice[] = []
  readonly #failures = new ChecksumFailures()
  readonly #said = new Set<string>()

  constructor(session: ReplicationSession, acceptsFailures: boolean) {
    this.#session = session
    this.#acceptsFailures = acceptsFailures
    this.#socket = session.takeOver()
    this.#reader = new CopyReader(this.#socket, {
      onCopyData: (bytes, isFirst) => this.#copy('CopyData').onCopyData(bytes, isFirst),
      onMessage: (type, body) => this.#onMessage(String.fromCharCode(type), body),
      onClose: (error) => this.#fail(this.#lost(error)),
      onError: (error) => this.#fail(error),
    })
    // Both may fail before they are awaited.
    this.#began.promise.catch(() => {})
    this.#done.promise.catch(() => {})
  }

  /** The start of the backup, and its archives. */
  get start(): BaseBackupStart {
    if (!this.#start) throw new WalrxError('WALRX_INTERNAL', 'the base backup has not begun')
    return this.#start
  }

  /** Damage that the server has reported so far. */
  get checksumFailures(): readonly ChecksumFailure[] {
    return this.#failures.list
  }

  /** What the server has said so far, before {@link receive}. */
  get noticesSoFar(): readonly ServerNotice[] {
    return this.#early
  }

  /** Sends the command; called by {@link startBaseBackup}. */
  async begin(command: string, signal: AbortSignal): Promise<void> {
    this.#reader.start()
    this.#socket.write(encodeQuery(command))
    await this.#unlessAborted(this.#began.promise, signal)
  }

  /**
   * Receives everything; once.
   * @returns when the server has confirmed the whole backup
   * @throws BackupChecksumError when the server found damaged pages, after all data; other errors of the server,
   * WALRX_CONNECTION_LOST, WALRX_PROTOCOL, the sink's error, or the signal's reason
   */
  async receive(sink: BaseBackupSink, signal: AbortSignal = new AbortController().signal): Promise<BaseBackupEnd> {
    if (this.#sink) throw new WalrxError('WALRX_INTERNAL', 'the base backup was received already')
    this.#sink = sink
    const { tablespaces } = this.start
    const parts = { tablespaces, sink, unexpected: (what: string) => this.#unexpected(what) }
    this.#framing = this.#session.serverVersion < 150_000 ? new PlainFraming(parts) : new TaggedFraming(parts)
    for (const notice of this.#early.splice(0)) sink.onNotice?.(notice)
    if (!signal.aborted) this.#reader.release()
    return this.#unlessAborted(this.#done.promise, signal)
  }

  /** Closes the connection, which ends a running backup on the server. May be called twice. */
  async close(): Promise<void> {
    this.#fail(new WalrxError('WALRX_CONNECTION_LOST', `the backup of ${this.#session.host} was stopped`))
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

  #onMessage(type: string, body: Buffer): Busy {
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
        return this.#copy('CopyOutResponse').onCopyOut()
      case 'c': // CopyDone
        return this.#copy('CopyDone').onCopyDone()
      case 'S': // ParameterStatus: a promotion in the middle
        return
      case 'N':
        return this.#onNotice(parseErrorFields(body))
      case 'E':
        this.#fields = parseErrorFields(body)
        // After a FATAL one only the end of the connection follows.
        if (this.#fields['V'] === 'FATAL' || this.#fields['V'] === 'PANIC') throw this.#serverError(this.#fields)
        return
      case 'Z':
        return this.#onReady()
    }
    throw this.#unexpected(`message of type "${type}"`)
  }

  /** The framing, while archives may come. */
  #copy(message: string): BackupFraming {
    if (this.#phase !== 'copy' || !this.#framing) throw this.#unexpected(message)
    return this.#framing
  }

  #onResult(): void {
    const rows = this.#rows
    this.#rows = []
    if (this.#phase === 'start') {
      const { lsn, timeline } = this.#parsePosition(rows[0])
      this.#start = { startLsn: lsn, timeline, tablespaces: [] }
      this.#phase = 'tablespaces'
    } else if (this.#phase === 'tablespaces') {
      this.#start = { ...this.start, tablespaces: rows.map((row) => this.#parseTablespace(row)) }
      this.#phase = 'copy'
      // Until a sink is there, the archives wait on the server.
      this.#reader.hold()
      this.#began.resolve(undefined)
    } else if (this.#phase === 'copy' && rows.length > 0) {
      this.#position = this.#parsePosition(rows[0])
      this.#phase = 'end'
    }
  }

  #parsePosition(row: Row | undefined): Position {
    const [position, timeline] = (row ?? []).map((column) => column?.toString('latin1') ?? '')
    if (!/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/i.test(position ?? '') || !/^[1-9]\d{0,9}$/.test(timeline ?? '')) {
      throw this.#unexpected('position')
    }
    return { lsn: parseLsn(position ?? ''), timeline: Number(timeline) }
  }

  #parseTablespace(row: Row): BackupTablespace {
    const [oid, location, size] = row.map((column) => column?.toString('utf8'))
    if (oid !== undefined && !/^[1-9]\d{0,9}$/.test(oid)) throw this.#unexpected(`tablespace "${oid}"`)
    return {
      oid: oid === undefined ? undefined : Number(oid),
      location: location ?? '',
      sizeBytes: size === undefined || !/^\d+$/.test(size) ? undefined : Number(size) * 1024,
    }
  }

  /** The server reads its folders twice, for the sizes first: what it said then need not be heard again. */
  #onNotice(notice: ServerNotice): void {
    const message = notice['M'] ?? ''
    if (this.#said.has(message)) return
    if (this.#said.size < saidMax) this.#said.add(message)
    this.#failures.note(notice)
    if (this.#sink) this.#sink.onNotice?.(notice)
    else this.#early.push(notice)
  }

  #onReady(): void {
    const isOnlyDamage = this.#phase === 'end' && this.#fields?.['C'] === dataCorrupted
    if (this.#fields && !(isOnlyDamage && this.#acceptsFailures)) throw this.#serverError(this.#fields)
    const position = this.#position
    if (!position) throw this.#unexpected('end of the backup')
    this.#phase = 'ended'
    const checksumFailures = this.#fields ? this.#failures.list : []
    this.#done.resolve({ endLsn: position.lsn, endTimeline: position.timeline, checksumFailures })
  }

  #serverError(fields: ErrorFields): WalrxError {
    const { host } = this.#session
    const isDamage = this.#phase === 'end' && fields['C'] === dataCorrupted
    return isDamage
      ? new BackupChecksumError(host, fields, this.#failures)
      : serverErrorFromFields(fields, host, 'BASE_BACKUP')
  }

  #lost(error: Error | undefined): Error {
    if (this.#fields) return this.#serverError(this.#fields)
    const why = error ? `: ${error.message}` : ' by the server'
    const message = `the connection to ${this.#session.host} was closed during the backup${why}`
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

/** A row of LSN and timeline. */
interface Position {
  readonly lsn: Lsn
  readonly timeline: Timeline
}
