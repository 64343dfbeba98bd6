import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { askForSegment, listenForWanted } from '../../../src/restore/prefetch/prefetch-channel.ts'

const segment = '000000010000000000000005'
const { signal } = new AbortController()

let directory: string
let path: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walrx-channel-'))
  path = join(directory, 'socket')
})
afterEach(() => rm(directory, { recursive: true }))

test('the prefetcher gets the name of the wanted segment, and wal-fetch gets its answer', async () => {
  const wanted: string[] = []
  const channel = await listenForWanted(path, (name) => {
    wanted.push(name)
    return Promise.resolve(name === segment)
  })
  assert.equal(await askForSegment(path, segment, signal), true)
  assert.equal(await askForSegment(path, '000000010000000000000006', signal), false)
  assert.deepEqual(wanted, [segment, '000000010000000000000006'])
  channel.close()
  channel.close()
})

test('no prefetcher, a file of that name, a failing or vanishing prefetcher: all mean no', async () => {
  assert.equal(await askForSegment(path, segment, signal), false)
  await writeFile(path, '')
  assert.equal(await askForSegment(path, segment, signal), false)
  await rm(path)
  const failing = await listenForWanted(path, () => Promise.reject(new Error('x')))
  assert.equal(await askForSegment(path, segment, signal), false)
  failing.close()
  const silent = await listenForWanted(path, () => {
    setImmediate(() => silent.close())
    return new Promise(() => {})
  })
  assert.equal(await askForSegment(path, segment, signal), false)
})

test('an abort ends the wait for an answer', async () => {
  const abort = new AbortController()
  const channel = await listenForWanted(path, () => {
    abort.abort()
    return new Promise(() => {})
  })
  assert.equal(await askForSegment(path, segment, abort.signal), false)
  assert.equal(await askForSegment(path, segment, AbortSignal.abort()), false)
  channel.close()
})

test('a connection that sends anything else is closed', async () => {
  const channel = await listenForWanted(path, () => assert.fail('was asked'))
  for (const text of ['../../etc/passwd\n', '\n', 'x'.repeat(200), `${segment}.partial\n`]) {
    const socket = connect(path)
    socket.write(text)
    socket.on('error', () => {})
    socket.resume()
    await once(socket, 'close')
  }
  channel.close()
})
