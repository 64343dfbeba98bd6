/** What was typed after `walrx delete`, as a rule. */
import { WalrxError } from '../../primitives/errors.ts'
import { type JsonValue, parseJson } from '../../primitives/json/json.ts'
import { shellWord } from '../../primitives/shell-word.ts'
import type { OptionValues } from '../../config/options/options.ts'
import type { Modifier, Point, RetentionRule } from '../../retention/rules/rule.ts'
import { parseBackupTime } from '../../walg/backup/backup-time.ts'

/** A rule, or the deletion of all, which is none. */
export type AskedDeletion =
  { readonly kind: 'by rule'; readonly rule: RetentionRule } | { readonly kind: 'everything'; readonly force: boolean }

/** What {@link askedDeletion} reads. */
export interface DeletionWords {
  /** The first word; undefined for none. */
  readonly what: string | undefined
  readonly rest: readonly string[]
  readonly options: OptionValues<'delete'>
  readonly nowMs: number
}

const calls: Readonly<Record<string, string>> = {
  retain: 'walrx delete retain [FULL|FIND_FULL] COUNT [--after NAME|TIME]',
  before: 'walrx delete before [FIND_FULL] NAME|TIME',
  everything: 'walrx delete everything [FORCE]',
  target: 'walrx delete target [FIND_FULL] NAME, or walrx delete target --target-user-data JSON',
  garbage: 'walrx delete garbage [ARCHIVES|BACKUPS]',
}

/** Options that only one of the words takes. */
const ofOneWord = [
  ['retainAfter', '--after', 'retain'],
  ['targetUserData', '--target-user-data', 'target'],
  ['withoutBackupCheck', '--without-backup-check', 'garbage'],
] as const

/** Reads what is asked for. Throws WALRX_USAGE. */
export function askedDeletion(words: DeletionWords): AskedDeletion {
  const { options, rest, what } = words
  const keep = keepRule(options)
  for (const [key, flag, word] of ofOneWord) {
    const isGiven = options[key] !== undefined && options[key] !== false
    if (isGiven && what !== word) throw usage(`${flag} belongs to delete ${word}`, `write ${calls[word]}`)
  }
  if (what === undefined) {
    if (keep) return { kind: 'by rule', rule: keep }
    throw usage(
      'delete needs a rule',
      'write for instance walrx delete --keep-days 14, or walrx delete retain FULL 5; walrx delete --help has all',
    )
  }
  if (!Object.hasOwn(calls, what)) {
    const word = Object.keys(calls).find((each) => each === what.toLowerCase())
    const hint = word === undefined ? `it is one of ${Object.keys(calls).join(', ')}` : `did you mean ${word}?`
    throw usage(`delete does not know ${shellWord(what)}`, hint)
  }
  if (keep) throw usage(`delete ${what} goes by its own rule, and not by --keep-days and its like`, 'write one of them')
  if (what === 'everything') return { kind: 'everything', force: modifierOf(what, rest, ['FORCE'], 0) !== undefined }
  return { kind: 'by rule', rule: walgRule(what, words) }
}

function walgRule(what: string, { nowMs, options, rest }: DeletionWords): RetentionRule {
  const usesSentinelTime = options.useSentinelTime
  switch (what) {
    case 'retain': {
      const modifier = (modifierOf(what, rest, ['FULL', 'FIND_FULL'], 1) ?? 'none') as Modifier
      const after = options.retainAfter === undefined ? undefined : pointOf(options.retainAfter, nowMs)
      return { kind: 'retain', count: countOf(rest.at(-1) ?? ''), modifier, after, usesSentinelTime }
    }
    case 'before': {
      const modifier = (modifierOf(what, rest, ['FIND_FULL'], 1) ?? 'none') as 'FIND_FULL' | 'none'
      return { kind: 'before', point: pointOf(rest.at(-1) ?? '', nowMs), modifier, usesSentinelTime }
    }
    case 'target': {
      const data = options.targetUserData
      const wholeFamily = modifierOf(what, rest, ['FIND_FULL'], data === undefined ? 1 : 0) !== undefined
      const target = data === undefined ? { name: rest.at(-1) ?? '' } : { userData: userDataOf(data) }
      return { kind: 'target', target, wholeFamily }
    }
    default: {
      const only = modifierOf(what, rest, ['ARCHIVES', 'BACKUPS'], 0) as 'ARCHIVES' | 'BACKUPS' | undefined
      return { kind: 'garbage', what: only ?? 'all', withoutBackupCheck: options.withoutBackupCheck }
    }
  }
}

