/** What commands say of a backup and what it builds on. */
import { type BackupDocuments, chainOf } from '../../restore/backup/backup-documents.ts'
import { partsToRead, type ReadSummary, type Selection } from '../../restore/backup/backup-reader.ts'

/** Bytes of all tars that are read. @param leftOut files that are not */
export function storedBytes(documents: BackupDocuments, leftOut?: Selection['leftOut']): number {
  const parts = chainOf(documents).flatMap((each) => partsToRead(each, { leftOut, mask: undefined }))
  return parts.reduce((sum, { size }) => sum + size, 0)
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
  return [`${files} files`, ...(increments > 0 ? [`${increments} increments`] : []), `${bytes} bytes`].join(', ')
}

/** For `--json`: names of all backups that were read, the full one first. */
export function chainNames(documents: BackupDocuments): string[] {
  return chainOf(documents).map(({ name }) => name)
}
