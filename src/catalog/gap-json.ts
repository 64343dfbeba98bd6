/** A recorded gap in the JSON of commands. */
import type { JsonValue } from '../primitives/json.ts'
import { isBreak } from '../walg/wal/gap-records.ts'
import type { OpenGap } from './open-gaps.ts'

/** Keys are those of WAL-G's documents where it has them: LSNs as numbers. */
export function gapToJson({ detectedAt, endLsn, host, missingCount, reason, slot, startLsn }: OpenGap): JsonValue {
  return {
    kind: isBreak({ endLsn, startLsn }) ? 'break' : 'gap',
    start_lsn: startLsn,
    end_lsn: endLsn,
    segments_count: missingCount,
    detected_at: detectedAt,
    reason,
    host,
    slot: slot ?? null,
  }
}
