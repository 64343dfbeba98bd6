import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkArguments, flagsOf } from '../../../src/cli/arguments/arguments.ts'
import { commandFirst } from '../../../src/cli/arguments/command-first.ts'
import { foreignCommand } from '../../../src/cli/arguments/foreign-words.ts'
import { parsePlain } from '../../../src/cli/arguments/plain-arguments.ts'
import { commands } from '../../../src/cli/command-loaders.ts'
import { commandTable } from '../../../src/config/commands.ts'
import type { CommandName } from '../../../src/config/options/option-types.ts'
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
  const words = ['list', 'restore', 'backup', 'archive-push', 'archive-get', 'stanza-create']
  for (const word of [
    ...words,
    'put-wal',
    'backup-delete',
    'expire',
    'receive-wal',
    'list-backups',
    'cron',
    'walg-daemon-client',
    'repo-ls',
    'barman-wal-archive',
    'barman-cloud-backup',
    'barman-cloud-backup-delete',
    'barman-cloud-wal-restore',
    'pg_receivewal',
    'pg_basebackup',
    'pg_verifybackup',
    'Restore',
  ]) {
    assert.notEqual(foreignCommand(word), undefined, word)
  }
  assert.equal(foreignCommand('restore'), 'did you mean backup-fetch?')
  assert.equal(foreignCommand('constructor'), undefined)
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
  assert.match(await fetch('--pgdata=/x'), /the directory first/)
  assert.match(await fetch('--pg1-path=/x'), /the directory first/)
  assert.match(await refused('backup-mark', 'LATEST', '--permanent'), /without an option/)
})

/** What users of other tools type, by the tool: command lines that walrx does not take. */
const linesOfOthers: Readonly<Record<string, readonly [CommandName, ...string[]][]>> = {
  'WAL-G': [
    ['backup-mark', '--permanent', 'LATEST'],
    ['backup-plan', '/var/lib/postgresql/17/main'],
    ['backup-push', '--pgdata', '/x'],
    ['backup-push', '--store-all-corrupt'],
    ['backup-push', '--without-files-metadata'],
    ['backup-list', 'DETAIL'],
    ['backup-fetch', '/d', 'LATEST', '--reverse-unpack'],
    ['backup-fetch', '/d', 'LATEST', '--restore-spec', 'spec.json'],
    ['backup-fetch', '/d', '--target-user-data', '{}'],
  ],
  pgBackRest: [
    ['backup-push', '--type=full'],
    ['backup-push', '--stanza=main'],
    ['backup-push', '--process-max=4'],
    ['backup-push', '--start-fast'],
    ['backup-fetch', '/d', 'LATEST', '--type=time', '--target=2026-03-01'],
    ['backup-fetch', '/d', 'LATEST', '--target=2026-03-01'],
    ['backup-fetch', '/d', 'LATEST', '--force'],
    ['backup-fetch', '/d', 'LATEST', '--set=20260301-000000F'],
    ['backup-fetch', '/d', 'LATEST', '--target-exclusive'],
    ['backup-list', '--output=json'],
    ['wal-show', '--log-level-console=info'],
  ],
  Barman: [
    ['backup-fetch', '/d', 'LATEST', '--target-tli', '2'],
    ['backup-fetch', '/d', 'LATEST', '--exclusive'],
    ['backup-fetch', '/d', 'LATEST', '--tablespace', 'a:/b'],
    ['backup-fetch', '/d', 'LATEST', '--get-wal'],
    ['backup-fetch', '/d', 'LATEST', '--standby-mode'],
    ['backup-fetch', '/d', 'LATEST', '--remote-ssh-command', 'ssh x'],
    ['backup-list', '-f', 'json'],
    ['wal-receive', '--create-slot'],
    ['wal-receive', '--drop-slot'],
    ['backup-push', '--immediate-checkpoint'],
    ['backup-push', '--bwlimit', '10MB'],
  ],
  "PostgreSQL's own": [
    ['wal-receive', '-D', '/x'],
    ['wal-receive', '--slot=s'],
    ['wal-receive', '--if-not-exists'],
    ['wal-receive', '--no-loop'],
    ['wal-receive', '--status-interval=10'],
    ['wal-receive', '-Z', '5'],
    ['wal-receive', '-W'],
    ['wal-receive', '--no-password'],
    ['wal-receive', '--version'],
    ['backup-push', '-D', '/x'],
    ['backup-push', '-X', 'stream'],
    ['backup-push', '-Ft'],
    ['backup-push', '-c', 'fast'],
    ['backup-push', '-r', '10M'],
    ['backup-push', '-P'],
    ['backup-push', '-R'],
    ['backup-push', '-i', '/x/backup_manifest'],
    ['backup-push', '--no-verify-checksums'],
    ['backup-push', '--no-slot'],
    ['backup-fetch', '-D', '/d', 'LATEST'],
    ['scrub', '--host', 'db1'],
    ['scrub', '-v'],
    ['wal-finalize', '-n'],
  ],
}

for (const [tool, lines] of Object.entries(linesOfOthers)) {
  test(`options of ${tool} tools get an answer that names no option which the command lacks`, async () => {
    for (const [name, ...args] of lines) {
      const answer = await refused(name, ...args)
      assert.doesNotMatch(answer, / \| see walrx /, answer)
      // What a sentence says of another command has that command before it.
      const own = new Set(flagsOf({ name }).map(({ flag }) => flag))
      const said = (answer.split(' | ')[1] ?? '').replace(/walrx [a-z]+-[a-z]+( --[a-z-]+)+/g, '')
      for (const [, no, flag = ''] of said.matchAll(/--(no-)?([a-z0-9-]+)/g)) {
        if (said.includes('walrx --version')) continue
        assert.ok(own.has(flag) || own.has(`${no}${flag}`), `${name} ${args.join(' ')}: ${answer}`)
      }
    }
  })
}

test('options may come before the command, as in WAL-G and pgBackRest', () => {
  const isCommand = (word: string) => Object.hasOwn(commandTable, word)
  const order = (line: string) => commandFirst(line.split(' '), isCommand).join(' ')
  assert.equal(order('--config f wal-show --json'), 'wal-show --config f --json')
  assert.equal(order('--stanza=x info'), 'info --stanza=x')
  assert.equal(order('--stanza x --type=time restore'), 'restore --stanza x --type=time')
  assert.equal(order('-h db1 -p 5432 backup-push'), 'backup-push -h db1 -p 5432')
  for (const line of ['-h backup-push', '-h', '--help backup-push', '-U x -p 1', 'wal-fetch a b', 'wal-show --json']) {
    assert.equal(order(line), line)
  }
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
    assert.match(await refused('backup-fetch', name, '/d'), new RegExp(`\\| write /d ${name} instead of ${name} /d$`))
  }
})
