import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { readCopyEnd } from '../../../src/cli/settings/copy-ends.ts'
import { valueSeparator } from '../../../src/config/options/option-types.ts'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { parseTimestamp } from '../../../src/postgres/timestamp.ts'

const folder = mkdtempSync(join(tmpdir(), 'walrx-copy-ends-'))
after(() => rmSync(folder, { recursive: true }))
const file = join(folder, 'mirror.yaml')
writeFileSync(file, 'WALG_FILE_PREFIX: /archive\n')

const read = (...texts: string[]) => readCopyEnd('--to', texts.join(valueSeparator))

describe('an end of a copy', () => {
  test('is an archive by a URL, a directory or a config file', () => {
    assert.deepEqual(read('s3://backups/db1').archive, { kind: 's3', prefix: 's3://backups/db1' })
    assert.deepEqual(read('file:///srv/archive').archive, { kind: 'directory', path: 'file:///srv/archive' })
    assert.deepEqual(read(folder).archive, { kind: 'directory', path: folder })
    assert.deepEqual(read(file).archive, { kind: 'config file', path: file })
  })

  test('is a place in the WAL by a time, an LSN or a backup', () => {
    const time = '2026-03-01 12:00:00+01'
    assert.deepEqual(read(time).window, { kind: 'time', time: parseTimestamp(time) })
    assert.deepEqual(read('16/B374D848').window, { kind: 'lsn', lsn: parseLsn('16/B374D848') })
    for (const name of ['LATEST', 'base_000000010000000000000004_D_000000010000000000000002'])
      assert.deepEqual(read(name).window, { kind: 'backup', name })
  })

  test('is both, in any order', () => {
    for (const texts of [
      [file, '0/3000000'],
      ['0/3000000', file],
    ]) {
      const { archive, window } = read(...texts)
      assert.deepEqual([archive?.kind, window?.kind], ['config file', 'lsn'])
    }
  })

  const refusals: readonly (readonly [string, readonly string[], RegExp])[] = [
    ['what is nothing', ['yesterday'], /neither an archive nor a place in the WAL/],
    ['a file that is missing', ['/nowhere/walg.yaml'], /there is no file and no directory "\/nowhere\/walg.yaml"/],
    ['a time without a zone', ['2026-03-01 12:00:00'], /has no time zone/],
    ['two archives', [file, folder], /--to names two archives/],
    ['two places', ['0/1', 'LATEST'], /--to names two places in the WAL/],
    ['a storage that walrx does not have', ['gs://bucket/db1'], /walrx has no storage of the kind gs/],
    ['an empty text', [' '], /neither/],
  ]
  for (const [what, texts, message] of refusals) {
    test(`is not ${what}`, () => {
      assert.throws(
        () => read(...texts),
        (error) => {
          assert.ok(error instanceof WalrxError)
          assert.equal(error.exitStatus, 2)
          assert.match(error.message, message)
          return true
        },
      )
    })
  }

  test('does not show what may be keys', () => {
    assert.throws(
      () => read('gs://user:secret@bucket/db1'),
      (error) => !(error as Error).message.includes('secret'),
    )
  })
})
