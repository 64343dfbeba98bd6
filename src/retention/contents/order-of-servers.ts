/**
 * The order of backups over timelines. A promoted host may have a clock that is late: by the times alone its backups would
 * count as older than those of the host before. The history of its timeline shows which of them it comes after.
 */
import { oldestFirst } from '../../catalog/backup-order.ts'
import type { Timeline } from '../../postgres/lsn.ts'
import { parseBackupName } from '../../walg/backup/backup-names.ts'
import type { ArchivedBackup } from './archived-backup.ts'
import type { WalStock } from './wal-stock.ts'

/** The latest time of a server's timeline up to a place. */
interface Reached {
  readonly startLsn: bigint
  readonly time: bigint
}

/**
 * Oldest first: as `oldestFirst` has it, and none counts as older than one of the same server that began before the
 * place at which its timeline left that one's. A history that the start of a backup contradicts is another server's, and
 * says nothing.
 */
export function inServerOrder(backups: readonly ArchivedBackup[], histories: WalStock['histories']): ArchivedBackup[] {
  const lines = new Map<string, Reached[]>()
  const lineOf = (systemId: bigint, timeline: Timeline): Reached[] => {
    const key = `${systemId} ${timeline}`
    let line = lines.get(key)
    if (!line) lines.set(key, (line = []))
    return line
  }
  const raised = backups
    .toSorted((a, b) => Number(a.startLsn > b.startLsn) - Number(a.startLsn < b.startLsn))
    .map((backup) => {
      const { name, startLsn, startTime, systemId } = backup
      const timeline = parseBackupName(name)?.timeline
      if (startTime === undefined || startLsn === 0n || systemId === undefined || timeline === undefined) return backup
      const history = histories.get(timeline) ?? []
      const isOwn = (history.at(-1)?.switchpoint ?? 0n) <= startLsn
      let time = startTime
      for (const entry of isOwn ? history : []) {
        const before = lineOf(systemId, entry.timeline).findLast((each) => each.startLsn <= entry.switchpoint)
        if (before && before.time > time) time = before.time
      }
      const line = lineOf(systemId, timeline)
      const last = line.at(-1)
      if (last && last.time > time) time = last.time
      line.push({ startLsn, time })
      return { ...backup, startTime: time }
    })
  const byName = new Map(backups.map((backup) => [backup.name, backup]))
  return oldestFirst(raised).map(({ name }) => byName.get(name)!)
}
