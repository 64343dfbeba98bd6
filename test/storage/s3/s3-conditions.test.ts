import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { WalrxError } from '../../../src/primitives/errors.ts'
import { readObject } from '../../../src/storage/storage.ts'
import { isCode } from '../assertions.ts'
import { type StubAnswer, type StubRequest, listingBody, s3Error, startStub } from './stub-store.ts'

const KEY = 'walrx_005/cluster'

/** A store in memory, as far as a probe and conditional puts need it. */
function memoryStore(condition: 'honoured' | 'ignored' | StubAnswer) {
  const objects = new Map<string, Buffer>()
  return (request: StubRequest): StubAnswer => {
    const { method, key, headers, body } = request
    if (method === 'PUT') {
      if (headers['if-none-match'] === '*') {
        if (typeof condition === 'object') return condition
        if (condition === 'honoured' && objects.has(key)) return s3Error(412, 'PreconditionFailed')
      }
      objects.set(key, body)
      return {}
    }
    if (method === 'DELETE') {
      objects.delete(key)
      return { status: 204 }
    }
    if (key === '') return { body: listingBody([]) }
    const object = objects.get(key)
    return object ? { body: object } : s3Error(404, 'NoSuchKey')
  }
}

const isProbe = (line: string) => line.includes(' walrx_005/probe/')

