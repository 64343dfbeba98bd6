/** `walrx backup-push`: a full backup, or a delta, over a replication connection. */
import { describeBackup, pushBackup, type PushedBackup, type PushOptions } from '../../backup/backup-push.ts'
import { openCodec, openStorage } from '../../config/open-storage.ts'
import type { OptionValues } from '../../config/options/options.ts'
import type { BackupMetricsFile } from '../../observe/backup-metrics.ts'
import type { Logger } from '../../observe/log.ts'
import { systemClock } from '../../primitives/clock.ts'
import { formatJson, type JsonValue } from '../../primitives/json/json.ts'
import { WalArchive } from '../../walg/wal/wal-archive.ts'
import type { Command } from '../command.ts'
import { checkGivenDirectory } from '../settings/given-directory.ts'
import { deltaRulesOf, parseUserData } from '../settings/delta-rules.ts'
import { openProgress } from '../terminal/progress.ts'
import { StoreWaits } from '../terminal/store-waits.ts'
import { serverOf } from '../settings/server-of.ts'

/** See the file's header. */
export const backupPush: Command<'backup-push', never, 'pgdata'> = {
  name: 'backup-push',
  positionals: [],
  optionals: [
    { name: 'pgdata', help: "the server's data directory, to compare it with the server; no file of it is read" },
  ],
  examples: [
    {
      call: 'walrx backup-push --dbname "host=db1 user=walrx" --s3-prefix s3://backups/db1',
      means: 'back db1 up; wal-receive has to run beside it',
    },
    {
      call: 'walrx backup-push -d service=db1 --permanent --max-rate 50MB',
      means: 'a permanent backup, at 50 MB per second at most; pg_service.conf has the connection',
    },
    {
      call: 'walrx backup-push -d service=db1 --delta-max-steps 6',
      means: 'only what has changed since the newest backup; every seventh backup is a full one',
    },
    {
      call: 'walrx backup-push -d service=db1 --delta-max-steps 6 --dry-run',
      means: 'show whether that would be a delta, and how large',
    },
  ],
  async run(context) {
    const { log, options, positionals, settings, signals, stderr, stdout } = context
    const server = serverOf(context, true)
    await checkGivenDirectory(positionals.pgdata, server, { log, signal: signals.drain })
    if (options.dryRun) return (await import('./backup-plan.ts')).runPlan(context)
    const codec = openCodec(options)
    const userData = parseUserData(options.userData)
    const waits = new StoreWaits(log)
    const storage = await openStorage(options, waits.onTrouble)
    const signal = signals.drain
    try {
      await storage.keyring?.keys()
      const progress = await openProgress({
        what: 'backup',
        stream: stderr,
        environment: settings.environment,
        log,
        waits,
      })
      const metrics = await openMetrics(options.metricsFile, log)
      let pushed: PushedBackup | undefined
      try {
        pushed = await pushBackup({
          server,
          storage,
          archive: new WalArchive(storage, codec),
          codec,
          clock: systemClock,
          log,
          signal,
          backup: requestOf(options),
          delta: deltaRulesOf(options),
          requireIncremental: options.requireIncremental,
          partBytesMax: options.tarSizeThreshold,
          isPermanent: options.permanent,
          userData,
          walTimeoutMs: options.waitForWal ? options.walTimeoutMs : undefined,
          onProgress: ({ receivedBytes, totalBytes }) => {
            progress.update(receivedBytes, totalBytes)
            metrics?.progress(receivedBytes, totalBytes)
          },
        })
        progress.stop()
        if (options.json) stdout.write(`${formatJson(toJson(pushed))}\n`)
        else stdout.write(`${describeBackup(pushed)}\n`)
        return 0
      } finally {
        progress.stop()
        await metrics?.end(
          pushed && {
            storedBytes: Number(pushed.sentinel.compressedSize),
            files: pushed.files,
            damagedFiles: pushed.checksumFailures.length,
          },
        )
      }
    } finally {
      await storage.close()
    }
  },
  whatIsLeft: () => 'no backup is listed; what was stored of it is removed, at the latest by the next backup-push',
}

/** What is asked of the server. */
function requestOf(options: OptionValues<'backup-push'>): PushOptions['backup'] {
  return {
    label: options.backupLabel,
    checkpoint: options.checkpoint,
    verifyChecksums: options.verifyChecksums,
    acceptChecksumFailures: options.acceptChecksumFailures,
    manifestChecksums: 'CRC32C',
    ...(options.maxRateBytes === undefined ? {} : { maxRateKb: Math.floor(options.maxRateBytes / 1024) }),
  }
}

async function openMetrics(path: string | undefined, log: Logger): Promise<BackupMetricsFile | undefined> {
  if (path === undefined) return undefined
  const { BackupMetricsFile } = await import('../../observe/backup-metrics.ts')
  return BackupMetricsFile.begin(
    path,
    () => Date.now(),
    (error) => {
      log.warn('the metrics file cannot be written: the backup goes on without it', {
        file: path,
        error: error.message,
      })
    },
  )
}

function toJson({ checksumFailures, files, full, leftOut, name, parts, sentinel }: PushedBackup): JsonValue {
  return {
    backup_name: name,
    start_lsn: sentinel.startLsn ?? null,
    finish_lsn: sentinel.finishLsn ?? null,
    start_time: sentinel.startTime ?? null,
    finish_time: sentinel.finishTime ?? null,
    uncompressed_size: sentinel.uncompressedSize,
    compressed_size: sentinel.compressedSize,
    is_permanent: sentinel.isPermanent,
    delta_from: sentinel.delta?.parentName ?? null,
    full_because: full ? { code: full.code, message: full.message } : null,
    parts,
    files,
    checksum_failures: checksumFailures.map(({ blocks, count, file }) => ({ file, blocks: [...blocks], count })),
    left_out: [...leftOut.paths],
    outside: leftOut.outside,
  }
}
