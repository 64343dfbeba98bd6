/** A recorded gap in the JSON of commands. */
import type { Timeline } from '../postgres/lsn.ts'
import type { JsonObject } from '../walg/json-document.ts'
import { isBreak } from '../walg/wal/gap-records.ts'
import type { OpenGap } from './open-gaps.ts'

/**
 * Keys are those of WAL-G's documents where it has them: LSNs as numbers.
 * @param place goes after the kind, where a command shows the gaps of all timelines together
 */
export function gapToJson(
  { detectedAt, endLsn, host, missingCount, reason, slot, startLsn }: OpenGap,
  place: { readonly timeline?: Timeline } = {},
): JsonObject {
  return {
    kind: isBreak({ endLsn, startLsn }) ? 'break' : 'gap',
    ...place,
    start_lsn: startLsn,
    end_lsn: endLsn,
    segments_count: missingCount,
    detected_at: detectedAt === '' ? null : detectedAt,
    reason,
    host,
    slot: slot ?? null,
  }
}
