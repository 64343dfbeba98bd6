import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { readObject } from '../../../src/storage/storage.ts'
import { isCode, seeded } from '../assertions.ts'
import { type StubAnswer, type StubRequest, s3Error, startStub } from './stub-store.ts'

const KEY = 'wal_005/000000010000000000000001.zst'
const OBJECT = seeded(7, 1_000_000)

/** A GET of an object with ranges, as S3 answers it. */
function getObject({ headers }: StubRequest, object = OBJECT, etag = '"v1"'): StubAnswer {
  if (headers['if-match'] !== undefined && headers['if-match'] !== etag) return s3Error(412, 'PreconditionFailed')
  const start = Number(/^bytes=(\d+)-$/.exec(String(headers.range))?.[1] ?? 0)
  const range = { 'content-range': `bytes ${start}-${object.length - 1}/${object.length}` }
  return {
    status: headers.range === undefined ? 200 : 206,
    headers: { etag, ...(headers.range !== undefined && range) },
    body: object.subarray(start),
  }
}

describe('a body with a connection that breaks', () => {
  test('is taken up again where it broke, of the same version, as often as bytes come', async () => {
    await using stub = await startStub((request, index) => {
      const answer = getObject(request)
      return index < 6 ? { ...answer, cutAfter: 150_000 } : answer
    })
    assert.ok((await readObject(stub.open(), KEY)).equals(OBJECT))
    const offsets = stub.requests.map(({ headers }) => Number(/\d+/.exec(String(headers.range))?.[0] ?? 0))
    assert.equal(stub.requests.length, 7)
    assert.deepEqual(
      offsets,
      [...offsets].sort((a, b) => a - b),
    )
    assert.ok(stub.requests.slice(1).every(({ headers }) => headers['if-match'] === '"v1"'))
  })

  test('is given up when no byte more comes within the patience, as WALRX_STORAGE_UNAVAILABLE', async () => {
    await using stub = await startStub((request, index) => ({
      ...getObject(request),
      cutAfter: index === 0 ? 100_000 : 0,
    }))
    await assert.rejects(readObject(stub.open({ retryTimeMaxMs: 200, retryDelayMaxMs: 100 }), KEY), (error) =>
      isCode(error, 'WALRX_STORAGE_UNAVAILABLE'),
    )
    assert.ok(stub.requests.length > 3)
  })

  test('is WALRX_STORAGE_UNAVAILABLE when the object was replaced meanwhile: never a mixture', async () => {
    await using stub = await startStub((request, index) =>
      index === 0 ? { ...getObject(request), cutAfter: 100_000 } : getObject(request, seeded(8, 1_000_000), '"v2"'),
    )
    await assert.rejects(readObject(stub.open(), KEY), (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
  })

  // s3rver 3.7 ignores If-Match.
  test('is no mixture either where the store ignores which version is wanted', async () => {
    await using stub = await startStub(({ headers, ...request }, index) => {
      const { 'if-match': _, ...others } = headers
      const asked = { ...request, headers: others }
      return index === 0 ? { ...getObject(asked), cutAfter: 100_000 } : getObject(asked, seeded(8, 1_000_000), '"v2"')
    })
    await assert.rejects(readObject(stub.open(), KEY), (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
  })

  test('is WALRX_STORAGE_UNAVAILABLE where a store answers the whole for a part', async () => {
    await using rangeless = await startStub((_, index) => ({
      headers: { etag: '"v1"' },
      body: OBJECT,
      ...(index === 0 && { cutAfter: 100_000 }),
    }))
    await assert.rejects(readObject(rangeless.open(), KEY), (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
  })

  test('is taken up again after a store that refuses for a moment', async () => {
    await using stub = await startStub((request, index) => {
      if (index === 1 || index === 2) return s3Error(503, 'SlowDown')
      return { ...getObject(request), ...(index === 0 && { cutAfter: 500_000 }) }
    })
    assert.ok((await readObject(stub.open(), KEY)).equals(OBJECT))
    assert.equal(stub.requests.length, 4)
  })
})

test('a body with another checksum than its own is WALRX_STORAGE_UNAVAILABLE, where checksums are checked', async () => {
  await using stub = await startStub((request) => {
    const answer = getObject(request)
    return { ...answer, headers: { ...answer.headers, 'x-amz-checksum-crc32': 'AAAAAA==' } }
  })
  const storage = stub.open({ checksums: 'when-supported', maxRetries: 0 })
  await assert.rejects(readObject(storage, KEY), (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
})

describe('a body that stalls', () => {
  test('is taken up again after the idle time', async () => {
    let stall: (() => void) | undefined
    await using stub = await startStub((request) => getObject(request))
    const { createServer } = await import('node:http')
    // Sends a part of the first answer and then nothing, with the connection left open.
    const server = createServer((request, response) => {
      const answer = getObject({ ...(request as unknown as StubRequest), headers: request.headers })
      const body = answer.body as Buffer
      response.writeHead(answer.status!, { ...answer.headers, 'content-length': body.length })
      if (stall === undefined) {
        stall = () => response.destroy()
        response.write(body.subarray(0, 300_000))
      } else response.end(body)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const storage = stub.open({ endpoint: `http://127.0.0.1:${port}`, idleTimeoutMs: 200 })
    assert.ok((await readObject(storage, KEY)).equals(OBJECT))
    assert.ok(stall)
    await storage.close()
    server.closeAllConnections()
    server.close()
  })

  test('because its reader does loses nothing, however short the idle time', async () => {
    const object = seeded(9, 8_000_000)
    await using stub = await startStub((request) => getObject(request, object))
    const chunks: Uint8Array[] = []
    for await (const chunk of await stub.open({ idleTimeoutMs: 50 }).get(KEY)) {
      if (chunks.push(chunk) === 3) await delay(200)
    }
    assert.ok(Buffer.concat(chunks).equals(object))
  })
})

test('an error that comes while nobody reads is kept for the next read', async () => {
  await using stub = await startStub((request, index) => {
    const answer = getObject(request)
    const headers = { ...answer.headers, 'x-amz-checksum-crc32': 'AAAAAA==' }
    return { ...answer, headers, cutAfter: index % 4 === 0 ? 10 : 0 }
  })
  for (const checksums of ['when-required', 'when-supported'] as const) {
    const body = await stub.open({ checksums, maxRetries: 0 }).get(KEY)
    // Longer than the connection lives; an error without a listener would end this process.
    await delay(100)
    const read = async () => {
      for await (const chunk of body) void chunk
    }
    await assert.rejects(read(), (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
  }
})
