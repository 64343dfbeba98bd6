/**
 * Has the server read every page of its data directory and verify its checksum, and send nothing: BASE_BACKUP with
 * TARGET 'blackhole' (basebackup_target.c of 15 and later).
 */
import type { Logger } from '../observe/log.ts'
import { WalrxError } from '../primitives/errors.ts'
import { BackupChecksumError, type BaseBackup, startBaseBackup } from '../postgres/backup/base-backup.ts'
import type { BaseBackupSink } from '../postgres/backup/base-backup-sink.ts'
import type { ChecksumFailure } from '../postgres/backup/checksum-failures.ts'
import { readClusterFacts } from '../postgres/backup/cluster-facts.ts'
import type { PgSession } from '../postgres/connect/pg-session.ts'

/** What {@link scrub} is to do. */
export interface ScrubOptions {
  readonly server: { connect(signal: AbortSignal): Promise<PgSession> }
  readonly checkpoint: 'fast' | 'spread'
  /** kB/s; undefined for no limit. */
  readonly maxRateKb: number | undefined
  readonly log: Logger
  readonly signal: AbortSignal
  /** Called with the bytes that the server has read, and its own estimate of all. */
  readonly onProgress: (doneBytes: number, totalBytes: number | undefined) => void
}

/** What the server found. */
export interface ScrubResult {
  readonly host: string
  readonly systemId: bigint
  /** Bytes that it read, as far as it has reported: it does so once a second, and at the end of each tablespace. */
  readonly bytes: number
  /** Damaged files; empty for a cluster that is well. */
  readonly failures: readonly ChecksumFailure[]
}

/**
 * Reads the whole cluster, on the server.
 * @throws WALRX_SERVER_UNSUPPORTED for PostgreSQL 14 and for a cluster without checksums, and what the server says
 */
export async function scrub(options: ScrubOptions): Promise<ScrubResult> {
  const { log, maxRateKb, onProgress, server, signal } = options
  const session = await server.connect(signal)
  try {
    const { checksums, serverVersion, systemId } = await readClusterFacts(session)
    const { host } = session
    if (serverVersion < 150_000) {
      throw new WalrxError('WALRX_SERVER_UNSUPPORTED', `${host} is too old: a scrub needs PostgreSQL 15 or later`, {
        hint: 'a backup reads every page too: walrx backup-push --verify',
      })
    }
    if (checksums !== 'on') {
      throw new WalrxError('WALRX_SERVER_UNSUPPORTED', `the pages of ${host} have no checksums to verify`, {
        hint: 'pg_checksums --enable adds them to a cluster that is shut down',
      })
    }
    log.info('asking the server to read everything: it writes a checkpoint first', { host })
    const backup = await startBaseBackup(
      session,
      {
        label: 'walrx scrub',
        checkpoint: options.checkpoint,
        ...(maxRateKb === undefined ? {} : { maxRateKb }),
        verifyChecksums: true,
        target: 'blackhole',
      },
      signal,
    )
    const sizes = backup.start.tablespaces.map(({ sizeBytes }) => sizeBytes ?? 0)
    const total = sizes.reduce((sum, size) => sum + size, 0)
    let bytes = 0
    const sink: BaseBackupSink = {
      ...nothingComes,
      onProgress: (done) => {
        bytes = done
        onProgress(done, total)
      },
      onNotice: (notice) => log.warn('the server says', { severity: notice['S'], message: notice['M'] }),
    }
    const failures = await failuresOf(backup, sink, signal)
    return { host, systemId, failures, bytes }
  } finally {
    await session.close()
  }
}

/** The server announces archives all the same. */
const nothingComes = { onArchive: () => {}, onData: () => {}, onManifest: () => {}, onManifestData: () => {} }

async function failuresOf(
  backup: BaseBackup,
  sink: BaseBackupSink,
  signal: AbortSignal,
): Promise<readonly ChecksumFailure[]> {
  try {
    await backup.receive(sink, signal)
    return []
  } catch (error) {
    if (error instanceof BackupChecksumError) return error.failures
    throw error
  } finally {
    await backup.close()
  }
}
