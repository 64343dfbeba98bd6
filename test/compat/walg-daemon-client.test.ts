/** WAL-G's own client of its daemon against walrx's. `WALG_DAEMON_CLIENT_BIN` names it: wal-g's cmd/daemonclient. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeSegment } from '../harness/made/made-wal.ts'
import { startWalrx } from '../harness/walrx/walrx-process.ts'
import { nth, ServerFiles } from '../push/server-files.ts'

const client = process.env['WALG_DAEMON_CLIENT_BIN']
const skip = client === undefined && 'WALG_DAEMON_CLIENT_BIN names no client'

test('WAL-G’s client pushes, fetches, and learns that a file is missing', { skip, timeout: 120_000 }, async () => {
  const files = await ServerFiles.make()
  const archive = join(files.dataDir, 'archive')
  const socket = join(files.dataDir, 's')
  mkdirSync(archive)
  files.segment(nth(5))
  await using daemon = startWalrx(['daemon', socket, '--pgdata', files.dataDir, '--file-prefix', archive])
  await daemon.logged('the daemon listens')
  const run = (...words: string[]) => spawnSync(client ?? '', [socket, ...words]).status
  assert.equal(run('wal-push', nth(5)), 0)
  assert.equal(run('wal-push', nth(6)), 1)
  assert.equal(run('wal-fetch', nth(5), 'pg_wal/RECOVERYXLOG'), 0)
  assert.deepEqual(readFileSync(files.path('RECOVERYXLOG')), makeSegment(nth(5)))
  assert.equal(run('wal-fetch', nth(7), 'pg_wal/RECOVERYXLOG'), 74)
  assert.equal((await daemon.stop()).status, 0)
  files.remove()
})
