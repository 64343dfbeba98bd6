/** What a server says of links that it does not follow (wal-g #196, barman #716, pgbackrest #1338). */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { LeftOutFiles } from '../../../src/postgres/backup/left-out-files.ts'
import { hasCode } from '../../../src/primitives/errors.ts'

const warning = (message: string, routine = 'sendDir') => ({
  V: 'WARNING',
  S: 'WARNING',
  C: '01000',
  M: message,
  R: routine,
})

describe('a file that the server leaves out', () => {
  test('is kept once, by its path, in any language', () => {
    const left = new LeftOutFiles()
    for (const message of [
      'skipping special file "./pg_hba.conf"',
      'skipping special file "./pg_hba.conf"',
      'skipping special file or directory "./postgresql.conf"',
      'überspringe besondere Datei »./pg_ident.conf«',
      'ignore le fichier spécial « ./log »',
      'пропуск специального файла "./a b/c"',
    ])
      left.note(warning(message))
    assert.deepEqual(left.list, ['pg_hba.conf', 'postgresql.conf', 'pg_ident.conf', 'log', 'a b/c'])
  })

  test('is not what another warning is about', () => {
    const left = new LeftOutFiles()
    left.note(warning('could not verify checksum in file "./base/5/1259", block 1', 'sendFile'))
    left.note({ ...warning('skipping special file "./base/5"'), V: 'NOTICE' })
    left.note(warning('aborting backup due to backend exiting'))
    assert.deepEqual(left.list, [])
  })

  for (const path of [
    './base/16384',
    './base/5/1259',
    './global/1262',
    './pg_xact',
    './PG_VERSION',
    'pg_tblspc/16385/PG_17_202406281/5',
    '/srv/ts/PG_16_202307071/5/16390',
  ]) {
    test(`ends the backup where it is data: ${path}`, () => {
      const left = new LeftOutFiles()
      assert.throws(
        () => left.note(warning(`skipping special file "${path}"`)),
        (error) => hasCode(error, 'WALRX_BACKUP_INCOMPLETE') && error.message.includes(path.replace('./', '')),
      )
    })
  }

  test('ends the backup where it is a tablespace whose link cannot be read', () => {
    const left = new LeftOutFiles()
    const notice = warning('could not read symbolic link "pg_tblspc/16385": Permission denied', 'do_pg_backup_start')
    assert.throws(() => left.note(notice), /the server leaves pg_tblspc\/16385 out/)
  })
})
