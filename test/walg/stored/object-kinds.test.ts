import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { describe, test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import { toLsn } from '../../../src/postgres/lsn.ts'
import * as backups from '../../../src/walg/backup/backup-names.ts'
import { archiveFolders, asideFolder, divergedFolder, tailKey, walKey } from '../../../src/walg/names.ts'
import { deletedFolder, deletionKey, sentinelOrderKey, systemKey } from '../../../src/walg/names.ts'
import { checkForm, formOf, kindOf, type ObjectKind, objectKinds } from '../../../src/walg/stored/object-kinds.ts'
import { verificationKey } from '../../../src/walg/backup/verification.ts'
import { gapKey } from '../../../src/walg/wal/gap-records.ts'

const golden = new URL('../../golden/', import.meta.url)
const segment = '000000010000000000000002'
const backup = `base_${segment}`

/** Keys of every kind, as they are made or met. */
const keys: Readonly<Record<ObjectKind, readonly string[]>> = {
  segment: [walKey(segment, 'zst'), walKey(segment, ''), `wal_005/${segment}.`, walKey(segment, 'lzo')],
  partial: [walKey(`${segment}.partial`, 'lz4'), `${divergedFolder}${segment}.partial.0123456789abcdef.zst`],
  history: [walKey('00000002.history', 'zst'), walKey('00000002.history', '')],
  backup: [walKey(`${segment}.00000028.backup`, 'br')],
  'delta map': [`wal_005/${segment}_delta.lz4`, `wal_005/${segment}_delta`],
  'wal metadata': [`wal_005/${segment}.json`, `wal_005/${segment.slice(1)}.json`],
  'tail chunk': [tailKey(segment, { from: 0, to: 256 }, 'zst'), tailKey(segment, { from: 256, to: 512 }, '')],
  part: [
    backups.partKey(backup, backups.partFileName(1, 'zst')),
    backups.partKey(backup, backups.controlFileName('')),
    backups.partKey(backup, backups.labelFileName('lz4')),
    backups.partKey(backup, 'copy_1.tar.lz4'),
  ],
  manifest: [backups.manifestKey(backup, 'zst'), backups.manifestKey(backup, '')],
  contents: [backups.contentsKey(backup)],
  sentinel: [backups.sentinelKey(backup)],
  metadata: [backups.metadataKey(backup)],
  'files metadata': [backups.filesMetadataKey(backup)],
  system: [systemKey],
  gap: [gapKey({ timeline: 1, startLsn: toLsn(1n), endLsn: toLsn(2n) })],
  intent: [backups.intentKey(backup)],
  'sentinel order': [sentinelOrderKey],
  deletion: [deletionKey],
  'deleted sentinel': [`${deletedFolder}base_000000010000000000000001_backup_stop_sentinel.json`],
  verification: [verificationKey(backup)],
}

describe('the kinds of objects', () => {
  for (const archive of readdirSync(golden).filter((name) => name !== 'codecs')) {
    test(`cover every object of ${archive}, and say which are documents that everybody can read`, () => {
      const top = new URL(`${archive}/archive/`, golden)
      const found = readdirSync(top, { recursive: true, encoding: 'utf8' }).filter((key) =>
        statSync(new URL(key, top)).isFile(),
      )
      assert.ok(found.length > 5)
      for (const key of found) {
        assert.ok(kindOf(key), key)
        const isJson = readFileSync(new URL(key, top)).subarray(0, 1).toString() === '{'
        assert.deepEqual(formOf(key).compressed, !isJson, key)
        assert.deepEqual(formOf(key).encrypted, !isJson, key)
      }
    })
  }

  test('cover every key that is made or met', () => {
    for (const [kind, made] of Object.entries(keys)) for (const key of made) assert.equal(kindOf(key), kind, key)
    assert.deepEqual(Object.keys(keys), Object.keys(objectKinds))
  })

  test('are none for what only lies in an archive', () => {
    for (const key of [
      `${asideFolder}tail/00000001/${segment}/00000000-00000100.zst`,
      `${archiveFolders.probe}/0123456789abcdef`,
      'wal_005/notes.txt',
      `basebackups_005/${backup}`,
      `basebackups_005/${backup}/notes.json`,
      `basebackups_005/${backup}/metadata.json.old`,
      `basebackups_005/${backup}/backup_manifest.d/x`,
      `basebackups_005/${backup}/backup_manifests`,
      'walrx_005/system.json.old',
      'walrx_005/tail/x',
      `other/${segment}.zst`,
    ]) {
      assert.equal(kindOf(key), undefined, key)
    }
  })

  test('that WAL-G leaves readable without a key are these', () => {
    const open = Object.entries(objectKinds).filter(([, { encrypted }]) => !encrypted)
    assert.deepEqual(
      open.map(([kind]) => kind),
      [
        'wal metadata',
        'sentinel',
        'metadata',
        'files metadata',
        'system',
        'gap',
        'intent',
        'sentinel order',
        'deletion',
        'deleted sentinel',
        'verification',
      ],
    )
    for (const [kind, form] of Object.entries(objectKinds)) {
      assert.ok(form.encrypted || !form.compressed, `${kind} could be compressed, but not encrypted`)
    }
  })

  test('refuse what would be stored in the form of another kind', () => {
    for (const [kind, made] of Object.entries(keys)) {
      const form = objectKinds[kind as ObjectKind]
      for (const key of made) {
        assert.equal(checkForm(key, form.compressed), form)
        assert.throws(
          () => checkForm(key, !form.compressed),
          (error) => isInternal(error, `${key} is a ${kind}`),
        )
      }
    }
    for (const compressed of [true, false])
      assert.throws(
        () => checkForm('x', compressed),
        (error) => isInternal(error, 'x is of no kind'),
      )
  })
})

function isInternal(error: unknown, message: string): boolean {
  return hasCode(error, 'WALRX_INTERNAL') && error.message.startsWith(message)
}
