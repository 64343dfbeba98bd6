import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import type { WalrxError } from '../../../src/primitives/errors.ts'
import { isCode, keysOf } from '../assertions.ts'
import { type StubRequest, listingBody, s3Error, startStub } from './stub-store.ts'

const TRUNCATED = '<IsTruncated>true</IsTruncated>'

describe('a listing of a bucket', () => {
  test('follows tokens, cuts the prefix off, and leaves out markers of folders', async () => {
    const pages = [
      listingBody(['p/', 'p/a'], `${TRUNCATED}<NextContinuationToken>t 1+=</NextContinuationToken>`),
      listingBody(['p/b/', 'p/b/c'], `${TRUNCATED}<NextContinuationToken>t2</NextContinuationToken>`),
      listingBody(['p/d']),
    ]
    await using stub = await startStub((_, index) => ({ body: pages[index]! }))
    assert.deepEqual(await keysOf(stub.open({ prefix: '/p/' }).list('')), ['a', 'b/c', 'd'])
    assert.deepEqual(
      stub.requests.map(({ query }) => [query.get('prefix'), query.get('continuation-token')]),
      [
        ['p/', null],
        ['p/', 't 1+='],
        ['p/', 't2'],
      ],
    )
  })

  test('goes on after the last key where a page has no token', async () => {
    const pages = [listingBody(['a', 'b'], TRUNCATED), listingBody(['c'], TRUNCATED), listingBody(['d'])]
    await using stub = await startStub((_, index) => ({ body: pages[index]! }))
    assert.deepEqual(await keysOf(stub.open().list('')), ['a', 'b', 'c', 'd'])
    assert.deepEqual(
      stub.requests.map(({ query }) => query.get('start-after')),
      [null, 'b', 'c'],
    )
  })

  test('decodes keys of a store that says that it encodes them, and only of such', async () => {
    const encoded = ['1%2B1', 'a+b', 'x%01y']
    let elements = '<EncodingType>url</EncodingType>'
    await using stub = await startStub(() => ({ body: listingBody(encoded, elements) }))
    assert.deepEqual(await keysOf(stub.open().list('')), ['1+1', 'a b', 'x\u0001y'])
    assert.equal(stub.requests[0]?.query.get('encoding-type'), 'url')
    elements = ''
    assert.deepEqual(await keysOf(stub.open().list('')), encoded)
  })

  test('fetches no page before it is asked for', async () => {
    await using stub = await startStub((_, index) => ({
      body: listingBody([`${index}`], `${TRUNCATED}<NextContinuationToken>${index}</NextContinuationToken>`),
    }))
    let seen = 0
    for await (const { key } of stub.open().list('')) {
      assert.equal(stub.requests.length, Number(key) + 1)
      if (++seen === 3) break
    }
    assert.equal(stub.requests.length, 3)
  })

  test('from a place on does not show what a store sends from before it', async () => {
    await using stub = await startStub(() => ({ body: listingBody(['a', 'b', 'c']) }))
    assert.deepEqual(await keysOf(stub.open().list('', { startAfter: 'b' })), ['c'])
  })

  test('in another order than that of bytes, or that goes in circles, is refused', async () => {
    const wrong: [string[], string][] = [
      [['b', 'a'], ''],
      [['a', 'a'], ''],
      [['a/b', 'a.b'], ''],
      [[], TRUNCATED],
      [[], `${TRUNCATED}<NextContinuationToken>again</NextContinuationToken>`],
    ]
    for (const [keys, elements] of wrong) {
      await using stub = await startStub(() => ({ body: listingBody(keys, elements) }))
      await assert.rejects(keysOf(stub.open().list('')), (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
    }
  })
})

function keysAsked({ body }: StubRequest): string[] {
  return [...String(body).matchAll(/<Key>(.*?)<\/Key>/g)].map(([, key]) => key!)
}

function deleteResult(errors: readonly [key: string, code: string][] = []): string {
  const elements = errors.map(
    ([key, code]) => `<Error><Key>${key}</Key><Code>${code}</Code><Message>m</Message></Error>`,
  )
  return `<?xml version="1.0"?><DeleteResult>${elements.join('')}</DeleteResult>`
}

describe('a deletion of many', () => {
  test('asks for a thousand at a time', async () => {
    await using stub = await startStub(() => ({ body: deleteResult() }))
    const keys = Array.from({ length: 2001 }, (_, index) => `k${index}`)
    await stub.open({ prefix: 'p' }).delete(keys)
    assert.deepEqual(
      stub.requests.map((request) => keysAsked(request).length),
      [1000, 1000, 1],
    )
    assert.deepEqual(
      stub.requests.flatMap(keysAsked),
      keys.map((key) => `p/${key}`),
    )
  })

  test('carries Content-MD5, which every store knows, unless the newer checksums are asked for', async () => {
    await using stub = await startStub(() => ({ body: deleteResult() }))
    await stub.open().delete(['a', 'b'])
    await stub.open({ checksums: 'when-supported' }).delete(['a', 'b'])
    const [plain, newer] = stub.requests
    const md5 = createHash('md5').update(plain!.body).digest('base64')
    assert.equal(plain?.headers['content-md5'], md5)
    assert.ok(!Object.keys(plain.headers).some((header) => header.includes('checksum')))
    assert.equal(newer?.headers['content-md5'], undefined)
    assert.ok(newer?.headers['x-amz-checksum-crc32'])
  })

  test('passes keys on that the store refuses, and removes all others', async () => {
    const locked: [string, string][] = [
      ['p/b', 'AccessDenied'],
      ['p/d', 'InvalidRequest'],
    ]
    await using stub = await startStub((_, index) => ({
      body: deleteResult(index === 0 ? [...locked, ['p/c', 'SlowDown']] : []),
    }))
    const refused: [string, string][] = []
    const onRefused = (key: string, error: WalrxError) => void refused.push([key, error.code])
    await stub.open({ prefix: 'p' }).delete(['a', 'b', 'c', 'd'], { onRefused })
    assert.deepEqual(refused, [
      ['b', 'WALRX_STORAGE_DENIED'],
      ['d', 'WALRX_STORAGE_DENIED'],
    ])
    assert.deepEqual(stub.requests.map(keysAsked), [['p/a', 'p/b', 'p/c', 'p/d'], ['p/c']])
  })

  test('finds the locked object for which a store refuses a whole batch', async () => {
    const deleted: string[] = []
    await using stub = await startStub((request) => {
      const keys = keysAsked(request)
      const single = request.key === '' ? undefined : request.key
      const asked = single === undefined ? keys : [single]
      if (asked.includes('k37')) return s3Error(403, 'AccessDenied')
      deleted.push(...asked)
      return single === undefined ? { body: deleteResult() } : { status: 204 }
    })
    const keys = Array.from({ length: 100 }, (_, index) => `k${index}`)
    const refused: string[] = []
    await stub.open().delete(keys, { onRefused: (key) => void refused.push(key) })
    assert.deepEqual(refused, ['k37'])
    assert.deepEqual(deleted.toSorted(), keys.filter((key) => key !== 'k37').toSorted())
    assert.ok(stub.requests.length <= 16)
  })

  test('with access keys that the store does not know fails, whoever wants to know of refusals', async () => {
    await using stub = await startStub(() => s3Error(403, 'InvalidAccessKeyId'))
    await assert.rejects(stub.open().delete(['a', 'b'], { onRefused: () => assert.fail('no object is locked') }))
  })

  test('tries the keys again that failed for the moment, and no others', async () => {
    await using stub = await startStub((_, index) => ({
      body: deleteResult(
        index === 0
          ? [
              ['b', 'InternalError'],
              ['c', 'NoSuchKey'],
              ['d', 'SlowDown'],
            ]
          : [],
      ),
    }))
    await stub.open().delete(['a', 'b', 'c', 'd'])
    assert.deepEqual(stub.requests.map(keysAsked), [
      ['a', 'b', 'c', 'd'],
      ['b', 'd'],
    ])
  })

  test('names the key that may not be removed', async () => {
    await using stub = await startStub(() => ({ body: deleteResult([['b', 'AccessDenied']]) }))
    await assert.rejects(stub.open().delete(['a', 'b']), (error: WalrxError) => {
      return isCode(error, 'WALRX_STORAGE_DENIED') && error.message.includes('AccessDenied (b: m)')
    })
    assert.equal(stub.requests.length, 1)
  })

  test('goes one by one where the store has no such request', async () => {
    await using stub = await startStub(({ method, key }) => {
      if (method === 'POST') return s3Error(501, 'NotImplemented')
      return key === 'b' ? s3Error(404, 'NoSuchKey') : { status: 204 }
    })
    await stub.open().delete(['a', 'b', 'c'])
    assert.deepEqual(stub.log, ['POST ', 'DELETE a', 'DELETE b', 'DELETE c'])
  })
})
