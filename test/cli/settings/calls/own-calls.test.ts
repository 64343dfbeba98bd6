import assert from 'node:assert/strict'
import { test } from 'node:test'
import { completeCalls } from '../../../../src/cli/settings/calls/own-calls.ts'
import { flagArguments } from '../../../../src/cli/settings/calls/own-program.ts'
import { loadSettings } from '../../../../src/config/load.ts'
import { valueSeparator } from '../../../../src/config/options/option-types.ts'
import type { OptionKey } from '../../../../src/config/options/options.ts'

const load = (flags: [OptionKey, string][]) =>
  loadSettings({ command: 'backup-push', flags: new Map(flags), environment: { WALG_ZSTD_LEVEL: 'fastest' } })

test('a call with arguments gets the archive and the server of this run, and nothing else of it', async () => {
  const settings = await load([
    ['filePrefix', '/srv/my archive'],
    ['conninfo', 'host=db1 user=walrx'],
    ['full', 'true'],
    ['logLevel', 'debug'],
  ])
  assert.equal(
    completeCalls('complete it by: walrx backup-finish base_000000010000000000000004', settings),
    "complete it by: walrx backup-finish base_000000010000000000000004 '--file-prefix=/srv/my archive'",
  )
  assert.equal(
    completeCalls('run walrx wal-finalize --set-aside 00000002.history; then start again', settings),
    "run walrx wal-finalize --set-aside 00000002.history '--file-prefix=/srv/my archive'; then start again",
  )
  assert.equal(
    completeCalls('remove it with walrx st rm --force walrx_005/system.json: a start writes it again', settings),
    "remove it with walrx st rm --force walrx_005/system.json '--file-prefix=/srv/my archive': a start writes it again",
  )
  assert.equal(
    completeCalls('a backup reads every page too: walrx backup-push --verify', settings),
    "a backup reads every page too: walrx backup-push --verify '--file-prefix=/srv/my archive' '--dbname=host=db1 user=walrx'",
  )
})

test('what is no call stays as it is', async () => {
  const settings = await load([['filePrefix', '/srv/archive']])
  for (const text of [
    'walrx backup-push takes one',
    'run walrx backup-mark again to finish',
    'see walrx wal-finalize --set-aside',
    'walrx no-command --x',
  ]) {
    assert.equal(completeCalls(text, settings), text)
  }
  assert.equal(completeCalls('walrx backup-mark LATEST', settings), 'walrx backup-mark LATEST')
  assert.equal(completeCalls('walrx wal-finalize --timeline 1', await load([])), 'walrx wal-finalize --timeline 1')
})

test('a flag with a secret is named without it', async () => {
  const settings = await load([['conninfo', 'host=db1 password=hush']])
  assert.equal(completeCalls('walrx backup-push --verify', settings), 'walrx backup-push --verify --dbname=…')
})

test('a flag that was given several times is several flags again', async () => {
  const text = `/a=/b${valueSeparator}/c=/d`
  const settings = await loadSettings({
    command: 'backup-fetch',
    flags: new Map<OptionKey, string>([['tablespaceMapping', text]]),
    environment: {},
  })
  assert.deepEqual(flagArguments(settings, 'backup-fetch'), [
    '--tablespace-mapping=/a=/b',
    '--tablespace-mapping=/c=/d',
  ])
})
