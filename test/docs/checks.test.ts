import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkGroups, checkIds, checkTable, groupOf } from '../../src/check/check-table.ts'
import { repository } from '../lint/source-files.ts'

test('docs/operations.md lists every check with what it looks at, and no other', () => {
  const text = readFileSync(join(repository, 'docs', 'operations.md'), 'utf8')
  const section = /^## Check a setup$([^]*?)^## /m.exec(text)?.[1] ?? ''
  const rows = [...section.matchAll(/^\| `(\w+\.\w+)`\s*\| (.*?)\s*\|$/gm)].map(([, id, meaning]) => [id, meaning])
  assert.deepEqual(rows, Object.entries(checkTable))
})

test('the checks of a group follow each other, in the order of the groups', () => {
  const groups = checkIds.map(groupOf)
  assert.deepEqual([...new Set(groups)], checkGroups)
  assert.deepEqual(
    groups,
    checkGroups.flatMap((group) => groups.filter((each) => each === group)),
  )
})
