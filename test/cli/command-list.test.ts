import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { commands } from '../../src/cli/command-loaders.ts'
import { commandTable } from '../../src/config/commands.ts'
import { repository } from '../lint/source-files.ts'

test('every command of the table has a file of its name, and is what that file has', async () => {
  assert.deepEqual(Object.keys(commands), Object.keys(commandTable))
  const files = readdirSync(join(repository, 'src', 'cli', 'commands'))
  assert.deepEqual(
    files.toSorted(),
    Object.keys(commandTable)
      .map((name) => `${name}.ts`)
      .sort(),
  )
  for (const [name, entry] of Object.entries(commands)) assert.equal((await entry.load()).name, name)
})
