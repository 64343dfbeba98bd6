import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readReference, renderReference } from './reference.ts'

test('docs/reference.md is what the tables say; npm run docs writes it', async () => {
  assert.equal(readReference(), await renderReference())
})
