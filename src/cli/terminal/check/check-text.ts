/** The findings of `walrx check` as text: grouped lines, and under each what mends it, ready to be pasted. */
import { checkGroups, type CheckGroup, groupOf } from '../../../check/check-table.ts'
import type { Finding, FindingLevel, Step } from '../../../check/finding.ts'
import { countLevels } from '../../../check/verdict.ts'

/** What comes before a step. */
const places: Readonly<Record<Step['run'], string>> = {
  sql: 'SQL',
  server: 'on the server',
  here: 'on this machine',
  policy: 'in the policy',
  setting: 'in the call',
  do: 'do',
}

const levelWidth = 'warning'.length

/** Of ANSI: yellow, red, and dim for what needs no eye. */
const colours: Readonly<Partial<Record<FindingLevel, string>>> = { warning: '33', error: '31', skipped: '2' }

/** All findings by their groups, and a line with the counts. */
export function checkText(findings: readonly Finding[], hasColours: boolean): string {
  const present = checkGroups.filter((group) => findings.some(({ id }) => groupOf(id) === group))
  const groups = present.map((group) =>
    groupText(
      group,
      findings.filter(({ id }) => groupOf(id) === group),
      hasColours,
    ),
  )
  return [...groups, summary(findings)].join('\n')
}

function groupText(group: CheckGroup, findings: readonly Finding[], hasColours: boolean): string {
  const looked = findings.filter(({ level }) => level !== 'skipped')
  return [
    `${group}\n`,
    ...looked.map((finding) => findingText(finding, hasColours)),
    ...skippedLines(findings, hasColours),
  ].join('')
}

function findingText({ id, level, steps, text }: Finding, hasColours: boolean): string {
  const lines = steps.map(({ run, text: step }) => `${' '.repeat(levelWidth + 6)}${places[run]}: ${step}\n`)
  return `  ${shownLevel(level, hasColours)}  ${id}: ${text}\n${lines.join('')}`
}

function shownLevel(level: FindingLevel, hasColours: boolean): string {
  const padded = level.padEnd(levelWidth)
  const colour = colours[level]
  return hasColours && colour !== undefined ? `\x1b[${colour}m${padded}\x1b[0m` : padded
}

/** Those with the same reason on one line. */
function skippedLines(findings: readonly Finding[], hasColours: boolean): string[] {
  const byReason = Map.groupBy(
    findings.filter(({ level }) => level === 'skipped'),
    ({ text }) => text,
  )
  return [...byReason].map(([reason, those]) => {
    return `  ${shownLevel('skipped', hasColours)}  ${those.map(({ id }) => id).join(', ')}: ${reason}\n`
  })
}

function summary(findings: readonly Finding[]): string {
  const counts = countLevels(findings)
  const parts = (['error', 'warning', 'note', 'ok', 'skipped'] as const).map((level) => {
    const count = counts[level]
    const word = level === 'ok' || level === 'skipped' || count === 1 ? level : `${level}s`
    return `${count} ${word}`
  })
  return `${parts.join(', ')}\n`
}
