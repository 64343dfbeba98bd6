/** `walrx backup-finish NAME`: the sentinel for a backup that waits for its WAL. */
import { finishBackup } from '../../backup/backup-finish.ts'
import { Intent } from '../../backup/intent.ts'
import { segmentsFromTo } from '../../backup/wal-wait.ts'
import { openStorage } from '../../config/open-storage.ts'
import { systemClock } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { parseBackupName } from '../../walg/backup/backup-names.ts'
import { readIntent } from '../../walg/backup/intent-document.ts'
import { readSystem } from '../../walg/wal/system-marker.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'
import { StoreWaits } from '../terminal/store-waits.ts'
import type { Command } from '../command.ts'

/** For the first archives: their binding does not say it. */
const defaultSegmentSize = 16 * 1024 * 1024

/** See the file's header. */
export const backupFinish: Command<'backup-finish', 'name'> = {
  name: 'backup-finish',
  positionals: [{ name: 'name', help: 'name of the backup, as backup-push printed it' }],
  examples: [
    { call: 'walrx backup-finish base_000000010000000000000004', means: 'complete it once its WAL is archived' },
  ],
  async run({ log, options, positionals, signals, stdout }) {
    const { name } = positionals
    const signal = signals.drain
    const waits = new StoreWaits(log)
    const storage = await openStorage(options, waits.onTrouble)
    try {
      // A name that could not be one is the name of no backup.
      const content = parseBackupName(name) && (await readIntent(storage, name, signal))
      const system = await readSystem(storage, { signal })
      if (content?.sentinel === undefined || !content.segments || !system) {
        throw new WalrxError(
          'WALRX_BACKUP_NOT_FOUND',
          `no backup "${name}" waits to be completed at ${storage.location}`,
          {
            hint: 'only a backup with all of its data in the archive can be completed: take a new one with walrx backup-push',
          },
        )
      }
      const { segmentSize = defaultSegmentSize } = system
      const intent = await Intent.adopt(storage, name, content, systemClock)
      try {
        await finishBackup({
          storage,
          archive: new WalReader(storage),
          intent,
          segments: segmentsFromTo(content.segments, segmentSize),
          segmentSize,
          walTimeoutMs: options.walTimeoutMs,
          clock: systemClock,
          log,
          signal,
        })
      } finally {
        await intent.leave()
      }
      stdout.write(`${name} is complete\n`)
      return 0
    } finally {
      await storage.close()
    }
  },
  whatIsLeft: ({ positionals }) => `the backup still waits: run walrx backup-finish ${positionals.name} again`,
}
