/** A server that has its base backups recorded as it sends them, so that PostgreSQL's own tools can read them too. */
import { execFile } from 'node:child_process'
import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { mkdir, readdir, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { BackupSource } from '../../../src/backup/backup-begin.ts'
import { type BaseBackupEnd, startBaseBackup } from '../../../src/postgres/backup/base-backup.ts'
import type { BackupTablespace, BaseBackupSink } from '../../../src/postgres/backup/base-backup-sink.ts'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer } from '../../../src/postgres/connect/connection.ts'
import type { PgSession } from '../../../src/postgres/connect/pg-session.ts'
import type { ByteSocket, ByteSocketHandlers } from '../../../src/postgres/protocol/session.ts'
import type { SqlOpening } from '../../../src/postgres/connect/sql-connection.ts'
import { fakeSession } from '../../postgres/backup/scripted-backup.ts'

const run = promisify(execFile)

/** Bytes of one read of a recording: as many as a socket gives at once. */
const readBytes = 64 * 1024

/** Keeps a copy of everything that is read, in a file: backups are larger than memory. */
class RecordingSocket implements ByteSocket {
  readonly #socket: ByteSocket
  #file: number | undefined

  constructor(socket: ByteSocket, path: string) {
    this.#socket = socket
    this.#file = openSync(path, 'w')
  }

  start(handlers: ByteSocketHandlers): void {
    this.#socket.start({
      onBytes: (chunk) => {
        if (this.#file !== undefined) writeSync(this.#file, chunk)
        handlers.onBytes(chunk)
      },
      onClose: (error) => {
        this.#close()
        handlers.onClose(error)
      },
    })
  }

  write(bytes: Uint8Array): void {
    this.#socket.write(bytes)
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  destroy(): void {
    this.#close()
    this.#socket.destroy()
  }

  #close(): void {
    if (this.#file !== undefined) closeSync(this.#file)
    this.#file = undefined
  }
}

/** Gives what was recorded, a read at a turn of the event loop, as a socket does. */
class ReplayingSocket implements ByteSocket {
  readonly #file: number
  readonly #memory = Buffer.alloc(readBytes)
  #handlers: ByteSocketHandlers | undefined
  #isPaused = false
  #isClosed = false
  #turn: NodeJS.Immediate | undefined

  constructor(path: string) {
    this.#file = openSync(path, 'r')
  }

  start(handlers: ByteSocketHandlers): void {
    this.#handlers = handlers
    this.resume()
  }

  write(): void {
    // Nobody is there to see it.
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    this.#turn ??= setImmediate(() => this.#read())
  }

  destroy(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    closeSync(this.#file)
    this.#handlers?.onClose()
  }

  #read(): void {
    this.#turn = undefined
    if (this.#isPaused || this.#isClosed) return
    const length = readSync(this.#file, this.#memory)
    if (length === 0) return this.destroy()
    this.#handlers?.onBytes(this.#memory.subarray(0, length))
    this.#turn ??= setImmediate(() => this.#read())
  }
}

/** What was written down of one backup. */
export interface Recording {
  readonly path: string
  readonly serverVersion: number
}

/**
 * The backup comes once more.
 * @param open makes what takes it, when its archives are known
 */
export async function replay(
  { path, serverVersion }: Recording,
  open: (tablespaces: readonly BackupTablespace[]) => BaseBackupSink,
): Promise<BaseBackupEnd> {
  const options = { label: '', checkpoint: 'fast', verifyChecksums: true } as const
  const backup = await startBaseBackup(fakeSession(new ReplayingSocket(path), serverVersion), options)
  try {
    return await backup.receive(open(backup.start.tablespaces))
  } finally {
    await backup.close()
  }
}

/** Writes a tar for each archive, and the manifest. */
class TarSink implements BaseBackupSink {
  readonly tars: { readonly path: string; readonly place: string }[] = []
  readonly #directory: string
  #file: number | undefined

  constructor(directory: string) {
    this.#directory = directory
  }

  onArchive({ location, oid }: BackupTablespace): void {
    this.close()
    const name = oid === undefined ? 'data' : String(oid)
    // One in place is a folder of the data directory.
    const folder = oid === undefined || location.startsWith('/') ? name : `data/${location}`
    const path = join(this.#directory, `${name}.tar`)
    this.tars.push({ path, place: join(this.#directory, folder) })
    this.#file = openSync(path, 'w')
  }

  onData(bytes: Buffer): void {
    if (this.#file !== undefined) writeSync(this.#file, bytes)
  }

  onManifest(): void {
    this.close()
    this.#file = openSync(join(this.#directory, 'backup_manifest'), 'w')
  }

  onManifestData(bytes: Buffer): void {
    this.onData(bytes)
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file)
    this.#file = undefined
  }
}

/** See the file's header. */
export class RecordedServer implements BackupSource {
  readonly #server: PgServer
  readonly #path: string
  #version = 0

  /** @param path of the file where the last backup is written down */
  constructor(conninfo: string, path: string) {
    this.#server = new PgServer({ conninfo: parseConninfo(conninfo, { env: {} }) })
    this.#path = path
  }

  /** The last backup. */
  get recording(): Recording {
    return { path: this.#path, serverVersion: this.#version }
  }

  async connect(signal: AbortSignal): Promise<PgSession> {
    const session = await this.#server.connect(signal)
    this.#version = session.serverVersion
    const takeOver = session.takeOver.bind(session)
    session.takeOver = () => new RecordingSocket(takeOver(), this.#path)
    return session
  }

  trySql(session: PgSession, signal?: AbortSignal): Promise<SqlOpening> {
    return this.#server.trySql(session, signal)
  }

  /** Unpacks the last backup as pg_basebackup would have: `<directory>/data`, and each tablespace beside it by its oid. */
  async unpack(directory: string): Promise<void> {
    await mkdir(directory, { recursive: true })
    const sink = new TarSink(directory)
    await replay(this.recording, () => sink)
    sink.close()
    for (const { path, place } of sink.tars) {
      await mkdir(place, { recursive: true })
      await run('tar', ['-xf', path, '-C', place])
      await rm(path)
    }
    await run('mv', [join(directory, 'backup_manifest'), join(directory, 'data/backup_manifest')])
    await rm(this.#path)
    const links = join(directory, 'data/pg_tblspc')
    for (const entry of await readdir(links, { withFileTypes: true })) {
      if (!entry.isSymbolicLink()) continue
      await rm(join(links, entry.name))
      await symlink(join(directory, entry.name), join(links, entry.name))
    }
  }
}
