/** A server with base backups that a test writes, connection by connection, and the options of a push against it. */
import { setImmediate } from 'node:timers/promises'
import type { PushOptions } from '../../src/backup/backup-push.ts'
import { openWriteCodec } from '../../src/compression/codecs.ts'
import { parseLsn } from '../../src/postgres/lsn.ts'
import type { PgSession } from '../../src/postgres/connect/pg-session.ts'
import type { ByteSocket, ByteSocketHandlers } from '../../src/postgres/protocol/session.ts'
import { WalArchive } from '../../src/walg/wal/wal-archive.ts'
import type { MemoryStorage } from '../harness/store/memory-storage.ts'
import { VirtualClock } from '../harness/time/virtual-clock.ts'
import { closing, copies, opening, type ScriptedArchive } from '../postgres/backup/scripted-backup.ts'
import { RecordingLog } from './recording-log.ts'
import { type ServerFile, serverTar } from './parts/tars.ts'

/** Name of every backup of {@link opening}, and the only segment that it needs. */
export const backup = 'base_000000010000000000000002'
export const segment = '000000010000000000000002'

export const systemId = 7455523487659893045n
export const manifest = Buffer.from('{ "PostgreSQL-Backup-Manifest-Version": 1, "Files": [] }\n')
export const label = Buffer.from('START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n')
export const control = Buffer.alloc(8192, 0x63)

/** The data directory of every backup here. */
export const dataFiles: readonly ServerFile[] = [
  { name: 'backup_label', kind: 'file', content: label },
  { name: 'base', kind: 'directory' },
  { name: 'base/5', kind: 'directory' },
  ...Array.from({ length: 9 }, (_, index): ServerFile => {
    return { name: `base/5/${16384 + index}`, kind: 'file', content: Buffer.alloc(8192 * (index % 4), index) }
  }),
  { name: 'base/5/with \\ and ü', kind: 'file', content: Buffer.from('odd') },
  { name: 'pg_wal', kind: 'directory' },
  { name: 'global/pg_control', kind: 'file', content: control },
]

/** The archive of the data directory. */
export function mainArchive(files: readonly ServerFile[] = dataFiles): ScriptedArchive {
  return { oid: null, location: null, pieces: [serverTar(files)] }
}

/** What happens on one connection. */
export interface BackupScript {
  readonly archives?: readonly ScriptedArchive[]
  /** After the archives; default {@link closing}. */
  readonly end?: readonly Buffer[]
  /** Bytes after which the connection breaks; default never. */
  readonly breaksAfter?: number
  /** Bytes of each read; default 3000. */
  readonly readBytes?: number
  /** Called ahead of each read; may wait. */
  readonly beforeRead?: (at: number) => void | Promise<void>
}

/** Reads into one block of memory, which it leaves alone as long as it is paused, as transport.ts does. */
class ScriptedSocket implements ByteSocket {
  isPaused = false
  isDestroyed = false
  readonly #onQuery: (command: string) => void
  readonly #memory = Buffer.alloc(256 * 1024)
  #handlers: ByteSocketHandlers | undefined

  constructor(onQuery: (command: string) => void) {
    this.#onQuery = onQuery
  }

  start(handlers: ByteSocketHandlers): void {
    this.#handlers = handlers
  }

  write(bytes: Uint8Array): void {
    if (bytes[0] === 0x51) this.#onQuery(Buffer.from(bytes).toString('utf8', 5, bytes.length - 1))
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
  }

  destroy(): void {
    this.close()
  }

