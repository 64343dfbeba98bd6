/** Which parts of a backup are read, where not all of its files are wanted: files_metadata.json lists what is in them. */
import type { ManifestFile } from '../../postgres/backup/backup-manifest.ts'
import type { BackupPart } from '../../walg/backup/backup-archive.ts'
import { type BackupDocuments, chainOf } from './backup-documents.ts'
import type { LeftOutFiles } from './databases/left-out-files.ts'
import { entryPath, utilityFiles } from './entry-path.ts'

/** Files that are in place already, by path, as a manifest lists them: they are not read from the archive. */
export type KeptFiles = ReadonlyMap<string, ManifestFile>

/** Which files of a backup are wanted; all by default. */
export interface FileChoice {
  /** True for the paths to restore. */
  readonly mask?: ((path: string) => boolean) | undefined
  readonly kept?: KeptFiles | undefined
  /** Files of databases that are not restored. */
  readonly leftOut?: LeftOutFiles | undefined
}

/**
 * The parts of a kind that hold a wanted file. A part without a list is one of them, and so is every part of a whole restore.
 * @param isParent a delta builds on this backup: only the files that the delta needs are wanted
 */
export function wantedParts(
  { files, parts, tarFileSets }: BackupDocuments,
  kind: BackupPart['kind'],
  isParent: boolean,
  { kept, leftOut, mask }: FileChoice,
): BackupPart[] {
  const isListed = (path: string) => !files || files.has(path) || (!isParent && utilityFiles.has(path))
  const isWanted = (path: string) =>
    mask?.(path) !== false && leftOut?.has(path) !== true && (!kept || (!kept.has(path) && isListed(path)))
  return parts.filter((part) => {
    if (part.kind !== kind) return false
    const names = tarFileSets.get(part.fileName) ?? tarFileSets.get(part.base) ?? tarFileSets.get(`${part.base}.tar`)
    return (!mask && !kept && !leftOut) || !names || names.some((name) => isWanted(entryPath(name) ?? ''))
  })
}

/** All parts that a restore of the wanted files reads: those of the backups that a delta builds on, and its own. */
export function partsToRead(documents: BackupDocuments, choice: FileChoice): BackupPart[] {
  return chainOf(documents).flatMap((each) => {
    if (each.name !== documents.name) return wantedParts(each, 'data', true, choice)
    return (['data', 'label', 'control'] as const).flatMap((kind) => wantedParts(each, kind, false, choice))
  })
}
