import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { promisify } from 'node:util'
import { walgCommandFates, walgCommands, walgGlobalFlags } from '../../src/cli/arguments/walg-commands.ts'
import { walgFates } from '../../src/config/inspect/walg-fates.ts'
import { walgSettingNames } from '../../src/config/inspect/walg-setting-names.ts'
import { knownNames, spellings } from '../../src/config/setting-names.ts'
import { walgSettings } from '../../src/config/walg-settings.ts'
import { readWalgCommands, renderWalgCommands } from './walg-commands.ts'

test('docs/walg-commands.md is what the tables say; npm run docs writes it', () => {
  assert.equal(readWalgCommands(), renderWalgCommands())
})

test('walrx has every command and flag of WAL-G, or an answer to it', () => {
  for (const { answer, command, flags, name } of walgCommandFates()) {
    assert.ok(command !== undefined || answer !== undefined, name)
    if (command === undefined) continue
    for (const each of flags) assert.notEqual(each.answer, undefined, `${name} --${each.flag}`)
  }
})

test('the table of settings has every name that walrx has a rule for, once, and no other', () => {
  const names: string[] = Object.values(walgSettingNames).flat()
  assert.equal(new Set(names).size, names.length)
  assert.equal(walgFates().length, names.length)
  const ofOtherStorages = /^WALG_(AZ|SWIFT|SSH|OSS)_PREFIX$/
  // WAL-G's PG_READY_RENAME; with the prefix it is what its documentation has.
  const ofDocumentation = ['WALG_PG_READY_RENAME']
  for (const name of walgSettings.flatMap((row) => row.names)) {
    assert.ok(names.includes(name) || ofOtherStorages.test(name) || ofDocumentation.includes(name), name)
  }
})

/** Settings of other storages, and flags that are no settings. */
const notOurs = /^(AZURE|OSS|OS|SSH)_|^WAL[GE]_(AZURE|AZ|OSS|SWIFT|SSH|STREAM)_|^(CONFIG|TURBO|HELP|VERSION)$/

describe('the program of WAL-G', { skip: process.env.WALG_BIN ? false : 'no program of WAL-G given' }, () => {
  /** Names below `Available Commands:`, and flags with their letters, of a help text. */
  async function help(...words: string[]) {
    const home = mkdtempSync(join(tmpdir(), 'walrx-walg-help-'))
    try {
      const env = { PATH: process.env.PATH, HOME: home }
      const { stderr, stdout } = await promisify(execFile)(process.env.WALG_BIN ?? '', words, { env })
      const listed = /^Available Commands:\n((?:\S.*\n)+)/m.exec(stdout)?.[1] ?? ''
      // The list of flags comes as a usage message.
      const text = stdout + stderr
      return {
        commands: listed.split('\n').flatMap((line) => /^[a-z-]+/.exec(line) ?? []),
        flags: [...text.matchAll(/^ +(?:-([a-zA-Z]), )?--([a-z0-9-]+)/gm)].map(([, letter, flag = '']) =>
          letter === undefined ? flag : `${flag}|${letter}`,
        ),
      }
    } finally {
      rmSync(home, { recursive: true })
    }
  }

  test('has the commands and flags of the table, and no others', async () => {
    const found: Record<string, string[]> = {}
    const walk = async (...path: string[]): Promise<void> => {
      const { commands, flags } = await help(...path, '--help')
      const own = flags.filter((flag) => !walgGlobalFlags.includes(flag))
      if (path.length > 0) found[path.join(' ')] = own.sort()
      for (const command of commands) if (command !== 'help') await walk(...path, command)
    }
    await walk()
    // It is hidden.
    await walk('wal-prefetch')
    // Its help has the settings.
    found['flags'] = []
    const expected = Object.entries(walgCommands).map(([name, flags]) => [name, flags.toSorted()])
    assert.deepEqual(found, Object.fromEntries(expected))
    assert.deepEqual((await help('--help')).flags.sort(), walgGlobalFlags.toSorted())
  })

  test('has no setting that walrx does not know, and all of the table', async () => {
    const settings = (await help('flags')).flags.map((flag) => flag.replaceAll('-', '_').toUpperCase())
    const wanted = settings.filter((name) => !notOurs.test(name))
    assert.ok(wanted.length > 100)
    const known = knownNames()
    const listed = new Set<string>(Object.values(walgSettingNames).flat().flatMap(spellings))
    for (const name of wanted) assert.ok(known.has(name) || name.startsWith('PG'), name)
    for (const name of wanted) assert.ok(listed.has(name), name)
    // Read by the SDK of AWS and of no list, by main.go, and by code that asks for a name that no list has.
    const unlisted = ['AWS_WEB_IDENTITY_TOKEN_FILE', 'WALG_CONFIG_PATH', 'WALG_TARGET_STORAGE', 'GPG_KEY_ID']
    for (const [group, names] of Object.entries(walgSettingNames)) {
      if (group === 'Only in WAL-RUS') continue
      for (const name of names)
        assert.ok(spellings(name).some((each) => settings.includes(each)) || unlisted.includes(name), name)
    }
  })
})
