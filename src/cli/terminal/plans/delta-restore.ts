/** A restore over a data directory: what it would do, and what it has done, as text and as JSON. */
import type { JsonValue } from '../../../primitives/json/json.ts'
import { type BackupDocuments, chainOf } from '../../../restore/backup/backup-documents.ts'
import type { ReadSummary } from '../../../restore/backup/backup-reader.ts'
import type { DeltaPlan } from '../../../restore/backup/delta/delta-plan.ts'
import { partsToRead } from '../../../restore/backup/wanted-parts.ts'
import { chainNames, chainTitle, countsText } from '../chain-text.ts'

/** `3 of 40 parts, 123456 bytes`. */
function partsText(documents: BackupDocuments, { parts }: DeltaPlan): string {
  return `${parts.length} of ${partsIn(documents)} parts, ${bytesOf(parts)} bytes`
}

function partsIn(documents: BackupDocuments): number {
  return chainOf(documents).reduce((sum, { parts }) => sum + parts.length, 0)
}

function bytesOf(parts: DeltaPlan['parts']): number {
  return parts.reduce((sum, { size }) => sum + size, 0)
}

/** The plan: the counts, then what is fetched and removed, a line each. */
export function deltaPlanText(documents: BackupDocuments, destination: string, plan: DeltaPlan): string[] {
  const { fetched, kept, keptBytes, removed } = plan
  return [
    `${chainTitle(documents)} can be restored over ${destination}:`,
    `keep    ${kept.size} files, ${keptBytes} bytes`,
    `fetch   ${fetched.size} files, from ${partsText(documents, plan)}`,
    `remove  ${removed.length} files and directories`,
    ...[...fetched].map(([path, reason]) => `fetch   ${path} (${reason})`),
    ...removed.map(({ path }) => `remove  ${path}`).reverse(),
  ]
}

/** The same for `--json`. */
export function deltaPlanJson(documents: BackupDocuments, destination: string, plan: DeltaPlan): JsonValue {
  return {
    backup_name: documents.name,
    backups: chainNames(documents),
    destination,
    bytes_to_read: bytesOf(plan.parts),
    delta: {
      ...deltaJson(documents, plan),
      fetch: [...plan.fetched].map(([path, reason]) => ({ path, reason })),
      parts: plan.parts.map(({ key }) => key),
      remove: plan.removed.map(({ path }) => path).reverse(),
    },
  }
}

/** `960 files, 31000000 bytes kept; 12 files, 98304 bytes fetched from 3 of 40 parts, 123456 bytes; 5 removed`. */
export function deltaCountsText(documents: BackupDocuments, plan: DeltaPlan, summary: ReadSummary): string {
  const { kept, keptBytes, removed } = plan
  const fetched = `${countsText(summary)} fetched from ${partsText(documents, plan)}`
  return `${kept.size} files, ${keptBytes} bytes kept; ${fetched}; ${removed.length} removed`
}

/** Counts for `--json`. @param plan undefined where the directory was empty */
export function deltaJson(documents: BackupDocuments, plan: DeltaPlan | undefined): { [name: string]: JsonValue } {
  const parts = plan?.parts ?? partsToRead(documents, {})
  return {
    kept_files: plan?.kept.size ?? 0,
    kept_bytes: plan?.keptBytes ?? 0,
    removed: plan?.removed.length ?? 0,
    read_parts: parts.length,
    read_bytes: bytesOf(parts),
  }
}
