/** The part of the contract about what is refused, missing or ended early. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Storage, readObject } from '../../src/storage/storage.ts'
import { isCode, keysOf, seeded } from './assertions.ts'
import type { ContractContext } from './contract.ts'

const MiB = 1024 * 1024
const BYTES = Buffer.from('x')

/** Every method, called on one key. */
function calls(storage: Storage, key: string, signal?: AbortSignal): Record<string, () => Promise<unknown>> {
  const options = signal ? { signal } : {}
  return {
    put: () => storage.put(key, BYTES, options),
    'put of a stream': () => storage.put(key, (async function* () {})(), options),
    putIfAbsent: () => storage.putIfAbsent(key, BYTES, options),
    get: () => storage.get(key, options),
    head: () => storage.head(key, options),
    list: () => keysOf(storage.list(key, options)),
    'delete of one': () => storage.delete([key], options),
    'delete of two': () => storage.delete(['fine', key], options),
    probe: () => storage.probe(options),
  }
}

export function refusalTests({ open, traits }: ContractContext): void {
  test('no method takes what is no key, and nothing outside of the prefix is touched', async () => {
    await using subject = await open()
    const wrong = [
      '',
      '/',
      '/a',
      'a/',
      'a//b',
      '.',
      '..',
      '../a',
      'a/../../b',
      'a/./b',
      'a\0b',
      '\ud800',
      'é'.repeat(513),
    ]
    for (const key of wrong) {
      for (const [name, call] of Object.entries(calls(subject.storage, key))) {
        // Everything begins with nothing, folders end in a slash, and a dot may be followed by more.
        const isPrefix = name === 'list' && ['', 'a/', '.', '..'].includes(key)
        if (name === 'probe' || isPrefix) continue
        await assert.rejects(call(), (error) => isCode(error, 'WALRX_INTERNAL'), `${name} of ${JSON.stringify(key)}`)
      }
    }
    assert.deepEqual(await keysOf(subject.storage.list('')), [])
  })

  test('a missing bucket or directory is never taken for a missing object', async () => {
    await using subject = await open()
    const storage = subject.missing()
    for (const [name, call] of Object.entries(calls(storage, 'wal_005/000000010000000000000001.zst'))) {
      if (traits.missingBucket === false && name.startsWith('put') && name !== 'putIfAbsent') continue
      const isMissing = (error: Error) =>
        isCode(error, 'WALRX_STORAGE_MISSING') && (error as { hint?: string }).hint !== undefined
      await assert.rejects(call(), isMissing, name)
    }
    await storage.close()
  })

  test('a signal that has aborted ends every call with its reason, before anything is done', async () => {
    await using subject = await open()
    const reason = new Error('no longer wanted')
    const signal = AbortSignal.abort(reason)
    for (const [name, call] of Object.entries(calls(subject.storage, 'aborted', signal))) {
      await assert.rejects(call(), (error) => error === reason, name)
    }
    assert.deepEqual(await keysOf(subject.storage.list('')), [])
  })

  test('a put ends at once when its signal aborts while its stream waits, and leaves nothing', async () => {
    await using subject = await open()
    const controller = new AbortController()
    const reason = new Error('no longer wanted')
    let isClosed = false
    const chunks = async function* () {
      try {
        for (let index = 0; index < 7; index++) yield seeded(index, MiB)
        queueMicrotask(() => controller.abort(reason))
        await new Promise((resolve) => controller.signal.addEventListener('abort', resolve))
        yield seeded(8, MiB)
      } finally {
        isClosed = true
      }
    }
    const put = subject.storage.put('endless', chunks(), { signal: controller.signal })
    await assert.rejects(put, (error) => error === reason)
    assert.equal(await subject.storage.head('endless'), undefined)
    assert.deepEqual(await keysOf(subject.storage.list('')), [])
    assert.ok(isClosed)
  })

  test('reading ends with the reason of a signal that aborts on the way', async () => {
    await using subject = await open()
    await subject.storage.put('long', seeded(1, 12 * MiB))
    const controller = new AbortController()
    const reason = new Error('no longer wanted')
    const body = await subject.storage.get('long', { signal: controller.signal })
    const read = async () => {
      for await (const chunk of body) if (chunk.length > 0) controller.abort(reason)
    }
    await assert.rejects(read(), (error) => error === reason)
    assert.equal((await readObject(subject.storage, 'long')).length, 12 * MiB)
  })

  test('a listing ends with the reason of a signal that aborts on the way', async () => {
    await using subject = await open()
    for (const key of ['a', 'b', 'c']) await subject.storage.put(key, BYTES)
    const controller = new AbortController()
    const reason = new Error('no longer wanted')
    const seen: string[] = []
    const read = async () => {
      for await (const { key } of subject.storage.list('', { signal: controller.signal })) {
        seen.push(key)
        controller.abort(reason)
      }
    }
    await assert.rejects(read(), (error) => error === reason)
    assert.deepEqual(seen, ['a'])
  })

  test('who stops reading early frees the source: files and connections do not run out', async () => {
    await using subject = await open()
    const { storage } = subject
    await storage.put('long', seeded(1, 4 * MiB))
    // More than the connections that a subject has.
    for (let round = 0; round < 20; round++) {
      for await (const chunk of await storage.get('long')) {
        assert.ok(chunk.length > 0)
        break
      }
      const iterator = (await storage.get('long'))[Symbol.asyncIterator]()
      await iterator.return?.()
      assert.deepEqual(await iterator.next(), { done: true, value: undefined })
    }
    assert.equal((await readObject(storage, 'long')).length, 4 * MiB)
  })

  test('a hundred calls may share one signal', async () => {
    await using subject = await open()
    const warnings: Error[] = []
    const onWarning = (warning: Error) => warnings.push(warning)
    process.on('warning', onWarning)
    const { signal } = new AbortController()
    const keys = Array.from({ length: 100 }, (_, index) => `many/${index}`)
    await Promise.all(keys.map((key) => subject.storage.put(key, BYTES, { signal })))
    await Promise.all(keys.map((key) => subject.storage.head(key, { signal })))
    process.off('warning', onWarning)
    assert.deepEqual(warnings, [])
  })
}
