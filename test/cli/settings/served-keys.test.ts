/** How often the keys of a served cluster are read, and its commands for keys run, by what only reads a configuration. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { mistakeLine } from '../../../src/serve/configuration/mistakes.ts'
import { readText } from '../../serve/configuration/read-text.ts'

const folder = mkdtempSync(join(tmpdir(), 'walrx-served-keys-'))
after(() => rmSync(folder, { recursive: true }))
const runs = join(folder, 'runs')

const text = (command: string, ofUsers = '') => `defaults:
  storage: {file-prefix: ${folder}}
  environment: {WALG_LIBSODIUM_KEY_TRANSFORM: hex, WALRX_KEY_COMMAND: '${command}'}
  backup: {full: '@daily'}
  retention: {schedule: '@daily', keep-days: 7}
  verify: {schedule: '@daily'}
clusters:
  orders:
    server: {dbname: host=db1}
    storage: {storage-prefix: orders}
    environment: {PGPASSWORD: one}
  users:
    server: {dbname: host=db2}
    storage: {storage-prefix: users}
    environment: {PGPASSWORD: two${ofUsers}}
`
const printing = `echo run >> ${runs}; echo ${'0a'.repeat(32)}`
const environment = { PATH: process.env['PATH'] }

test('a start and a reload run no command for keys, and --check runs each once', async () => {
  assert.ok((await readText(text(printing), environment)).configuration)
  assert.equal(existsSync(runs), false)
  assert.ok((await readText(text(printing), environment, true)).configuration)
  assert.equal(readFileSync(runs, 'utf8'), 'run\n')
  assert.ok((await readText(text(printing, ', MY_KEY: 2'), environment, true)).configuration)
  assert.equal(readFileSync(runs, 'utf8'), 'run\n'.repeat(3))
})

test('a command for keys that fails is one mistake, where it stands', async () => {
  const { mistakes = [] } = await readText(text('exit 3'), environment, true)
  const lines = mistakes.map((mistake) => mistakeLine('walrx.yaml', mistake))
  assert.equal(lines.length, 1, lines.join('\n'))
  assert.match(lines[0] ?? '', /^walrx\.yaml:3:\d+: WALRX_KEY_COMMAND ended with status 3: /)
})
