import assert from 'node:assert/strict'
import { test } from 'node:test'
import { failureStatus } from '../../src/cli/exit-status.ts'

const standby = () => true
const recovery = () => false

test('other commands end with the status of the error', () => {
  assert.equal(failureStatus('wal-receive', { exitStatus: 5 }, standby), 5)
  assert.equal(failureStatus(undefined, { exitStatus: 2 }, recovery), 2)
})

test('wal-fetch ends a recovery with 126 or above, so that no server promotes by mistake', () => {
  for (const exitStatus of [1, 2, 3, 4, 5, 6, 7, 125]) {
    assert.equal(failureStatus('wal-fetch', { exitStatus }, recovery), 126)
  }
  assert.equal(failureStatus('wal-fetch', { exitStatus: 127 }, recovery), 127)
  assert.equal(failureStatus('wal-fetch', { exitStatus: 143 }, recovery), 126, 'would be taken for a shutdown')
})

test('wal-prefetch ends with 0 or 1, whatever happened: a postmaster that is process 1 may get to see it', () => {
  for (const exitStatus of [1, 2, 4, 126, 143]) assert.equal(failureStatus('wal-prefetch', { exitStatus }, recovery), 1)
})

test('wal-fetch ends with 1 on a standby, which asks again; 126 would shut it down', () => {
  for (const exitStatus of [1, 2, 4, 126]) assert.equal(failureStatus('wal-fetch', { exitStatus }, standby), 1)
})

test('a file that the archive does not hold is 74 for both', () => {
  assert.equal(failureStatus('wal-fetch', { exitStatus: 74 }, recovery), 74)
  assert.equal(failureStatus('wal-fetch', { exitStatus: 74 }, standby), 74)
})

test('wal-push ends with 125 or below: from 126 on PostgreSQL ends its archiver', () => {
  for (const exitStatus of [1, 2, 4, 5, 9])
    assert.equal(failureStatus('wal-push', { exitStatus }, recovery), exitStatus)
  for (const exitStatus of [130, 143, 127]) assert.equal(failureStatus('wal-push', { exitStatus }, standby), 75)
  for (const exitStatus of [74, 126]) assert.equal(failureStatus('wal-push', { exitStatus }, recovery), 5)
})

test('daemon-client ends as the one that it stands for', () => {
  const status = (exitStatus: number, word: string, isStandby = recovery) =>
    failureStatus('daemon-client', { exitStatus }, isStandby, ['walrx', 'daemon-client', '/s', word])
  assert.equal(status(4, 'wal-fetch'), 126)
  assert.equal(status(2, 'wal-fetch'), 126)
  assert.equal(status(143, 'wal-fetch'), 126)
  assert.equal(status(4, 'wal-fetch', standby), 1)
  assert.equal(status(4, 'wal-push', standby), 4)
  assert.equal(status(143, 'wal-push'), 75)
})
