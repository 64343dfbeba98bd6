/** A server whose base backups are written down as it sends them, so that PostgreSQL's own tools can read them too. */
import { execFile } from 'node:child_process'
import { mkdir, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { BackupSource } from '../../src/backup/backup-begin.ts'
import { startBaseBackup } from '../../src/postgres/base-backup.ts'
import { parseConninfo } from '../../src/postgres/conninfo.ts'
import { PgServer } from '../../src/postgres/connection.ts'
import type { PgSession } from '../../src/postgres/pg-session.ts'
import type { ByteSocket, ByteSocketHandlers } from '../../src/postgres/session.ts'
import type { SqlOpening } from '../../src/postgres/sql-connection.ts'
import { FakeSocket } from '../postgres/fake-socket.ts'
import { fakeSession, RecordingSink } from '../postgres/scripted-backup.ts'

const run = promisify(execFile)

/** Keeps a copy of everything that is read. */
class RecordingSocket implements ByteSocket {
  readonly read: Buffer[] = []
  readonly #socket: ByteSocket

  constructor(socket: ByteSocket) {
    this.#socket = socket
  }

  start(handlers: ByteSocketHandlers): void {
    this.#socket.start({
      onBytes: (chunk) => {
        this.read.push(Buffer.from(chunk))
        handlers.onBytes(chunk)
      },
      onClose: (error) => handlers.onClose(error),
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
    this.#socket.destroy()
  }
}

/** See the file's header. */
export class RecordedServer implements BackupSource {
  readonly #server: PgServer
  #last: RecordingSocket | undefined
  #version = 0

  constructor(conninfo: string) {
    this.#server = new PgServer({ conninfo: parseConninfo(conninfo, { env: {} }) })
  }

  async connect(signal: AbortSignal): Promise<PgSession> {
    const session = await this.#server.connect(signal)
    this.#version = session.serverVersion
    const takeOver = session.takeOver.bind(session)
    session.takeOver = () => (this.#last = new RecordingSocket(takeOver()))
    return session
  }

  trySql(session: PgSession, signal?: AbortSignal): Promise<SqlOpening> {
    return this.#server.trySql(session, signal)
  }

  /** Unpacks the last backup as pg_basebackup would have: `<directory>/data`, and each tablespace beside it by its oid. */
  async unpack(directory: string): Promise<void> {
    const socket = new FakeSocket()
    const pending = startBaseBackup(fakeSession(socket, this.#version), {
      label: '',
      checkpoint: 'fast',
      verifyChecksums: true,
    })
    for (const bytes of this.#last?.read ?? []) socket.deliver(bytes)
    const sink = new RecordingSink()
    await (await pending).receive(sink)
    for (const { pieces, tablespace } of sink.archives) {
      const place = join(directory, tablespace.oid === undefined ? 'data' : String(tablespace.oid))
      const tar = `${place}.tar`
      await mkdir(place, { recursive: true })
      await writeFile(tar, pieces)
      await run('tar', ['-xf', tar, '-C', place])
      await rm(tar)
    }
    await writeFile(join(directory, 'data/backup_manifest'), sink.manifest)
    const links = join(directory, 'data/pg_tblspc')
    for (const oid of await readdir(links)) {
      await readlink(join(links, oid))
      await rm(join(links, oid))
      await symlink(join(directory, oid), join(links, oid))
    }
  }
}
