/** Whether commits wait for walrx, and whether they are meant to. */
import type { CheckWish } from '../check-wish.ts'
import { failure, type Finding, note, ok, setting, skipped, warning } from '../finding.ts'
import { reloaded, sqlText } from './remedies.ts'

/** synchronous_standby_names, taken apart. */
export interface SyncNames {
  /** `FIRST`, `ANY`; a list without a word is FIRST. */
  readonly method: 'FIRST' | 'ANY'
  readonly count: number
  readonly names: readonly string[]
}

/**
 * Reads the value (syncrep_gram.y): `a, b`, `2 (a, b)`, `FIRST 2 (a, b)`, `ANY 1 (a, "b c")`, `*`. Undefined for the empty one
 * and for what the server would not take.
 */
export function parseSyncNames(text: string): SyncNames | undefined {
  const match = /^\s*(?:(?:(FIRST|ANY)\s+)?(\d+)\s*\((.*)\)|(.*\S.*))\s*$/is.exec(text)
  if (!match) return undefined
  const [, method = 'FIRST', count = '1', inside, bare] = match
  const names = [...(inside ?? bare ?? '').matchAll(/"((?:[^"]|"")*)"|([^\s,"]+)/g)].map(
    ([, quoted, plain = '']) => quoted?.replaceAll('""', '"') ?? plain.toLowerCase(),
  )
  return names.length === 0
    ? undefined
    : { method: method.toUpperCase() as SyncNames['method'], count: Number(count), names }
}

/** Names are compared as pg_strcasecmp does; `*` is everybody. */
function has({ names }: SyncNames, applicationName: string): boolean {
  return names.some((name) => name === '*' || name.toLowerCase() === applicationName.toLowerCase())
}

/**
 * The value with one name more. Of FIRST the list is in the order of priority, and only the first of it are waited for: the name
 * goes first, and the number grows, so that those that were waited for still are. ANY asks for as many as before.
 */
export function withName(text: string, name: string): string {
  const quoted = /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`
  const known = parseSyncNames(text)
  if (!known) return quoted
  const list = /^\s*(?:(?:FIRST|ANY)\s+)?\d+\s*\((.*)\)\s*$/is.exec(text)?.[1] ?? text
  return known.method === 'ANY'
    ? `ANY ${known.count} (${list.trim()}, ${quoted})`
    : `FIRST ${known.count + 1} (${quoted}, ${list.trim()})`
}

/** The finding `server.synchronous`. */
export function syncFinding(settings: ReadonlyMap<string, string>, { conninfo, isSynchronous }: CheckWish): Finding {
  const id = 'server.synchronous'
  const value = settings.get('synchronous_standby_names')
  if (value === undefined) return skipped(id, 'the server could not be asked')
  const names = parseSyncNames(value)
  const isNamed = names !== undefined && has(names, conninfo.applicationName)
  const shown = `synchronous_standby_names is ${sqlText(value)}`
  if (!isSynchronous) {
    // A list with a star or with others as well may have a standby that answers.
    if (!isNamed || names.names.includes('*')) return ok(id, `${shown}, and --synchronous is not given`)
    const text = `${shown} and names ${conninfo.applicationName}, without --synchronous: commits can wait until a segment is full`
    return failure(id, 3, text, setting('--synchronous'))
  }
  if (!isNamed) {
    const text = `--synchronous is given, ${shown} and must name ${conninfo.applicationName}: no commit waits for the archive`
    return warning(id, text, ...reloaded('synchronous_standby_names', withName(value, conninfo.applicationName)))
  }
  const level = settings.get('synchronous_commit') ?? 'on'
  if (level === 'remote_apply') {
    const text =
      'synchronous_commit is remote_apply, which walrx never answers because it applies nothing: commits wait for ever'
    return failure(id, 3, text, ...reloaded('synchronous_commit', 'on'))
  }
  if (level === 'off' || level === 'local') {
    const text = `synchronous_commit is ${level}, and must be on: no commit waits for the archive`
    return warning(id, text, ...reloaded('synchronous_commit', 'on'))
  }
  if (!isAlwaysWaitedFor(names, conninfo.applicationName)) {
    const text = `${shown}: a commit need not wait for ${conninfo.applicationName} while the others answer, and is then not in the archive`
    return note(id, text)
  }
  return ok(id, `${shown}, synchronous_commit is ${level}, and --synchronous is given`)
}

/** True where every commit waits for a standby, whichever others answer: it is among the first, or all are asked. */
function isAlwaysWaitedFor({ count, method, names }: SyncNames, applicationName: string): boolean {
  if (method === 'ANY') return count >= names.length && !names.includes('*')
  return has({ count, method, names: names.slice(0, count) }, applicationName)
}