describe('putIfAbsent', () => {
  test('is one conditional put, once a probe has seen the store refuse one', async () => {
    await using stub = await startStub(memoryStore('honoured'))
    const storage = stub.open()
    assert.equal((await storage.probe()).conditionalPut, true)
    assert.deepEqual(
      stub.log.map((line) => line.replace(/\/probe\/[0-9a-f]{16}$/, '/probe')),
      ['GET ', 'PUT walrx_005/probe', 'PUT walrx_005/probe', 'GET walrx_005/probe', 'GET ', 'DELETE walrx_005/probe'],
    )
    stub.requests.length = 0
    assert.equal(await storage.putIfAbsent(KEY, Buffer.from('1')), 'created')
    assert.equal(await storage.putIfAbsent(KEY, Buffer.from('2')), 'exists')
    assert.deepEqual(stub.log, [`PUT ${KEY}`, `PUT ${KEY}`])
    assert.ok(stub.requests.every(({ headers }) => headers['if-none-match'] === '*'))
  })

  // SeaweedFS 4.53.
  test('puts nothing into a bucket that is missing, where the store would create it', async () => {
    const put = memoryStore('honoured')
    await using stub = await startStub((request) =>
      request.method === 'PUT' ? put(request) : s3Error(404, 'NoSuchBucket'),
    )
    const storage = stub.open()
    for (const call of [() => storage.probe(), () => storage.putIfAbsent(KEY, Buffer.from('1'))]) {
      await assert.rejects(call(), (error) => isCode(error, 'WALRX_STORAGE_MISSING'))
    }
    assert.deepEqual(
      stub.log.filter((line) => line.startsWith('PUT')),
      [],
    )
  })

  // versitygw 1.8 in a bucket with object lock and no versions.
  test('takes a denial for a name in use only where the object is there', async () => {
    const memory = memoryStore('honoured')
    const denied = s3Error(403, 'AccessDenied')
    await using stub = await startStub((request) => {
      const answer = request.method === 'DELETE' || request.key === 'denied' ? denied : memory(request)
      return answer.status === 412 ? denied : answer
    })
    const storage = stub.open()
    assert.equal((await storage.probe()).conditionalPut, true)
    assert.equal(await storage.putIfAbsent(KEY, Buffer.from('1')), 'created')
    assert.equal(await storage.putIfAbsent(KEY, Buffer.from('2')), 'exists')
    await assert.rejects(storage.putIfAbsent('denied', Buffer.from('1')), (error) =>
      isCode(error, 'WALRX_STORAGE_DENIED'),
    )
  })

  const withoutConditions: [name: string, condition: 'ignored' | StubAnswer][] = [
    ['ignores conditions', 'ignored'],
    ['answers them with 501', s3Error(501, 'NotImplemented')],
    ['answers them with 400', s3Error(400, 'InvalidArgument')],
  ]
  for (const [name, condition] of withoutConditions) {
    test(`looks first and puts after where the store ${name}`, async () => {
      await using stub = await startStub(memoryStore(condition))
      const storage = stub.open()
      assert.equal((await storage.probe()).conditionalPut, false)
      stub.requests.length = 0
      assert.equal(await storage.putIfAbsent(KEY, Buffer.from('1')), 'created')
      assert.equal(await storage.putIfAbsent(KEY, Buffer.from('2')), 'exists')
      assert.deepEqual(stub.log, [`GET ${KEY}`, `PUT ${KEY}`, `GET ${KEY}`])
      assert.ok(stub.requests.every(({ headers }) => headers['if-none-match'] === undefined))
    })
  }

  const notAnAbsence: [
    name: string,
    answer: StubAnswer,
    code: 'WALRX_STORAGE_MISSING' | 'WALRX_STORAGE_UNAVAILABLE',
  ][] = [
    ['of a bucket that is gone', s3Error(404, 'NoSuchBucket'), 'WALRX_STORAGE_MISSING'],
    ['of a proxy, as a page of HTML', { status: 404, body: '<html>Not Found</html>' }, 'WALRX_STORAGE_UNAVAILABLE'],
    ['without a word', { status: 404 }, 'WALRX_STORAGE_UNAVAILABLE'],
  ]
  for (const [name, answer, code] of notAnAbsence) {
    test(`writes nothing after a 404 ${name}, where the store has no conditions`, async () => {
      const store = memoryStore('ignored')
      let isOut = false
      await using stub = await startStub((request) => {
        const isAsked = isOut && request.key === KEY && (request.method === 'HEAD' || request.method === 'GET')
        return isAsked ? answer : store(request)
      })
      const storage = stub.open()
      assert.equal(await storage.putIfAbsent(KEY, Buffer.from('first')), 'created')
      isOut = true
      stub.requests.length = 0
      await assert.rejects(storage.putIfAbsent(KEY, Buffer.from('second')), (error) => isCode(error, code))
      assert.ok(stub.log.length > 0 && !stub.log.includes(`PUT ${KEY}`), stub.log.join())
      isOut = false
      assert.equal((await readObject(storage, KEY)).toString(), 'first')
    })
  }

  test('probes by itself when nobody has, once for all callers', async () => {
    await using stub = await startStub(memoryStore('honoured'))
    const storage = stub.open()
    const results = await Promise.all(Array.from({ length: 8 }, () => storage.putIfAbsent(KEY, Buffer.from('x'))))
    assert.equal(results.filter((result) => result === 'created').length, 1)
    assert.equal(stub.log.filter(isProbe).length, 4)
  })

  test('probes again when the first probe has failed', async () => {
    const store = memoryStore('honoured')
    await using stub = await startStub((request, index) =>
      index === 0 ? s3Error(403, 'AccessDenied') : store(request),
    )
    const storage = stub.open()
    await assert.rejects(storage.putIfAbsent(KEY, Buffer.from('x')), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
    assert.equal(await storage.putIfAbsent(KEY, Buffer.from('x')), 'created')
  })

  test('says exists when the answer to its own success was lost', async () => {
    const store = memoryStore('honoured')
    await using stub = await startStub((request) => {
      const answer = store(request)
      const isFirst = request.key === KEY && stub.log.filter((line) => line === `PUT ${KEY}`).length === 1
      return isFirst ? { ...answer, body: 'x', cutAfter: 0 } : answer
    })
    assert.equal(await stub.open().putIfAbsent(KEY, Buffer.from('mine')), 'exists')
    assert.equal(stub.log.filter((line) => line === `PUT ${KEY}`).length, 2)
  })

  test('is tried again while another writer is at the same key', async () => {
    const store = memoryStore('honoured')
    let conflicts = 2
    await using stub = await startStub((request) => {
      if (request.key === KEY && conflicts-- > 0) return s3Error(409, 'ConditionalRequestConflict')
      return store(request)
    })
    assert.equal(await stub.open().putIfAbsent(KEY, Buffer.from('x')), 'created')
  })

  test('does not take a wrong key for a store without conditions', async () => {
    await using stub = await startStub(() => s3Error(400, 'ExpiredToken'))
    await assert.rejects(stub.open().probe(), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
    assert.equal(stub.requests.length, 1)
  })
})

describe('a probe', () => {
  test('fails where one of writing, reading and listing is refused', async () => {
    for (const method of ['PUT', 'GET', 'LIST']) {
      const store = memoryStore('honoured')
      await using stub = await startStub((request) => {
        const asked = request.key === '' ? 'LIST' : request.method
        return asked === method ? s3Error(403, 'AccessDenied') : store(request)
      })
      await assert.rejects(stub.open().probe(), (error) => isCode(error, 'WALRX_STORAGE_DENIED'), method)
    }
  })

  test('passes over a key that may not delete, which is a good one for an archive', async () => {
    const store = memoryStore('honoured')
    await using stub = await startStub((request) =>
      request.method === 'DELETE' ? s3Error(403, 'AccessDenied') : store(request),
    )
    assert.equal((await stub.open().probe()).conditionalPut, true)
  })

  test('fails where other bytes come back', async () => {
    const store = memoryStore('honoured')
    await using stub = await startStub((request) => {
      const answer = store(request)
      return request.method === 'GET' && request.key !== '' ? { body: 'something else' } : answer
    })
    await assert.rejects(stub.open().probe(), (error: WalrxError) => {
      return isCode(error, 'WALRX_STORAGE_UNAVAILABLE') && !error.transient
    })
  })
})
