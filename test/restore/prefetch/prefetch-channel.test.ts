import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { newAddress } from '../../../src/restore/prefetch/channel-address.ts'
import { askForSegment, listenForWanted } from '../../../src/restore/prefetch/prefetch-channel.ts'

const segment = '000000010000000000000005'
const { signal } = new AbortController()

const address = newAddress()

test('the prefetcher gets the name of the wanted segment, and wal-fetch gets its answer', async () => {
  const wanted: string[] = []
  const channel = await listenForWanted(address, (name) => {
    wanted.push(name)
    return Promise.resolve(name === segment)
  })
  assert.equal(await askForSegment(address, segment, signal), true)
  assert.equal(await askForSegment(address, '000000010000000000000006', signal), false)
  assert.deepEqual(wanted, [segment, '000000010000000000000006'])
  channel.close()
  channel.close()
})

test('no prefetcher, a failing or vanishing prefetcher: all mean no', async () => {
  assert.equal(await askForSegment(address, segment, signal), false)
  const failing = await listenForWanted(address, () => Promise.reject(new Error('x')))
  assert.equal(await askForSegment(address, segment, signal), false)
  failing.close()
  const silent = await listenForWanted(address, () => {
    setImmediate(() => silent.close())
    return new Promise(() => {})
  })
  assert.equal(await askForSegment(address, segment, signal), false)
})

test('an abort ends the wait for an answer', async () => {
  const abort = new AbortController()
  const channel = await listenForWanted(address, () => {
    abort.abort()
    return new Promise(() => {})
  })
  assert.equal(await askForSegment(address, segment, abort.signal), false)
  assert.equal(await askForSegment(address, segment, AbortSignal.abort()), false)
  channel.close()
})

test('a connection that sends anything else is closed', async () => {
  const channel = await listenForWanted(address, () => assert.fail('was asked'))
  const { secret } = address
  const wrong = [`${segment}\n`, `${newAddress().secret} ${segment}\n`, `undefined ${segment}\n`, ` ${segment}\n`]
  const texts = [`${secret} ../../etc/passwd\n`, '\n', 'x'.repeat(200), `${secret} ${segment}.partial\n`, ...wrong]
  for (const text of texts) {
    const socket = connect(`\0${address.name}`)
    socket.write(text)
    socket.on('error', () => {})
    socket.resume()
    await once(socket, 'close')
  }
  channel.close()
})
