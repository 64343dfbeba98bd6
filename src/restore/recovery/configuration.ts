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

/** CONF_FILE_MAX_DEPTH (guc-file.l). */
const depthMax = 10

/**
 * A name, an optional `=`, and a value: quoted, or of characters that need no quotes. Blanks are needed only where name and
 * value would be one word. Comments are no part of it.
 */
const settingLine =
  /^[ \t\r]*([a-z_\x80-\xff][\w$.\x80-\xff]*)(?![\w$.\x80-\xff])[ \t\r]*=?[ \t\r]*('(?:[^'\\]|\\.|'')*'|[^\s#'=][^\s#']*)/i

/** All settings of a data directory's files, in the order in which the server reads them: the last of a name wins. */
export async function readConfiguration(dataDirectory: string): Promise<FoundSetting[]> {
  const found: FoundSetting[] = []
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

async function readFileInto(found: FoundSetting[], dataDirectory: string, path: string, depth: number): Promise<void> {
  if (depth > depthMax) return
  // A file that cannot be read is for the server to complain about.
  const text = await fs.readFile(path, 'latin1').catch(() => '')
  const inside = relative(dataDirectory, path)
  const file = inside.startsWith('..') ? path : inside
  for (const line of text.split('\n')) {
    const setting = parseSettingLine(line)
    if (!setting) continue
    const { name, value } = setting
    if (!/^include(_if_exists|_dir)?$/.test(name)) {
      found.push({ name, value, file })
      continue
    }
    const target = isAbsolute(value) ? value : join(dirname(path), value)
    const files = name === 'include_dir' ? await includedFiles(target) : [target]
    for (const each of files) await readFileInto(found, dataDirectory, each, depth + 1)
  }
}

/** The files of an include_dir (conffiles.c, GetConfFilesInDir). */
async function includedFiles(directory: string): Promise<string[]> {
  const names = await fs.readdir(directory).catch(() => [])
  return names
    .filter((name) => name.endsWith('.conf') && !name.startsWith('.'))
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
