import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRemovableTempName, isTempName, lockPath, tempPath } from '../../src/storage/temp-name.ts'

test("an unfinished file has WAL-G's name for one, with the time in UTC", () => {
  const path = tempPath('/archive/wal_005/x.zst', Date.UTC(2026, 0, 2, 3, 4, 5, 678))
  assert.match(path, /^\/archive\/wal_005\/x\.zst\.tmp\.20260102T030405Z-[0-9a-f]{16}$/)
  assert.notEqual(tempPath('x', 0), tempPath('x', 0))
})

test("names of WAL-G's, WAL-RUS's and our unfinished files are known, and only they", () => {
  for (const name of [tempPath('x', Date.now()), lockPath('a/x'), 'x.zst.tmp.4711']) assert.ok(isTempName(name), name)
  for (const name of ['x.tmp', 'x.tmp.', 'x.tmp.zst', 'x.tmp.4711.zst', 'tmp.4711', 'x.tmp.20260102T030405Z-0123']) {
    assert.ok(!isTempName(name), name)
  }
  assert.ok(isRemovableTempName(lockPath('x')))
  // WAL-RUS is the one to know whether it still writes.
  assert.ok(!isRemovableTempName('x.zst.tmp.4711'))
})
