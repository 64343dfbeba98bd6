import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import { WalrxError } from '../../src/primitives/errors.ts'
import { parseListenAddress, type Readiness, StatusServer } from '../../src/status/server.ts'

/** A server on a free port that says what `readiness` says. */
function open(readiness: () => Readiness | Promise<Readiness> = () => ({ ready: true })): Promise<StatusServer> {
  const metrics = () => Promise.resolve({ contentType: 'text/plain; version=0.0.4', text: 'walrx_up 1\n' })
  return StatusServer.open({ host: '127.0.0.1', port: 0, readiness, metrics })
}

/** Status, type and body of an answer. */
async function ask(status: StatusServer, path: string, method = 'GET') {
  const response = await fetch(`${status.url}${path}`, { method })
  return { status: response.status, type: response.headers.get('content-type'), body: await response.text() }
}

describe('the status page', () => {
  test('answers /metrics with the text that it is given', async () => {
    await using status = await open()
    assert.deepEqual(await ask(status, '/metrics'), {
      status: 200,
      type: 'text/plain; version=0.0.4',
      body: 'walrx_up 1\n',
    })
  })

  test('answers /healthz while the process runs, ready or not', async () => {
    await using status = await open(() => ({ ready: false }))
    assert.deepEqual(await ask(status, '/healthz?full=1'), {
      status: 200,
      type: 'application/json',
      body: '{"status":"ok"}\n',
    })
  })

  test('answers /readyz by what the service says of itself at that moment', async () => {
    let now: Readiness = {
      ready: false,
      reason: 'storage: 403',
      details: { durableLsn: '0/3000000', systemId: 7391234567890123457n },
    }
    await using status = await open(() => now)
    const before = await ask(status, '/readyz')
    assert.equal(before.status, 503)
    assert.deepEqual(JSON.parse(before.body), {
      status: 'not ready',
      reason: 'storage: 403',
      durableLsn: '0/3000000',
      systemId: '7391234567890123457',
    })
    now = { ready: true }
    assert.deepEqual(await ask(status, '/readyz'), {
      status: 200,
      type: 'application/json',
      body: '{"status":"ready"}\n',
    })
  })

  test('is not ready when the service cannot say, and shows no password', async () => {
    await using status = await open(() => Promise.reject(new Error('postgresql://u:hush@h failed')))
    const { status: code, body } = await ask(status, '/readyz')
    assert.equal(code, 503)
    assert.match(body, /failed/)
    assert.doesNotMatch(body, /hush/)
  })

  test('says 500 when the metrics fail, and goes on', async () => {
    const metrics = () => Promise.reject(new Error('broken'))
    await using status = await StatusServer.open({
      host: '127.0.0.1',
      port: 0,
      readiness: () => ({ ready: true }),
      metrics,
    })
    assert.equal((await ask(status, '/metrics')).status, 500)
    assert.equal((await ask(status, '/healthz')).status, 200)
  })

  test('knows no other paths and no other methods', async () => {
    await using status = await open()
    assert.equal((await ask(status, '/')).status, 404)
    assert.equal((await ask(status, '/metrics/../etc/passwd')).status, 404)
    assert.equal((await ask(status, '/readyz', 'POST')).status, 405)
    assert.deepEqual(await ask(status, '/healthz', 'HEAD'), { status: 200, type: 'application/json', body: '' })
  })
})

describe('its life', () => {
  test('a port in use is one clear line and exit status 2', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    const options = {
      readiness: () => ({ ready: true }),
      metrics: () => Promise.resolve({ contentType: '', text: '' }),
    }
    await assert.rejects(StatusServer.open({ host: '127.0.0.1', port, ...options }), (error) => {
      assert.ok(error instanceof WalrxError)
      assert.equal(error.message, `the status page cannot listen at 127.0.0.1:${port}: the port is in use`)
      assert.equal(error.exitStatus, 2)
      assert.match(error.hint ?? '', /--status-listen/)
      return true
    })
    other.close()
  })

  test(
    'close frees the port beside an idle connection at once, and may be called twice',
    { timeout: 30_000 },
    async () => {
      const status = await open()
      const { port } = status
      const idle = connect(port, '127.0.0.1')
      await once(idle, 'connect')
      await ask(status, '/healthz')
      const closed = once(idle, 'close')
      idle.on('error', () => {})
      await status.close()
      await status.close()
      await closed
      await assert.rejects(fetch(`http://127.0.0.1:${port}/healthz`))
    },
  )

  test('destroy drops a request that is being answered, and may be called twice', { timeout: 30_000 }, async () => {
    const asked = Promise.withResolvers<undefined>()
    const status = await open(() => (asked.resolve(undefined), new Promise<Readiness>(() => {})))
    const answer = ask(status, '/readyz')
    await asked.promise
    status.destroy()
    status.destroy()
    await assert.rejects(answer)
  })
})

test('addresses are read with and without host, and off is none', () => {
  assert.deepEqual(parseListenAddress('0.0.0.0:9000'), { host: '0.0.0.0', port: 9000 })
  assert.deepEqual(parseListenAddress('localhost:0'), { host: 'localhost', port: 0 })
  assert.deepEqual(parseListenAddress('[::1]:80'), { host: '::1', port: 80 })
  assert.deepEqual(parseListenAddress('9000'), { host: '127.0.0.1', port: 9000 })
  assert.equal(parseListenAddress('off'), undefined)
  for (const text of ['', 'host', 'host:', ':80', 'host:99999', '::1:80', 'a:b:1']) {
    assert.throws(() => parseListenAddress(text), { code: 'WALRX_USAGE' }, text)
  }
})
