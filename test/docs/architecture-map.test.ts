import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { test } from 'node:test'
import { repository } from '../lint/source-files.ts'
import { anchorsOf, brokenLinks, linkTargets, lostPaths, namedPaths, readDocuments } from './markdown.ts'

const documents = readDocuments(repository)
const map = documents.find(({ path }) => path === 'docs/architecture.md')?.text ?? ''

/** A section of the map by its heading, up to the next one of the same depth. */
function section(heading: string): string {
  const from = map.indexOf(`\n## ${heading}`)
  assert.notEqual(from, -1, `the map has no section "${heading}"`)
  const end = map.indexOf('\n## ', from + 1)
  return map.slice(from, end === -1 ? undefined : end)
}

test('every file and folder that a document names is there', () => {
  assert.deepEqual(lostPaths(repository, documents), [])
})

test('every link of a document leads to a file and an anchor that are there', () => {
  assert.deepEqual(brokenLinks(repository, documents), [])
})

test('the map has every room and sub-room, and no other', () => {
  const entries = readdirSync(join(repository, 'src'), { recursive: true, withFileTypes: true })
  const folders = entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => `${relative(repository, join(entry.parentPath, entry.name))}/`)
  const mapped = [...section('Rooms').matchAll(/^ *- `(src\/[^`]*\/)`:/gm)].map(([, path = '']) => path)
  assert.deepEqual(mapped.toSorted(), folders.sort())
})

test('the map has five walks, each through at least ten files of the source', () => {
  const walks = [...map.matchAll(/^## (Walk \d.*)$/gm)].map(([, heading = '']) => heading)
  assert.equal(walks.length, 5)
  for (const walk of walks) {
    const files = namedPaths(section(walk)).filter((path) => path.startsWith('src/') && path.endsWith('.ts'))
    assert.ok(files.length >= 10, `${walk} names ${files.length} files`)
  }
})

test('what the README and the pages link to as a term is in the glossary', () => {
  const terms = anchorsOf(section('Glossary'))
  const headings = anchorsOf(map.replaceAll(/<a id="[^"]+">/g, ''))
  const linked = documents.flatMap(({ path, text }) =>
    linkTargets(text)
      .filter((target) => /(^|\/)architecture\.md#/.test(target))
      .map((target) => ({ path, term: target.split('#')[1] ?? '' })),
  )
  assert.ok(linked.length >= 10, 'hardly any term is linked')
  const lost = linked.filter(({ term }) => !terms.has(term) && !headings.has(term))
  assert.deepEqual(lost, [])
})

test('the README is short enough to be read, and long enough to say what counts', () => {
  const readme = documents.find(({ path }) => path === 'README.md')?.text ?? ''
  const bytes = Buffer.byteLength(readme)
  assert.ok(bytes >= 12_000 && bytes <= 15_360, `README.md has ${bytes} bytes, and may have 12,000 to 15,360`)
})

test('links and paths are found, and those that lead nowhere are named', () => {
  const made = {
    path: 'docs/deltas.md',
    text: '# Made\n\n[a](#made) [b](#lost) [c](../README.md) [d](lost.md) `[e](f)` src/main.ts src/lost.ts src/lost/ pg/src/x.ts',
  }
  assert.deepEqual(brokenLinks(repository, [made]), [
    'docs/deltas.md: docs/deltas.md has no #lost',
    'docs/deltas.md: there is no docs/lost.md',
  ])
  assert.deepEqual(lostPaths(repository, [made]), [
    'docs/deltas.md: there is no src/lost.ts',
    'docs/deltas.md: there is no src/lost/',
  ])
})
