/** `walrx backup-show NAME`: what the archive says of one backup. */
import { isPermanent, type Permanence, selectBackup } from '../../catalog/backups.ts'
import { describeBackup, type BackupDescription } from '../../catalog/backup-description.ts'
import { openStorage } from '../../config/open-storage.ts'
import { formatJson, type JsonValue } from '../../primitives/json/json.ts'
import { formatLsn, type Lsn } from '../../postgres/lsn.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { metadataToJson } from '../../walg/backup/backup-metadata.ts'
import { parseBackupName } from '../../walg/backup/backup-names.ts'
import { formatBackupTime, parseBackupTime } from '../../walg/backup/backup-time.ts'
import { encodeFilesMetadata } from '../../walg/backup/files-metadata.ts'
import type { Command } from '../command.ts'
import { alignColumns } from '../terminal/align-columns.ts'
import { humanSize } from '../terminal/human-size.ts'

/** See the file's header. */
export const backupShow: Command<'backup-show', 'name'> = {
  name: 'backup-show',
  positionals: [{ name: 'name', help: 'name of a backup, or LATEST' }],
  examples: [
    { call: 'walrx backup-show LATEST', means: 'the newest backup' },
    { call: 'walrx backup-show LATEST --json | jq .sentinel', means: 'its sentinel, every number as it is' },
  ],
  async run({ log, options, positionals, signals, stdout }) {
    const storage = await openStorage(options)
    const signal = signals.drain
    try {
      const archive = new BackupArchive(storage)
      const backup = await selectBackup(archive, positionals.name, { signal })
      for (const note of backup.notes) log.warn(note)
      const description = await describeBackup(archive, backup, { signal, withFiles: options.detail })
      const write = (text: string) => new Promise<void>((resolve) => void stdout.write(text, () => resolve()))
      if (!options.json) await write(toText(description, options.detail))
      else for await (const piece of toJson(description)) await write(piece)
      for (const { message } of description.problems.slice(1)) log.warn(message)
      // What can be shown has been; the exit status says that it is not all.
      if (description.problems[0]) throw description.problems[0]
      return 0
    } finally {
      await storage.close()
    }
  },
}

/** `name`, `sentinel` and `files_metadata` are WAL-RUS's; the last one only with --detail, because it may be huge. */
async function* toJson(description: BackupDescription): AsyncGenerator<string, undefined> {
  const { detail, files, manifest, parts } = description
  const head: JsonValue = {
    name: detail.name,
    time: formatBackupTime(detail.lastModifiedMs),
    is_latest: description.isLatest,
    is_permanent: isPermanent(detail.permanence),
    sentinel: description.sentinelJson ?? null,
    metadata: detail.metadata ? metadataToJson(detail.metadata) : null,
    parts: parts.map(({ fileName, size }) => ({ name: fileName, size })),
    manifest: manifest ? { key: manifest.key, size: manifest.size } : null,
    chain: description.chain.names,
    deltas: description.children,
    left_out: [...description.leftOut.paths],
    outside: description.leftOut.outside,
  }
  const text = formatJson(head)
  if (files?.kind !== 'found') {
    yield `${text}\n`
    return
  }
  yield `${text.slice(0, -1)},"files_metadata":`
  for await (const piece of encodeFilesMetadata(files.metadata)) yield Buffer.from(piece).toString()
  yield '}\n'
}

type Line = readonly [label: string, value: string]

function toText(description: BackupDescription, detail: boolean): string {
  const lines: Line[] = [
    ['name', description.detail.name + (description.isLatest ? ' (LATEST)' : '')],
    ...originLines(description),
    ...timeLines(description),
    ...serverLines(description),
    ...sizeLines(description),
    ...leftOutLines(description),
    ['permanent', permanenceText(description.detail.permanence)],
  ]
  const userData = description.detail.metadata?.userData
  if (userData !== undefined) lines.push(['user data', formatJson(userData)])
  if (detail) for (const { fileName, size } of description.parts) lines.push([`  ${fileName}`, humanSize(size)])
  return alignColumns(lines, '  ')
}

