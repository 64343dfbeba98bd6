/** Names under which a setting may be given, and which names are known at all. */
import { nearest } from '../primitives/nearest.ts'
import type { OptionSpec } from './options/option-types.ts'
import { optionTable } from './options/options.ts'
import { foreignPrefixes, walgSettings } from './walg-settings.ts'

/**
 * All names of a setting, in the order in which they are looked for: `WALG_X` also as `WALE_X`, and `AWS_X`, `S3_X` and
 * `GCS_X` bare first, then with either prefix (WAL-G: GetWaleCompatibleSetting).
 */
export function spellings(name: string): string[] {
  if (name.startsWith('WALG_')) return [name, `WALE_${name.slice(5)}`]
  if (/^(AWS|S3|GCS)_/.test(name)) return [name, `WALG_${name}`, `WALE_${name}`]
  return [name]
}

/** All names of an option, in order of precedence. */
export function optionNames(env: readonly string[]): string[] {
  return env.flatMap(spellings)
}

/** The option that a variable sets, under any of its names; undefined for none. */
export function optionNamed(name: string): OptionSpec | undefined {
  return Object.values<OptionSpec>(optionTable).find(({ env }) => optionNames(env).includes(name))
}

/** Every name that means something, or that WAL-G knows. */
export function knownNames(): Set<string> {
  const known = new Set<string>()
  for (const spec of Object.values(optionTable)) for (const name of optionNames(spec.env)) known.add(name)
  for (const row of walgSettings) for (const name of row.names.flatMap(spellings)) known.add(name)
  return known
}

/** Names among `names` that nothing knows, each with the nearest known one. Only WALG_, WALE_ and WALRX_ are judged. */
export function unknownNames(
  names: Iterable<string>,
): { readonly name: string; readonly nearest: string | undefined }[] {
  const ours = [...names].filter((name) => /^(WALG|WALE|WALRX)_/.test(name))
  if (ours.length === 0) return []
  const known = knownNames()
  return ours
    .filter((name) => !known.has(name) && !foreignPrefixes.some((prefix) => name.startsWith(prefix)))
    .map((name) => ({ name, nearest: nearest(name, known) }))
}
