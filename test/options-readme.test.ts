import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readReference, renderReference } from './lint/option-reference.ts'

test("the README's reference is what the tables say; npm run docs writes it", async () => {
  assert.equal(readReference(), await renderReference())
})
