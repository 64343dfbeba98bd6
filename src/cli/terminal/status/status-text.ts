/** What `walrx status` shows: receivers, the archive, and what is wrong, as text and as JSON. */
import type { ArchiveOverview } from '../../../catalog/overview/archive-overview.ts'
import { formatLsn } from '../../../postgres/lsn.ts'
import type { JsonValue } from '../../../primitives/json/json.ts'
import type { Concern, ReceiverStatus } from '../../../status/receiver-status.ts'
import { alignColumns } from '../align-columns.ts'
import { durationText } from '../duration-text.ts'
import { counted, humanSize } from '../human-size.ts'
import { recoveryText } from '../overview/overview-text.ts'

/** All that is shown. */
export interface ShownStatus {
  readonly receivers: readonly (ReceiverStatus & { readonly concerns: readonly Concern[] })[]
  /** Why there are no receivers; undefined where some answered. */
  readonly receiverProblem: Concern | undefined
  /** Undefined where no archive is named, or it cannot be read. */
  readonly archive: { readonly overview: ArchiveOverview; readonly concerns: readonly Concern[] } | undefined
  /** Why a named archive cannot be read. */
  readonly archiveProblem: Concern | undefined
}

/** The concerns of all. */
export function concernsIn({ archive, archiveProblem, receiverProblem, receivers }: ShownStatus): Concern[] {
  return [
    ...(receiverProblem ? [receiverProblem] : []),
    ...receivers.flatMap(({ concerns }) => concerns),
    ...(archiveProblem ? [archiveProblem] : []),
    ...(archive?.concerns ?? []),
  ]
}

/** The text, a block for each receiver and one for the archive. */
export function statusText(shown: ShownStatus): string {
  const { archive, archiveProblem, receiverProblem, receivers } = shown
  const blocks = [
    ...(receiverProblem ? [`receiver\n${concernLines([receiverProblem])}`] : []),
    ...receivers.map(
      (receiver) =>
        `receiver of ${receiver.cluster}\n${rowsText(receiverRows(receiver))}${concernLines(receiver.concerns)}`,
    ),
    ...(archiveProblem ? [`archive\n${concernLines([archiveProblem])}`] : []),
    ...(archive
      ? [
          `archive ${archive.overview.location}\n${rowsText(archiveRows(archive.overview))}${concernLines(archive.concerns)}`,
        ]
      : []),
  ]
  return blocks.join('\n')
}

function rowsText(rows: readonly string[][]): string {
  return alignColumns(
    rows.map(([name = '', value = '']) => [`  ${name}`, value]),
    '  ',
  )
}

function concernLines(concerns: readonly Concern[]): string {
  return concerns.map(({ advice, level, text }) => `  ${level}: ${text}\n    do: ${advice}\n`).join('')
}

function receiverRows(receiver: ReceiverStatus): string[][] {
  const {
    host,
    isReady,
    receivedBytesPerSecond,
    rpoBytes,
    rpoSeconds,
    slotLagBytes,
    slotSafeBytes,
    state,
    storedBytesPerSecond,
  } = receiver
  const of = (bytes: number | undefined) => (bytes === undefined ? 'unknown' : humanSize(Math.round(bytes)))
  const room =
    slotSafeBytes === undefined
      ? 'unknown'
      : slotSafeBytes === Infinity
        ? 'no limit'
        : `${humanSize(slotSafeBytes)} left`
  return [
    ['state', `${state ?? 'unknown'}${isReady ? ', ready' : ''}${host === undefined ? '' : `, from ${host}`}`],
    [
      'archived',
      `${receiver.durableLsn ?? 'unknown'}${receiver.timeline === undefined ? '' : ` on timeline ${receiver.timeline}`}`,
    ],
    [
      'lost now',
      `${rpoSeconds === undefined ? 'unknown' : durationText(rpoSeconds)}, ${of(rpoBytes)} of WAL, if the server were lost`,
    ],
    ['rates', `${of(receivedBytesPerSecond)}/s received, ${of(storedBytesPerSecond)}/s stored`],
    [
      'slot',
      `keeps ${of(slotLagBytes)}, ${room}${receiver.slotWalStatus === undefined ? '' : `, ${receiver.slotWalStatus}`}`,
    ],
    ...(receiver.lastError === undefined ? [] : [['last error', receiver.lastError]]),
  ]
}

function archiveRows(overview: ArchiveOverview): string[][] {
  const newest = overview.backups.at(-1)
  return [
    ['recovery', recoveryText(overview)],
    ['backups', newest ? `${counted(overview.backups.length, 'backup')}, the last is ${newest.name}` : 'none'],
  ]
}

/** The JSON: what is not known is null. */
export function statusToJson(shown: ShownStatus, exitStatus: number): JsonValue {
  const { archive, archiveProblem, receiverProblem, receivers } = shown
  const concerns = (all: readonly Concern[]) => all.map(({ advice, level, text }) => ({ level, text, advice }))
  const windows = archive?.overview.windows.map(({ endLsn, startLsn, timeline }) => ({
    timeline,
    from: formatLsn(startLsn),
    to: formatLsn(endLsn),
  }))
  return {
    exit_status: exitStatus,
    receiver_problem: receiverProblem ? (concerns([receiverProblem])[0] ?? null) : null,
    receivers: receivers.map((receiver) => ({
      cluster: receiver.cluster,
      ready: receiver.isReady,
      state: receiver.state ?? null,
      host: receiver.host ?? null,
      timeline: receiver.timeline ?? null,
      durable_lsn: receiver.durableLsn ?? null,
      rpo_seconds: receiver.rpoSeconds ?? null,
      rpo_bytes: receiver.rpoBytes ?? null,
      received_bytes_per_second: receiver.receivedBytesPerSecond ?? null,
      stored_bytes_per_second: receiver.storedBytesPerSecond ?? null,
      slot_lag_bytes: receiver.slotLagBytes ?? null,
      slot_safe_bytes: Number.isFinite(receiver.slotSafeBytes) ? (receiver.slotSafeBytes ?? null) : null,
      slot_wal_status: receiver.slotWalStatus ?? null,
      gaps: receiver.gaps,
      last_error: receiver.lastError ?? null,
      concerns: concerns(receiver.concerns),
    })),
    archive_problem: archiveProblem ? (concerns([archiveProblem])[0] ?? null) : null,
    archive: archive
      ? {
          location: archive.overview.location,
          windows: windows ?? [],
          backups: archive.overview.backups.length,
          concerns: concerns(archive.concerns),
        }
      : null,
  }
}
