/** A disk that is full, under the archive: nothing is taken for done that is not there. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { after, before, describe, test } from 'node:test'
import { type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import { isTempName } from '../../../src/storage/temp-name.ts'
import {
  archivedSegments,
  assertUnbroken,
  compareWithServer,
  endOfSwitched,
  watchFlushes,
} from '../../harness/store/archive-check.ts'
import { startPostgres } from '../../harness/postgres/postgres.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { startWalrx } from '../../harness/walrx/walrx-process.ts'
import { WireTap } from '../../harness/postgres/wire-tap.ts'

const run = promisify(execFile)
const segmentSize = 1024 * 1024
const diskMb = 32

/** Mounts a small file system of its own, or says why that is not possible. */
async function mountSmallDisk(path: string): Promise<string | undefined> {
  mkdirSync(path)
  return run('mount', ['-t', 'tmpfs', '-o', `size=${diskMb}m`, 'tmpfs', path]).then(
    () => undefined,
    (error: Error) => `no file system can be mounted here (only root may): ${error.message.trim()}`,
  )
}

describe('a disk that is full', () => {
  let root: string
  let disk: string
  let whyNot: string | undefined

  before(async () => {
    root = mkdtempSync(join(tmpdir(), 'walrx-full-'))
    disk = join(root, 'disk')
    whyNot = await mountSmallDisk(disk)
  })
  after(async () => {
    if (whyNot === undefined) await run('umount', ['--lazy', disk])
    rmSync(root, { recursive: true, force: true })
  })

  test(
    'under the archive: nothing more is acknowledged, and all is archived when there is room',
    { timeout: 120_000 },
    async (t) => {
      if (whyNot !== undefined) return t.skip(whyNot)
      chmodSync(disk, 0o777)
      await using server = await startPostgres({
        major: 17,
        segmentSizeMb: 1,
        settings: { wal_keep_size: '1GB', checkpoint_timeout: '1h' },
      })
      await using tap = await WireTap.open({ host: '127.0.0.1', port: server.port })
      watchFlushes(tap, disk, () => 1, segmentSize)
      const conninfo = `${server.conninfo()} port=${tap.port}`
      const args = ['wal-receive', '--file-prefix', disk, '--dbname', conninfo, '--compression-method=none']
      await using receiver = startWalrx(args)
      await receiver.logged('streaming')
      await generateWal(server, { segments: 2 })
      await receiver.logged('archived')
      const { bavail, bsize } = statfsSync(disk)
      const ballast = join(disk, 'ballast')
      writeFileSync(ballast, Buffer.alloc(bavail * bsize - 2.5 * segmentSize))
      await generateWal(server, { segments: 6, fill: 'full' })
      const failed = await receiver.logged('could not archive, trying again')
      assert.match(String(failed['error']), /ENOSPC|no space left/i)
      const reported = tap.flushes.at(-1)?.flush
      const have = archivedSegments(disk)
      assert.ok(have.length < 8, have.join(' '))
      rmSync(ballast)
      const end = endOfSwitched(parseLsn(await server.switchWal()), segmentSize)
      assert.ok(reported === undefined || reported < end)
      await tap.flushed(end)
      assert.deepEqual(tap.failures, [], 'a flush position was ahead of the archive')
      assertUnbroken(disk, 1, end, segmentSize)
      assert.ok(compareWithServer(disk, server) >= 8)
      assert.ok(archivedSegments(disk).includes(segmentNameAt(1, (end - 1n) as Lsn, segmentSize)))
      assert.deepEqual(readdirSync(join(disk, 'wal_005')).filter(isTempName), [], 'unfinished files are left')
      assert.equal((await receiver.stop()).status, 0)
    },
  )
})