  close(error?: Error): void {
    if (this.isDestroyed) return
    this.isDestroyed = true
    queueMicrotask(() => this.#handlers?.onClose(error))
  }

  /** One read. */
  deliver(bytes: Buffer): void {
    if (this.isDestroyed) return
    this.#memory.fill(0xee)
    this.#handlers?.onBytes(this.#memory.subarray(0, bytes.copy(this.#memory)))
  }
}

/** See the file's header. */
export class BackupServer {
  serverVersion = 170_010
  settings: Record<string, string> = {
    wal_segment_size: '16MB',
    block_size: '8192',
    data_checksums: 'on',
    data_directory: '/var/lib/postgresql/17/main',
  }
  /** What the server was asked for. */
  readonly commands: string[] = []
  /** Connections so far, and those that are open. */
  connects = 0
  readonly open = new Set<ByteSocket>()
  /** True while bytes are on their way that nobody holds up. */
  isPlaying = false
  readonly #scripts: BackupScript[]

  /** @param scripts of the first connection, of the second …; the last one goes on */
  constructor(...scripts: readonly BackupScript[]) {
    this.#scripts = [...scripts]
  }

  /** Everything that one connection says. */
  bytes({ archives = [mainArchive()], end = closing }: BackupScript = {}): Buffer {
    const framing = this.serverVersion < 150_000 ? 'plain' : 'tagged'
    return Buffer.concat([...opening(archives), ...copies(framing, archives, [manifest]), ...end])
  }

  async connect(signal: AbortSignal): Promise<PgSession> {
    signal.throwIfAborted()
    const script = this.#scripts[Math.min(this.connects++, this.#scripts.length - 1)] ?? {}
    const socket = new ScriptedSocket((command) => {
      this.commands.push(command)
      void this.#play(socket, script)
    })
    this.open.add(socket)
    const session = {
      host: 'fake:5432',
      serverVersion: this.serverVersion,
      takeOver: () => socket,
      identifySystem: () => Promise.resolve({ systemId, timeline: 1, xlogpos: parseLsn('0/2000000') }),
      show: (name: string) => Promise.resolve(this.settings[name] ?? ''),
      close: () => {
        this.open.delete(socket)
        socket.destroy()
        return Promise.resolve()
      },
    }
    // A class with private fields, and a push knows only these of it.
    return session as unknown as PgSession
  }

  async #play(socket: ScriptedSocket, script: BackupScript): Promise<void> {
    const { beforeRead, breaksAfter = Infinity, readBytes = 3000 } = script
    const whole = this.bytes(script)
    const bytes = whole.subarray(0, Math.min(breaksAfter, whole.length))
    for (let at = 0; at < bytes.length; at += readBytes) {
      await beforeRead?.(at)
      do {
        this.isPlaying = !socket.isPaused && !socket.isDestroyed
        await setImmediate()
      } while (socket.isPaused && !socket.isDestroyed)
      socket.deliver(bytes.subarray(at, at + readBytes))
    }
    this.isPlaying = false
    if (breaksAfter < whole.length) socket.close(new Error('read ECONNRESET'))
  }
}

/** What a push is given; the WAL that it needs is there. */
export function pushOptions<S extends MemoryStorage>(
  server: BackupServer,
  storage: S,
  more: Partial<PushOptions> = {},
): PushOptions & { readonly storage: S; readonly log: RecordingLog } {
  const codec = more.codec ?? openWriteCodec('zstd')
  storage.seed(`wal_005/${segment}.zst`, 'x')
  storage.seed('walrx_005/system.json', `{"SystemIdentifier":${systemId},"WalSegmentSize":16777216}`)
  return {
    server,
    archive: new WalArchive(storage, codec),
    codec,
    clock: new VirtualClock(),
    signal: new AbortController().signal,
    backup: { label: 'x', checkpoint: 'fast', verifyChecksums: true, manifestChecksums: 'CRC32C' },
    partBytesMax: 40_000,
    laneCount: 2,
    isPermanent: false,
    userData: undefined,
    walTimeoutMs: 0,
    ...more,
    storage,
    log: new RecordingLog(),
  }
}

/** Keys that belong to no backup: what is left when a backup leaves nothing. */
export const bystanders: readonly string[] = [`wal_005/${segment}.zst`, 'walrx_005/system.json']
