import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Lsn, parseLsn, toLsn } from '../../../src/postgres/lsn.ts'
import {
  backupName,
  contentsKey,
  controlFileName,
  deltaName,
  filesMetadataKey,
  intentKey,
  labelFileName,
  manifestKey,
  metadataKey,
  nameOfSentinel,
  parseBackupName,
  parsePartName,
  partFileName,
  partKey,
  sentinelKey,
} from '../../../src/walg/backup/backup-names.ts'

const mebi = 1024 * 1024
const name = 'base_000000010000000000000002'

test('a backup is named after the segment of its start, by the segment size', () => {
  assert.equal(backupName(1, toLsn(33554472n), 16 * mebi), name)
  assert.equal(backupName(1, toLsn(11534376n), mebi), 'base_00000001000000000000000B')
  assert.equal(backupName(0xabcdef01, parseLsn('16/B374D848'), 16 * mebi), 'base_ABCDEF0100000016000000B3')
  assert.equal(backupName(2, parseLsn('1/0'), 16 * mebi), 'base_000000020000000100000000')
})

test('a delta is named after its own segment and the first one in the name of its parent', () => {
  assert.equal(
    deltaName(1, toLsn(33554472n), 16 * mebi, 'base_000000010000000000000001'),
    `${name}_D_000000010000000000000001`,
  )
  const delta = 'base_00000001000000000000000A_D_000000010000000000000009_D_000000010000000000000008'
  assert.equal(deltaName(1, toLsn(33554472n), 16 * mebi, delta), `${name}_D_00000001000000000000000A`)
})

test('every name that is given is taken apart again', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2 ** 32 - 1 }),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.integer({ min: 0, max: 10 }),
      (timeline, lsn, power) => {
        const given = backupName(timeline, lsn as Lsn, mebi * 2 ** power)
        const parsed = parseBackupName(given)
        assert.deepEqual(
          [parsed?.name, parsed?.segment, parsed?.timeline, parsed?.deltaSuffix],
          [given, given.slice(5), timeline, undefined],
        )
      },
    ),
  )
})

test('names of deltas by WAL-G and by WAL-RUS are both understood', () => {
  const walg = 'base_000000010000000000000006_D_000000010000000000000004'
  assert.equal(parseBackupName(walg)?.segment, '000000010000000000000006')
  assert.equal(parseBackupName(walg)?.deltaSuffix, '000000010000000000000004')
  const walrus = `${walg}_D_000000010000000000000002`
  assert.equal(parseBackupName(walrus)?.deltaSuffix, '000000010000000000000004_D_000000010000000000000002')
  assert.equal(parseBackupName(`${name}_00000040`)?.deltaSuffix, undefined)
  assert.equal(parseBackupName(`${name}_00000040`)?.segment, '000000010000000000000002')
})

test('what is no name of a backup is refused', () => {
  for (const text of [
    '',
    'LATEST',
    'base_',
    `${name}0`,
    `x${name}`,
    name.toLowerCase().replace('2', 'a'),
    `${name}_D_`,
  ])
    assert.equal(parseBackupName(text), undefined, text)
  assert.equal(parseBackupName(`${name}/../x`), undefined)
})

test('keys are those of WAL-G', () => {
  assert.equal(sentinelKey(name), `basebackups_005/${name}_backup_stop_sentinel.json`)
  assert.equal(metadataKey(name), `basebackups_005/${name}/metadata.json`)
  assert.equal(filesMetadataKey(name), `basebackups_005/${name}/files_metadata.json`)
  assert.equal(partKey(name, partFileName(1, 'zst')), `basebackups_005/${name}/tar_partitions/part_001.tar.zst`)
})

test("walrx's own objects lie where neither tool extracts or lists them", () => {
  assert.equal(manifestKey(name, 'zst'), `basebackups_005/${name}/backup_manifest.zst`)
  assert.equal(manifestKey(name, ''), `basebackups_005/${name}/backup_manifest`)
  assert.equal(contentsKey(name), `basebackups_005/${name}/walrx.json`)
  assert.equal(intentKey(name), `walrx_005/backups/${name}.json`)
})

test('the sentinel shows its name, and nothing else does', () => {
  assert.equal(nameOfSentinel(sentinelKey(name)), name)
  for (const key of [
    metadataKey(name),
    `wal_005/${name}_backup_stop_sentinel.json`,
    sentinelKey('a/b'),
    sentinelKey(''),
  ])
    assert.equal(nameOfSentinel(key), undefined, key)
})

test('parts have three digits at least, and no dot without an extension', () => {
  assert.equal(partFileName(1000, 'lz4'), 'part_1000.tar.lz4')
  assert.equal(partFileName(7, ''), 'part_007.tar')
  assert.equal(controlFileName('br'), 'pg_control.tar.br')
  assert.equal(labelFileName(''), 'backup_label.tar')
})

test('a part is taken apart by its last extension', () => {
  assert.deepEqual(parsePartName('part_001.tar.zst'), { base: 'part_001.tar', extension: 'zst', kind: 'data' })
  assert.deepEqual(parsePartName('part_001.tar'), { base: 'part_001.tar', extension: '', kind: 'data' })
  assert.deepEqual(parsePartName('part_001.tar.'), { base: 'part_001.tar', extension: '', kind: 'data' })
  assert.deepEqual(parsePartName('copy_3.tar.lz4'), { base: 'copy_3.tar', extension: 'lz4', kind: 'data' })
  assert.deepEqual(parsePartName('pg_control.tar.br'), { base: 'pg_control.tar', extension: 'br', kind: 'control' })
  assert.deepEqual(parsePartName('pg_control.tar'), { base: 'pg_control.tar', extension: '', kind: 'control' })
  assert.deepEqual(parsePartName('backup_label.tar.lz4'), { base: 'backup_label.tar', extension: 'lz4', kind: 'label' })
  assert.equal(parsePartName('part_001.tar.what').extension, 'what')
})
