/** A plan of a deletion for programs, and what was done. */
import { formatJson, type JsonValue } from '../../../primitives/json/json.ts'
import { formatLsn } from '../../../postgres/lsn.ts'
import { segmentName } from '../../../postgres/wal/wal-file.ts'
import type { DeletionOutcome } from '../../../retention/removal/carry-out.ts'
import type { DeletionPlan } from '../../../retention/plan/deletion-plan.ts'
import { kindText } from './deletion-text.ts'

/** What was done, and whether the store keeps versions of it. */
export type ShownOutcome = DeletionOutcome & { readonly keepsVersions: boolean }

/** The text. `outcome` is missing for a dry run. */
export function deletionToJson(plan: DeletionPlan, segmentSize: number, outcome: ShownOutcome | undefined): string {
  const head = {
    dry_run: outcome === undefined,
    backups: plan.backups.map((choice) => ({
      action: choice.action,
      backup_name: choice.backup.name,
      reason: choice.reason,
      wal: choice.action === 'keep' ? choice.wal : null,
      kind: kindText(choice.backup),
      start_time: new Date(choice.backup.startMs).toISOString(),
      finish_time: new Date(choice.backup.finishMs).toISOString(),
      is_permanent: choice.backup.isMarkKnown ? choice.backup.isPermanent : null,
      objects: choice.backup.folder.objects + 1,
      bytes: choice.backup.folder.bytes,
    })),
    unfinished: plan.leftovers.map(({ action, backup, reason }) => ({
      action,
      backup_name: backup.name,
      state: backup.state,
      reason,
      objects: backup.folder.objects,
      bytes: backup.folder.bytes,
    })),
    wal: plan.wal.map(({ action, bytes, first, last, neededBy, objects, segments, timeline }) => ({
      action,
      timeline,
      first_segment: segmentName(timeline, BigInt(first), segmentSize),
      last_segment: segmentName(timeline, BigInt(last), segmentSize),
      segments_count: segments,
      objects,
      bytes,
      needed_by: neededBy ?? null,
    })),
    others: plan.others.map(({ bytes, kind, objects }) => ({ action: 'delete', kind, objects, bytes })),
    unfinished_files: plan.unfinishedFiles ? { ...plan.unfinishedFiles } : null,
    window: windowToJson(plan),
    total: { ...plan.total },
    ...(outcome && { done: outcomeToJson(outcome) }),
  }
  return `${formatJson(head)}\n`
}

function windowToJson({ window }: DeletionPlan): JsonValue {
  if (!window) return null
  return {
    backup_name: window.backup,
    from_time: new Date(window.fromMs).toISOString(),
    from_lsn: formatLsn(window.fromLsn),
    to_time: new Date(window.toMs).toISOString(),
    to_lsn: formatLsn(window.toLsn),
    timeline: window.timeline,
    missing_segments: window.missing,
    first_missing_lsn: window.firstMissing === undefined ? null : formatLsn(window.firstMissing),
  }
}

/** What was done, by its numbers. */
function outcomeToJson({
  backups,
  bytes,
  keepsVersions,
  objects,
  refusals,
  staying,
  unfinishedFiles,
}: ShownOutcome): JsonValue {
  return {
    backups,
    objects,
    bytes,
    staying: [...staying],
    unfinished_files: unfinishedFiles ? { ...unfinishedFiles } : null,
    keeps_versions: keepsVersions,
    refused: refusals.count,
    refused_objects: refusals.shown.map(({ error, key }) => ({ key, reason: error.message })),
  }
}
