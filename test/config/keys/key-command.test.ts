/** The command that prints keys: how long, how often and in what surroundings it runs, and what is heard of it. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { runKeyCommand } from '../../../src/config/keys/key-command.ts'
import { hasCode, WalrxError } from '../../../src/primitives/errors.ts'
import { isRunning } from '../../harness/walrx/processes.ts'
import { until } from '../../harness/time/until.ts'

const folder = mkdtempSync(join(tmpdir(), 'walrx-key-command-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string) => join(folder, name)

async function failure(command: string, limits = {}): Promise<WalrxError> {
  const error = await runKeyCommand(command, limits).then(
    () => assert.fail('succeeded'),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof WalrxError && hasCode(error, 'WALRX_KEY_UNAVAILABLE'), String(error))
  assert.equal(error.cause, undefined)
  return error
}

describe('a key command', () => {
  test('gives its standard output to the byte, whatever it says besides', async () => {
    const output = await runKeyCommand(`printf ' a\\r\\n\\n b\\t'; echo warning >&2`)
    assert.equal(output.toString('latin1'), ' a\r\n\n b\t')
  })

  test('has the environment of this process, no standard input, and stands in no arguments', async () => {
    process.env['WALRX_TEST_WORD'] = 'inherited'
    try {
      const output = await runKeyCommand(`cat; echo "$WALRX_TEST_WORD"; cat /proc/$$/cmdline`)
      assert.equal(output.toString(), 'inherited\n/bin/sh\0-c\0eval "$WALRX_KEY_COMMAND"\0')
    } finally {
      delete process.env['WALRX_TEST_WORD']
    }
  })

  test('is stopped after its time, with all that it has started', async () => {
    const command = `sleep 1000 & echo $! >${at('sleeper')}; echo $$ >${at('shell')}; wait`
    const error = await failure(command, { timeoutMs: 300 })
    assert.equal(error.message, 'WALRX_KEY_COMMAND has not ended after 0.3 s, and was stopped')
    for (const name of ['sleeper', 'shell']) {
      const pid = Number(readFileSync(at(name), 'utf8'))
      assert.ok(pid > 0)
      await until('its end', async () => !(await isRunning(pid)))
    }
  })

  test('keeps no process after it was stopped', async () => {
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
    const before = timers()
    await failure(`echo $$ >${at('stopped')}; exec sleep 1000`, { timeoutMs: 300 })
    const pid = Number(readFileSync(at('stopped'), 'utf8'))
    // What listens to its end, which comes after the call, must leave nothing.
    for (let is = true; is; is = existsSync(`/proc/${pid}`)) await new Promise((turn) => setImmediate(turn))
    await new Promise((turn) => setImmediate(turn))
    assert.equal(timers(), before, 'a timer is left')
  })

  test('counts as ended when it has, though something that it left running holds its output', async () => {
    const output = await runKeyCommand(`sleep 1000 & echo $! >${at('daemon')}; echo key`)
    const daemon = Number(readFileSync(at('daemon'), 'utf8'))
    assert.equal(output.toString(), 'key\n')
    assert.ok(await isRunning(daemon))
    process.kill(daemon, 'SIGKILL')
  })

  test('ends when this process is to end, which is no failure of it', async () => {
    const ready = at('ready')
    const listeners = process.listenerCount('exit')
    const ignore = () => {}
    process.on('SIGTERM', ignore)
    try {
      const running = runKeyCommand(`echo $$ >${ready}.part; mv ${ready}.part ${ready}; sleep 1000`)
      await until('its start', () => existsSync(ready))
      const pid = Number(readFileSync(ready, 'utf8'))
      process.kill(process.pid, 'SIGTERM')
      await assert.rejects(running, { name: 'AbortError' })
      await until('its end', async () => !(await isRunning(pid)))
    } finally {
      process.off('SIGTERM', ignore)
    }
    assert.equal(process.listenerCount('exit'), listeners)
  })

  test('is refused where it is longer than any environment can hold', async () => {
    const { message } = await failure(`: ${'x'.repeat(200_000)}`)
    assert.equal(message, 'WALRX_KEY_COMMAND cannot be started: /bin/sh: E2BIG')
  })
})

describe('the standard error of a key command that fails', () => {
  test('is shown from its end, in one line, without what a terminal would obey', async () => {
    const { message } = await failure(
      `printf 'one\\r\\n\\033[31mtwo\\033[0m\\n\\n' >&2; i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1`,
    )
    assert.ok(message.length < 500, String(message.length))
    assert.match(message, /^WALRX_KEY_COMMAND ended with status 1: .*line 2998 \| line 2999$/)
    assert.equal((await failure(`printf '\\033[31mtwo\\033[0m\\n' >&2; exit 1`)).message.slice(-5), ': two')
  })

  test('has none of what was printed, of tokens, and of long hex and base64', async () => {
    const key = 'Hush0123456789+/Hush0123456789'
    const hex = Buffer.from(key).toString('hex')
    const base64 = Buffer.from(`${key}${key}`).toString('base64')
    const script = at('script')
    writeFileSync(script, `set -x\necho '${key}'\nprintf 'short'\n: ${hex} ${base64}\nexit 1\n`)
    const { message } = await failure(
      `. ${script}; false || { echo "Authorization: Bearer ${key}, password=${key}" >&2; exit 1; }`,
    )
    for (const form of [key, hex, base64, base64.slice(0, 40)]) assert.ok(!message.includes(form), message)
    assert.match(message, /echo/)
    const path = '/usr/local/lib/walrx/keys/of-the-archive-of-db1.example/get-key'
    assert.match((await failure(path)).message, new RegExp(path))
  })

  test('has none of the command either, where the shell repeats it', async () => {
    const { message } = await failure("printf HushHushHush' ")
    assert.ok(!message.includes('HushHushHush'), message)
  })
})
