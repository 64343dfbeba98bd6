import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { md5Of } from '../../../src/storage/s3/s3-etag.ts'

const sum = '5d41402abc4b2a76b9719d911017c592'

describe('the MD5 in an entity tag', () => {
  test('is 32 hex digits, in quotes or not', () => {
    assert.deepEqual(md5Of(`"${sum}"`), { md5: sum })
    assert.deepEqual(md5Of(sum), { md5: sum })
  })

  test('is not in that of a multipart upload, nor in any other tag', () => {
    for (const etag of [undefined, '', '"x"', `"${sum}-2"`, `W/"${sum}"`, `"${sum}0"`, `"${sum.toUpperCase()}"`])
      assert.deepEqual(md5Of(etag), {}, etag)
  })
})
