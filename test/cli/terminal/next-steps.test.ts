import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type NextStart, nextSteps } from '../../../src/cli/terminal/next-steps.ts'

const start: NextStart = {
  dataDirectory: "/srv/it's",
  outside: ['/ts/a b'],
  pgCtl: '/usr/lib/postgresql/17/bin/pg_ctl',
  isRoot: false,
  variables: [],
  setUp: undefined,
  isLedAway: false,
  pauses: false,
}
const commands = (lines: readonly string[]) => lines.filter((line) => line.startsWith('  ')).map((line) => line.trim())

test('the next command starts the server, quoted for a shell', () => {
  assert.deepEqual(nextSteps(start), [
    'next, in this shell:',
    `  /usr/lib/postgresql/17/bin/pg_ctl -D '/srv/it'\\''s' -l '/srv/it'\\''s/walrx-start.log' -t 86400 start`,
  ])
})

test('variables are exported, and secrets only named', () => {
  const variables = [
    { name: 'WALG_FILE_PREFIX', value: '/a b' },
    { name: 'AWS_SECRET_ACCESS_KEY', value: undefined },
  ]
  const lines = nextSteps({ ...start, variables })
  assert.equal(commands(lines)[0], "export WALG_FILE_PREFIX='/a b'")
  assert.equal(commands(lines).length, 2)
  assert.match(lines.at(-1) ?? '', /^secrets are not shown.*: AWS_SECRET_ACCESS_KEY$/)
})

test('without a recovery the commands set one up', () => {
  const lines = nextSteps({ ...start, setUp: ['walrx', 'restore-command', '--file-prefix=/a b'] })
  assert.match(lines[0] ?? '', /^no recovery is set up/)
  assert.deepEqual(commands(lines).slice(0, 2), [
    `walrx restore-command '--file-prefix=/a b' >>'/srv/it'\\''s/postgresql.auto.conf'`,
    `touch '/srv/it'\\''s/recovery.signal'`,
  ])
})

test('root is warned, gives the files away last, and starts the server as another user', () => {
  const lines = nextSteps({ ...start, dataDirectory: '/srv/data', isRoot: true, setUp: ['walrx'] })
  assert.match(lines[0] ?? '', /^root owns the restored files/)
  assert.deepEqual(commands(lines).slice(2), [
    "chown -R postgres: /srv/data '/ts/a b'",
    "su postgres -s /bin/sh -c '/usr/lib/postgresql/17/bin/pg_ctl -D /srv/data -l /srv/data/walrx-start.log -t 86400 start'",
  ])
})

test('the end of a pause is named', () => {
  assert.match(nextSteps({ ...start, pauses: true }).at(-1) ?? '', /pg_wal_replay_resume/)
})

test('a server that its configuration leads to another directory is started in its own', () => {
  assert.match(
    commands(nextSteps({ ...start, dataDirectory: '/srv/new', isLedAway: true }))[0] ?? '',
    / -D \/srv\/new .* -o '-c data_directory=\/srv\/new' start$/,
  )
})
