/** What to copy: from the operator's words to the backups and the WAL that belong to it. */
import { WalrxError } from '../../primitives/errors.ts'
import { formatLsn, type Lsn, type Timeline } from '../../postgres/lsn.ts'
import { describeTarget } from '../../restore/recovery/recovery-request.ts'
import type { TimestampTz } from '../../postgres/timestamp.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'
import { type BackupArchiveOrder, chainOf, orderOf, type ScopedBackup } from './scoped-backups.ts'
import { segmentAfterTime } from './wal-time.ts'
import { type SegnoInterval, WalScope } from './wal-scope.ts'

/** An end of a window. */
export type WindowEnd =
  | { readonly kind: 'time'; readonly time: TimestampTz }
  | { readonly kind: 'lsn'; readonly lsn: Lsn }
  /** A name, or LATEST. */
  | { readonly kind: 'backup'; readonly name: string }

/** What is asked for. With none of these: all of the archive. */
export interface CopyRequest {
  /** One backup, with all that it builds on, and the WAL that makes it consistent. A name, or LATEST. */
  readonly backup?: string | undefined
  /** With `backup`: all later WAL too. */
  readonly withHistory?: boolean
  /** The window begins with the newest backup that was complete there. */
  readonly from?: WindowEnd | undefined
  /** Where the WAL ends. */
  readonly to?: WindowEnd | undefined
}

/** What is copied. */
export interface CopyScope {
  /** Oldest first: what a delta builds on comes before it. */
  readonly backups: readonly ScopedBackup[]
  readonly wal: WalScope
  /** Bytes of one segment. */
  readonly segmentSize: number
  /** The backup that the window begins with; undefined for a copy of everything. */
  readonly base: string | undefined
}

/** What {@link scopeOf} needs. */
export interface ScopeOptions extends StorageCallOptions {
  readonly source: Storage
  readonly request: CopyRequest
  readonly segmentSize: number
}

/**
 * Finds out what belongs to a request.
 * @throws WALRX_BACKUP_NOT_FOUND for a name, or a parent, that the archive does not have; WALRX_TARGET_UNREACHABLE where
 * no backup is old enough for the window, or the window ends before it begins; what reading throws
 */
export async function scopeOf(options: ScopeOptions): Promise<CopyScope> {
  const { request, segmentSize, source, signal } = options
  const order = await orderOf(source, signal && { signal })
  const asked = asWindow(request)
  if (!asked.from && !asked.to) {
    return { backups: order.backups, wal: new WalScope(undefined), segmentSize, base: undefined }
  }
  const base = baseOf(order, asked.from, source.location)
  const end = asked.to && (await endOf(options, order, base, asked.to))
  const inside = order.backups
    .slice(order.backups.indexOf(base))
    .filter((backup) => backup === base || (!request.backup && isInside(backup, base, asked.to, end, segmentSize)))
  const wanted = new Set<ScopedBackup>(inside.flatMap((backup) => chainOf(order, backup, source.location)))
  const backups = order.backups.filter((backup) => wanted.has(backup))
  const first = firstSegno(base, segmentSize)
  const more = backups.map((backup) => intervalOf(backup, segmentSize))
  return {
    backups,
    wal: new WalScope({ segmentSize, first, lastOf: end, more }),
    segmentSize,
    base: base.name,
  }
}

/** WAL-G's words as a window. */
function asWindow({ backup, from, to, withHistory = false }: CopyRequest): Pick<CopyRequest, 'from' | 'to'> {
  if (backup === undefined) return { from, to }
  const own: WindowEnd = { kind: 'backup', name: backup }
  return { from: own, to: withHistory ? undefined : own }
}

/** The segment before the one that the backup begins in belongs to it for WAL-G (GetFirstWalFilename): it counts from the byte before. */
function firstSegno({ startLsn }: ScopedBackup, segmentSize: number): bigint {
  return startLsn === undefined || startLsn === 0n ? 0n : (startLsn - 1n) / BigInt(segmentSize)
}

function intervalOf(backup: ScopedBackup, segmentSize: number): SegnoInterval {
  const first = firstSegno(backup, segmentSize)
  const { finishLsn } = backup
  return { first, last: finishLsn === undefined ? first + 1n : finishLsn / BigInt(segmentSize) }
}

