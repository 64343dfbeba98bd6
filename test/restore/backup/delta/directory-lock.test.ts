/** The lock of a data directory, without a server: locks of others, and those that a crash has left. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { crc32c } from '@node-rs/crc32'
import { lockDirectory, refuseRunning } from '../../../../src/restore/backup/delta/directory-lock.ts'

/** A process id that no Linux gives. */
const deadPid = 2 ** 22 + 1

/** pg_control of PostgreSQL 17 with this state. */
function controlFile(state: number): Buffer {
  const file = Buffer.alloc(8192)
  file.writeUInt32LE(1700, 8)
  file.writeUInt32LE(state, 16)
  file.writeUInt32LE(crc32c(file.subarray(0, 288)), 288)
  return file
}

describe('the lock of a data directory', () => {
  let data: string
  const write = (lock: string) => writeFile(join(data, 'postmaster.pid'), lock)
  const inState = (state: number) => writeFile(join(data, 'global/pg_control'), controlFile(state))
  const serverLock = (pid: number) => `${pid}\n${data}\n1788185632\n5432\n/tmp\n\n`

  before(async () => {
    data = await mkdtemp(join(tmpdir(), 'walrx-lock-'))
    await mkdir(join(data, 'global'))
  })

  after(() => rm(data, { recursive: true }))

  test('of a server whose process is not here, by the state in pg_control', async () => {
    for (const pid of [deadPid, process.pid, process.ppid, -deadPid]) {
      await write(serverLock(pid))
      for (const [state, word] of ['starting up', , , 'shutting down', 'in crash recovery'].entries()) {
        await inState(state)
        if (word === undefined) await refuseRunning(data)
        else await assert.rejects(refuseRunning(data), new RegExp(`names process ${pid}, .* says "${word}"`))
      }
      await inState(99)
      await assert.rejects(lockDirectory(data), { code: 'WALRX_RESTORE_FAILED', message: /no state that walrx knows/ })
      assert.equal(await readFile(join(data, 'postmaster.pid'), 'utf8'), serverLock(pid))
    }
    await rm(join(data, 'global/pg_control'))
    await (await lockDirectory(data)).release()
  })

  test('that a killed restore has left is taken, whatever pg_control says', async () => {
    await rm(join(data, 'postmaster.pid'), { force: true })
    await inState(6)
    await lockDirectory(data)
    const left = await readFile(join(data, 'postmaster.pid'), 'utf8')
    await write(left.replace(/^\d+/, String(deadPid)))
    await (await lockDirectory(data)).release()
    await assert.rejects(stat(join(data, 'postmaster.pid')), { code: 'ENOENT' })
  })

  test('of another restore that runs, and of a program that has got its process id', async () => {
    const run = async (...words: string[]): Promise<ChildProcess> => {
      const child = spawn(process.execPath, ['-e', 'console.log(1); setTimeout(() => {}, 60_000)', ...words])
      await once(child.stdout, 'data')
      return child
    }
    for (const [word, says] of [
      ['backup-fetch', /^another walrx restore runs: \S+ is in use: postmaster.pid names process \d+$/],
      ['other', /^\S+ is in use: postmaster.pid names process \d+ \(/],
    ] as const) {
      const child = await run(word)
      try {
        await write(`${child.pid}\n${data}\nwalrx backup-fetch\n`)
        await assert.rejects(refuseRunning(data), { message: says })
      } finally {
        child.kill('SIGKILL')
        await once(child, 'exit')
      }
    }
    await rm(join(data, 'postmaster.pid'))
  })

  test('has the owner of the data directory', { skip: process.geteuid?.() !== 0 }, async () => {
    await chown(data, 12_345, 12_346)
    const lock = await lockDirectory(data)
    const { gid, uid } = await stat(join(data, 'postmaster.pid'))
    assert.deepEqual([uid, gid], [12_345, 12_346])
    await lock.release()
  })
})
