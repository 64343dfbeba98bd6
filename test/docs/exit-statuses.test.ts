import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { exitStatuses } from '../../src/primitives/errors.ts'
import { repository } from '../lint/source-files.ts'

test('docs/operations.md has a row for every exit status, and no other', () => {
  const text = readFileSync(join(repository, 'docs', 'operations.md'), 'utf8')
  const section = /^## Exit statuses$([^]*?)^## /m.exec(text)?.[1] ?? ''
  const rows = [...section.matchAll(/^\| (\d+) +\|/gm)].map(([, status]) => status)
  assert.deepEqual(rows, Object.keys(exitStatuses))
})