/** The newest backup that was complete at the beginning of the window; the oldest one where there is no beginning. */
function baseOf({ backups, find }: BackupArchiveOrder, from: WindowEnd | undefined, location: string): ScopedBackup {
  if (from?.kind === 'backup') return find(from.name)
  const usable = backups.filter(({ finishLsn, startLsn }) => startLsn !== undefined && finishLsn !== undefined)
  const base = from === undefined ? usable[0] : usable.findLast((backup) => isBefore(backup, from))
  if (base) return base
  const [oldest] = usable
  if (!oldest) {
    throw new WalrxError('WALRX_BACKUP_NOT_FOUND', `there is no backup at ${location} that a window could begin with`, {
      hint: 'leave --from and --to out to copy all of the archive',
    })
  }
  throw new WalrxError(
    'WALRX_TARGET_UNREACHABLE',
    `no backup was complete at ${describeEnd(from)}: the oldest, ${oldest.name}, ended at ${endText(oldest)}`,
    { hint: `write --from ${oldest.name} to begin with that one, or leave --from out` },
  )
}

function isBefore({ finishLsn, finishTime }: ScopedBackup, end: WindowEnd): boolean {
  if (end.kind === 'lsn') return finishLsn !== undefined && finishLsn <= end.lsn
  return end.kind === 'time' && finishTime !== undefined && finishTime <= end.time
}

/** The last segment of the window by timeline. */
async function endOf(
  { segmentSize, source, signal }: ScopeOptions,
  { find }: BackupArchiveOrder,
  base: ScopedBackup,
  to: WindowEnd,
): Promise<(timeline: Timeline) => bigint | undefined | 'none'> {
  if (to.kind !== 'time') {
    const lsn = to.kind === 'lsn' ? to.lsn : find(to.name).finishLsn
    if (lsn === undefined)
      throw new WalrxError('WALRX_TARGET_UNREACHABLE', `no document of ${describeEnd(to)} says where it ends`, {
        hint: 'write the LSN at which the window ends',
      })
    refuseEarly(base, base.finishLsn !== undefined && base.finishLsn > lsn, to)
    const last = lsn / BigInt(segmentSize)
    return () => last
  }
  refuseEarly(base, base.finishTime !== undefined && base.finishTime > to.time, to)
  const reader = new WalReader(source)
  const options = signal && { signal }
  const from = (base.finishLsn ?? 0n) / BigInt(segmentSize)
  const lasts = new Map<Timeline, bigint | undefined>()
  for await (const timeline of reader.timelinesAfter(0, options)) {
    lasts.set(timeline, await segmentAfterTime({ reader, timeline, from, segmentSize, time: to.time, ...options }))
  }
  return (timeline) => (lasts.has(timeline) ? lasts.get(timeline) : 'none')
}

function refuseEarly(base: ScopedBackup, isEarly: boolean, to: WindowEnd): void {
  if (!isEarly) return
  throw new WalrxError(
    'WALRX_TARGET_UNREACHABLE',
    `the window ends at ${describeEnd(to)}, and the backup that it begins with, ${base.name}, only at ${endText(base)}`,
    { hint: 'write an earlier --from, or a later --to' },
  )
}

/** Whether a later backup was complete within the window. */
function isInside(
  backup: ScopedBackup,
  base: ScopedBackup,
  to: WindowEnd | undefined,
  end: ((timeline: Timeline) => bigint | undefined | 'none') | undefined,
  segmentSize: number,
): boolean {
  const { finishLsn, startLsn, timeline } = backup
  if (startLsn === undefined || finishLsn === undefined || timeline === undefined) return false
  if (base.startLsn !== undefined && startLsn < base.startLsn) return false
  if (!to || !end) return true
  if (to.kind !== 'backup') return isBefore(backup, to)
  const last = end(timeline)
  return last !== 'none' && (last === undefined || finishLsn / BigInt(segmentSize) <= last)
}

function describeEnd(end: WindowEnd | undefined): string {
  return end?.kind === 'backup' ? `backup ${end.name}` : describeTarget(end)
}

function endText({ finishLsn }: ScopedBackup): string {
  return finishLsn === undefined ? 'an unknown LSN' : formatLsn(finishLsn)
}
