/** A base backup as a server of either framing would send it, for tests without a server. */
import { parseLsn } from '../../../src/postgres/lsn.ts'
import type { BackupTablespace, BaseBackupSink, ServerNotice } from '../../../src/postgres/backup/base-backup-sink.ts'
import type { ByteSocket, ReplicationSession } from '../../../src/postgres/protocol/session.ts'
import { commandComplete, copyDone, message, readyForQuery, rowDescription, rowMessage } from '../server-messages.ts'

/** `H`: what follows is CopyData, as bytes. */
export const copyOut = message('H', Buffer.from([0, 0, 0]))

/** `d` with raw bytes. */
export function copyData(...pieces: readonly (Uint8Array | string)[]): Buffer {
  return message('d', Buffer.concat(pieces.map((piece) => Buffer.from(piece as string, 'latin1'))))
}

/** `N` of severity WARNING. */
export function warningMessage(text: string): Buffer {
  return message('N', Buffer.from(`SWARNUNG\0VWARNING\0C01000\0M${text}\0\0`))
}

/** `E` with a severity that is not translated. */
export function severeMessage(severity: string, sqlstate: string, text: string): Buffer {
  return message('E', Buffer.from(`SFEHLER\0V${severity}\0C${sqlstate}\0M${text}\0\0`))
}

/** An archive of a scripted backup. */
export interface ScriptedArchive {
  readonly oid: number | null
  readonly location: string | null
  readonly pieces: readonly Uint8Array[]
}

/** What comes before the first archive. */
export function opening(archives: readonly ScriptedArchive[]): Buffer[] {
  return [
    rowDescription,
    rowMessage('0/2000028', '1'),
    commandComplete('SELECT'),
    rowDescription,
    ...archives.map(({ oid, location }) => rowMessage(oid === null ? null : String(oid), location, '8')),
    commandComplete('SELECT'),
  ]
}

/** The messages after the last archive of a backup that succeeded. */
export const closing: readonly Buffer[] = [
  rowDescription,
  rowMessage('0/2000100', '1'),
  commandComplete('SELECT'),
  commandComplete('BASE_BACKUP'),
  readyForQuery,
]

/** The archives and the manifest, as 14 sends them (`plain`) or 15 and later do (`tagged`). */
export function copies(
  framing: 'plain' | 'tagged',
  archives: readonly ScriptedArchive[],
  manifest: readonly Uint8Array[],
): Buffer[] {
  if (framing === 'plain') {
    const bodies = [...archives.map(({ pieces }) => pieces), manifest]
    return bodies.flatMap((pieces) => [copyOut, ...pieces.map((piece) => copyData(piece)), copyDone])
  }
  const data = (piece: Uint8Array) => copyData('d', piece)
  return [
    copyOut,
    ...archives.flatMap(({ oid, location, pieces }) => [
      copyData(`n${oid ?? 'base'}.tar\0${location ?? ''}\0`),
      ...pieces.map(data),
      copyData('p', Buffer.from([0, 0, 0, 0, 0, 0, 4, 0])),
    ]),
    copyData('m'),
    ...manifest.map(data),
    copyDone,
  ]
}

/** A session that was never connected, over a socket in the test's hands. */
export function fakeSession(socket: ByteSocket, serverVersion: number): ReplicationSession {
  const never = () => Promise.reject(new Error('not a command of these tests'))
  return {
    host: 'fake:5432',
    serverVersion,
    inRecovery: false,
    identifySystem: never,
    show: never,
    readSlot: never,
    createSlot: never,
    dropSlot: never,
    timelineHistory: never,
    hasWal: never,
    takeOver: () => socket,
    close: async () => socket.destroy(),
  }
}

/** Writes down what it is given, as lines: runs of bytes are joined. */
export class RecordingSink implements BaseBackupSink {
  readonly archives: { readonly tablespace: BackupTablespace; readonly pieces: Buffer[] }[] = []
  readonly manifest: Buffer[] = []
  readonly notices: ServerNotice[] = []
  readonly progress: number[] = []
  hasManifest = false
  /** Calls so far. */
  calls = 0
  /** What every method returns, or throws. */
  answer: () => void | Promise<void> = () => {}

  onArchive(tablespace: BackupTablespace): void | Promise<void> {
    this.calls++
    this.archives.push({ tablespace, pieces: [] })
    return this.answer()
  }

  onData(bytes: Buffer): void | Promise<void> {
    this.calls++
    if (bytes.length === 0) throw new Error('no bytes at all')
    this.archives.at(-1)?.pieces.push(Buffer.from(bytes))
    return this.answer()
  }

  onManifest(): void | Promise<void> {
    this.calls++
    this.hasManifest = true
    return this.answer()
  }

  onManifestData(bytes: Buffer): void | Promise<void> {
    this.calls++
    this.manifest.push(Buffer.from(bytes))
    return this.answer()
  }

  onProgress(bytesDone: number): void {
    this.progress.push(bytesDone)
  }

  onNotice(notice: ServerNotice): void {
    this.notices.push(notice)
  }
}

/** Start and end of {@link opening} and {@link closing}. */
export const scriptedStart = parseLsn('0/2000028')
export const scriptedEnd = parseLsn('0/2000100')
