/** A backup in the JSON of commands, as WAL-G prints it (wal-g: internal/databases/postgres/backup_detail.go). */
import { metadataToJson } from '../walg/backup/backup-metadata.ts'
import type { ListedBackup } from '../walg/backup/backup-archive.ts'
import { parseBackupName } from '../walg/backup/backup-names.ts'
import { formatBackupTime } from '../walg/backup/backup-time.ts'
import type { JsonObject } from '../walg/json-document.ts'
import { type BackupDetail, isPermanent } from './backups.ts'

/** WAL-G can have several (fail-over storages), walrx has one. */
export const storageName = 'default'

/** What a listing shows of it: WAL-G's four fields. */
export function backupToJson({ lastModifiedMs, name }: ListedBackup): JsonObject {
  return {
    backup_name: name,
    time: formatBackupTime(lastModifiedMs),
    wal_file_name: walFileName(name),
    storage_name: storageName,
  }
}

/** What metadata.json adds to that; nothing where it cannot be read. */
export function detailToJson({ metadata, permanence }: Pick<BackupDetail, 'metadata' | 'permanence'>): JsonObject {
  return metadata ? metadataToJson({ ...metadata, isPermanent: isPermanent(permanence), extra: {} }) : {}
}

/** The segment in the name. For a sentinel with another name it is what WAL-G shows. */
export function walFileName(name: string): string {
  return parseBackupName(name)?.segment ?? /[0-9A-F]{24}/.exec(name)?.[0] ?? 'ZZZZZZZZZZZZZZZZZZZZZZZZ'
}
