import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from 'node:test'
import { startDetached } from '../../../src/restore/prefetch/detached-process.ts'
import { runningProcess } from '../../../src/restore/wal/recovery-process.ts'

/** Writes where every descriptor leads, its session and its working directory, then ends. */
const report = `
  ls -l /proc/$$/fd >"$1.tmp"
  echo "session $(cut -d' ' -f6 /proc/$$/stat) of $$, in $(pwd)" >>"$1.tmp"
  mv "$1.tmp" "$1"`

async function reportFrom(path: string): Promise<string[]> {
  const deadline = performance.now() + 20_000
  for (;;) {
    const text = await readFile(path, 'utf8').catch(() => '')
    if (text !== '') return text.trim().split('\n')
    assert.ok(performance.now() < deadline, 'no report came')
    await delay(5)
  }
}

test('a detached process has a session of its own, our working directory and nothing that we have open', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'walrx-detached-'))
  const path = join(directory, 'report')
  // As a server's child would be started: with descriptors that nobody closes on exec, at low and at high numbers.
  const starter = `
    import { startDetached } from '${new URL('../../../src/restore/prefetch/detached-process.ts', import.meta.url).href}'
    await startDetached('/bin/sh', ['-c', process.argv[1], 'sh', process.argv[2]])`
  const shell = `exec 7>"$1/leak7" 41>"$1/leak41" 200>"$1/leak200"; exec "$2" --input-type=module -e "$3" -- "$4" "$5"`
  const args = ['-c', shell, 'bash', directory, process.execPath, starter, report, path]
  const { status, stderr } = spawnSync('/bin/bash', args, { encoding: 'utf8', cwd: directory })
  assert.equal(status, 0, stderr)
  const lines = await reportFrom(path)
  const last = lines.pop() ?? ''
  const [, session, pid, cwd] = /^session (\d+) of (\d+), in (.*)$/.exec(last) ?? []
  assert.ok(session !== undefined && session === pid, last)
  assert.equal(cwd, directory)
  const leads = lines.flatMap((line) => / (\d+) -> (.*)$/.exec(line)?.slice(1).join(' ') ?? [])
  assert.ok(leads.length > 3, lines.join('\n'))
  // While `ls` writes its list, the list is standard output.
  for (const lead of leads) assert.match(lead, /^(\d+ \/dev\/null|1 .*report\.tmp)$/)
  assert.ok(leads.includes('200 /dev/null'), lines.join('\n'))
  await rm(directory, { recursive: true })
})

test('its process id is known, and a program that is not there is an error', async () => {
  const pid = await startDetached('/bin/sleep', ['1000'])
  assert.equal(runningProcess(pid)?.parentPid, process.pid)
  process.kill(pid, 'SIGKILL')
  while (runningProcess(pid)) await delay(1)
  await assert.rejects(startDetached('/nonexistent/program', []), { code: 'ENOENT' })
})
