/** What commands say of a backup and what it builds on. */
import type { Logger } from '../../observe/log.ts'
import { type BackupDocuments, chainOf } from '../../restore/backup/backup-documents.ts'
import type { ReadSummary } from '../../restore/backup/backup-reader.ts'
import { type FileChoice, partsToRead } from '../../restore/backup/wanted-parts.ts'
import { counted } from './human-size.ts'

/** Bytes of all tars that are read. */
export function storedBytes(documents: BackupDocuments, choice: FileChoice = {}): number {
  return partsToRead(documents, choice).reduce((sum, { size }) => sum + size, 0)
}

/** Bytes of these tars before they were compressed, as far as the sentinels say. */
export function plainBytes(documents: BackupDocuments): number {
  return chainOf(documents).reduce((sum, { sentinel }) => sum + sentinel.uncompressedSize, 0)
}

/** The name; for a delta with the full backup: `base_B_D_A (2 deltas on base_A)`. */
export function chainTitle({ name, parents }: BackupDocuments): string {
  const [full] = parents
  if (!full) return name
  return `${name} (${parents.length === 1 ? 'a delta' : `${parents.length} deltas`} on ${full.name})`
}

/** `391 files, 39 increments, 31000000 bytes`. */
export function countsText({ bytes, files, increments }: ReadSummary): string {
  return [
    counted(files, 'file'),
    ...(increments > 0 ? [counted(increments, 'increment')] : []),
    counted(bytes, 'byte'),
  ].join(', ')
}

/** For `--json`: names of all backups that were read, the full one first. */
export function chainNames(documents: BackupDocuments): string[] {
  return chainOf(documents).map(({ name }) => name)
}

/** Logs which backups a restore reads. */
export function sayWhatIsRestored(documents: BackupDocuments, log: Logger): void {
  const chain = chainOf(documents)
  log.info('restoring', {
    name: documents.name,
    ...(chain.length > 1 && { backups: chain.map((each) => each.name) }),
    parts: chain.reduce((sum, { parts }) => sum + parts.length, 0),
    manifest: documents.manifest !== undefined,
  })
}
