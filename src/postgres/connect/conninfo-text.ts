/**
 * Parses the two forms of a connection string into keywords and values as libpq does (conninfo_parse and
 * conninfo_uri_parse in fe-connect.c), without regard to their meaning. Messages never repeat a value: it may be a
 * password, or a fragment of one that was not quoted.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { textOfBytes } from '../protocol/password-text.ts'

/** Keywords with their values as written; a later one has replaced an earlier one. */
export type KeywordValues = Map<string, string>

/**
 * Parses a connection string: `host=… port=…`, or a URI that begins with `postgresql://` or `postgres://`.
 * @throws WALRX_USAGE with the problem and its position, without the text itself
 */
export function splitConninfo(text: string): KeywordValues {
  return /^postgres(ql)?:\/\//.test(text) ? splitUri(text) : splitKeywordValues(text)
}

function broken(what: string): WalrxError {
  return new WalrxError('WALRX_USAGE', `the connection string ${what}`, {
    hint: "write it as keywords, host=db1 port=5432 application_name='with spaces', or as postgresql://user@host:port/dbname",
  })
}

/** What a URL needs in place of characters that have a meaning there. */
export const encodeHint =
  'in user, password and database of a URL write %2F for "/", %40 for "@", %3A for ":" and %25 for "%"'

/** A URL with an "@" where none can be: most likely there is a password that is not encoded. */
function strayAt(where: string): WalrxError {
  return new WalrxError(
    'WALRX_USAGE',
    `the connection string has an "@" ${where}, as a password that is not encoded has`,
    {
      hint: encodeHint,
    },
  )
}

const space = /\s/

function splitKeywordValues(text: string): KeywordValues {
  const values: KeywordValues = new Map()
  let at = 0
  const skipSpace = () => {
    while (at < text.length && space.test(text[at] ?? '')) at++
  }
  for (skipSpace(); at < text.length; skipSpace()) {
    const start = at
    while (at < text.length && text[at] !== '=' && !space.test(text[at] ?? '')) at++
    const keyword = text.slice(start, at)
    skipSpace()
    if (text[at] !== '=') throw broken(`has no "=" after the word at character ${start + 1}`)
    if (keyword === '') throw broken(`has no keyword before the "=" at character ${at + 1}`)
    at++
    skipSpace()
    const { end, value } = text[at] === "'" ? quotedValue(text, at) : plainValue(text, at)
    at = end
    values.set(keyword, value)
  }
  return values
}

/** A value up to the next space; a backslash escapes the next character. */
function plainValue(text: string, start: number): { value: string; end: number } {
  let value = ''
  let at = start
  while (at < text.length && !space.test(text[at] ?? '')) {
    if (text[at] === '\\') at++
    value += text[at] ?? ''
    at++
  }
  return { value, end: Math.min(at, text.length) }
}

/** A value between single quotes; a backslash escapes the next character. */
function quotedValue(text: string, start: number): { value: string; end: number } {
  let value = ''
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === "'") return { value, end: at + 1 }
    if (text[at] === '\\') at++
    value += text[at] ?? ''
  }
  throw broken(`has a quote at character ${start + 1} that is not closed`)
}

/** `postgresql://[user[:password]@][host][:port][,…][/dbname][?keyword=value&…]`. */
function splitUri(text: string): KeywordValues {
  const values: KeywordValues = new Map()
  let rest = text.slice(text.indexOf('://') + 3)
  // As in libpq, the first "@" ends the credentials unless a "/" comes before it; a "?" does not matter here.
  const credentials = /^([^@/]*)@/.exec(rest)?.[1]
  if (credentials !== undefined) {
    rest = rest.slice(credentials.length + 1)
    const [user, password] = cut(credentials, ':')
    setDecoded(values, 'user', user)
    setDecoded(values, 'password', password)
  }
  const [path, query] = cut(rest, '?')
  if (credentials === undefined && rest.includes('@') && /^[^/?]*:(?!\d*[/?])/.test(rest))
    throw strayAt('after a "/" or "?"')
  if (path.includes('@'))
    throw strayAt(credentials === undefined ? 'after a "/"' : 'after the one that ends the password')
  const [hosts, database] = cut(path, '/')
  splitHosts(values, hosts)
  setDecoded(values, 'dbname', database)
  if (query !== undefined && query !== '') {
    for (const parameter of query.split('&')) setParameter(values, parameter)
  }
  return values
}

/** The text before the first separator and the text after it; undefined without a separator. */
function cut(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator)
  return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}

function setDecoded(values: KeywordValues, keyword: string, text: string | undefined): void {
  if (text !== undefined && text !== '') values.set(keyword, decodePercent(text, keyword))
}

/** Hosts and ports as libpq's comma-separated lists, where an empty item means the default. */
function splitHosts(values: KeywordValues, text: string): void {
  const hosts: string[] = []
  const ports: string[] = []
  for (const item of text.split(',')) {
    const match = item.startsWith('[') ? /^\[([^\]]+)\](?::(.*))?$/.exec(item) : /^([^:]*)(?::(.*))?$/.exec(item)
    if (!match) throw broken('has a host that is neither a name, an address nor an IPv6 address in brackets')
    const host = decodePercent(match[1] ?? '', 'host')
    if (host.includes(',') || host.startsWith(' ')) throw broken('has a host that contains a comma or a space')
    hosts.push(host)
    ports.push(decodePercent(match[2] ?? '', 'port'))
  }
  if (hosts.some((host) => host !== '')) values.set('host', hosts.join(','))
  if (ports.some((port) => port !== '')) values.set('port', ports.join(','))
}

function setParameter(values: KeywordValues, parameter: string): void {
  const [name, value] = cut(parameter, '=')
  if (value === undefined || name === '' || value.includes('=')) {
    throw broken('has a parameter after the "?" that does not have the form keyword=value')
  }
  const keyword = decodePercent(name, 'keyword')
  const decoded = decodePercent(value, 'parameter')
  // As JDBC spells it; libpq takes it in URIs only.
  if (keyword === 'ssl' && decoded === 'true') values.set('sslmode', 'require')
  else values.set(keyword, decoded)
}

function percentBytes(text: string): Buffer {
  const parts = text.split(/(%[0-9A-Fa-f]{2})/)
  return Buffer.concat(
    parts.map((part) => (part.startsWith('%') ? Buffer.from(part.slice(1), 'hex') : Buffer.from(part))),
  )
}

function decodePercent(text: string, part: string): string {
  if (/%(?![0-9A-Fa-f]{2})/.test(text)) throw broken(`has a "%" in its ${part} without two hex digits after it`)
  if (text.includes('%00')) throw broken(`has a zero byte in its ${part}`)
  try {
    return decodeURIComponent(text)
  } catch {
    if (part === 'password') return textOfBytes(percentBytes(text))
    throw broken(`has percent-encoded bytes in its ${part} that are not UTF-8`)
  }
}
