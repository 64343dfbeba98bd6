/**
 * Reads what the configuration files of a data directory set, as the server does (guc-file.l): postgresql.conf with the
 * files that it includes, then postgresql.auto.conf. Reads only what is there: a packaged server may keep
 * postgresql.conf elsewhere.
 */
import fs from 'node:fs/promises'
import { dirname, isAbsolute, join, relative } from 'node:path'

/** The file that ALTER SYSTEM writes. The server reads it last, always from the data directory. */
export const autoFile = 'postgresql.auto.conf'

/** One setting of a file. */
export interface FoundSetting {
  /** In lower case. */
  readonly name: string
  /** Without its quotes, in latin1: the bytes as they are. */
  readonly value: string
  /** Path of the file: relative to the data directory where it is inside. */
  readonly file: string
}

/** What the files of a data directory say. */
export interface Configuration {
  /** All settings, in the order in which the server reads them: the last of a name wins. */
  readonly settings: readonly FoundSetting[]
  /** Files and directories that are included and cannot be read: a server does not start then. The value is the path. */
  readonly missing: readonly FoundSetting[]
}

/** CONF_FILE_MAX_DEPTH (guc-file.l). */
const depthMax = 10

/**
 * A name, an optional `=`, and a value: quoted, or of characters that need no quotes. Blanks are needed only where name and
 * value would be one word. Comments are no part of it.
 */
const settingLine =
  /^[ \t\r]*([a-z_\x80-\xff][\w$.\x80-\xff]*)(?![\w$.\x80-\xff])[ \t\r]*=?[ \t\r]*('(?:[^'\\]|\\.|'')*'|[^\s#'=][^\s#']*)/i

/** Reads postgresql.conf with all that it includes, then postgresql.auto.conf. */
export async function readConfiguration(dataDirectory: string): Promise<Configuration> {
  const found: Found = { settings: [], missing: [] }
  for (const name of ['postgresql.conf', autoFile])
    await readFileInto(found, dataDirectory, join(dataDirectory, name), 0)
  return found
}

/** The setting of one line; undefined for comments, blank lines and what the server would refuse. */
export function parseSettingLine(line: string): { readonly name: string; readonly value: string } | undefined {
  const [, name, value] = settingLine.exec(line) ?? []
  if (name === undefined || value === undefined) return undefined
  return { name: name.toLowerCase(), value: value.startsWith("'") ? unquoted(value.slice(1, -1)) : value }
}

interface Found {
  readonly settings: FoundSetting[]
  readonly missing: FoundSetting[]
}

/** @returns false where the file cannot be read */
async function readFileInto(found: Found, dataDirectory: string, path: string, depth: number): Promise<boolean> {
  if (depth > depthMax) return true
  const text = await fs.readFile(path, 'latin1').catch(() => undefined)
  if (text === undefined) return false
  const inside = relative(dataDirectory, path)
  const file = inside.startsWith('..') ? path : inside
  for (const line of text.split('\n')) {
    const setting = parseSettingLine(line)
    if (!setting) continue
    const { name, value } = setting
    if (!/^include(_if_exists|_dir)?$/.test(name)) {
      found.settings.push({ name, value, file })
      continue
    }
    // A path may have any bytes.
    const bytes = Buffer.from(value, 'latin1').toString()
    const target = isAbsolute(bytes) ? bytes : join(dirname(path), bytes)
    const files = name === 'include_dir' ? await includedFiles(target) : [target]
    let isThere = files !== undefined
    for (const each of files ?? []) isThere = (await readFileInto(found, dataDirectory, each, depth + 1)) && isThere
    if (!isThere && name !== 'include_if_exists') found.missing.push({ name, value: target, file })
  }
  return true
}

/** The files of an include_dir (conffiles.c, GetConfFilesInDir); undefined where it cannot be read. */
async function includedFiles(directory: string): Promise<string[] | undefined> {
  const names = await fs.readdir(directory).catch(() => undefined)
  return names
    ?.filter((name) => name.endsWith('.conf') && !name.startsWith('.'))
    .sort()
    .map((name) => join(directory, name))
}

/** DeescapeQuotedString (guc-file.l). */
function unquoted(text: string): string {
  return text.replace(/''|\\([0-7]{1,3}|.)/gs, (_, escaped: string | undefined) => {
    if (escaped === undefined) return "'"
    if (/^[0-7]/.test(escaped)) return String.fromCharCode(parseInt(escaped, 8) & 0xff)
    return { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }[escaped] ?? escaped
  })
}

/** A value as a quoted string of a configuration file, as ALTER SYSTEM writes it (escape_single_quotes_ascii). */
export function quotedSetting(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}
