/** Backups that build on the newest where they can, pushed without a command line. */
import type { BackupSource } from '../../../src/backup/backup-begin.ts'
import { pushBackup, type PushedBackup } from '../../../src/backup/backup-push.ts'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { type Logger, silentLog } from '../../../src/observe/log.ts'
import { systemClock } from '../../../src/primitives/clock.ts'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import { WalArchive } from '../../../src/walg/wal/wal-archive.ts'
import { archiveFolders } from '../../../src/walg/names.ts'

/** What differs between such backups. */
export interface DeltaPush {
  readonly codec?: Parameters<typeof openWriteCodec>[0]
  readonly log?: Logger
  readonly maxSteps?: number
  readonly partBytesMax?: number
  readonly verifyChecksums?: boolean
  /** Default: the backup's WAL is not waited for. */
  readonly walTimeoutMs?: number
}

/** @param root the directory of the archive */
export function pushDelta(server: BackupSource, root: string, options: DeltaPush = {}): Promise<PushedBackup> {
  const { log = silentLog, maxSteps = 9, partBytesMax = 1024 ** 3, verifyChecksums = true, walTimeoutMs } = options
  const codec = openWriteCodec(options.codec ?? 'zstd')
  const storage = new FileStorage({ folders: archiveFolders, root, fsync: false })
  return pushBackup({
    server,
    storage,
    archive: new WalArchive(storage, codec),
    codec,
    clock: systemClock,
    log,
    signal: new AbortController().signal,
    backup: { label: 'x', checkpoint: 'fast', verifyChecksums, manifestChecksums: 'CRC32C' },
    delta: { full: false, maxSteps, origin: 'LATEST', fromName: undefined, fromUserData: undefined },
    partBytesMax,
    isPermanent: false,
    userData: undefined,
    walTimeoutMs,
  })
}
