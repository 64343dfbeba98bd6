import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { repository } from '../lint/source-files.ts'

/** Where a source cites the page, with the sections as text; '' where it names none. Comments may break within. */
function citations(text: string): string[] {
  const joined = text.replace(/\n\s*(?:\*|\/\/)? ?/g, ' ')
  return [...joined.matchAll(/walg-format\.md((?:,\s*\d+(?:\.\d+)?)*)/g)].map(([, sections = '']) => sections)
}

function sources(folder: string): string[] {
  const names = readdirSync(join(repository, folder), { recursive: true, encoding: 'utf8' })
  return names.filter((name) => name.endsWith('.ts')).map((name) => join(folder, name))
}

test('every section of docs/walg-format.md that a comment cites is there', () => {
  const page = readFileSync(join(repository, 'docs/walg-format.md'), 'utf8')
  const sections = new Set([...page.matchAll(/^#{2,3} (\d+(?:\.\d+)?) /gm)].map(([, number]) => number))
  let count = 0
  const wrong: string[] = []
  for (const path of [...sources('src'), ...sources('test').filter((name) => !name.startsWith(join('test', 'docs')))]) {
    for (const cited of citations(readFileSync(join(repository, path), 'utf8'))) {
      const numbers = cited.match(/\d+(?:\.\d+)?/g) ?? []
      if (numbers.length === 0) wrong.push(`${path} cites no section`)
      for (const number of numbers) if (!sections.has(number)) wrong.push(`${path} cites ${number}`)
      count += numbers.length
    }
  }
  assert.deepEqual(wrong, [])
  assert.ok(count >= 20, `only ${count} citations were found`)
})

test('citations are found across the lines of a comment', () => {
  assert.deepEqual(
    citations('/** (docs/walg-format.md,\n * 2.2; x) */ // docs/walg-format.md, 1.2, 1.3).\n walg-format.md'),
    [', 2.2', ', 1.2, 1.3', ''],
  )
})
