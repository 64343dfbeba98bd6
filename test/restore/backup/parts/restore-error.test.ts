import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { WalrxError } from '../../../../src/primitives/errors.ts'
import { cannotWrite, completable } from '../../../../src/restore/backup/parts/restore-error.ts'

test('a full disk: what to do depends on whether the restore completes what is there', () => {
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
  const error = cannotWrite('/data/base/1', full) as WalrxError
  assert.match(error.hint ?? '', /empty the destination/)
  const other = completable(error) as WalrxError
  assert.deepEqual([other.code, other.message, other.cause], [error.code, error.message, full])
  assert.match(other.hint ?? '', /^free disk space, and run the same command again/)
  const denied = cannotWrite('/data', Object.assign(new Error('EACCES'), { code: 'EACCES' }))
  assert.equal(completable(denied), denied)
})