function originLines({ chain, children, detail }: BackupDescription): Line[] {
  const delta = detail.sentinel?.delta
  const kind = !detail.sentinel
    ? '?'
    : delta === undefined
      ? 'full backup'
      : `delta on ${delta.parentName}, step ${delta.count ?? '?'} from ${delta.fullName ?? '?'}`
  const below = chain.names.slice(0, -1).reverse()
  return [
    ['kind', kind],
    ...(below.length > 0 ? [['needs', below.join(', ')] as const] : []),
    ...(chain.problem === undefined ? [] : [['cannot be restored', chain.problem] as const]),
    ...(children.length > 0 ? [['deltas on it', children.join(', ')] as const] : []),
  ]
}

function timeLines({ detail }: BackupDescription): Line[] {
  const { metadata, name } = detail
  const timeline = parseBackupName(name)?.timeline
  const position = (lsn: Lsn | undefined) => (lsn === undefined ? '?' : formatLsn(lsn))
  const [start, finish] = [metadata?.startTime, metadata?.finishTime].map((time) => parseBackupTime(time ?? ''))
  const seconds = start === undefined || finish === undefined ? undefined : Number(finish - start) / 1e9
  const duration = seconds === undefined ? '' : `, ${seconds.toFixed(1)} s later`
  return [
    ['timeline', String(timeline ?? '?')],
    ['start', `${position(metadata?.startLsn)} at ${metadata?.startTime ?? '?'}`],
    ['finish', `${position(metadata?.finishLsn)} at ${metadata?.finishTime ?? '?'}${duration}`],
    ['stored', formatBackupTime(detail.lastModifiedMs)],
  ]
}

function serverLines({ detail }: BackupDescription): Line[] {
  const { metadata, sentinel } = detail
  const version = metadata?.pgVersion ?? 0
  const spaces = sentinel?.spec?.tablespaces ?? []
  return [
    // server_version_num since PostgreSQL 10: major * 10000 + minor.
    ['server', version < 100_000 ? '?' : `PostgreSQL ${Math.floor(version / 10_000)}.${version % 10_000}`],
    ['system identifier', String(metadata?.systemIdentifier ?? '?')],
    ['data directory', metadata?.dataDir ?? '?'],
    ...spaces.map(({ oid, location }) => [`tablespace ${oid}`, location] as const),
    ['taken on host', metadata?.hostname ?? '?'],
  ]
}

function sizeLines({ detail, files, manifest, parts }: BackupDescription): Line[] {
  const stored = parts.reduce((sum, { size }) => sum + size, 0)
  const plain = detail.metadata?.uncompressedSize
  const ratio =
    plain === undefined || plain === 0 ? '' : `, ${((100 * stored) / plain).toFixed(0)} % of ${humanSize(plain)}`
  const lines: Line[] = [
    ['parts', `${parts.length}, ${humanSize(stored)}${ratio}`],
    ['manifest', manifest ? `stored, ${humanSize(manifest.size)}` : 'none'],
  ]
  if (files)
    lines.push(['files', files.kind === 'found' ? String(files.metadata.files.size) : filesMissing[files.kind]])
  return lines
}

function leftOutLines({ leftOut }: BackupDescription): Line[] {
  const outside = Object.entries(leftOut.outside).map(([setting, path]) => `${path} (${setting})`)
  const paths = leftOut.paths.map((path) => `${path} (a link or a special file)`)
  return [...paths, ...outside].map((text) => ['not in it', text])
}

const filesMissing = {
  disabled: 'not listed: the backup was taken without files_metadata.json',
  missing: 'not listed: files_metadata.json is missing',
} as const

function permanenceText(permanence: Permanence): string {
  if (!isPermanent(permanence)) return 'no'
  if (permanence.inMetadata !== true) return 'yes, but only by its sentinel: WAL-G does not see it'
  return permanence.inSentinel === true ? 'yes' : 'yes, but only by metadata.json: WAL-RUS does not see it'
}
