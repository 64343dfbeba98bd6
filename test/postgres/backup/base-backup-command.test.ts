import assert from 'node:assert/strict'
import { test } from 'node:test'
import { baseBackupCommand, type BaseBackupOptions } from '../../../src/postgres/backup/base-backup-command.ts'
import { hasCode } from '../../../src/primitives/errors.ts'

const plain: BaseBackupOptions = { label: 'nightly', checkpoint: 'spread', verifyChecksums: true }
const full: BaseBackupOptions = {
  label: "it's mine",
  checkpoint: 'fast',
  verifyChecksums: false,
  maxRateKb: 32,
  manifestChecksums: 'SHA256',
}

test('14 gets a list of words, later versions a list of options', () => {
  assert.equal(baseBackupCommand(140_023, plain), "BASE_BACKUP LABEL 'nightly' PROGRESS NOWAIT TABLESPACE_MAP")
  assert.equal(
    baseBackupCommand(149_999, full),
    "BASE_BACKUP LABEL 'it''s mine' PROGRESS FAST NOWAIT MAX_RATE 32 TABLESPACE_MAP NOVERIFY_CHECKSUMS MANIFEST 'yes' " +
      "MANIFEST_CHECKSUMS 'SHA256'",
  )
  assert.equal(
    baseBackupCommand(150_000, plain),
    "BASE_BACKUP (LABEL 'nightly', PROGRESS true, CHECKPOINT 'spread', WAIT false, TABLESPACE_MAP true, " +
      "VERIFY_CHECKSUMS true, MANIFEST 'no')",
  )
  assert.equal(
    baseBackupCommand(180_004, full),
    "BASE_BACKUP (LABEL 'it''s mine', PROGRESS true, CHECKPOINT 'fast', WAIT false, TABLESPACE_MAP true, " +
      "VERIFY_CHECKSUMS false, MAX_RATE 32, MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256')",
  )
})

test('a blackhole is asked for from 15 on', () => {
  const command = baseBackupCommand(150_000, { ...plain, target: 'blackhole' })
  assert.match(command, /TARGET 'blackhole'/)
  assert.throws(
    () => baseBackupCommand(140_000, { ...plain, target: 'blackhole' }),
    (error) => hasCode(error, 'WALRX_USAGE'),
  )
})

test('a rate or a label that no server takes is refused', () => {
  for (const maxRateKb of [0, 31, 1_048_577, 100.5, NaN, -1]) {
    assert.throws(
      () => baseBackupCommand(170_000, { ...plain, maxRateKb }),
      (error) => hasCode(error, 'WALRX_USAGE'),
    )
  }
  for (const maxRateKb of [32, 1_048_576]) assert.match(baseBackupCommand(170_000, { ...plain, maxRateKb }), /MAX_RATE/)
  for (const label of ['a\nb', 'a\0b', 'a\rb']) {
    assert.throws(
      () => baseBackupCommand(170_000, { ...plain, label }),
      (error) => hasCode(error, 'WALRX_USAGE'),
    )
  }
})
