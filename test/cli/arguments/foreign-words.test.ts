import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkArguments } from '../../../src/cli/arguments/arguments.ts'
import { foreignCommand } from '../../../src/cli/arguments/foreign-words.ts'
import { parsePlain } from '../../../src/cli/arguments/plain-arguments.ts'
import { commands } from '../../../src/cli/command-loaders.ts'
import { commandTable } from '../../../src/config/commands.ts'
import type { CommandName } from '../../../src/config/options/option-types.ts'
import { optionTable } from '../../../src/config/options/options.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'

/** What is said to a command line that is refused: message and hint. */
async function refused(name: CommandName, ...args: string[]): Promise<string> {
  const command = await commands[name]?.load()
  if (!command) throw new Error(name)
  try {
    checkArguments(command, parsePlain(command, args))
  } catch (error) {
    if (error instanceof WalrxError) return `${error.message} | ${error.hint}`
    throw error
  }
  return assert.fail(`${name} ${args.join(' ')} was accepted`)
}

test('commands of WAL-G, pgBackRest and Barman get an answer, whatever walrx has instead', () => {
  const words = ['list', 'delete', 'restore', 'backup', 'info', 'check', 'archive-push', 'archive-get', 'stanza-create']
  for (const word of [
    ...words,
    'wal-push',
    'backup-delete',
    'expire',
    'receive-wal',
    'list-backups',
    'cron',
    'Restore',
  ]) {
    assert.notEqual(foreignCommand(word), undefined, word)
  }
  assert.equal(foreignCommand('restore'), 'did you mean backup-fetch?')
  assert.equal(foreignCommand('constructor'), undefined)
})

test('what an answer names exists', () => {
  const flags = new Set(Object.values(optionTable).flatMap((spec) => ('flag' in spec ? [spec.flag as string] : [])))
  const known = [...Object.keys(commandTable), 'did']
  for (const word of [
    'list',
    'delete',
    'restore',
    'backup',
    'check',
    'status',
    'archive-get',
    'wal-push',
    'stanza-create',
  ]) {
    const hint = foreignCommand(word) ?? ''
    for (const [, name = ''] of hint.matchAll(/walrx ([a-z]+-[a-z]+)/g)) assert.ok(known.includes(name), hint)
    for (const [, flag = ''] of hint.matchAll(/--([a-z-]+)/g)) assert.ok(flags.has(flag), hint)
  }
})

test('options of other tools get the option of walrx', async () => {
  assert.match(await refused('wal-receive', '--db', 'x'), /did you mean --dbname\?/)
  assert.match(await refused('wal-receive', '--slot=s'), /did you mean --slotname\?/)
  const fetch = (...args: string[]) => refused('backup-fetch', '/d', 'LATEST', ...args)
  assert.match(await fetch('--recovery-target-time', 'now'), /did you mean --target-time\?/)
  assert.match(await fetch('--type=time', '--target=now'), /--target-time, --target-lsn/)
  assert.match(await fetch('--target=2026-03-01'), /the kind of the target: --target-time/)
  assert.match(await fetch('--stanza=main'), /--file-prefix names it/)
  assert.match(await fetch('--repo1-path=/x'), /--file-prefix DIRECTORY/)
  assert.match(await fetch('--pgdata=/x'), /first argument/)
  assert.match(await fetch('--pg1-path=/x'), /first argument/)
  assert.match(await refused('backup-mark', 'LATEST', '--permanent'), /without an option/)
  assert.match(await refused('wal-show', '--detailed-json'), /did you mean --json\?/)
})

test("psql's -h with a host is no request for help", async () => {
  const asPsql = ['-h', 'db1', '-p', '5432', '-U', 'walrx']
  for (const name of ['wal-receive', 'backup-push', 'scrub'] as const) {
    assert.match(await refused(name, ...asPsql), /has no option -h \| did you mean --pghost\?/)
    assert.match(await refused(name, '-U', 'walrx', '-h', 'db1'), /has no option -U \| did you mean --pguser\?/)
    assert.match(await refused(name, '-hdb1'), /did you mean --pghost\?/)
    const command = await commands[name]?.load()
    if (command)
      for (const args of [['-h'], ['-h', '--full'], ['--help', 'x']]) assert.ok(parsePlain(command, args).help)
  }
})

test('a backup that is called latest, and the arguments of backup-fetch in the wrong order', async () => {
  assert.match(await refused('backup-show', 'latest'), /did you mean LATEST\?/)
  assert.match(await refused('backup-fetch', '/d', 'Latest'), /did you mean LATEST\?/)
  for (const name of ['LATEST', 'latest', 'base_000000010000000000000004']) {
    assert.match(await refused('backup-fetch', name, '/d'), new RegExp(`\\| write walrx backup-fetch /d ${name}$`))
  }
})
