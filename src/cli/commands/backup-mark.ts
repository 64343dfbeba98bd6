/** `walrx backup-mark NAME`: marks a backup as one to keep, for WAL-G, for WAL-RUS and for walrx. */
import { type MarkOutcome, markBackup } from '../../catalog/backup-mark.ts'
import { openStorage } from '../../config/open-storage.ts'
import type { Logger } from '../../observe/log.ts'
import { systemClock } from '../../primitives/clock.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import type { Command } from '../command.ts'

/** See the file's header. */
export const backupMark: Command<'backup-mark', 'name'> = {
  name: 'backup-mark',
  positionals: [{ name: 'name', help: 'name of a backup, or LATEST' }],
  examples: [
    { call: 'walrx backup-mark LATEST', means: 'keep the newest backup, and all that it builds on' },
    { call: 'walrx backup-mark -i base_000000010000000000000002', means: 'take the mark of this one away' },
  ],
  async run({ log, options, positionals, signals, stdout }) {
    const storage = await openStorage(options)
    try {
      const archive = new BackupArchive(storage)
      const permanent = !options.impermanent
      const outcome = await markBackup(
        { storage, archive, clock: systemClock, signal: signals.drain },
        { name: positionals.name, permanent, rewriteSentinels: options.rewriteSentinels },
      )
      report(outcome, permanent, log)
      stdout.write(toText(outcome, permanent))
      return 0
    } finally {
      await storage.close()
    }
  },
}

function report({ backup, finished, left }: MarkOutcome, permanent: boolean, log: Logger): void {
  for (const note of backup.notes) log.warn(note)
  if (finished) log.info('sentinels of an interrupted backup-mark were written', { backups: finished.names })
  if (left.length === 0 || !permanent) return
  log.warn('the mark is in metadata.json only: WAL-G and walrx read it there, WAL-RUS reads the sentinel', {
    backups: left,
    hint: 'for WAL-RUS, run backup-mark again with --rewrite-sentinels: LATEST stays the same backup',
  })
}

function toText({ backup, metadata, sentinels }: MarkOutcome, permanent: boolean): string {
  const word = permanent ? 'permanent' : 'impermanent'
  const changed = [...new Set([...metadata, ...sentinels.marked])]
  if (changed.length === 0) return `${backup.name} was ${word} already\n`
  return changed.map((name) => `${name} is ${word}\n`).join('')
}
