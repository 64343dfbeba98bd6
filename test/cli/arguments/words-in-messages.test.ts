/** What messages, hints and help texts name as walrx's exists: every text in `src/` is read, not run. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import ts from 'typescript'
import { flagsOf } from '../../../src/cli/arguments/arguments.ts'
import { commandTable } from '../../../src/config/commands.ts'
import type { CommandName } from '../../../src/config/options/option-types.ts'
import { redactText } from '../../../src/observe/redact.ts'
import { lineOf, readSources, walk } from '../../lint/source-files.ts'

/** Options that are not walrx's, with the program that a text must name beside them. */
const ofOthers: Readonly<Record<string, RegExp>> = {
  'wal-segsize': /pg_resetwal/,
  'endpoint-url': /\baws\b/,
  enable: /pg_checksums/,
  'detailed-json': /WAL-G/,
  'max-semi-space-size': /^--max-semi-space-size=/,
  'semi-space-growth-factor': /^--semi-space-growth-factor=/,
  'heap-growing-percent': /^--heap-growing-percent=/,
  ...Object.fromEntries(
    ['armor', 'export', 'export-secret-keys', 'list-keys', 'compress-algo'].map((name) => [name, /gpg/]),
  ),
}

/** A whole text that is one option: an argument for gpg. */
const ofGpg = /^--(armor|export|export-secret-keys|pinentry-mode|passphrase-fd|batch|no-tty|quiet)$/

/** Options that are no option of the table. */
const everywhere = ['help', 'version', 'get-yargs-completions']

const commandNames = Object.keys(commandTable) as CommandName[]
const flags = new Map(commandNames.map((name) => [name, new Set(flagsOf({ name }).map(({ flag }) => flag))]))
const isCommand = (name: string): name is CommandName => Object.hasOwn(commandTable, name)

/** A text with "…" in the place of what is computed; undefined for other nodes, and for parts of a text. */
function textOf(node: ts.Node): string | undefined {
  if (ts.isStringLiteralLike(node)) return node.text
  if (!ts.isTemplateExpression(node)) return undefined
  return node.head.text + node.templateSpans.map(({ literal }) => `…${literal.text}`).join('')
}

/** What a text names that does not exist. */
function wrongIn(text: string): string[] {
  if (ofGpg.test(text)) return []
  const wrong: string[] = []
  for (const [, name = ''] of text.matchAll(/\bwalrx ([a-z]+(?:[-_][a-z]+)+)\b/g)) {
    if (!isCommand(name)) wrong.push(`walrx ${name}`)
  }
  for (const { 1: before = '', 2: no = '', 3: flag = '' } of text.matchAll(
    /(^|[^-\w])--(no-)?([a-z][a-z0-9-]*)\b(?!-?…)/g,
  )) {
    const isKnown = commandNames.some((name) => flags.get(name)?.has(flag) || flags.get(name)?.has(no + flag))
    const others = Object.hasOwn(ofOthers, flag) && ofOthers[flag]?.test(text)
    if (!isKnown && !others && !everywhere.includes(flag)) wrong.push(`${before}--${no}${flag}`)
  }
  // An option that follows a command is that command's.
  for (const [call, name = ''] of text.matchAll(/\bwalrx ([a-z]+(?:-[a-z]+)*)(?: (?:--?[\w-]+|[A-Z…][\w…]*))+/g)) {
    if (!isCommand(name)) continue
    for (const [, no = '', flag = ''] of call.matchAll(/ --(no-)?([a-z][a-z0-9-]*)/g)) {
      const own = flags.get(name)
      if (!own?.has(flag) && !own?.has(no + flag) && !everywhere.includes(flag)) wrong.push(`walrx ${name} --${flag}`)
    }
  }
  return wrong
}

/** All texts of `src/`, each with where it is. */
const texts = readSources().flatMap(({ path, tree }) => {
  const found: { readonly text: string; readonly at: string }[] = []
  walk(tree, (node) => {
    const text = textOf(node)
    if (text === undefined || ts.isImportDeclaration(node.parent)) return
    found.push({ text, at: `${path}:${lineOf(node)}` })
  })
  return found
})

test('commands and options that a text names exist', () => {
  assert.deepEqual(
    texts.flatMap(({ at, text }) => wrongIn(text).map((wrong) => `${at} ${wrong}`)),
    [],
  )
})

test('no text is taken for a secret when it is printed', () => {
  const spoilt = texts.filter(({ text }) => redactText(text, ['walrx']) !== text)
  assert.deepEqual(spoilt, [])
})

test('words that do not exist are seen', () => {
  assert.deepEqual(wrongIn('run walrx backup-psh'), ['walrx backup-psh'])
  assert.deepEqual(wrongIn('see walrx wal_show'), ['walrx wal_show'])
  assert.deepEqual(wrongIn('give --store-patiense'), [' --store-patiense'])
  assert.deepEqual(wrongIn('walrx wal-show --slotname x'), ['walrx wal-show --slotname'])
  assert.deepEqual(wrongIn('walrx backup-push --no-verify --wait; --segsize'), [' --segsize'])
  assert.deepEqual(wrongIn('after pg_resetwal --wal-segsize walrx needs --full, as walrx backup-mark …'), [])
})
