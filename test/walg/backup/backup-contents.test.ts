/** walrx.json keeps what no other document of a backup has. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import {
  type BackupContents,
  formatContents,
  nothingLeftOut,
  parseContents,
} from '../../../src/walg/backup/backup-contents.ts'

const object = { name: 'tar_partitions/part_001.tar.zst', size: 123, crc32c: 305419896 }
const tree = {
  fileMode: 0o640,
  modes: new Map([['postgresql.conf', 0o644]]),
  directories: new Map([
    ['', 0o750],
    ['pg_tblspc/16384/PG_17_202406281', 0o700],
  ]),
}

test('what is written is read', () => {
  for (const leftOut of [nothingLeftOut, { paths: ['log'], outside: { config_file: '/etc/postgresql.conf' } }]) {
    for (const each of [tree, undefined]) {
      const read: BackupContents = parseContents(formatContents([object], leftOut, each), 'walrx.json')
      assert.deepEqual(read, { objects: new Map([[object.name, object]]), leftOut, tree: each })
    }
  }
})

test('a list of modes that is none is refused', () => {
  const text = formatContents([object], nothingLeftOut, tree).toString()
  for (const [before, wrong] of [
    ['"file_mode":"640"', '"file_mode":640'],
    ['"644"', '"648"'],
    ['"directories":{', '"directories":null,"x":{'],
  ] as const) {
    assert.ok(text.includes(before))
    const isDamaged = (error: unknown) => hasCode(error, 'WALRX_OBJECT_DAMAGED') && /walrx\.json/.test(error.message)
    assert.throws(() => parseContents(Buffer.from(text.replace(before, wrong)), 'walrx.json'), isDamaged, wrong)
  }
})
