/** What a server says after the last archive of a backup in which it found a damaged page. */
import { closing, severeMessage, warningMessage } from '../postgres/backup/scripted-backup.ts'
import { readyForQuery } from '../postgres/server-messages.ts'

/** See the file's header. */
export const damaged: readonly Buffer[] = [
  warningMessage('checksum verification failed in file "./base/5/16384", block 1: calculated A1B2 and expected C3D4'),
  ...closing.slice(0, 3),
  severeMessage('ERROR', 'XX001', 'checksum verification failure during base backup'),
  readyForQuery,
]
