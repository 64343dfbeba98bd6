/**
 * The YAML of a configuration as values that know where they stand. The library's own messages quote the text, which may
 * be a secret: here each kind of error has words of ours.
 */
import { isUtf8 } from 'node:buffer'
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml'
import { type Mistake, Mistakes, type Place } from './mistakes.ts'

/** A value. A scalar has its text as it was written: a password of digits may begin with zeros. */
export type YamlValue =
  | { readonly kind: 'text'; readonly text: string; readonly place: Place }
  | { readonly kind: 'nothing'; readonly place: Place }
  | { readonly kind: 'list'; readonly items: readonly YamlValue[]; readonly place: Place }
  | { readonly kind: 'map'; readonly entries: readonly YamlEntry[]; readonly place: Place }

/** One key of a map. */
export interface YamlEntry {
  readonly key: string
  readonly place: Place
  readonly value: YamlValue
}

/** What a file holds; no `root` where it is no YAML. */
export interface YamlFile {
  readonly root: YamlValue | undefined
  readonly mistakes: Mistakes
}

const messages: Readonly<Record<string, string>> = {
  ALIAS_PROPS: 'an alias (*name) cannot have an anchor or a tag',
  BAD_ALIAS: 'the alias (*name) has no anchor (&name) before it; put a value that begins with * into quotes',
  BAD_COLLECTION_TYPE: 'the tag does not fit the value; put a value that begins with ! into quotes',
  BAD_DIRECTIVE: 'a line that begins with % is no directive of YAML',
  BAD_DQ_ESCAPE: 'the double quotes hold a backslash that means nothing; use single quotes',
  BAD_INDENT: 'the indentation does not fit the lines before',
  BAD_PROP_ORDER: 'anchors and tags have to stand before the value',
  BAD_SCALAR_START: 'a value cannot begin with this character; put it into quotes',
  BLOCK_AS_IMPLICIT_KEY:
    'a key and its value cannot be the value of a key in the same line; put a value with ": " into quotes',
  BLOCK_IN_FLOW: 'lines of a list or a map cannot stand inside of brackets',
  DUPLICATE_KEY: 'the key stands twice in this map',
  KEY_OVER_1024_CHARS: 'the key is longer than 1024 characters',
  MISSING_CHAR: 'a closing quote, a bracket, a comma or a colon is missing',
  MULTILINE_IMPLICIT_KEY: 'a key cannot go over several lines; its colon may be missing',
  MULTIPLE_ANCHORS: 'a value cannot have two anchors',
  MULTIPLE_DOCS: 'the file holds several documents; it can have one',
  MULTIPLE_TAGS: 'a value cannot have two tags',
  NON_STRING_KEY: 'a key has to be a word',
  RESOURCE_EXHAUSTION: 'the file is nested too deeply',
  TAB_AS_INDENT: 'tabs cannot indent; use spaces',
  TAG_RESOLVE_FAILED: 'the tag means nothing here; put a value that begins with ! into quotes',
  UNEXPECTED_TOKEN: 'the text cannot stand here; put a value with special characters into quotes',
}

/** After so many errors of syntax the others follow from them. */
const syntaxErrorsMax = 10

/** Takes a text apart. Never throws. */
export function readYaml(text: string): YamlFile {
  const lines = new LineCounter()
  const mistakes = new Mistakes(lines)
  let document: Document.Parsed
  try {
    // With the level "silent" the library drops documents after the first one, and says nothing.
    document = parseDocument(text, { prettyErrors: false, lineCounter: lines, logLevel: 'error', merge: false })
  } catch {
    // What is nested by the thousand exhausts the stack of the library.
    mistakes.add({ line: 1, column: 1 }, 'the file is nested too deeply to be read')
    return { root: undefined, mistakes }
  }
  const errors = [...document.errors, ...document.warnings].sort((a, b) => a.pos[0] - b.pos[0])
  for (const { code, pos } of errors.slice(0, syntaxErrorsMax)) {
    mistakes.add(mistakes.placeAt(pos[0]), messages[code] ?? 'this is no YAML')
  }
  if (errors.length > 0) return { root: undefined, mistakes }
  try {
    const reader = { document, mistakes, left: valuesMax }
    const root = valueOf(document.contents, reader, 0)
    if (reader.left >= 0) return { root: mistakes.list().length > 0 ? undefined : root, mistakes }
    mistakes.add(
      { line: 1, column: 1 },
      `the file holds more than ${valuesMax} values, aliases counted as what they stand for`,
    )
    return { root: undefined, mistakes }
  } catch {
    mistakes.add({ line: 1, column: 1 }, 'the file is nested too deeply to be read')
    return { root: undefined, mistakes }
  }
}

/** The mistake of bytes that are not UTF-8, at the first of them; undefined where all are. */
export function foreignBytes(bytes: Buffer): Mistake | undefined {
  if (isUtf8(bytes)) return undefined
  let start = 0
  let line = 1
  // A byte of a longer character is no line feed.
  for (let at = bytes.indexOf(0x0a); at >= 0 && isUtf8(bytes.subarray(start, at)); at = bytes.indexOf(0x0a, start)) {
    start = at + 1
    line++
  }
  const end = bytes.indexOf(0x0a, start)
  const rest = bytes.subarray(start, end < 0 ? bytes.length : end)
  const again = Buffer.from(rest.toString('utf8'))
  const same = rest.findIndex((byte, index) => byte !== again[index])
  const column = rest.subarray(0, Math.max(0, same)).toString('utf8').length + 1
  return { place: { line, column }, text: 'the file holds bytes that are not UTF-8' }
}

/** A configuration has five levels; aliases that hold themselves have no end. */
const depthMax = 12

/** Aliases of aliases stand for more than any memory holds. */
const valuesMax = 200_000

interface Reader {
  readonly document: Document.Parsed
  readonly mistakes: Mistakes
  /** Values that may still come. */
  left: number
}

function valueOf(node: unknown, reader: Reader, depth: number): YamlValue {
  const { document, mistakes } = reader
  const place = mistakes.placeAt((node as Node | null)?.range?.[0])
  if (depth > depthMax || --reader.left < 0) return { kind: 'nothing', place }
  if (isAlias(node)) {
    const target = node.resolve(document)
    if (target === undefined) mistakes.add(place, messages['BAD_ALIAS'] ?? '')
    return { ...valueOf(target, reader, depth + 1), place }
  }
  if (isScalar(node)) {
    if (node.value === null) return { kind: 'nothing', place }
    const isQuoted = typeof node.value === 'string'
    return { kind: 'text', text: isQuoted ? String(node.value) : (node.source ?? String(node.value)), place }
  }
  if (isSeq(node)) {
    return { kind: 'list', items: node.items.map((item) => valueOf(item, reader, depth + 1)), place }
  }
  if (!isMap(node)) return { kind: 'nothing', place }
  const entries = node.items.flatMap(({ key, value }) => {
    const keyPlace = mistakes.placeAt((key as Node | null)?.range?.[0])
    const name = isScalar(key) && key.value !== null ? (key.source ?? String(key.value)) : undefined
    if (name === undefined) {
      mistakes.add(keyPlace, 'a key has to be a word')
      return []
    }
    const held = value === null ? ({ kind: 'nothing', place: keyPlace } as const) : undefined
    return [{ key: name, place: keyPlace, value: held ?? valueOf(value, reader, depth + 1) }]
  })
  return { kind: 'map', entries, place }
}
