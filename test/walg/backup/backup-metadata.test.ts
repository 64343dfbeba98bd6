import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import { formatMetadata, metadataOf, parseMetadata } from '../../../src/walg/backup/backup-metadata.ts'
import { parseSentinel } from '../../../src/walg/backup/sentinel.ts'
import { goldenBackups, goldenDocument, goldenSentinel } from '../../harness/made/golden-backups.ts'

const key = 'basebackups_005/base_X/metadata.json'

describe('metadata of the two tools', () => {
  for (const [archive, backup] of goldenBackups) {
    test(`${archive} ${backup} is written again byte for byte, also from its sentinel`, () => {
      const bytes = goldenDocument(archive, backup, 'metadata.json')
      assert.equal(formatMetadata(parseMetadata(bytes, key)).toString(), bytes.toString())
      const sentinel = parseSentinel(goldenSentinel(archive, backup), key)
      assert.equal(formatMetadata(metadataOf(sentinel)).toString(), bytes.toString())
    })
  }
})

test('what a writer did not know has the form that both tools read', () => {
  const sentinel = parseSentinel(Buffer.from('{"UserData":{"a":[1]},"IsPermanent":true}'), key)
  assert.equal(
    formatMetadata(metadataOf(sentinel)).toString(),
    '{"start_time":"0001-01-01T00:00:00Z","finish_time":"0001-01-01T00:00:00Z","date_fmt":"%Y-%m-%dT%H:%M:%S.%fZ",' +
      '"hostname":"","data_dir":"","pg_version":0,"start_lsn":0,"finish_lsn":0,"is_permanent":true,' +
      '"system_identifier":null,"uncompressed_size":0,"compressed_size":0,"user_data":{"a":[1]}}',
  )
})

test('keys to come survive a rewrite, and wide numbers in user data', () => {
  const text = '{"start_lsn":18446744073709551615,"user_data":{"n":12345678901234567890},"to_come":[1,2]}'
  const again = formatMetadata(parseMetadata(Buffer.from(text), key)).toString()
  assert.match(again, /"start_lsn":18446744073709551615,/)
  assert.match(again, /"user_data":\{"n":12345678901234567890\},"to_come":\[1,2\]\}$/)
})

test('numbers of user data that are written with an exponent survive too', () => {
  const text = '{"user_data":[1e20,7.4e18,1e300,0.1,-9.3e17]}'
  const again = formatMetadata(parseMetadata(Buffer.from(text), key)).toString()
  assert.deepEqual((JSON.parse(again) as { user_data: number[] }).user_data, [1e20, 7.4e18, 1e300, 0.1, -9.3e17])
})

test('damage is reported with object and field', () => {
  assert.throws(
    () => parseMetadata(Buffer.from('{"is_permanent":1}'), key),
    (error) =>
      hasCode(error, 'WALRX_OBJECT_DAMAGED') && error.message === `${key}: is_permanent is 1, not true or false`,
  )
})
