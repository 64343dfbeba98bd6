/** A name, or LATEST with a recovery target, turned into the backup to restore, with the checks that need no part of it. */
import { listInOrder, notesOnLatest } from '../../catalog/backup-order.ts'
import { latest, selectBackup } from '../../catalog/backups.ts'
import { type Logger, silentLog } from '../../observe/log.ts'
import { type ErrorCode, hasCode, WalrxError } from '../../primitives/errors.ts'
import { type BackupDocuments, readDocuments } from '../../restore/backup/backup-documents.ts'
import { refuseSwitchedChecksums } from '../../restore/backup/checksum-chain.ts'
import { chooseBackup, recoveryBackup } from '../../restore/recovery/recovery-backup.ts'
import { checkReachable, type ReachabilityCheck } from '../../restore/recovery/recovery-check.ts'
import type { RecoveryRequest } from '../../restore/recovery/recovery-request.ts'
import { Histories } from '../../restore/recovery/recovery-timelines.ts'
import type { Storage } from '../../storage/storage.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'

/** What is asked for; not whole where only some files of it are. */
export interface AskedBackup {
  readonly name: string
  readonly request: RecoveryRequest
  readonly isWhole: boolean
}

/** What {@link backupToRestore} needs. */
export interface BackupToRestoreOptions {
  readonly storage: Storage
  readonly asked: AskedBackup
  /** The same command with the name of a backup, for the shell. */
  readonly again: (name: string) => string
  readonly log: Logger
  readonly signal: AbortSignal
}

/** The least that every restored backup needs: the WAL up to where it is consistent. */
const toItsEnd = { target: { kind: 'immediate' }, inclusive: true, timeline: 'current' } as const

/** What makes one backup unusable, and need not make another so. */
const faults: readonly ErrorCode[] = [
  'WALRX_BACKUP_DAMAGED',
  'WALRX_BACKUP_NOT_FOUND',
  'WALRX_BACKUP_UNSUPPORTED',
  'WALRX_OBJECT_DAMAGED',
  'WALRX_TARGET_UNREACHABLE',
]

function isFault(error: unknown): error is WalrxError {
  return faults.some((code) => hasCode(error, code))
}

/** How many backups are tried for the message: each costs a look at its documents and its WAL. */
const nextBestMax = 5

/**
 * Finds the backup, and checks it.
 * @throws WALRX_BACKUP_NOT_FOUND, WALRX_BACKUP_DAMAGED, WALRX_TARGET_UNREACHABLE and what else reading throws; of LATEST
 * with the backup to restore in its place, where there is one
 */
export async function backupToRestore(options: BackupToRestoreOptions): Promise<BackupDocuments> {
  const { again, asked, log, signal, storage } = options
  const archive = new BackupArchive(storage)
  const choice = new Choice(options, archive)
  if (asked.name !== latest) return choice.check((await selectBackup(archive, asked.name, { signal })).name)
  const inOrder = await listInOrder(archive, { signal })
  for (const note of notesOnLatest(inOrder)) log.warn(note)
  // Reports an archive without backups.
  if (inOrder.length === 0) await selectBackup(archive, latest, { signal })
  const names = inOrder.map((backup) => backup.name).reverse()
  try {
    return await choice.check(await choice.first(names))
  } catch (error) {
    if (!isFault(error)) throw error
    const instead = await choice.nextBest(choice.after(names))
    if (instead === undefined) throw error
    const { name, obstacle } = instead
    const way = `${name} is the next best, and can be restored`
    const rest = obstacle ? `${way}, but not to the end: ${obstacle}` : `${way}: ${again(name)}`
    const hint = `${error.hint === undefined ? '' : `${error.hint}; `}${rest}`
    throw new WalrxError(error.code, error.message, { hint, cause: error })
  }
}

/** See the file's header. */
class Choice {
  readonly #options: BackupToRestoreOptions
  readonly #archive: BackupArchive
  readonly #reader: WalReader
  readonly #histories: Histories
  /** The backup that was looked at last. */
  #tried = ''

