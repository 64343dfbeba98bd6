import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { restoreCommand } from '../../../src/restore/wal/restore-command.ts'

const segment = '000000010000000000000005'

let dataDir: string
let program: string
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "walrx it's 100% "))
  await mkdir(join(dataDir, 'pg_wal'))
  program = join(dataDir, 'program')
})
afterEach(() => rm(dataDir, { recursive: true }))

/** Makes the program that stands for walrx. */
async function install(script: string): Promise<void> {
  await writeFile(program, `#!/bin/sh\n${script}\n`)
  await chmod(program, 0o755)
}

/** Runs the command as a server does: by `sh -c`, in the data directory, with %f, %p and %% replaced. */
function run(flags: string[] = []) {
  const command = restoreCommand([program], flags)
    .replaceAll('%f', segment)
    .replaceAll('%p', 'pg_wal/RECOVERYXLOG')
    .replaceAll('%%', '%')
  const { status, stdout, stderr } = spawnSync('/bin/sh', ['-c', command], { cwd: dataDir, encoding: 'utf8' })
  return { status, stdout, stderr }
}

test('a segment that is ready is taken without starting walrx', async () => {
  await install('exit 99')
  const ready = join(dataDir, 'pg_wal', '.walrx', String(process.pid))
  await mkdir(ready, { recursive: true })
  await writeFile(join(ready, segment), 'ready')
  await writeFile(join(dataDir, 'pg_wal', 'RECOVERYXLOG'), 'old')
  assert.deepEqual(run(), { status: 0, stdout: '', stderr: '' })
  assert.equal(await readFile(join(dataDir, 'pg_wal', 'RECOVERYXLOG'), 'utf8'), 'ready')
  assert.deepEqual(await readdir(ready), [])
})

test('a segment that is ready for another recovery is not taken', async () => {
  await install('exit 74')
  const other = join(dataDir, 'pg_wal', '.walrx', String(process.pid + 1))
  await mkdir(other, { recursive: true })
  await writeFile(join(other, segment), 'not ours')
  assert.equal(run().status, 74)
})

test('walrx gets the process id of the server, the names and the flags, with any characters in them', async () => {
  await install('echo "$PPID"; for word in "$@"; do echo "$word"; done')
  const flags = ['--file-prefix=/a b/100%/it\'s "$HOME"/\\', '--config=/etc/walg.yaml']
  const { status, stdout } = run(flags)
  assert.equal(status, 0)
  const [, ...words] = stdout.trimEnd().split('\n')
  assert.deepEqual(words, [
    'wal-fetch',
    ...flags,
    '--recovery-pid',
    String(process.pid),
    segment,
    'pg_wal/RECOVERYXLOG',
  ])
})

describe('the exit status', () => {
  test('of wal-fetch is kept where it has a meaning, else it never looks like the end of the archive', async () => {
    for (const [own, expected] of [
      [0, 0],
      [74, 74],
      [126, 126],
      [1, 126],
      [2, 126],
      [9, 126],
      [13, 126],
      [127, 126],
      [143, 126],
    ] as const) {
      await install(`exit ${own}`)
      assert.equal(run().status, expected, String(own))
    }
    await install('kill -TERM $$')
    assert.equal(run().status, 126)
    await install('kill -KILL $$')
    assert.equal(run().status, 126)
    await rm(program)
    assert.equal(run().status, 126, 'walrx was removed')
  })

  test('makes a standby ask again', async () => {
    await writeFile(join(dataDir, 'standby.signal'), '')
    for (const [own, expected] of [
      [0, 0],
      [74, 74],
      [1, 1],
      [126, 1],
      [9, 1],
    ] as const) {
      await install(`exit ${own}`)
      assert.equal(run().status, expected, String(own))
    }
  })
})
