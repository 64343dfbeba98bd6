/**
 * Carries a plan out: backups, then the WAL that those that are left do not need. It can be killed at any moment, and run
 * again: what it had begun it then ends.
 */
import type { Clock } from '../../primitives/clock.ts'
import type { Storage, StorageCallOptions, SweptFiles } from '../../storage/storage.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'
import type { Choice } from '../rules/choice.ts'
import { type DeletionPlan, walNeeds } from '../plan/deletion-plan.ts'
import type { OwnRecord } from '../contents/own-records.ts'
import { removeRecords } from './bulk-deletion.ts'
import { deleteBackups } from './delete-backups.ts'
import { readLate } from './late-backups.ts'
import { Refusals } from './refusals.ts'
import { sweep } from './unfinished-files.ts'
import { removeWal } from './wal-removal.ts'

/** What was done. */
export interface DeletionOutcome {
  readonly backups: number
  readonly objects: number
  readonly bytes: number
  /** Names of backups that were to go and stay. */
  readonly staying: readonly string[]
  readonly refusals: Refusals
  /** Files that were no objects; undefined where there can be none. */
  readonly unfinishedFiles: SweptFiles | undefined
}

/** What a plan is carried out with. */
export interface CarryOutOptions extends StorageCallOptions {
  readonly storage: Storage
  readonly clock: Clock
  readonly contents: ArchiveContents
  readonly plan: DeletionPlan
}

/** Throws what the storage says, but for what it refuses. */
export async function carryOut({ clock, contents, plan, signal, storage }: CarryOutOptions): Promise<DeletionOutcome> {
  const call = signal ? { signal } : {}
  const refusals = new Refusals()
  const doomed = plan.backups.filter(({ action }) => action === 'delete').map(({ backup }) => backup.name)
  const leftovers = plan.leftovers.filter(({ action }) => action === 'delete').map(({ backup }) => backup.name)
  const backups = await deleteBackups({ ...call, storage, clock, contents, doomed, leftovers, refusals })
  const done = { objects: backups.objects, bytes: backups.bytes }
  if (plan.needs) {
    // A backup that stays against the plan keeps its WAL.
    const choices = plan.backups.map((choice): Choice => {
      const stays = choice.action === 'delete' && backups.staying.has(choice.backup.name)
      return stays ? { ...choice, action: 'keep', wal: 'own' } : choice
    })
    // So does one that was begun meanwhile, or that another tool has completed.
    const late = await readLate(storage, contents, call)
    const needs = walNeeds({ ...contents, unfinished: [...contents.unfinished, ...late] }, choices)
    const wal = needs && (await removeWal(storage, contents, needs, { ...call, refusals }))
    done.objects += wal?.objects ?? 0
    done.bytes += wal?.bytes ?? 0
  }
  const isOver = ({ backup }: OwnRecord) => backup === undefined || !backups.staying.has(backup)
  const records = await removeRecords(storage, plan.records.filter(isOver), { ...call, refusals })
  done.objects += records.objects
  done.bytes += records.bytes
  const unfinishedFiles = plan.unfinishedFiles && (await sweep(storage, contents.nowMs, call))
  return { ...done, unfinishedFiles, backups: backups.deleted.size, staying: [...backups.staying], refusals }
}
