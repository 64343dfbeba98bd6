/** Prefixes as WAL-G reads them, or refused with the reason (wal-g #469, #1241). */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseS3Prefix } from '../../src/config/s3-prefix.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import { S3Storage } from '../../src/storage/s3/s3-storage.ts'
import { archiveFolders } from '../../src/walg/names.ts'
import { startFaultyS3 } from '../harness/store/faulty-s3/faulty-s3.ts'

describe('a prefix of S3', () => {
  const same: readonly (readonly [prefix: string, folder: string, below?: string])[] = [
    ['s3://bucket', ''],
    ['s3://bucket/', ''],
    ['S3://bucket/a', 'a'],
    ['s3://bucket//a/b//', 'a/b'],
    ['s3://bucket/a b', 'a b'],
    ['s3://bucket/a%20b', 'a b'],
    ['s3://bucket/a+b', 'a+b'],
    ['s3://bucket/a%2Bb%25', 'a+b%'],
    ['s3://bucket/a%3Fb%23c', 'a?b#c'],
    ['s3://bucket/a%2Fb', 'a/b'],
    ['s3://bucket/%2Fa', 'a'],
    ['s3://bucket/dänk', 'dänk'],
    ['s3://bucket/d%C3%A4nk/日本', 'dänk/日本'],
    ['s3://bucket/a', 'a/c%20d', '/c%20d/'],
    ["s3://bucket/it's=(1)&[2]:3@4", "it's=(1)&[2]:3@4"],
  ]
  for (const [prefix, folder, below] of same) {
    test(`${prefix}${below ?? ''} has the keys of WAL-G`, () => {
      assert.deepEqual(parseS3Prefix(prefix, below), { bucket: 'bucket', folder })
    })
  }

  const refused: readonly (readonly [prefix: string, reason: RegExp, below?: string])[] = [
    ['bucket/a', /must be s3:\/\/bucket\/path/],
    ['s3:/bucket/a', /must be s3/],
    ['s3:///a', /must be s3/],
    ['gs://bucket/a', /must be s3/],
    ['s3://bucket/a?b', /WAL-G would drop "\?b"/],
    ['s3://bucket/a#b', /WAL-G would drop "#b"/],
    ['s3://bucket?x', /WAL-G would drop "\?x"/],
    ['s3://bucket/a%2', /percent sign/],
    ['s3://bucket/100%', /percent sign/],
    ['s3://bucket/a%FFb', /percent sign/],
    ['s3://bucket/a//b', /empty name between two slashes/],
    ['s3://bucket/a%2F%2Fb', /empty name between two slashes/],
    ['s3://bucket/a/../b', /"\." or "\.\."/],
    ['s3://bucket/a%00b', /no key may have/],
    ['s3://bucket/a\tb', /control character/],
    ['s3://bucket:9000/a', /cannot be the name of a bucket/],
    ['s3://buck et/a', /cannot be the name of a bucket/],
    ['s3://b%75cket/a', /cannot be the name of a bucket/],
    ['s3://bucket/a', /WALG_STORAGE_PREFIX .* empty name/, 'b//c'],
    ['s3://AKIAKEY:s3cr3t/+x@bucket/a', /text before an @|cannot be the name/],
    ['s3://AKIAKEY:s3cr3t@bucket/a', /text before an @/],
    ['s3://s3cr3t@bucket', /text before an @/],
  ]
  for (const [prefix, reason, below] of refused) {
    test(`${JSON.stringify(prefix)} is refused`, () => {
      assert.throws(
        () => parseS3Prefix(prefix, below),
        (error) => {
          assert.ok(hasCode(error, 'WALRX_USAGE'))
          assert.match(error.message, reason)
          assert.doesNotMatch(`${error.message} ${error.hint}`, /s3cr3t/)
          return true
        },
      )
    })
  }

  test('leads to the very keys in the store', async () => {
    await using store = await startFaultyS3()
    for (const prefix of ['a%20b', 'a%3Fb%23c+d%25', 'd%C3%A4nk/日本', "it's=(1)&[2]:3@4!~*"]) {
      const { folder } = parseS3Prefix(`s3://${store.bucket}/${prefix}`)
      const storage = new S3Storage({ ...store, prefix: folder, folders: archiveFolders, forcePathStyle: true })
      await storage.put('wal_005/x', Buffer.from('1'))
      assert.ok(store.store.objects.has(`${decodeURIComponent(prefix)}/wal_005/x`), prefix)
      for await (const { key } of storage.list('')) assert.equal(key, 'wal_005/x')
      await storage.delete(['wal_005/x'])
      assert.equal(store.store.objects.size, 0)
      await storage.close()
    }
  })
})
