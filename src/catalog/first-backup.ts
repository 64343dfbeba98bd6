/**
 * The backup from which on WAL has to be there: the earliest in a timeline's history that is not permanent, as for
 * WAL-G's wal-verify (a permanent one is often kept without the WAL after it), or one by its name.
 */
import { WalrxError } from '../primitives/errors.ts'
import { segmentNumber } from '../postgres/lsn.ts'
import type { TimelineChain } from '../postgres/wal/timeline-chain.ts'
import { parseSegmentName } from '../postgres/wal/wal-file.ts'
import type { StorageCallOptions } from '../storage/storage.ts'
import type { BackupArchive, ListedBackup } from '../walg/backup/backup-archive.ts'
import { parseBackupName } from '../walg/backup/backup-names.ts'
import { isPermanent, readDetail, selectBackup } from './backups.ts'
import { describeBroken, problemOfChain } from './chains.ts'

/** See the file's header. */
export interface FirstBackup {
  /** Undefined where there is none. */
  readonly name: string | undefined
  /** Its first segment; 1 without a backup, the first segment of any cluster. */
  readonly segno: bigint
  /** What the operator should know of the choice: messages for the log. */
  readonly notes: readonly string[]
}

/**
 * Whether anything can be restored: the question to which the check of the WAL is no answer.
 * @param first the backup from which the check begins, and whether that is the only one that counts
 * @returns what is wrong, for people: nothing can be restored; and messages for the log
 * @throws what the storage says
 */
export async function checkUse(
  archive: BackupArchive,
  first: { readonly name: string | undefined; readonly isAsked: boolean },
  options?: StorageCallOptions,
): Promise<{ readonly problem?: string; readonly notes: readonly string[] }> {
  const names = (await archive.listBackups(options)).map(({ name }) => name)
  if (names.length === 0) return { problem: 'there is no backup: nothing can be restored', notes: [] }
  const own = first.name === undefined ? undefined : await problemOfChain(archive, first.name, options)
  if (own === undefined && first.name !== undefined) return { notes: [] }
  const why = own === undefined ? '' : describeBroken({ name: first.name ?? '', problem: own })
  if (first.isAsked) return { problem: why, notes: [] }
  for (const name of names.reverse()) {
    if (name === first.name || (await problemOfChain(archive, name, options)) !== undefined) continue
    return { notes: why === '' ? [] : [`${why}; the check begins there all the same, as WAL-G's does`] }
  }
  return { problem: `no backup can be restored${own === undefined ? '' : `: ${why}`}`, notes: [] }
}

/** What {@link firstBackup} needs. */
export interface FirstBackupQuestion extends StorageCallOptions {
  readonly archive: BackupArchive
  readonly chain: TimelineChain
  /** A name or LATEST; undefined for the earliest. */
  readonly name: string | undefined
  readonly segmentSize: number
}

interface Candidate extends ListedBackup {
  readonly timeline: number
  readonly segno: bigint
}

/**
 * Finds the backup. Names have the first segment: only the documents of the earliest are read, until one fits.
 * @throws WALRX_BACKUP_NOT_FOUND for a name that is not there; WALRX_TARGET_UNREACHABLE for a backup that is not in the
 * history of the timeline
 */
export async function firstBackup(question: FirstBackupQuestion): Promise<FirstBackup> {
  const { archive, chain, name, segmentSize } = question
  if (name !== undefined) {
    const { lastModifiedMs, name: found, notes } = await selectBackup(archive, name, question)
    const candidate = candidateOf({ lastModifiedMs, name: found }, segmentSize)
    if (!candidate || !isOnChain(candidate, chain, segmentSize)) {
      const newest = chain.newest.timeline
      throw new WalrxError('WALRX_TARGET_UNREACHABLE', `${found} is not in the history of timeline ${newest}`, {
        hint: 'choose another backup: walrx backup-list shows them, walrx wal-show the timelines',
      })
    }
    return { name: found, segno: candidate.segno, notes }
  }
  const candidates = (await archive.listBackups(question))
    .flatMap((backup) => candidateOf(backup, segmentSize) ?? [])
    .filter((candidate) => isOnChain(candidate, chain, segmentSize))
    .sort((a, b) => Number(a.segno > b.segno) - Number(a.segno < b.segno))
  const notes: string[] = []
  for (const candidate of candidates) {
    const { metadata, permanence } = await readDetail(archive, candidate, question)
    const end = chain.link(candidate.timeline)?.end
    if (end !== undefined && metadata?.finishLsn !== undefined && metadata.finishLsn > end) continue
    if (!isPermanent(permanence)) return { name: candidate.name, segno: candidate.segno, notes }
    notes.push(`${candidate.name} is permanent: WAL after it may have been removed, and the check begins later`)
  }
  return { name: undefined, segno: 1n, notes: notes.slice(0, notesMax) }
}

const notesMax = 5

function candidateOf(backup: ListedBackup, segmentSize: number): Candidate | undefined {
  const id = parseSegmentName(parseBackupName(backup.name)?.segment ?? '', segmentSize)
  return id && { ...backup, ...id }
}

function isOnChain({ segno, timeline }: Candidate, chain: TimelineChain, segmentSize: number): boolean {
  const link = chain.link(timeline)
  if (!link || segno < segmentNumber(link.begin, segmentSize)) return false
  return link.end === undefined || segno <= segmentNumber(link.end, segmentSize)
}
