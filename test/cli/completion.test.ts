/** Completion, asked as the scripts ask, and by the shells themselves where they are installed. */
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { completionLines } from '../../src/cli/arguments/completion.ts'
import { commands } from '../../src/cli/command-loaders.ts'

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

/** What bash gets for a line; the cursor is at its end. */
const answers = (line: string, shell = 'bash') => completionLines(commands, [shell, ...line.split(' ')])

describe('an answer', () => {
  test('has the commands, where none is typed yet', async () => {
    assert.deepEqual(
      await answers('wal-'),
      Object.keys(commands).filter((name) => name.startsWith('wal-')),
    )
    assert.deepEqual(await answers(''), Object.keys(commands))
    assert.deepEqual(await answers('--v'), ['--version'])
    // After an option that has a value, and before the command.
    assert.deepEqual(
      await answers('--config f back'),
      Object.keys(commands).filter((name) => name.startsWith('back')),
    )
    assert.deepEqual(await answers('nonsense --'), [])
  })

  test('has the options of the command that are not there yet, and what turns a switch off that is on', async () => {
    assert.deepEqual(await answers('wal-receive --slot'), ['--slotname', '--slotless', '--slot-lag-action'])
    assert.deepEqual(await answers('wal-receive --slotname x --slot'), ['--slotless', '--slot-lag-action'])
    assert.deepEqual(await answers('backup-push --no'), ['--no-verify', '--no-wait'])
    assert.ok(!(await answers('wal-show --')).includes('--slotname'))
    assert.deepEqual(await answers('config wal-receive --slotn'), ['--slotname'])
  })

  test('has the values of an option, in every form in which it is typed', async () => {
    const levels = ['error', 'warn', 'info', 'debug']
    assert.deepEqual(await answers('wal-show --log-level '), levels)
    assert.deepEqual(await answers('wal-show --log-level d'), ['debug'])
    assert.deepEqual(await answers('wal-show --log-level=d'), ['--log-level=debug'])
    // As bash splits it.
    assert.deepEqual(await answers('wal-show --log-level = d'), ['debug'])
    assert.deepEqual(await answers('wal-show --log-level ='), levels)
  })

  test('has LATEST and other words for an argument, and is empty where a file belongs', async () => {
    assert.deepEqual(await answers('backup-show L'), ['LATEST'])
    assert.deepEqual(await answers('backup-fetch --config f /data '), ['LATEST'])
    assert.deepEqual(await answers('completion z'), ['zsh'])
    for (const line of ['backup-fetch ', 'wal-show --file-prefix ', 'wal-show --config=', 'wal-receive -S ']) {
      assert.deepEqual(await answers(line), [], line)
    }
    assert.ok((await answers('wal-show ')).includes('--json'))
  })

  test('has meanings in zsh and fish', async () => {
    assert.deepEqual(await answers('backup-push --ful', 'zsh'), [
      '--full:take a full backup, whatever the settings of deltas are',
    ])
    assert.deepEqual(await answers('backup-push --s3-sse aws', 'zsh'), [
      'aws\\:kms:server-side encryption; aws:kms needs S3_SSE_KMS_ID, AES256 can use a key of your own in S3_SSE_C',
    ])
    assert.match((await answers('sc', 'fish'))[0] ?? '', /^scrub\thave a running server/)
  })
})

/** Why a shell is not tried; false for one that is there. */
function missing(shell: string): string | false {
  try {
    execFileSync(shell, ['-c', 'exit 0'], { stdio: 'ignore' })
    return false
  } catch {
    return `no ${shell} is installed`
  }
}

describe('in a shell', () => {
  let root: string
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'walrx-completion-'))
    await writeFile(join(root, 'walrx'), `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`)
    await chmod(join(root, 'walrx'), 0o755)
  })
  after(() => rm(root, { recursive: true }))

  async function run(shell: string, ...args: string[]): Promise<string> {
    const env = { PATH: `${root}${delimiter}${process.env['PATH'] ?? ''}`, HOME: root, LC_ALL: 'C.UTF-8' }
    return (await promisify(execFile)(shell, args, { env, cwd: root })).stdout
  }

  test('bash completes a word, and leaves files to itself', { skip: missing('bash') }, async () => {
    const script =
      'source <(walrx completion bash); complete -p walrx;' +
      'try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _walrx_completions; echo "${COMPREPLY[@]}|${#COMPREPLY[@]}"; };' +
      'try walrx wal-receive --slotn; try walrx wal-show --log-level = d; try walrx wal-show --config ""'
    assert.deepEqual((await run('bash', '--norc', '-c', script)).split('\n'), [
      'complete -o bashdefault -o default -F _walrx_completions walrx',
      ...['--slotname|1', 'debug|1', '|0', ''],
    ])
  })

  test('zsh completes a word, and files where walrx has no answer', { skip: missing('zsh') }, async () => {
    const script =
      'autoload -U compinit; compinit -u -d ./dump; source <(walrx completion zsh); print $_comps[walrx];' +
      '_describe() { print -rl -- "${(@P)2}" }; _files() { print files; };' +
      'try() { words=("$@"); CURRENT=$#; _walrx; };' +
      'try walrx backup-push --ful; try walrx wal-show --config ""'
    assert.deepEqual((await run('zsh', '-f', '-c', script)).split('\n'), [
      ...['_walrx', '--full:take a full backup, whatever the settings of deltas are', 'files', ''],
    ])
  })

  test('fish completes a word, and files where walrx has no answer', { skip: missing('fish') }, async () => {
    const script =
      'walrx completion fish | source; complete -C "walrx wal-receive --slotn"; complete -C "walrx wal-show --config ./wal"'
    assert.deepEqual((await run('fish', '--no-config', '-c', script)).split('\n'), [
      '--slotname\tphysical replication slot; walrx creates it if it is missing',
      ...['./walrx', ''],
    ])
  })
})