  constructor(options: BackupToRestoreOptions, archive: BackupArchive) {
    this.#options = options
    this.#archive = archive
    this.#reader = new WalReader(options.storage)
    this.#histories = new Histories(this.#reader)
  }

  /** The first that fits what is asked for. Throws WALRX_TARGET_UNREACHABLE where none does. @param names newest first */
  async first(names: readonly string[]): Promise<string> {
    const { request } = this.#options.asked
    const { signal } = this.#options
    this.#tried = names[0] ?? ''
    if (!request.recover) return this.#tried
    const load = async (name: string) => {
      this.#tried = name
      return recoveryBackup(name, await this.#archive.readSentinel(name, { signal }))
    }
    return (await chooseBackup({ names, load, histories: this.#histories, request, signal })).name
  }

  /** Those after the one that was looked at last. */
  after(names: readonly string[]): readonly string[] {
    return names.slice(names.indexOf(this.#tried) + 1)
  }

  /**
   * The first that can be restored as it is asked for; else the first that has the WAL which it needs itself, with what is
   * in the way after that. Undefined where neither is found.
   * @param names newest first
   */
  async nextBest(names: readonly string[]): Promise<{ readonly name: string; readonly obstacle?: string } | undefined> {
    let left = names
    let partly: { readonly name: string; readonly obstacle: string } | undefined
    for (let tried = 0; tried < nextBestMax && left.length > 0; tried++) {
      try {
        const name = await this.first(left)
        await this.check(name, silentLog, toItsEnd)
        await this.check(name, silentLog)
        return { name }
      } catch (error) {
        if (!isFault(error)) throw error
        partly ??= await this.#partly(error)
      }
      left = this.after(left)
    }
    return partly
  }

  /** The backup that was looked at last, where it could be restored but for what the error says. */
  async #partly({
    hint,
    message,
  }: WalrxError): Promise<{ readonly name: string; readonly obstacle: string } | undefined> {
    const { recover, target } = this.#options.asked.request
    if (!recover || target) return undefined
    try {
      await this.check(this.#tried, silentLog, toItsEnd)
      return { name: this.#tried, obstacle: hint === undefined ? message : `${message}; ${hint}` }
    } catch (error) {
      if (!isFault(error)) throw error
      return undefined
    }
  }

  /**
   * @param asFarAs how far the WAL must be there; by default as far as is asked for, and without a recovery a warning
   * says where the backup's own is missing
   */
  async check(name: string, log = this.#options.log, asFarAs?: typeof toItsEnd): Promise<BackupDocuments> {
    const { asked, signal, storage } = this.#options
    const { isWhole, request } = asked
    const documents = await readDocuments(storage, this.#archive, name, signal)
    if (!isWhole) return documents
    await refuseSwitchedChecksums(this.#archive, documents, { signal })
    const backup = recoveryBackup(name, documents.sentinel)
    if (!backup) {
      const message =
        'the sentinel has no start or end LSN: walrx cannot check that the WAL of the backup is in the archive'
      log.warn(message, { name })
      return documents
    }
    const check = { reader: this.#reader, backup, histories: this.#histories, signal }
    if (asFarAs) await checkReachable({ ...check, request: asFarAs })
    else if (request.recover) {
      const { warnings } = await checkReachable({ ...check, request })
      for (const warning of warnings) log.warn(warning)
    } else await warnOfLackingWal(check, log)
    return documents
  }
}

/** Without a recovery by walrx the WAL may come from elsewhere: this is a warning, and no error. */
async function warnOfLackingWal(check: Omit<ReachabilityCheck, 'request'>, log: Logger): Promise<void> {
  try {
    await checkReachable({ ...check, request: toItsEnd })
  } catch (error) {
    if (!hasCode(error, 'WALRX_TARGET_UNREACHABLE')) throw error
    log.warn('the archive lacks WAL that the backup needs to start', {
      because: error.message,
      hint: 'give the restored server that WAL by another restore_command, or restore an earlier backup',
    })
  }
}
