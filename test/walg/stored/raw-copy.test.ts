import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import { copyStored, isSameStored, keepStored } from '../../../src/walg/stored/raw-copy.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const from = 'wal_005/000000010000000000000002.zst'
const aside = 'walrx_005/aside/wal_005/000000010000000000000002.zst'
const noFrame = Buffer.from('no zstd frame, '.repeat(20_000))
const isMissing = (error: unknown) => hasCode(error, 'WALRX_OBJECT_NOT_FOUND')

test('a copy has the very bytes, whether or not they can be decoded', async () => {
  const storage = new MemoryStorage()
  storage.seed(from, noFrame)
  await copyStored(storage, from, aside)
  assert.ok(storage.peek(aside)?.equals(noFrame))
  assert.equal(await isSameStored(storage, from, aside), true)
  storage.seed(aside, noFrame.subarray(1))
  assert.equal(await isSameStored(storage, from, aside), false)
  assert.equal(await keepStored(storage, aside, noFrame), 'exists')
  assert.equal(await keepStored(storage, `${aside}.2`, noFrame), 'created')
  assert.ok(storage.peek(`${aside}.2`)?.equals(noFrame))
  assert.equal(storage.openBodies, 0)
})

test('of what is not there nothing is copied', async () => {
  const storage = new MemoryStorage()
  await assert.rejects(copyStored(storage, from, aside), isMissing)
  assert.equal(storage.peek(aside), undefined)
  storage.seed(from, noFrame)
  await assert.rejects(isSameStored(storage, from, aside), isMissing)
  await assert.rejects(isSameStored(storage, aside, from), isMissing)
  assert.equal(storage.openBodies, 0)
})