/** The word before the last `count` words, where there is one. */
function modifierOf(
  what: string,
  rest: readonly string[],
  modifiers: readonly string[],
  count: number,
): string | undefined {
  const call = `write ${calls[what]}`
  if (rest.length < count) throw usage(`delete ${what} lacks what it is to go by`, call)
  if (rest.length > count + 1) throw usage(`delete ${what} takes no ${shellWord(rest[count + 1] ?? '')}`, call)
  const [modifier] = rest.slice(0, rest.length - count)
  if (modifier === undefined || modifiers.includes(modifier)) return modifier
  const meant = modifierMeant(rest, modifiers)
  const hint = meant === undefined ? call : `did you mean walrx delete ${[what, ...meant].map(shellWord).join(' ')}?`
  throw usage(`delete ${what} takes no ${shellWord(modifier)}`, hint)
}

/** The same words with a modifier in capitals, and before the others, as WAL-G wants it. */
function modifierMeant(rest: readonly string[], modifiers: readonly string[]): string[] | undefined {
  const at = rest.findIndex((word) => modifiers.includes(word.toUpperCase()))
  const word = rest[at]
  return word === undefined ? undefined : [word.toUpperCase(), ...rest.toSpliced(at, 1)]
}

function countOf(text: string): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0
  if (count > 0) return count
  throw usage(`delete retain needs a count of at least 1, and not ${shellWord(text)}`, `write ${calls.retain}`)
}

function pointOf(text: string, nowMs: number): Point {
  const time = parseBackupTime(text)
  if (time === undefined) {
    if (!/^\d{4}-\d{2}-\d{2}/.test(text)) {
      if (text === '') throw usage('the name of a backup is empty', 'walrx backup-list shows the names')
      return { name: text }
    }
    throw usage(`${shellWord(text)} is no time`, 'write it with seconds and zone: 2026-03-01T12:00:00Z')
  }
  const timeMs = Number(time / 1_000_000n)
  if (timeMs > nowMs) throw usage(`${shellWord(text)} is in the future`, 'write a time that has passed')
  return { timeMs }
}

function userDataOf(text: string): JsonValue {
  try {
    return parseJson(text)
  } catch (error) {
    throw usage(`--target-user-data is no JSON: ${(error as Error).message}`, `quote it: '{"ticket":4711}'`)
  }
}

function keepRule(options: OptionValues<'delete'>): RetentionRule | undefined {
  const { keepDaily, keepDays, keepFull, keepMonthly, keepWeekly, keepYearly, recoveryWindow } = options
  const byDays = keepDays === undefined ? undefined : keepDays * 24 * 3600_000
  if (byDays !== undefined && recoveryWindow !== undefined) {
    throw usage('--keep-days and --recovery-window are the same in two units', 'write one of them')
  }
  const windowMs = byDays ?? recoveryWindow
  const given = { day: keepDaily, week: keepWeekly, month: keepMonthly, year: keepYearly }
  const counts = Object.fromEntries(Object.entries(given).filter(([, count]) => count !== undefined))
  if (windowMs === undefined && keepFull === undefined && Object.keys(counts).length === 0) return undefined
  return { kind: 'keep', windowMs, fullCount: keepFull, periods: counts }
}

function usage(message: string, hint: string): WalrxError {
  return new WalrxError('WALRX_USAGE', message, { hint })
}
