/**
 * `login.ts` gives pg a stand-in for its socket and so leans on how pg uses it, which no version number promises. So pg is
 * pinned to one version, and what the login relies on is shown here, by itself, for the next upgrade.
 */
import assert from 'node:assert/strict'
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import { once, EventEmitter } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import type { Duplex } from 'node:stream'
import { describe, test } from 'node:test'
import { Client, type ClientConfig } from 'pg'
import { authentication } from '../../harness/postgres/scripted-server.ts'

const { version } = createRequire(import.meta.url)('pg/package.json') as { readonly version: string }

/** What to do about a failure here. */
const advice = `pg ${version} is not what src/postgres/connect/login.ts was written against: compare its LoginStream with \
pg's lib/connection.js and lib/client.js, run the tests of test/postgres/connect, and only then change this test`

const password = 'secret'

/** What LoginStream is like for pg, with a record of what pg does with it. */
class ProbeSocket extends EventEmitter {
  readonly touched = new Set<string>()
  readonly written: Buffer[] = []
  readonly writable = true

  /** This socket for pg. */
  get watched(): Duplex {
    const get = (target: ProbeSocket, name: string | symbol) => {
      if (typeof name === 'string') this.touched.add(name)
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    }
    return new Proxy(this, { get }) as unknown as Duplex
  }

  connect(): void {
    process.nextTick(() => this.emit('connect'))
  }

  setNoDelay(): void {}

  getPeerCertificate(): unknown {
    return undefined
  }

  write(bytes: Uint8Array): boolean {
    this.written.push(Buffer.from(bytes))
    this.emit('wrote')
    return true
  }

  /** Gives pg a message, and returns what pg answers, without type and length; fails when pg does not. */
  async ask(bytes: Buffer): Promise<string> {
    const wrote = once(this, 'wrote', { signal: AbortSignal.timeout(10_000) })
    this.emit('data', bytes)
    await wrote.catch(() => assert.fail(`pg answers nothing. ${advice}`))
    return this.written.at(-1)!.toString('latin1', 5)
  }
}

/** A client that has sent its startup message, and the errors that its callback was given. */
async function begin(config: Partial<ClientConfig> = {}) {
  const socket = new ProbeSocket()
  const errors: Error[] = []
  let streams = 0
  const stream = () => {
    streams++
    return socket.watched
  }
  const started = once(socket, 'wrote')
  const client = new Client({ host: 'x', user: 'me', database: 'db', password: () => password, stream, ...config })
  client.on('error', (error) => errors.push(error))
  client.connect((error: Error | null | undefined) => {
    if (error) errors.push(error)
  })
  assert.deepEqual(socket.written, [], `the startup message comes before the event connect. ${advice}`)
  await started
  assert.equal(streams, 1, `the option stream is called ${streams} times. ${advice}`)
  return { socket, errors }
}

/** Goes through SCRAM up to the server's proof: returns what the right one is. */
async function scram(socket: ProbeSocket): Promise<string> {
  const first = await socket.ask(authentication(10, 'SCRAM-SHA-256\0\0'))
  const bare = /n=\*,r=.*$/s.exec(first)?.[0] ?? assert.fail(`no first message of SCRAM: ${first}. ${advice}`)
  const offer = `r=${bare.slice('n=*,r='.length)}more,s=c2FsdA==,i=4096`
  const final = await socket.ask(authentication(11, offer))
  const hmac = (key: Buffer, text: string) => createHmac('sha256', key).update(text).digest()
  const salted = pbkdf2Sync(password, 'salt', 4096, 32, 'sha256')
  return hmac(hmac(salted, 'Server Key'), `${bare},${offer},${final.replace(/,p=.*$/s, '')}`).toString('base64')
}

describe('pg', () => {
  test('is pinned to the version that is installed', async () => {
    const text = await readFile(new URL('../../../package.json', import.meta.url), 'utf8')
    const { dependencies } = JSON.parse(text) as { readonly dependencies: Readonly<Record<string, string>> }
    assert.equal(dependencies['pg'], version, 'package.json names one version of pg, without ^ or ~. ' + advice)
  })

  test('touches of its socket only what LoginStream has', async () => {
    const { socket } = await begin()
    await socket.ask(authentication(3))
    await scram(socket)
    socket.emit('data', authentication(12, 'v=wrong'))
    const known = ['connect', 'on', 'once', 'setNoDelay', 'writable', 'write']
    assert.deepEqual([...socket.touched].sort(), known, advice)
    assert.deepEqual(socket.eventNames().sort(), ['close', 'data', 'end', 'error'], advice)
  })

  test('sends the passwords that it is asked for', async () => {
    const { socket } = await begin()
    assert.equal(await socket.ask(authentication(3)), `${password}\0`, advice)
    const md5 = (text: string) => createHash('md5').update(text, 'latin1').digest('hex')
    assert.equal(await socket.ask(authentication(5, 'salt')), `md5${md5(`${md5(`${password}me`)}salt`)}\0`, advice)
  })

  test('proves by SCRAM that it knows the password, and believes the right proof', async () => {
    const { errors, socket } = await begin()
    const proof = await scram(socket)
    socket.emit('data', authentication(12, `v=${proof}`))
    assert.deepEqual(errors, [], advice)
  })

  test('fails at a wrong proof before it returns: what follows would be believed otherwise', async () => {
    const { errors, socket } = await begin()
    await scram(socket)
    socket.emit('data', authentication(12, `v=${Buffer.alloc(32).toString('base64')}`))
    assert.match(String(errors[0]), /server signature does not match/, `pg checks it later, or not. ${advice}`)
  })

  test('asks its socket for the certificate where it binds to the channel', async () => {
    const { errors, socket } = await begin({ enableChannelBinding: true } as Partial<ClientConfig>)
    const first = await socket.ask(authentication(10, 'SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0'))
    assert.match(first, /^SCRAM-SHA-256-PLUS\0.{4}p=tls-server-end-point,,n=\*,r=/s, advice)
    const asked = Promise.withResolvers<void>()
    socket.getPeerCertificate = () => {
      asked.resolve()
      throw new Error('made up')
    }
    socket.emit('data', authentication(11, `r=${/r=(.*)$/.exec(first)?.[1]}more,s=c2FsdA==,i=4096`))
    await asked.promise
    await new Promise((resolve) => setImmediate(resolve))
    assert.match(String(errors[0]), /made up/, advice)
  })

  test('takes an error of its socket for one of the login', async () => {
    const { errors, socket } = await begin()
    socket.emit('error', new Error('broken'))
    assert.match(String(errors[0]), /broken/, advice)
  })
})
