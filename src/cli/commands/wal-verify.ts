/** `walrx wal-verify`: whether WAL is missing since the earliest backup, and whether the timeline is the newest. */
import { openGaps, readGaps } from '../../catalog/open-gaps.ts'
import { checkUse, type FirstBackup, firstBackup } from '../../catalog/first-backup.ts'
import { type CheckStatus, checkIntegrity, checkTimeline, type Integrity } from '../../catalog/wal-integrity.ts'
import { gapToJson } from '../../catalog/gap-json.ts'
import { readInventory, type WalInventory } from '../../catalog/wal-inventory.ts'
import { openStorage } from '../../config/open-storage.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { exitStatuses } from '../../primitives/errors.ts'
import { formatJson } from '../../primitives/json/json.ts'
import { formatLsn } from '../../postgres/lsn.ts'
import { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { segmentName } from '../../postgres/wal/wal-file.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { orProblem } from '../../walg/damaged-object.ts'
import { systemKey } from '../../walg/names.ts'
import { describeGap, isBreak } from '../../walg/wal/gap-records.ts'
import { readSystem } from '../../walg/wal/system-marker.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'
import type { Command, CommandContext } from '../command.ts'
import { segmentSizeOf } from '../settings/segment-size.ts'
import { askedEnd, currentSegment, endOfArchive, type VerifiedEnd } from '../settings/verified-end.ts'
import { alignColumns } from '../terminal/align-columns.ts'
import { throwFirst } from '../terminal/what-is-wrong.ts'

/** Of {@link exitStatuses}: an archive that lacks WAL contradicts its own backups, or the server. */
const failedStatus = 5 satisfies keyof typeof exitStatuses

const checks = ['integrity', 'timeline'] as const
type Check = (typeof checks)[number]

/** See the file's header. */
export const walVerify: Command<'wal-verify', never> = {
  name: 'wal-verify',
  positionals: [],
  rest: { name: 'check', help: 'integrity, timeline, or both, as without any' },
  examples: [
    {
      call: 'walrx wal-verify integrity timeline -d service=db1',
      means: 'up to the present position of the server; status 5 if WAL is missing or another timeline is newer',
    },
    {
      call: "walrx wal-verify --json | jq -r '.integrity.status'",
      means: "as far as the archive reaches, in WAL-G's JSON",
    },
  ],
  async run(context) {
    const { log, options, rest, signals, stdout } = context
    const asked = askedChecks(rest)
    const signal = signals.drain
    const storage = await openStorage(options)
    try {
      const end = await askedEnd(context, signal)
      const damaged: WalrxError[] = []
      const marker = await orProblem(readSystem(storage, { signal }), systemKey, damaged)
      if (end?.systemId !== undefined && marker && marker.systemId !== end.systemId) {
        throw otherCluster(storage.location, marker.systemId, end.systemId)
      }
      const size = segmentSizeOf(options) ?? marker?.segmentSize ?? end?.segmentSize
      const reader = new WalReader(storage)
      const inventory = await readInventory(reader, size, { signal })
      damaged.push(...inventory.problems)
      const from = end ?? endOfArchive(inventory)
      log.info('checking the WAL', describeEnd(from, inventory.segmentSize))
      const newest = inventory.timelines.at(-1)?.timeline ?? 0
      const nothing = newest === 0 ? ['the archive holds no WAL: there is nothing to verify'] : []
      const report: Report = {
        integrity: asked.includes('integrity')
          ? await integrityOf(context, { reader, inventory, end: from, damaged, nothing })
          : undefined,
        timeline: asked.includes('timeline')
          ? { status: checkTimeline(from.timeline, newest), newest, problems: nothing }
          : undefined,
      }
      const text = options.json ? toJson(report, inventory, from) : toText(report, inventory, from)
      await new Promise<void>((resolve) => void stdout.write(text, () => resolve()))
      throwFirst(damaged, log)
      const hasFailed = [report.integrity, report.timeline].some(
        (each) => each?.status === 'FAILURE' || (each && each.problems.length > 0),
      )
      return hasFailed ? failedStatus : 0
    } finally {
      await storage.close()
    }
  },
}

interface IntegrityReport extends Integrity {
  readonly first: FirstBackup
  /** What WAL-G's check does not know, for people: each ends the command with {@link failedStatus}. */
  readonly problems: readonly string[]
}

interface Report {
  readonly integrity: IntegrityReport | undefined
  readonly timeline:
    { readonly status: CheckStatus; readonly newest: number; readonly problems: readonly string[] } | undefined
}

interface Known {
  readonly reader: WalReader
  readonly inventory: WalInventory
  readonly end: VerifiedEnd
  /** Gets what cannot be read. */
  readonly damaged: WalrxError[]
  /** A problem where the archive has no WAL. */
  readonly nothing: readonly string[]
}

async function integrityOf(
  { log, options, signals: { drain: signal } }: CommandContext<'wal-verify', never>,
  { damaged, end, inventory, nothing, reader }: Known,
): Promise<IntegrityReport> {
  const { segmentSize } = inventory
  const chain = chainOf(inventory, end.timeline)
  const archive = new BackupArchive(reader.storage)
  const first = await firstBackup({ archive, chain, name: options.verifyBackupName, segmentSize, signal })
  const use = await checkUse(archive, { name: first.name, isAsked: options.verifyBackupName !== undefined }, { signal })
  for (const note of [...first.notes, ...use.notes]) log.warn(note)
  const integrity = checkIntegrity({
    inventory,
    chain,
    current: currentSegment(end, segmentSize),
    first: first.segno,
    isFirstNeeded: first.name !== undefined,
    delayedMax: options.maxDelayedWals,
    uploadingMax: options.uploadConcurrency,
    gaps: openGaps(await readGaps(reader, damaged, { signal }), inventory),
  })
  const empty = integrity.empty.map((range) => `${rangeText(range, segmentSize)} of 0 bytes: no recovery passes that`)
  // Without a server an archive without WAL has no segment that could be missing.
  const status = nothing.length > 0 && end.source === 'archive' ? 'WARNING' : integrity.status
  const problems = [...nothing, ...(use.problem === undefined ? [] : [use.problem]), ...empty]
  return { ...integrity, status, first, problems }
}

function rangeText({ first, last, timeline }: Integrity['empty'][number], segmentSize: number): string {
  const [from, to] = [first, last].map((segno) => segmentName(timeline, segno, segmentSize))
  return first === last ? `${from} is an object` : `${from} to ${to} are objects`
}

function askedChecks(words: readonly string[]): readonly Check[] {
  const wrong = words.find((word) => !checks.some((check) => check === word))
  if (wrong !== undefined) {
    throw new WalrxError('WALRX_USAGE', `"${wrong}" is no check of wal-verify`, {
      hint: 'write integrity, timeline, or both',
    })
  }
  return words.length === 0 ? checks : checks.filter((check) => words.includes(check))
}

function otherCluster(location: string, archived: bigint, server: bigint): WalrxError {
  return new WalrxError(
    'WALRX_OTHER_CLUSTER',
    `${location} belongs to the cluster with system identifier ${archived}, this server's is ${server}`,
    { hint: "name the archive of this server, or another server: its own archive's" },
  )
}

function chainOf({ timelines }: WalInventory, timeline: number): TimelineChain {
  return new TimelineChain(timeline, timelines.find((entry) => entry.timeline === timeline)?.ancestors ?? [])
}

function describeEnd(end: VerifiedEnd, segmentSize: number): Record<string, string | number> {
  const current = end.timeline === 0 ? '-' : segmentName(end.timeline, currentSegment(end, segmentSize), segmentSize)
  const host = end.host === undefined ? {} : { host: end.host }
  return { upTo: formatLsn(end.lsn), timeline: end.timeline, current, by: end.source, ...host }
}

/**
 * WAL-G's object: a key for each check. Of `integrity`, `source`, `current_segment`, `durable_lsn`, `first_backup` and
 * `gaps` are ours; so are the `problems` of both.
 */
function toJson({ integrity, timeline }: Report, inventory: WalInventory, end: VerifiedEnd): string {
  const { segmentSize, timelines } = inventory
  const name = (id: number, segno: bigint) => segmentName(id, segno, segmentSize)
  return `${formatJson({
    ...(integrity && {
      integrity: {
        status: integrity.status,
        details: integrity.sequences.map(({ first, last, status, timeline: id }) => ({
          timeline_id: id,
          start_segment: name(id, first),
          end_segment: name(id, last),
          segments_count: last - first + 1n,
          status,
        })),
        source: end.source,
        current_segment: end.timeline === 0 ? null : name(end.timeline, currentSegment(end, segmentSize)),
        durable_lsn: timelines.find((entry) => entry.timeline === end.timeline)?.durableEnd ?? null,
        first_backup: integrity.first.name ?? null,
        gaps: integrity.gaps.map((gap) => gapToJson(gap)),
        problems: [...integrity.problems],
      },
    }),
    ...(timeline && {
      timeline: {
        status: timeline.status,
        details: { current_timeline_id: end.timeline, highest_storage_timeline_id: timeline.newest },
        problems: [...timeline.problems],
      },
    }),
  })}\n`
}

const heads = ['TLI', 'first segment', 'last segment', 'segments', 'status']

/** The first line of each check is WAL-G's. */
function toText({ integrity, timeline }: Report, inventory: WalInventory, end: VerifiedEnd): string {
  const { segmentSize } = inventory
  const parts: string[] = []
  if (integrity) {
    const rows = integrity.sequences.map(({ first, last, status, timeline: id }) => [
      ...[String(id), segmentName(id, first, segmentSize), segmentName(id, last, segmentSize)],
      ...[String(last - first + 1n), status],
    ])
    const since = integrity.first.name ?? 'the beginning (there is no backup)'
    parts.push(
      `[wal-verify] integrity check status: ${integrity.status}\n`,
      `[wal-verify] integrity check details: from ${since} to ${endText(end)}\n`,
      ...(rows.length === 0 ? [] : [alignColumns([heads, ...rows], '    ')]),
      ...integrity.gaps.map((gap) => `${describeGap(gap)}${isBreak(gap) ? '' : `: ${gap.reason}`}\n`),
      ...integrity.problems.map((problem) => `problem: ${problem}\n`),
    )
  }
  if (timeline) {
    parts.push(
      `[wal-verify] timeline check status: ${timeline.status}\n`,
      `[wal-verify] timeline check details:\n`,
      `Highest timeline found in storage: ${timeline.newest}\nCurrent cluster timeline: ${end.timeline}\n`,
      ...(integrity ? [] : timeline.problems.map((problem) => `problem: ${problem}\n`)),
    )
  }
  return parts.join('')
}

function endText({ host, lsn, source, timeline }: VerifiedEnd): string {
  const of = { server: `of the server ${host}`, given: 'that was given', archive: 'at which the archive ends' }[source]
  return `${formatLsn(lsn)} on timeline ${timeline}, the position ${of}`
}
