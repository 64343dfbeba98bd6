/** The findings of `walrx check` as JSON. The ids and the levels are stable; texts are for people. */
import { groupOf } from '../../../check/check-table.ts'
import type { Finding } from '../../../check/finding.ts'
import { countLevels } from '../../../check/verdict.ts'
import type { JsonValue } from '../../../primitives/json/json.ts'

/** @param exitStatus that the command ends with */
export function checkToJson(findings: readonly Finding[], exitStatus: number): JsonValue {
  return {
    exit_status: exitStatus,
    counts: countLevels(findings),
    findings: findings.map(({ id, level, steps, text }) => ({
      id,
      group: groupOf(id),
      level,
      text,
      remedy: steps.map(({ run, text: step }) => ({ run, text: step })),
    })),
  }
}
