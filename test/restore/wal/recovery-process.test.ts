import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { findRecovery, isRecovering, isRunning, runningProcess } from '../../../src/restore/wal/recovery-process.ts'
import { startFakeStartup } from '../../harness/postgres/fake-startup.ts'

describe('a process', () => {
  test('is known while it runs, with its parent', async () => {
    await using startup = await startFakeStartup()
    const running = runningProcess(startup.pid)
    assert.equal(running?.parentPid, process.pid)
    assert.ok(isRunning(running))
    await startup.end()
    assert.ok(!isRunning(running))
    assert.equal(runningProcess(startup.pid), undefined)
  })

  test('is not mistaken for a later one of the same id', () => {
    const self = runningProcess(process.pid)
    assert.ok(self && isRunning(self))
    assert.ok(!isRunning({ pid: self.pid, startTime: self.startTime - 1 }))
  })

  test('may have a name with spaces and parentheses', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'walrx-name-'))
    const program = join(directory, 'a) S 1 (b')
    await copyFile('/bin/sleep', program)
    const child = spawn(program, ['1000'], { stdio: 'ignore' })
    const exited = once(child, 'exit')
    await once(child, 'spawn')
    assert.equal(runningProcess(child.pid ?? 0)?.parentPid, process.pid)
    child.kill('SIGKILL')
    await exited
    await rm(directory, { recursive: true })
  })

  test('that has ended is gone even if nobody has asked for its status', async () => {
    // The shell never waits for its child.
    const shell = spawn('/bin/sh', ['-c', 'sleep 0 & echo $!; exec sleep 1000'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const exited = once(shell, 'exit')
    const [line] = (await once(shell.stdout, 'data')) as [Buffer]
    const zombie = Number(line.toString())
    while (runningProcess(zombie)) await new Promise(setImmediate)
    shell.kill('SIGKILL')
    await exited
  })
})

describe('a recovery', () => {
  test('is a startup process and its parent, and is over when either is gone', async () => {
    await using startup = await startFakeStartup()
    const recovery = findRecovery(startup.pid)
    assert.ok(recovery && isRecovering(recovery))
    assert.equal(recovery.postmaster.pid, process.pid)
    assert.ok(!isRecovering({ ...recovery, postmaster: { pid: process.pid, startTime: 0 } }))
    await startup.end()
    assert.ok(!isRecovering(recovery))
    assert.equal(findRecovery(startup.pid), undefined)
  })
})
