import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkArguments } from '../../src/cli/arguments/arguments.ts'
import { foreignCommand } from '../../src/cli/arguments/foreign-words.ts'
import { parsePlain } from '../../src/cli/arguments/plain-arguments.ts'
import { commands } from '../../src/cli/command-loaders.ts'
import { commandTable } from '../../src/config/commands.ts'
import { repository } from '../lint/source-files.ts'

const text = readFileSync(join(repository, 'docs', 'walg.md'), 'utf8')
const section = /^## Moving from another tool$([^]*)/m.exec(text)?.[1] ?? ''
const rows = section.split('\n').flatMap((line) => (/^\| (?!-|WAL-G)/.test(line) ? [line.split('|').slice(1, -1)] : []))

test('what docs/walg.md has for the words of other tools can be typed', async () => {
  assert.ok(rows.length > 10)
  const calls = rows.flatMap((cells) => [...(cells[3] ?? '').matchAll(/`walrx ([^`]+)`/g)].map(([, call = '']) => call))
  for (const call of calls) {
    const [name = '', ...args] = call.split(' ')
    const command = await Object.entries(commands)
      .find(([each]) => each === name)?.[1]
      .load()
    assert.ok(command, call)
    // The names of commands stand for themselves, without what they need.
    if (args.length > 0) checkArguments(command, parsePlain(command, args))
  }
})

test('the commands of other tools in docs/walg.md get an answer from the program', () => {
  const words = rows.flatMap((cells) =>
    cells.slice(0, 3).flatMap((cell) => [...cell.matchAll(/`([a-z-]+)/g)].map(([, word = '']) => word)),
  )
  for (const word of words.filter((each) => !each.startsWith('-') && each !== 'slot')) {
    const isOurs = Object.hasOwn(commandTable, word)
    assert.ok(isOurs || foreignCommand(word) !== undefined, word)
  }
})
