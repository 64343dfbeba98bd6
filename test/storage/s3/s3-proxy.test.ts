/** A proxy on the way to the store, as Go's tools use it (cdkd #2388, opencti #14703). */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { type AddressInfo, connect } from 'node:net'
import { describe, test } from 'node:test'
import { createServer } from 'node:tls'
import { type WalrxError } from '../../../src/primitives/errors.ts'
import type { ProxySettings } from '../../../src/aws/proxy.ts'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { readObject } from '../../../src/storage/storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { TestAuthority, withoutOpenssl } from '../../harness/postgres/certificates.ts'
import { startFaultyS3 } from '../../harness/store/faulty-s3/faulty-s3.ts'
import { startHttpProxy } from '../../harness/store/http-proxy.ts'

const portOf = (endpoint: string) => Number(new URL(endpoint).port)

describe('requests through a proxy', () => {
  const open = (proxy: ProxySettings, endpoint = 'http://store.test', more: object = {}) =>
    new S3Storage({
      bucket: 'walrx-test',
      endpoint,
      proxy,
      folders: archiveFolders,
      accessKeyId: 'walrx',
      secretAccessKey: 'walrx-secret',
      forcePathStyle: true,
      retryDelayFirstMs: 1,
      retryTimeMaxMs: 50,
      ...more,
    })

  test('are forwarded with user and password for http, with bodies and listings', async () => {
    await using store = await startFaultyS3()
    await using proxy = await startHttpProxy(portOf(store.endpoint), 'us er:p%ss')
    const storage = open({ httpProxy: `http://us%20er:p%25ss@127.0.0.1:${proxy.port}` })
    await storage.put('a b', Buffer.alloc(2_000_000, 1))
    assert.equal((await readObject(storage, 'a b')).length, 2_000_000)
    for await (const { key } of storage.list('')) assert.equal(key, 'a b')
    assert.ok(proxy.log.length >= 3)
    assert.match(proxy.log[0]!, /^PUT http:\/\/store\.test(:80)?\/walrx-test\/a%20b/)
    await storage.close()
  })

  test('go through a tunnel for https, with the CA file of the store', { skip: withoutOpenssl }, async () => {
    await using store = await startFaultyS3()
    await using authority = await TestAuthority.create('test')
    const files = await authority.issue('store.test', 'DNS:store.test')
    const [cert, key] = [await readFile(files.cert), await readFile(files.key)]
    const tls = createServer({ cert, key }, (socket) => {
      const onward = connect(portOf(store.endpoint), '127.0.0.1')
      socket.on('error', () => onward.destroy()).pipe(onward)
      onward.on('error', () => socket.destroy()).pipe(socket)
    })
    tls.listen(0, '127.0.0.1')
    await once(tls, 'listening')
    await using proxy = await startHttpProxy((tls.address() as AddressInfo).port, 'user:right')
    const settings = { httpsProxy: `http://user:right@127.0.0.1:${proxy.port}` }
    const storage = open(settings, 'https://store.test', { caFile: authority.cert })
    await storage.put('a', Buffer.alloc(2_000_000, 1))
    assert.equal((await readObject(storage, 'a')).length, 2_000_000)
    assert.deepEqual([...new Set(proxy.log)], ['CONNECT store.test:443'])
    await storage.close()
    tls.close()
  })

  test('go straight to what NO_PROXY names, and to this machine', async () => {
    await using store = await startFaultyS3()
    await using proxy = await startHttpProxy(portOf(store.endpoint))
    const storage = open({ httpProxy: `127.0.0.1:${proxy.port}` }, store.endpoint)
    await storage.put('a', Buffer.from('1'))
    assert.deepEqual(proxy.log, [])
    await storage.close()
  })

  test('of a tunnel and of plain http that are refused name the proxy, and never its password', async () => {
    await using store = await startFaultyS3()
    await using proxy = await startHttpProxy(portOf(store.endpoint), 'user:right')
    const address = `http://user:s3cr3t@127.0.0.1:${proxy.port}`
    const settings = { httpProxy: address, httpsProxy: address }
    for (const endpoint of ['http://store.test', 'https://store.test']) {
      const storage = open(settings, endpoint)
      proxy.log.length = 0
      await assert.rejects(storage.put('a', Buffer.from('1')), (error: WalrxError) => {
        assert.equal(error.code, 'WALRX_STORAGE_DENIED')
        assert.match(error.message, new RegExp(`through the proxy http://127.0.0.1:${proxy.port} failed: HTTP 407`))
        return !/s3cr3t/.test(`${error.message} ${error.hint}`)
      })
      assert.equal(proxy.log.length, 1, 'a refusal is not asked for again')
      await storage.close()
    }
  })

  test('wait for a proxy that fails or is not there, as for the store', async () => {
    await using store = await startFaultyS3()
    await using proxy = await startHttpProxy(portOf(store.endpoint))
    proxy.refusal = 502
    for (const [port, reason] of [
      [proxy.port, 'HTTP 502'],
      [1, 'ECONNREFUSED'],
    ] as const) {
      for (const endpoint of ['http://store.test', 'https://store.test']) {
        const address = `http://127.0.0.1:${port}`
        const storage = open({ httpProxy: address, httpsProxy: address }, endpoint)
        await assert.rejects(storage.put('a', Buffer.from('1')), (error: WalrxError) => {
          assert.match(error.message, new RegExp(`through the proxy http://127.0.0.1:${port} failed: ${reason}`))
          return error.code === 'WALRX_STORAGE_UNAVAILABLE'
        })
        await storage.close()
      }
    }
    assert.ok(proxy.log.length > 2, 'asked again')
  })
})
