import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import { isCode, seeded } from '../assertions.ts'
import { type Stub, s3Error, startStub } from './stub-store.ts'

const MiB = 1024 * 1024
const KEY = 'basebackups_005/part_001.tar'

const md5 = (bytes: Buffer) => createHash('md5').update(bytes)

async function* pieces(count: number): AsyncGenerator<Buffer, void> {
  for (let index = 0; index < count; index++) yield seeded(index, MiB)
}

/** A store that carries out the first completion of an upload without answering, and knows nothing of it after. */
function startForgetful(etagOf: (etags: string[]) => string): Promise<Stub> {
  const etags: string[] = []
  let completions = 0
  return startStub(({ method, query, body }) => {
    if (method === 'POST' && query.has('uploads')) {
      return { body: '<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>' }
    }
    if (method === 'PUT') {
      const etag = md5(body).digest('hex')
      etags[Number(query.get('partNumber')) - 1] = etag
      return { headers: { etag: `"${etag}"` } }
    }
    if (method === 'HEAD') return { headers: { etag: `"${etagOf(etags)}"` } }
    if (method === 'DELETE') return { status: 204 }
    return completions++ === 0 ? { body: 'x', cutAfter: 0 } : s3Error(404, 'NoSuchUpload')
  })
}

const partsEtag = (etags: string[]) => `${md5(Buffer.from(etags.join(''), 'hex')).digest('hex')}-${etags.length}`

describe('a completion with a lost answer', () => {
  test('is recognised by the object that it has made', async () => {
    await using stub = await startForgetful(partsEtag)
    await stub.open({ partSizeBytes: 5 * MiB }).put(KEY, pieces(12))
    assert.deepEqual(stub.log.slice(-3), [`POST ${KEY}`, `POST ${KEY}`, `HEAD ${KEY}`])
  })

  test('is not believed when the object is another', async () => {
    await using stub = await startForgetful((etags) => partsEtag(etags.slice(1)))
    const put = stub.open({ partSizeBytes: 5 * MiB }).put(KEY, pieces(12))
    await assert.rejects(put, (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
    assert.equal(stub.log.at(-1), `DELETE ${KEY}`)
  })
})

test('a stream no longer than a part is one PUT, which can be sent again', async () => {
  await using stub = await startStub((_, index) => (index === 0 ? s3Error(503, 'SlowDown') : {}))
  await stub.open({ partSizeBytes: 5 * MiB }).put(KEY, pieces(5))
  assert.deepEqual(stub.log, [`PUT ${KEY}`, `PUT ${KEY}`])
  assert.deepEqual(stub.requests[0]?.body, stub.requests[1]?.body)
  assert.equal(stub.requests[1]?.body.length, 5 * MiB)
})

test('a completion that fails in an answer of 200 is tried again', async () => {
  await using stub = await startStub(({ method, query }) => {
    if (method === 'PUT') return { headers: { etag: '"e"' } }
    if (query.has('uploads')) {
      return { body: '<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>' }
    }
    const completions = stub.requests.filter((request) => request.method === 'POST').length - 1
    // S3 has begun to answer before it knows.
    if (completions === 1) return { ...s3Error(200, 'InternalError') }
    return { body: '<CompleteMultipartUploadResult><ETag>"e-2"</ETag></CompleteMultipartUploadResult>' }
  })
  await stub.open({ partSizeBytes: 5 * MiB }).put(KEY, pieces(7))
  assert.equal(stub.log.filter((line) => line.startsWith('POST')).length, 3)
})
