/** What all findings together say: how many of each level there are, and how the command ends. */
import type { Finding, FindingLevel } from './finding.ts'

/** How many findings have each level. */
export function countLevels(findings: readonly Finding[]): Readonly<Record<FindingLevel, number>> {
  const counts = { ok: 0, note: 0, warning: 0, error: 0, skipped: 0 }
  for (const { level } of findings) counts[level]++
  return counts
}

/**
 * The exit status: that of the first error, which is the one that a start would have ended with; 0 without errors, whatever the
 * warnings are.
 */
export function checkStatus(findings: readonly Finding[]): number {
  return findings.find(({ level }) => level === 'error')?.exitStatus ?? 0
}

/** Of monitoring plugins: OK, WARNING, CRITICAL, UNKNOWN. */
export const monitoringStatuses = { ok: 0, warning: 1, critical: 2, unknown: 3 } as const

/** The exit status of a monitoring plugin: 2 with an error, 1 with a warning. A note is none. */
export function monitoringStatus(findings: readonly Finding[]): number {
  const { error, warning } = countLevels(findings)
  if (error > 0) return monitoringStatuses.critical
  return warning > 0 ? monitoringStatuses.warning : monitoringStatuses.ok
}
