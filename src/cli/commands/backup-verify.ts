/**
 * `walrx backup-verify NAME`: reads a backup as a restore does, with all that it builds on, checks every file, and writes
 * nothing.
 */
import { selectBackup } from '../../catalog/backups.ts'
import { openStorage } from '../../config/open-storage.ts'
import { formatJson } from '../../primitives/json.ts'
import { readDocuments } from '../../restore/backup/backup-documents.ts'
import { readBackup } from '../../restore/backup/backup-reader.ts'
import { refuseSwitchedChecksums } from '../../restore/backup/checksum-chain.ts'
import { ThreadLanes } from '../../restore/backup/parts/thread-lane.ts'
import { nowhere } from '../../restore/backup/restore-sink.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { chainNames, chainTitle, countsText, storedBytes } from '../terminal/chain-text.ts'
import type { Command } from '../command.ts'
import { openProgress } from '../terminal/progress.ts'
import { StoreWaits } from '../terminal/store-waits.ts'

/** See the file's header. */
export const backupVerify: Command<'backup-verify', 'name'> = {
  name: 'backup-verify',
  positionals: [{ name: 'name', help: 'name of the backup, or LATEST' }],
  examples: [{ call: 'walrx backup-verify LATEST', means: 'read the newest backup and check every file of it' }],
  async run({ log, options, positionals, settings, signals, stderr, stdout }) {
    const waits = new StoreWaits(log)
    const storage = await openStorage(options, waits.onTrouble)
    const signal = signals.drain
    try {
      const archive = new BackupArchive(storage)
      const { name, notes } = await selectBackup(archive, positionals.name, { signal })
      for (const note of notes) log.warn(note)
      const documents = await readDocuments(storage, archive, name, signal)
      await refuseSwitchedChecksums(archive, documents, { signal })
      const totalBytes = storedBytes(documents)
      const progress = await openProgress({
        what: 'verify',
        stream: stderr,
        environment: settings.environment,
        log,
        waits,
      })
      try {
        const summary = await readBackup({
          storage,
          documents,
          sink: nowhere,
          concurrency: Math.min(options.downloadConcurrency, 4),
          openLane: new ThreadLanes(false).open,
          log,
          signal,
          onProgress: (bytes) => progress.update(bytes, totalBytes),
          beforeControl: async () => {},
        })
        progress.stop()
        const backups = chainNames(documents)
        if (options.json) stdout.write(`${formatJson({ backup_name: name, status: 'OK', backups, ...summary })}\n`)
        else {
          const which = summary.increments > 0 ? 'each whole file' : 'each file'
          const how = summary.checked
            ? `${which} as the server's manifest says`
            : `without a manifest: only that every file is there${summary.increments > 0 ? ' and every increment sound' : ''}`
          stdout.write(`${chainTitle(documents)} is whole: ${countsText(summary)}, ${how}\n`)
        }
        return 0
      } finally {
        progress.stop()
      }
    } finally {
      await storage.close()
    }
  },
}
