/** The text of an option turned into its value. */
import { parseLsn } from '../../postgres/lsn.ts'
import { Secret } from '../../primitives/secret.ts'
import type { OptionType } from './option-types.ts'

/** What {@link parseOptionText} answers: a value, or what the text must be instead ("must be …"). */
export type ParsedOption =
  { readonly value: string | number | boolean | bigint | Secret } | { readonly problem: string }

const byteUnits: Readonly<Record<string, number>> = { '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 }

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** Parses `64MB`, `64MiB`, `64m`, `67108864`: powers of 1024, as PostgreSQL does. Undefined when it is no size. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?$/i.exec(text.trim())
  if (!match) return undefined
  const bytes = Number(match[1]) * (byteUnits[(match[2] ?? '').toLowerCase()] ?? 1)
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

/** Writes a size in the largest unit that divides it: 67108864 is `64MB`. */
export function formatBytes(bytes: number): string {
  for (const [unit, factor] of [
    ['GB', 1024 ** 3],
    ['MB', 1024 ** 2],
    ['kB', 1024],
  ] as const) {
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`
  }
  return `${bytes}B`
}

/** Parses `15s`, `500ms`, `1m30s`, `0` into milliseconds. Undefined when it is no duration; a bare number is none. */
export function parseDurationMs(text: string): number | undefined {
  const trimmed = text.trim()
  if (trimmed === '0') return 0
  if (!/^(\d+(\.\d+)?(ms|min|s|m|h|d))+$/.test(trimmed)) return undefined
  let total = 0
  for (const [, amount, unit] of trimmed.matchAll(/(\d+(?:\.\d+)?)(ms|min|s|m|h|d)/g)) {
    total += Number(amount) * (durationUnits[unit ?? ''] ?? 0)
  }
  return Math.round(total)
}

/** Writes milliseconds in the largest unit that divides them: 15000 is `15s`. */
export function formatDurationMs(ms: number): string {
  for (const [unit, factor] of [
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1000],
  ] as const) {
    if (ms >= factor && ms % factor === 0) return `${ms / factor}${unit}`
  }
  return ms === 0 ? '0' : `${ms}ms`
}

/** Parses what Go's ParseBool and PostgreSQL understand. Undefined when it is neither true nor false. */
export function parseBoolean(text: string): boolean | undefined {
  if (/^(true|t|yes|on|1)$/i.test(text.trim())) return true
  if (/^(false|f|no|off|0)$/i.test(text.trim())) return false
  return undefined
}

/** Parses an option's text by its type and checks its range. White space around it is dropped, but for secrets. */
export function parseOptionText(type: OptionType, text: string): ParsedOption {
  const trimmed = text.trim()
  switch (type.kind) {
    case 'string':
      return { value: trimmed }
    case 'secret':
      return { value: new Secret(text) }
    case 'boolean':
      return found(parseBoolean(trimmed), 'true or false')
    case 'integer': {
      const value = /^[+-]?\d+$/.test(trimmed) ? Number(trimmed) : undefined
      return inRange(value, type.min, type.max, 'a whole number', String)
    }
    case 'number': {
      const value = /^\+?(\d+\.?\d*|\.\d+)$/.test(trimmed) ? Number(trimmed) : undefined
      return inRange(value, type.min, type.max, 'a number like 0.023', String)
    }
    case 'bytes':
      return inRange(parseBytes(trimmed), type.min, type.max, 'a size like 64MB', formatBytes)
    case 'duration':
      return inRange(parseDurationMs(trimmed), type.minMs, type.maxMs, 'a duration like 15s', formatDurationMs)
    case 'choice':
      return found(chosen(type.values, type.synonyms ?? {}, trimmed), `one of ${type.values.join(', ')}`)
    case 'lsn':
      return /^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/.test(trimmed)
        ? { value: parseLsn(trimmed) }
        : { problem: 'must be an LSN like 16/B374D848' }
    default:
      return type satisfies never
  }
}

function chosen(values: readonly string[], synonyms: Readonly<Record<string, string>>, text: string) {
  const wanted = text.toLowerCase()
  const synonym = Object.entries(synonyms).find(([name]) => name.toLowerCase() === wanted)
  return values.find((value) => value.toLowerCase() === wanted) ?? synonym?.[1]
}

function found(value: string | boolean | undefined, what: string): ParsedOption {
  return value === undefined ? { problem: `must be ${what}` } : { value }
}

function inRange(
  value: number | undefined,
  min: number,
  max: number,
  what: string,
  format: (value: number) => string,
): ParsedOption {
  if (value !== undefined && value >= min && value <= max) return { value }
  return { problem: `must be ${what} from ${format(min)} to ${format(max)}` }
}
