/**
 * Config files: a flat map of settings by the names of the environment variables. JSON, YAML, TOML, or lines of
 * `NAME=value`; the libraries for YAML and TOML are loaded only when such a file is there.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { WalrxError } from '../primitives/errors.ts'

/** Extensions of `~/.walg.*`, in the order in which they are looked for. */
export const configExtensions = ['json', 'yaml', 'yml', 'toml', 'env'] as const

/** The first `~/.walg.*` that exists, or undefined. */
export function findConfigFile(home: string): string | undefined {
  return configExtensions.map((extension) => join(home, `.walg.${extension}`)).find((path) => existsSync(path))
}

/**
 * Reads a config file. Names are made upper case (they are case-insensitive in WAL-G); null and empty values count as
 * not there. The extension decides the format; one that is unknown means lines of `NAME=value`.
 * @throws WalrxError WALRX_USAGE, never quoting the file: it may hold secrets
 */
export async function readConfigFile(path: string): Promise<Map<string, string>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    const why = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`
    const hint = 'name another file with --config or WALG_CONFIG_PATH, or make this one readable'
    throw new WalrxError('WALRX_USAGE', `config file ${path} ${why}`, { cause: error, hint })
  }
  switch (extname(path).toLowerCase()) {
    case '.json':
      return flatten(parseJson(path, text), path)
    case '.yaml':
    case '.yml':
      return flatten(await parseYaml(path, text), path)
    case '.toml':
      return flatten(await parseToml(path, text), path)
    default:
      return parseDotenv(path, text)
  }
}

function parseJson(path: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const line = /\(line (\d+) /.exec((error as Error).message)?.[1]
    throw malformed(path, 'JSON', line === undefined ? undefined : Number(line))
  }
}

async function parseYaml(path: string, text: string): Promise<unknown> {
  const { isAlias, isMap, isScalar, LineCounter, parseDocument } = await import('yaml')
  const lines = new LineCounter()
  const document = parseDocument(text, { prettyErrors: true, lineCounter: lines })
  // A warning is an unknown tag: the value would lose its first word.
  const error = document.errors[0] ?? document.warnings[0]
  if (error) throw malformed(path, 'YAML', error.linePos?.[0].line, yamlHint)
  const values = new Map<unknown, unknown>()
  for (const { key, value } of isMap(document.contents) ? document.contents.items : []) {
    const line = isAlias(value) ? lines.linePos(value.range?.[0] ?? 0).line : undefined
    if (isAlias(value) && value.resolve(document) === undefined) throw malformed(path, 'YAML', line, yamlHint)
    const isAnchored = isScalar(value) && value.anchor !== undefined
    if (isAnchored && value.value === null) {
      throw malformed(path, 'YAML', lines.linePos(value.range?.[0] ?? 0).line, yamlHint)
    }
    // As written: a password of digits may begin with zeros.
    if (isScalar(key) && isScalar(value) && typeof value.value === 'number') values.set(key.value, value.source)
  }
  try {
    const plain = document.toJS() as unknown
    return values.size === 0 ? plain : { ...(plain as object), ...Object.fromEntries(values) }
  } catch {
    throw malformed(path, 'YAML', undefined, yamlHint)
  }
}

const yamlHint = 'put a value that begins with one of * & ! @ ` % { [ | > or that holds ": " or " #" into single quotes'

async function parseToml(path: string, text: string): Promise<unknown> {
  const { parse } = await import('smol-toml')
  try {
    return parse(text)
  } catch (error) {
    throw malformed(path, 'TOML', (error as { line?: number }).line)
  }
}

/** Lines of `NAME=value` or `export NAME=value`, `#` comments; values may be in quotes, `\n` in double ones. */
function parseDotenv(path: string, text: string): Map<string, string> {
  const settings = new Map<string, string>()
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const trimmed = line.trim()
    if (trimmed === '' || trimmed.startsWith('#')) continue
    const match = /^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)$/.exec(trimmed)
    if (!match) throw malformed(path, 'a list of NAME=value', index + 1)
    const value = unquote(match[2] ?? '')
    if (value !== '') settings.set((match[1] ?? '').toUpperCase(), value)
  }
  return settings
}

/** The closing quote is the first one with nothing but a comment after it; without one the quote is part of the value. */
const quoted = /^(?:'(.*?)'|"((?:[^\\]|\\.)*?)")(?:\s+#.*)?$/

function unquote(text: string): string {
  const [, single, double] = quoted.exec(text) ?? []
  if (single !== undefined) return single
  if (double === undefined) return text.replace(/\s+#.*$/, '')
  return double.replace(/\\(.)/g, (_, letter: string) => ({ n: '\n', r: '\r', t: '\t' })[letter] ?? letter)
}

function flatten(parsed: unknown, path: string): Map<string, string> {
  const settings = new Map<string, string>()
  if (parsed === null || parsed === undefined) return settings
  if (typeof parsed !== 'object' || Array.isArray(parsed)) {
    throw new WalrxError('WALRX_USAGE', `config file ${path} is not a map of settings`, {
      hint: 'write one "NAME": "value" for each setting',
    })
  }
  for (const [name, value] of Object.entries(parsed as Record<string, unknown>)) {
    if (value === null || value === undefined || value === '') continue
    if (typeof value === 'object') {
      throw new WalrxError('WALRX_USAGE', `config file ${path}: the value of ${name} is a list or a map`, {
        hint: 'write a text, a number or true or false',
      })
    }
    // 32 digits may be a key: as a number they are rounded.
    if (typeof value === 'number' && Math.abs(value) > Number.MAX_SAFE_INTEGER) {
      throw new WalrxError('WALRX_USAGE', `config file ${path}: the value of ${name} is a number of too many digits`, {
        hint: 'put it into quotes',
      })
    }
    settings.set(name.toUpperCase(), String(value as string | number | boolean | bigint))
  }
  return settings
}

function malformed(path: string, what: string, line: number | undefined, hint?: string): WalrxError {
  return new WalrxError(
    'WALRX_USAGE',
    `config file ${path} is not ${what}${line === undefined ? '' : ` (line ${line})`}`,
    hint === undefined ? {} : { hint },
  )
}
