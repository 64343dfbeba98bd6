/** `walrx backup-list`: the backups of the archive, in the form of WAL-G's. */
import { backupToJson, detailToJson, storageName, walFileName } from '../../catalog/backup-json.ts'
import { listLinkedInOrder, notesOnLatest } from '../../catalog/backup-order.ts'
import { type BackupDetail, isPermanent, readDetailsInOrder } from '../../catalog/backups.ts'
import { type BackupChain, brokenBackups, followChain, linkOf } from '../../catalog/chains.ts'
import { openStorage } from '../../config/open-storage.ts'
import { formatJson, type JsonValue } from '../../primitives/json/json.ts'
import { formatLsn, invalidLsn } from '../../postgres/lsn.ts'
import { BackupArchive, type ListedBackup } from '../../walg/backup/backup-archive.ts'
import { formatBackupTime } from '../../walg/backup/backup-time.ts'
import type { JsonObject } from '../../walg/json-document.ts'
import type { DeltaOrigin } from '../../walg/backup/sentinel.ts'
import type { Command } from '../command.ts'
import { alignColumns } from '../terminal/align-columns.ts'
import { throwFirst, warnOfBroken } from '../terminal/what-is-wrong.ts'

/** See the file's header. */
export const backupList: Command<'backup-list'> = {
  name: 'backup-list',
  positionals: [],
  examples: [
    { call: 'walrx backup-list --detail', means: 'the backups with their times, positions and marks' },
    { call: 'walrx backup-list --chains', means: 'what each delta builds on' },
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
      const { chains, detail } = options
      const details = detail || chains ? await readDetailsInOrder(archive, { signal }) : undefined
      const linked = details ? undefined : await listLinkedInOrder(archive, { signal })
      const backups = details ?? linked ?? []
      if (backups.length === 0)
        log.info('the archive has no backup', { archive: storage.location, hint: 'walrx backup-push takes one' })
      for (const note of notesOnLatest(backups)) log.warn(note)
      const rows = toRows(
        detail ? (details ?? []) : backups.map(({ name, lastModifiedMs }) => ({ name, lastModifiedMs })),
        chains ? (details ?? []) : [],
      )
      const text = options.json
        ? `${formatJson(rows.map(toJson), options.pretty ? 4 : undefined)}\n`
        : toTable(rows, detail, chains)
      await new Promise<void>((resolve) => void stdout.write(text, () => resolve()))
      warnOfBroken(brokenBackups(linked ?? (details ?? []).map(linkOf)), log)
      throwFirst(
        (details ?? []).flatMap((each) => [...each.problems]),
        log,
      )
      return 0
    } finally {
      await storage.close()
    }
  },
}

/** A backup; with --detail its documents, with --chains what it builds on. */
interface Row {
  readonly backup: ListedBackup | BackupDetail
  readonly link: ChainLink | undefined
}

interface ChainLink {
  readonly delta: DeltaOrigin | undefined
  readonly chain: BackupChain
}

/** @param details of all backups, to follow their chains; empty where nobody asked for that */
function toRows(backups: readonly (ListedBackup | BackupDetail)[], details: readonly BackupDetail[]): Row[] {
  const links = new Map(details.map((detail) => [detail.name, linkOf(detail)]))
  const deltas = new Map(details.map(({ name, sentinel }) => [name, sentinel?.delta]))
  return backups.map((backup) => {
    const { name } = backup
    return { backup, link: links.has(name) ? { delta: deltas.get(name), chain: followChain(name, links) } : undefined }
  })
}

/** WAL-G's fields, then ours. Without --detail, or where documents cannot be read, WAL-G's first four only. */
function toJson({ backup, link }: Row): JsonValue {
  return {
    ...backupToJson(backup),
    ...('metadata' in backup && detailToJson(backup)),
    ...(link && linkToJson(link)),
  }
}

function linkToJson({ chain, delta }: ChainLink): JsonObject {
  return {
    delta_from: delta?.parentName ?? null,
    delta_count: delta?.count ?? 0,
    chain: [...chain.names],
    chain_problem: chain.problem ?? null,
  }
}

const heads = ['backup_name', 'modified', 'wal_file_name', 'storage_name']
const detailHeads = [
  ...['start_time', 'finish_time', 'hostname', 'data_dir'],
  ...['pg_version', 'start_lsn', 'finish_lsn', 'is_permanent'],
]

const chainHeads = ['delta_count', 'delta_from', 'chain']

/** WAL-G's table: columns as wide as they must be, one space between them. */
function toTable(rows: readonly Row[], detail: boolean, chains: boolean): string {
  if (rows.length === 0) return ''
  const titles = [...heads, ...(detail ? detailHeads : []), ...(chains ? chainHeads : [])]
  return alignColumns([titles, ...rows.map(cells)], ' ')
}

function cells({ backup, link }: Row): string[] {
  const { lastModifiedMs, name } = backup
  const head = [name, wholeSeconds(formatBackupTime(lastModifiedMs)), walFileName(name), storageName]
  return [...head, ...('metadata' in backup ? detailCells(backup) : []), ...(link ? linkCells(link) : [])]
}

function detailCells({ metadata, permanence }: BackupDetail): string[] {
  if (!metadata) return detailHeads.map(() => '?')
  return [
    wholeSeconds(metadata.startTime),
    wholeSeconds(metadata.finishTime),
    metadata.hostname ?? '',
    metadata.dataDir || '-',
    String(metadata.pgVersion ?? 0),
    formatLsn(metadata.startLsn ?? invalidLsn),
    formatLsn(metadata.finishLsn ?? invalidLsn),
    String(isPermanent(permanence)),
  ]
}

function linkCells({ chain, delta }: ChainLink): string[] {
  return [String(delta?.count ?? 0), delta?.parentName ?? '-', chain.problem ?? 'whole']
}

function wholeSeconds(time: string | undefined): string {
  return (time ?? '-').replace(/\.\d+/, '')
}
