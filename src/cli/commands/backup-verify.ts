/**
 * `walrx backup-verify NAME`: reads a backup as a restore does, with all that it builds on, and checks every file. The
 * result is recorded in the archive, where that can be written.
 */
import { selectBackup } from '../../catalog/backups.ts'
import { openStorage } from '../../config/open-storage.ts'
import { systemClock } from '../../primitives/clock.ts'
import { hasCode } from '../../primitives/errors.ts'
import { formatJson } from '../../primitives/json/json.ts'
import { packageVersion } from '../../primitives/version.ts'
import { type BackupDocuments, chainOf, readDocuments } from '../../restore/backup/backup-documents.ts'
import { readBackup, type ReadSummary } from '../../restore/backup/backup-reader.ts'
import { refuseSwitchedChecksums } from '../../restore/backup/checksum-chain.ts'
import { ThreadLanes } from '../../restore/backup/parts/thread-lane.ts'
import { nowhere } from '../../restore/backup/restore-sink.ts'
import type { Storage } from '../../storage/storage.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { formatBackupTime } from '../../walg/backup/backup-time.ts'
import { putVerification, type Verification, type VerifiedBackup } from '../../walg/backup/verification.ts'
import { chainNames, chainTitle, countsText, storedBytes } from '../terminal/chain-text.ts'
import type { Command, CommandContext } from '../command.ts'
import { openProgress } from '../terminal/progress.ts'
import { StoreWaits } from '../terminal/store-waits.ts'

type Context = CommandContext<'backup-verify', 'name'>

/** See the file's header. */
export const backupVerify: Command<'backup-verify', 'name'> = {
  name: 'backup-verify',
  positionals: [{ name: 'name', help: 'name of the backup, or LATEST' }],
  examples: [{ call: 'walrx backup-verify LATEST', means: 'read the newest backup and check every file of it' }],
  async run(context) {
    const { log, options, positionals, signals, stdout } = context
    const waits = new StoreWaits(log)
    const storage = await openStorage(options, waits.onTrouble)
    const signal = signals.drain
    try {
      const archive = new BackupArchive(storage)
      const { name, notes } = await selectBackup(archive, positionals.name, { signal })
      for (const note of notes) log.warn(note)
      let documents: BackupDocuments | undefined
      try {
        documents = await readDocuments(storage, archive, name, signal)
        await refuseSwitchedChecksums(archive, documents, { signal })
        const summary = await readAll(storage, documents, context, waits)
        await record(storage, { backups: chainOf(documents).map(identityOf), bytes: summary.bytes }, context)
        stdout.write(options.json ? toJson(name, documents, summary) : toText(documents, summary))
        return 0
      } catch (error) {
        if (hasCode(error, 'WALRX_BACKUP_DAMAGED')) {
          const backups = documents ? chainOf(documents).map(identityOf) : await readChain(archive, name, signal)
          await record(storage, { backups, bytes: 0, problem: error.message }, context)
        }
        throw error
      }
    } finally {
      await storage.close()
    }
  },
}

/** Reads and checks all files, and shows how far it is. */
async function readAll(
  storage: Storage,
  documents: BackupDocuments,
  { log, options, settings, signals, stderr }: Context,
  waits: StoreWaits,
): Promise<ReadSummary> {
  const totalBytes = storedBytes(documents)
  const { environment } = settings
  const progress = await openProgress({ what: 'verify', stream: stderr, environment, log, waits })
  try {
    return await readBackup({
      storage,
      documents,
      sink: nowhere,
      concurrency: Math.min(options.downloadConcurrency, 4),
      openLane: new ThreadLanes(false).open,
      log,
      signal: signals.drain,
      onProgress: (bytes) => progress.update(bytes, totalBytes),
      beforeControl: async () => {},
    })
  } finally {
    progress.stop()
  }
}

function identityOf({ name, sentinel }: Pick<BackupDocuments, 'name' | 'sentinel'>): VerifiedBackup {
  return { name, startLsn: sentinel.startLsn, startTime: sentinel.startTime }
}

/** What a damaged backup is and builds on, as far as the sentinels can be read: the full one first. */
async function readChain(archive: BackupArchive, name: string, signal: AbortSignal): Promise<VerifiedBackup[]> {
  const chain: VerifiedBackup[] = []
  for (let next: string | undefined = name; next !== undefined && !chain.some((each) => each.name === next);) {
    const current: string = next
    try {
      const sentinel = await archive.readSentinel(current, { signal })
      chain.unshift(identityOf({ name: current, sentinel }))
      next = sentinel.delta?.parentName
    } catch (error) {
      if (!hasCode(error, 'WALRX_OBJECT_DAMAGED') && !hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
      if (chain.length === 0) chain.unshift({ name: current, startLsn: undefined, startTime: undefined })
      break
    }
  }
  return chain
}

/** Records a result. A key that may only read is enough to verify: nothing that fails here fails the command. */
async function record(
  storage: Storage,
  { problem, ...found }: Pick<Verification, 'backups' | 'bytes'> & { readonly problem?: string },
  { log, options, signals }: Context,
): Promise<void> {
  if (!options.record) return
  const verification: Verification = {
    ...found,
    verifiedAt: formatBackupTime(systemClock.now()),
    walrxVersion: packageVersion(),
    result: problem === undefined ? 'whole' : 'damaged',
    problem,
  }
  try {
    await putVerification(storage, verification, { signal: signals.drain })
  } catch (error) {
    signals.drain.throwIfAborted()
    const level = hasCode(error, 'WALRX_STORAGE_DENIED') ? 'info' : 'warn'
    log[level]('the result is not recorded in the archive', { error: (error as Error).message })
  }
}

function toJson(name: string, documents: BackupDocuments, summary: ReadSummary): string {
  return `${formatJson({ backup_name: name, status: 'OK', backups: chainNames(documents), ...summary })}\n`
}

function toText(documents: BackupDocuments, summary: ReadSummary): string {
  const which = summary.increments > 0 ? 'each whole file' : 'each file'
  const how = summary.checked
    ? `${which} as the server's manifest says`
    : `without a manifest: only that every file is there${summary.increments > 0 ? ' and every increment sound' : ''}`
  return `${chainTitle(documents)} is whole: ${countsText(summary)}, ${how}\n`
}
