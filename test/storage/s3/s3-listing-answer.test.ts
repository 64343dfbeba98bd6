/** A listing's objects are taken out of an answer as S3 writes it; everything else is left to the SDK. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { takeContents } from '../../../src/storage/s3/s3-listing-answer.ts'

const object = (key: string, size = '5') =>
  `<Contents><Key>${key}</Key><LastModified>2026-03-01T12:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag><Size>${size}</Size></Contents>`
const page = (...objects: string[]) =>
  Buffer.from(
    `<?xml version="1.0"?><ListBucketResult><Prefix>a</Prefix>${objects.join('\n')}<IsTruncated>true</IsTruncated></ListBucketResult>`,
  )

test('objects as S3 writes them are taken out, and the rest stays', () => {
  const taken = takeContents(page(object('a/1'), object('a%2B2', '0')))
  assert.deepEqual(taken?.contents, [
    { Key: 'a/1', LastModified: new Date('2026-03-01T12:00:00Z'), Size: 5 },
    { Key: 'a%2B2', LastModified: new Date('2026-03-01T12:00:00Z'), Size: 0 },
  ])
  assert.equal(String(taken.rest).replaceAll('\n', ''), String(page()))
})

test('an answer that is written in another way is not touched', () => {
  for (const answer of [
    page(),
    page(object('a&amp;b')),
    page(object('a', '-1')),
    page(object('a').replace('<Size>5</Size>', '')),
    page(object('a').replace('2026', 'x')),
    page(object('a').replaceAll('Contents>', 's3:Contents>')),
    page(`<!-- ${object('a')} -->`),
    page(object('a').replace('a</Key>', '<![CDATA[a]]></Key>')),
    page('<Contents><Key>a</Key>'),
    Buffer.from('<Error><Code>SlowDown</Code></Error>'),
  ]) {
    assert.equal(takeContents(answer), undefined, String(answer))
  }
})
