import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Clock, systemClock } from '../../../src/primitives/clock.ts'
import type { ErrorCode, WalrxError } from '../../../src/primitives/errors.ts'
import { readObject } from '../../../src/storage/storage.ts'
import { isCode, seeded } from '../assertions.ts'
import { type StubAnswer, s3Error, startStub } from './stub-store.ts'

const SEGMENT = 'wal_005/000000010000000000000001.zst'
const BYTES = Buffer.from('x')

describe('an answer of a store', () => {
  const final: [status: number, s3Code: string, code: ErrorCode][] = [
    [403, 'AccessDenied', 'WALRX_STORAGE_DENIED'],
    [403, 'InvalidAccessKeyId', 'WALRX_STORAGE_DENIED'],
    // versitygw.
    [404, 'XAdminUserNotFound', 'WALRX_STORAGE_DENIED'],
    [403, 'SignatureDoesNotMatch', 'WALRX_STORAGE_DENIED'],
    [403, 'AnythingElse', 'WALRX_STORAGE_DENIED'],
    [401, 'Unauthorized', 'WALRX_STORAGE_DENIED'],
    [400, 'ExpiredToken', 'WALRX_STORAGE_DENIED'],
    [400, 'AuthorizationHeaderMalformed', 'WALRX_STORAGE_DENIED'],
    [400, 'InvalidStorageClass', 'WALRX_STORAGE_DENIED'],
    [403, 'InvalidObjectState', 'WALRX_STORAGE_DENIED'],
    [501, 'NotImplemented', 'WALRX_STORAGE_DENIED'],
    [404, 'NoSuchBucket', 'WALRX_STORAGE_MISSING'],
    [400, 'InvalidBucketName', 'WALRX_STORAGE_MISSING'],
    [301, 'PermanentRedirect', 'WALRX_STORAGE_MISSING'],
  ]
  for (const [status, s3Code, code] of final) {
    test(`${status} ${s3Code} is ${code} after one attempt, with key, location, status, code and a hint`, async () => {
      await using stub = await startStub(() => s3Error(status, s3Code))
      await assert.rejects(stub.open({ prefix: 'a/b' }).put(SEGMENT, BYTES), (error: WalrxError) => {
        assert.ok(isCode(error, code))
        assert.equal(error.transient, false)
        assert.ok(error.hint)
        for (const part of ['put', SEGMENT, 's3://bucket/a/b', String(status), s3Code]) {
          assert.ok(error.message.includes(part), `${error.message} lacks ${part}`)
        }
        return true
      })
      assert.equal(stub.requests.length, 1)
    })
  }

  const passing: [status: number, s3Code: string][] = [
    [503, 'SlowDown'],
    [503, 'ServiceUnavailable'],
    [500, 'InternalError'],
    [502, 'AnythingElse'],
    [504, 'AnythingElse'],
    [429, 'TooManyRequests'],
    [408, 'AnythingElse'],
    [400, 'RequestTimeout'],
    [400, 'BadDigest'],
    [400, 'IncompleteBody'],
    [400, 'XAmzContentSHA256Mismatch'],
    [409, 'OperationAborted'],
    [400, 'SlowDown'],
  ]
  for (const [status, s3Code] of passing) {
    test(`${status} ${s3Code} is tried again; at the end it is WALRX_STORAGE_UNAVAILABLE`, async () => {
      let failures = 2
      await using stub = await startStub(() => (failures-- > 0 ? s3Error(status, s3Code) : {}))
      const storage = stub.open({ maxRetries: 3 })
      await storage.put(SEGMENT, seeded(1, 100_000))
      assert.equal(stub.requests.length, 3)
      assert.ok(stub.requests.every(({ body }) => body.equals(seeded(1, 100_000))))
      failures = Infinity
      await assert.rejects(storage.put(SEGMENT, BYTES), (error: WalrxError) => {
        assert.ok(isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
        return error.transient && error.message.includes(`HTTP ${status} ${s3Code}`)
      })
      assert.equal(stub.requests.length, 3 + 4)
    })
  }

  test('that is not of S3 is no answer: a page of HTML with 404 says nothing of the object', async () => {
    const html: StubAnswer = {
      status: 404,
      body: '<html><body>not found<br></html>',
      headers: { 'content-type': 'text/html' },
    }
    await using stub = await startStub(() => html)
    const storage = stub.open({ maxRetries: 1 })
    for (const call of [() => storage.get(SEGMENT), () => storage.head(SEGMENT), () => storage.put(SEGMENT, BYTES)]) {
      await assert.rejects(call(), (error: WalrxError) => {
        return isCode(error, 'WALRX_STORAGE_UNAVAILABLE') && error.message.includes('404') && error.hint !== undefined
      })
    }
  })

  test('to a HEAD has no reason, so a GET decides what a 404 means', async () => {
    let body: StubAnswer = s3Error(404, 'NoSuchKey')
    await using stub = await startStub(({ method }) => (method === 'HEAD' ? { status: 404 } : body))
    const storage = stub.open({ maxRetries: 1 })
    assert.equal(await storage.head(SEGMENT), undefined)
    assert.deepEqual(stub.log, [`HEAD ${SEGMENT}`, `GET ${SEGMENT}`])
    body = s3Error(404, 'NoSuchBucket')
    await assert.rejects(storage.head(SEGMENT), (error) => isCode(error, 'WALRX_STORAGE_MISSING'))
    body = s3Error(503, 'SlowDown')
    await assert.rejects(storage.head(SEGMENT), (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
    body = { status: 404 }
    await assert.rejects(storage.head(SEGMENT), (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
    body = { headers: { 'last-modified': 'Fri, 02 Jan 2026 03:04:05 GMT' }, body: 'came in between' }
    assert.deepEqual(await storage.head(SEGMENT), {
      key: SEGMENT,
      size: 15,
      lastModifiedMs: Date.UTC(2026, 0, 2, 3, 4, 5),
    })
  })

  test('403 to a HEAD is a refusal, not an absence', async () => {
    await using stub = await startStub(() => ({ status: 403 }))
    await assert.rejects(stub.open().head(SEGMENT), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
  })

  test('that stops in the middle of its XML is asked for again', async () => {
    const whole = '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'
    await using stub = await startStub((_, index) => ({ body: index === 0 ? whole.slice(0, 60) : whole }))
    for await (const { key } of stub.open().list('')) assert.fail(key)
    assert.equal(stub.requests.length, 2)
  })

  test('that never comes ends the attempt after the idle time, and the next one counts', async () => {
    await using stub = await startStub((_, index) => (index === 0 ? { hang: true } : {}))
    await stub.open({ idleTimeoutMs: 200 }).put(SEGMENT, BYTES)
    assert.equal(stub.requests.length, 2)
    await using dead = await startStub(() => ({ hang: true }))
    await assert.rejects(
      dead.open({ idleTimeoutMs: 100, maxRetries: 1 }).put(SEGMENT, BYTES),
      (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE') && (error as Error).message.includes('TimeoutError'),
    )
    await assert.rejects(
      dead.open({ requestTimeoutMs: 100, maxRetries: 0 }).get(SEGMENT),
      (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE') && (error as Error).message.includes('ETIMEDOUT'),
    )
  })

  test('with a clock far from ours teaches the time, and the next attempt is signed with it', async () => {
    const date = new Date(Date.now() + 3600 * 1000).toUTCString()
    await using stub = await startStub((_, index) =>
      index === 0 ? s3Error(403, 'RequestTimeTooSkewed', { date }) : { headers: { date } },
    )
    await stub.open().put(SEGMENT, BYTES)
    const [first, second] = stub.requests.map(({ headers }) => String(headers['x-amz-date']))
    assert.equal(stub.requests.length, 2)
    assert.notEqual(first?.slice(0, 11), second?.slice(0, 11))
  })
})

describe('patience with a store', () => {
  test('ends after its time, however many attempts are left', async () => {
    await using stub = await startStub(() => s3Error(503, 'SlowDown'))
    let nowMs = 0
    const delays: number[] = []
    const clock = {
      now: () => nowMs,
      setTimer: (ms: number, fire: () => void) => {
        delays.push(ms)
        nowMs += ms
        queueMicrotask(fire)
        return { cancel: () => {} }
      },
    }
    const options = { clock, random: () => 0.5, maxRetries: 1000, retryDelayFirstMs: 100, retryDelayMaxMs: 10_000 }
    await assert.rejects(stub.open(options).put(SEGMENT, BYTES), (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
    // 100 ms doubled up to 10 s, three quarters of each by this "random"; the next would end after 60 s.
    assert.deepEqual(delays, [75, 150, 300, 600, 1200, 2400, 4800, 7500, 7500, 7500, 7500, 7500, 7500])
    assert.equal(stub.requests.length, delays.length + 1)
  })

  test('ends at once when the signal aborts, be it in a request or between two', async () => {
    for (const answer of [{ hang: true } as StubAnswer, s3Error(503, 'SlowDown')]) {
      const controller = new AbortController()
      const abort = () => controller.abort(new Error('no longer wanted'))
      await using stub = await startStub(() => {
        if (answer.hang) setImmediate(abort)
        return answer
      })
      // The first timer is the wait between two attempts.
      const setTimer: Clock['setTimer'] = (ms, fire) => {
        setImmediate(abort)
        return systemClock.setTimer(ms, fire)
      }
      const storage = stub.open({
        clock: { now: systemClock.now, setTimer },
        retryDelayFirstMs: 60_000,
        retryDelayMaxMs: 60_000,
        retryTimeMaxMs: 600_000,
      })
      const startMs = Date.now()
      await assert.rejects(storage.put(SEGMENT, BYTES, { signal: controller.signal }), { message: 'no longer wanted' })
      assert.ok(Date.now() - startMs < 10_000)
    }
  })

  test('has no part in what nobody listens on: refused connections are WALRX_STORAGE_UNAVAILABLE', async () => {
    const stub = await startStub(() => ({}))
    const storage = stub.open({ maxRetries: 2 })
    await stub[Symbol.asyncDispose]()
    const closed = stub.open({ maxRetries: 2 })
    await assert.rejects(readObject(closed, SEGMENT), (error: WalrxError) => {
      return isCode(error, 'WALRX_STORAGE_UNAVAILABLE') && error.message.includes('ECONNREFUSED')
    })
    await storage.close()
    await closed.close()
  })
})
