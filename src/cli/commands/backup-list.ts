/** `walrx backup-list`: the backups of the archive, in the form of WAL-G's. */
import { type BackupDetail, isPermanent, listInOrder, readDetails } from '../../catalog/backups.ts'
import { openStorage } from '../../config/open-storage.ts'
import { formatJson, type JsonValue } from '../../primitives/json.ts'
import { formatLsn, invalidLsn } from '../../postgres/lsn.ts'
import { BackupArchive, type ListedBackup } from '../../walg/backup-archive.ts'
import { metadataToJson } from '../../walg/backup-metadata.ts'
import { parseBackupName } from '../../walg/backup-names.ts'
import { formatBackupTime, parseBackupTime } from '../../walg/backup-time.ts'
import type { Command } from '../command.ts'

/** See the file's header. */
export const backupList: Command<'backup-list'> = {
  name: 'backup-list',
  positionals: [],
  examples: [
    { call: 'walrx backup-list --detail', means: 'the backups with their times, positions and marks' },
    {
      call: "walrx backup-list --json | jq -r '.[-1].backup_name'",
      means: 'the name of the newest, from what WAL-G would print',
    },
  ],
  async run({ log, options, signals, stdout }) {
    const storage = await openStorage(options)
    const signal = signals.drain
    try {
      const archive = new BackupArchive(storage)
      const backups = await listInOrder(archive, { signal })
      if (backups.length === 0) log.info('the archive has no backup', { archive: storage.location })
      const rows: readonly (ListedBackup | BackupDetail)[] = options.detail
        ? (await readDetails(archive, backups, { signal })).sort(byStart)
        : backups
      const text = options.json ? `${formatJson(rows.map(toJson))}\n` : toTable(rows, options.detail)
      await new Promise<void>((resolve) => void stdout.write(text, () => resolve()))
      const problems = rows.flatMap((row) => ('problems' in row ? [...row.problems] : []))
      for (const { message } of problems.slice(1)) log.warn(message)
      // What can be shown has been; the exit status says that it is not all.
      if (problems[0]) throw problems[0]
      return 0
    } finally {
      await storage.close()
    }
  },
}

/** WAL-G's order with --detail. */
function byStart(a: BackupDetail, b: BackupDetail): number {
  const [left, right] = [startOf(a), startOf(b)]
  return left < right ? -1 : left > right ? 1 : 0
}

function startOf({ metadata }: BackupDetail): bigint {
  return parseBackupTime(metadata?.startTime ?? '') ?? 0n
}

/** Fail-over storages are a thing of WAL-G's: there is one here. */
const storageName = 'default'

/** WAL-G's fields; the first four only for a backup whose documents cannot be read, and without --detail. */
function toJson(row: ListedBackup | BackupDetail): JsonValue {
  const head = {
    backup_name: row.name,
    time: formatBackupTime(row.lastModifiedMs),
    wal_file_name: walFileName(row.name),
    storage_name: storageName,
  }
  if (!('metadata' in row) || !row.metadata) return head
  const metadata = { ...row.metadata, isPermanent: isPermanent(row.permanence), extra: {} }
  return { ...head, ...metadataToJson(metadata) }
}

/** The segment in the name. What is no backup's name, but has a sentinel, has what WAL-G shows for it. */
function walFileName(name: string): string {
  return parseBackupName(name)?.segment ?? /[0-9A-F]{24}/.exec(name)?.[0] ?? 'ZZZZZZZZZZZZZZZZZZZZZZZZ'
}

const heads = ['backup_name', 'modified', 'wal_file_name', 'storage_name']
const detailHeads = [
  ...['start_time', 'finish_time', 'hostname', 'data_dir'],
  ...['pg_version', 'start_lsn', 'finish_lsn', 'is_permanent'],
]

/** WAL-G's table: columns as wide as they must be, one space between them. */
function toTable(rows: readonly (ListedBackup | BackupDetail)[], detail: boolean): string {
  if (rows.length === 0) return ''
  const lines = [detail ? [...heads, ...detailHeads] : heads, ...rows.map(cells)]
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0))) ?? []
  const text = lines.map((line) => {
    const last = line.length - 1
    return line.map((cell, column) => (column === last ? cell : cell.padEnd((widths[column] ?? 0) + 1))).join('')
  })
  return text.map((line) => `${line}\n`).join('')
}

function cells(row: ListedBackup | BackupDetail): string[] {
  const head = [row.name, wholeSeconds(formatBackupTime(row.lastModifiedMs)), walFileName(row.name), storageName]
  if (!('metadata' in row)) return head
  const { metadata, permanence } = row
  if (!metadata) return [...head, ...detailHeads.map(() => '?')]
  return [
    ...head,
    wholeSeconds(metadata.startTime),
    wholeSeconds(metadata.finishTime),
    metadata.hostname ?? '',
    metadata.dataDir ?? '',
    String(metadata.pgVersion ?? 0),
    formatLsn(metadata.startLsn ?? invalidLsn),
    formatLsn(metadata.finishLsn ?? invalidLsn),
    String(isPermanent(permanence)),
  ]
}

function wholeSeconds(time: string | undefined): string {
  return (time ?? '-').replace(/\.\d+/, '')
}
