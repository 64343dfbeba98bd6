import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { proxyFor } from '../../src/aws/proxy.ts'
import type { WalrxError } from '../../src/primitives/errors.ts'

const both = { httpProxy: 'http://proxy:3128', httpsProxy: 'proxy.example:8080' }

describe('the proxy for a URL', () => {
  const cases: readonly (readonly [url: string, noProxy: string | undefined, proxy: string | undefined])[] = [
    ['http://store.test', undefined, 'http://proxy:3128/'],
    ['https://store.test', undefined, 'http://proxy.example:8080/'],
    ['https://localhost:9000', undefined, undefined],
    ['http://127.3.2.1:9000', undefined, undefined],
    ['http://[::1]:9000', undefined, undefined],
    ['http://store.test', '*', undefined],
    ['http://store.test', 'other.test, store.test', undefined],
    ['http://bucket.store.test', 'STORE.test', undefined],
    ['http://notstore.test', 'store.test', 'http://proxy:3128/'],
    ['http://store.test', '.store.test', 'http://proxy:3128/'],
    ['http://bucket.store.test', '.store.test', undefined],
    ['http://bucket.store.test', '*.store.test', undefined],
    ['http://store.test:9000', 'store.test:9000', undefined],
    ['http://store.test:9001', 'store.test:9000', 'http://proxy:3128/'],
    ['https://store.test', 'store.test:443', undefined],
    ['http://10.1.2.3', '10.1.2.3', undefined],
    ['http://10.1.2.3', '10.0.0.0/8', undefined],
    ['http://11.1.2.3', '10.0.0.0/8', 'http://proxy:3128/'],
    ['http://10.1.2.3:9000', '10.1.2.3:80', 'http://proxy:3128/'],
    ['http://[fd00::5]', 'fd00::/8', undefined],
    ['http://[fd00::5]:9000', '[fd00::5]:9000', undefined],
    ['http://[fe80::5]', 'fd00::/8', 'http://proxy:3128/'],
  ]
  for (const [url, noProxy, proxy] of cases) {
    test(`${url} with NO_PROXY=${noProxy ?? ''}`, () => {
      assert.equal(proxyFor({ ...both, noProxy }, new URL(url))?.href, proxy)
    })
  }

  test('is refused where it is none, without its password', () => {
    for (const httpProxy of ['socks5://user:s3cr3t@proxy', 'http://user:s3cr3t/x@:y', 'http://']) {
      assert.throws(
        () => proxyFor({ httpProxy }, new URL('http://store.test')),
        (error: WalrxError) => error.code === 'WALRX_USAGE' && !/s3cr3t/.test(`${error.message} ${error.hint}`),
      )
    }
  })
})
