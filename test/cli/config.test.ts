/** `walrx config`, run in this process. */
import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { runProgram } from '../../src/cli/program.ts'

async function walrx(args: readonly string[], environment: Record<string, string> = {}) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const outside = { stdin: new PassThrough(), stdout, stderr, signals: new EventEmitter(), exit: () => {} }
  const status = await runProgram({ args, environment, home: undefined, ...outside })
  const text = (stream: PassThrough) => (stream.read() as Buffer | null)?.toString() ?? ''
  return { status, stdout: text(stdout), stderr: text(stderr) }
}

test('shows what is set, and with --all the defaults too', async () => {
  const set = await walrx(['config'], { WALG_SLOTNAME: 'one' })
  assert.deepEqual([set.status, set.stderr], [0, ''])
  assert.match(set.stdout, /^config file: none\n\noption +value +from\nWALG_SLOTNAME +one +environment\n$/)
  const all = await walrx(['config', 'wal-receive', '--all'], {})
  assert.match(all.stdout, /^WALG_SLOTNAME +walrx +default$/m)
  assert.doesNotMatch(all.stdout, /^WALRX_STANDBY_TAIL/m)
  assert.match((await walrx(['config'])).stdout, /no option is set: --all shows the defaults/)
})

test('takes the flags of the command that it describes, and no others', async () => {
  const { status, stdout } = await walrx(['config', 'wal-receive', '-S', 'two', '--memory', '64MB', '--json'])
  assert.equal(status, 0)
  const found = JSON.parse(stdout) as { options: { name: string; value: string; source: string; set_by: string }[] }
  assert.deepEqual(
    found.options.filter(({ source }) => source === 'flag').map(({ name, set_by, value }) => [name, value, set_by]),
    [
      ['WALG_SLOTNAME', 'two', '--slotname'],
      ['WALRX_MEMORY', '64MB', '--memory'],
    ],
  )
  const refused = await walrx(['config', 'wal-fetch', '--slotname', 'x'])
  assert.equal(refused.status, 2)
  assert.match(refused.stderr, /config has no option --slotname/)
  const mistyped = await walrx(['config', 'wal-recieve'])
  assert.deepEqual([mistyped.status, mistyped.stdout], [2, ''])
  assert.match(mistyped.stderr, /there is no command wal-recieve\nhint: did you mean wal-receive\?/)
})

test('ends with 2 where the command would not start, after it has shown everything', async () => {
  for (const [environment, message] of [
    [{ WALRX_LOG_LEVEL: 'loud' }, /WALRX_LOG_LEVEL: must be one of error, warn, info, debug/],
    [{ WALG_USE_WAL_DELTA: 'true' }, /WALG_USE_WAL_DELTA is set \(environment\) and stops wal-receive: walrx doesn't/],
    [{ WALG_GS_PREFIX: 'gs://b' }, /WALG_GS_PREFIX is set .*\nhint: set WALG_S3_PREFIX/],
  ] as const) {
    const { status, stderr, stdout } = await walrx(['config', 'wal-receive'], environment)
    assert.equal(status, 2)
    assert.match(stderr, message)
    assert.match(stdout, new RegExp(`^${Object.keys(environment)[0]}`, 'm'))
  }
  assert.equal((await walrx(['config', 'wal-fetch'], { WALG_USE_WAL_DELTA: 'true' })).status, 0)
})

test('says of every setting of WAL-G what walrx does with it', async () => {
  const { stdout } = await walrx(['config', '--walg'])
  assert.match(stdout, /^WALG_SLOTNAME +honoured +--slotname: /m)
  assert.match(stdout, /^S3_RETENTION_PERIOD +refused +walrx doesn't lock objects/m)
  const rows = JSON.parse((await walrx(['config', '--walg', '--json'])).stdout) as { name: string; effect: string }[]
  assert.equal(rows.length, stdout.trimEnd().split('\n').length - 1)
  assert.equal(rows.find(({ name }) => name === 'PGSSLMODE')?.effect, 'honoured')
})
