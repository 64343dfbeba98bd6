import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { checkBackupHistory, checkHistory } from '../../../src/postgres/wal/wal-text-file.ts'
import { backupHistory } from '../../push/wal-label.ts'

const refuses = (check: (content: Uint8Array, name: string) => unknown, name: string, text: string, message: RegExp) =>
  assert.throws(() => check(Buffer.from(text, 'latin1'), name), { code: 'WALRX_OBJECT_DAMAGED', message }, text)

describe('a history', () => {
  const accepts = (name: string, text: string) => checkHistory(Buffer.from(text, 'latin1'), name)

  test('passes as PostgreSQL writes it, with comments, empty lines and any reason', () => {
    accepts('00000002.history', '1\t0/3000098\tno recovery target specified\n')
    accepts('00000007.history', '# a comment\n\n1\t0/3000098\tat restore point "\xe9\xff"\n\n  \n5\t0/5000098\t')
    // A server that pg_resetwal has put on timeline 5 has no history of it.
    accepts('00000006.history', '5\t1/5000098\tno recovery target specified\n')
  })

  test('passes with a switch before the one of its parent: a recovery to a point before that writes it', () => {
    accepts('00000003.history', '1\t0/5000098\tx\n\n2\t0/3000098\tbefore LSN 0/3000098\n')
  })

  test('is refused where PostgreSQL cannot have written it', () => {
    for (const [name, text, message] of [
      ['00000000.history', '1\t0/28\tx\n', /no history of timeline 0/],
      ['00000001.history', '1\t0/28\tx\n', /no history of timeline 1/],
      ['00000002.history', '', /names no ancestor/],
      ['00000002.history', '\n# nothing\n', /names no ancestor/],
      ['00000002.history', '0\t0/28\tx\n', /names timeline 0/],
      ['00000002.history', '2\t0/28\tx\n', /timeline 2 as an ancestor of timeline 2/],
      ['00000002.history', '7\t0/28\tx\n', /timeline 7 as an ancestor of timeline 2/],
      ['00000009.history', '3\t0/28\tx\n2\t0/30\ty\n', /lists timeline 2 after 3/],
      ['00000002.history', '\0\0\0\0', /invalid line: "\?{4}"/],
      ['00000002.history', 'z'.repeat(5000), /invalid line: "z{60}…"$/],
    ] as const) {
      refuses(checkHistory, name, text, message)
    }
  })
})

describe('a backup history file', () => {
  const segment = '00000001000000000000000A'

  test('passes with the start that its name has, whatever the size of a segment', () => {
    for (const [name, start] of [
      [`${segment}.00000028.backup`, '0/A00028'],
      [`${segment}.00000028.backup`, '0/A000028'],
      [`${segment}.00FFFFD8.backup`, '0/AFFFFD8'],
      // PostgreSQL 19 pads the second half.
      [`${segment}.00000028.backup`, '0/0A000028'],
      ['0000000A0000001200000003.3FFFFFD8.backup', '12/FFFFFFD8'],
    ] as const) {
      checkBackupHistory(Buffer.from(backupHistory(name.slice(0, 24), start)), name)
    }
  })

  test('is refused where PostgreSQL cannot have written it', () => {
    const name = `${segment}.00000028.backup`
    const good = backupHistory(segment, '0/A000028')
    for (const [text, message] of [
      ['label\n', /does not say in its first lines/],
      ['\0'.repeat(300), /does not say in its first lines/],
      [good.slice(0, 50), /does not say in its first lines/],
      [good.slice(good.indexOf('STOP')), /does not say in its first lines/],
      [backupHistory(segment, '0/A000030'), /starts at 0\/A000030 in \w+, at another offset/],
      [backupHistory(segment, '0/B000028'), /at another offset/],
      [backupHistory(segment, '1/A000028'), /at another offset/],
      [backupHistory('00000001000000000000000B', '0/B000028'), /is of a backup that starts at 0\/B000028 in \w+B$/],
      [backupHistory('00000002000000000000000A', '0/A000028'), /in 00000002000000000000000A$/],
    ] as const) {
      refuses(checkBackupHistory, name, text, message)
    }
  })
})
