import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { commandGroups, commandRow, type CommandRow, commandTable, isIn } from '../../src/config/commands.ts'

const rows = Object.entries<CommandRow>(commandTable)

describe('the table of commands', () => {
  test('has a summary of one line without a full stop, and no group twice', () => {
    for (const [name, { groups, summary }] of rows) {
      assert.match(summary, /^[a-z][^\n]*[^\n.]$/, name)
      assert.equal(new Set(groups).size, groups.length, name)
    }
  })

  test('has several commands in every group, and no group that is called like a command', () => {
    for (const group of commandGroups) {
      assert.ok(rows.filter(([name]) => isIn(name, [group])).length > 1, group)
      assert.equal(commandRow(group), undefined)
    }
  })

  test('knows no other names, and none that every object has', () => {
    for (const name of ['wal-recieve', '', 'toString', undefined]) assert.equal(commandRow(name), undefined)
  })
})

test('a command is in a set by its name, by a group, and by all', () => {
  assert.ok(isIn('scrub', ['backup-list', 'scrub']))
  assert.ok(isIn('scrub', ['all that talk to a server']))
  assert.ok(isIn('scrub', ['all']))
  assert.ok(!isIn('scrub', ['backup-list', 'all with an archive']))
})
