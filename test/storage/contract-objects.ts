/** The part of the contract about single objects: put, putIfAbsent, get, head, delete. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { readObject } from '../../src/storage/storage.ts'
import { isCode, seeded } from './assertions.ts'
import type { ContractContext } from './contract.ts'

const MiB = 1024 * 1024

export function objectTests({ open, traits }: ContractContext): void {
  test('an object comes back with the bytes, size and time that it was put with', async () => {
    await using subject = await open()
    const { storage } = subject
    const bytes = seeded(1, 300_000)
    const beforeMs = Date.now()
    await storage.put('wal_005/000000010000000000000001.zst', bytes)
    assert.deepEqual(await readObject(storage, 'wal_005/000000010000000000000001.zst'), bytes)
    const info = await storage.head('wal_005/000000010000000000000001.zst')
    assert.equal(info?.key, 'wal_005/000000010000000000000001.zst')
    assert.equal(info.size, 300_000)
    // Whole seconds in S3, and a clock of its own.
    assert.ok(Math.abs(info.lastModifiedMs - beforeMs) < 5000, `${info.lastModifiedMs} is not about ${beforeMs}`)
  })

  test('a put replaces the object of that key, also by a shorter one', async () => {
    await using subject = await open()
    await subject.storage.put('a/b', seeded(2, 5000))
    await subject.storage.put('a/b', Buffer.from('short'))
    assert.equal(String(await readObject(subject.storage, 'a/b')), 'short')
    assert.equal((await subject.storage.head('a/b'))?.size, 5)
  })

  test('an object may be empty, from memory and from a stream', async () => {
    await using subject = await open()
    const { storage } = subject
    await storage.put('empty/a', new Uint8Array())
    await storage.put('empty/b', (async function* () {})())
    assert.equal(await storage.putIfAbsent('empty/c', new Uint8Array()), 'created')
    for (const key of ['empty/a', 'empty/b', 'empty/c']) {
      assert.equal((await readObject(storage, key)).length, 0)
      assert.equal((await storage.head(key))?.size, 0)
    }
  })

  test('a stream of 40 MB in chunks of odd sizes is stored as it is', async () => {
    await using subject = await open()
    const { storage } = subject
    const sent = createHash('sha256')
    let size = 0
    const chunks = async function* () {
      for (let index = 0; size < 40 * MiB; index++) {
        const chunk = seeded(index, (index * 7919) % 700_001)
        sent.update(chunk)
        size += chunk.length
        yield chunk
      }
    }
    await storage.put('basebackups_005/part_001.tar', chunks())
    assert.equal((await storage.head('basebackups_005/part_001.tar'))?.size, size)
    const received = createHash('sha256')
    for await (const chunk of await storage.get('basebackups_005/part_001.tar')) received.update(chunk)
    assert.equal(received.digest('hex'), sent.digest('hex'))
  })

  test('a stream may use the memory of a chunk again, where the storage says so', async () => {
    await using subject = await open()
    const { storage } = subject
    const sent: Buffer[] = []
    const chunks = async function* () {
      const memory = Buffer.alloc(300_000)
      for (let index = 0; index < 30; index++) {
        const chunk = seeded(index, memory.length)
        sent.push(chunk)
        yield await Promise.resolve(storage.releasesChunks ? memory.subarray(0, chunk.copy(memory)) : chunk)
        memory.fill(0)
      }
    }
    await storage.put('basebackups_005/part_002.tar', chunks())
    assert.ok((await readObject(storage, 'basebackups_005/part_002.tar')).equals(Buffer.concat(sent)))
  })

  test('a view of a larger buffer is stored, not the buffer', async () => {
    await using subject = await open()
    const pool = seeded(3, 1000)
    await subject.storage.put('view', new Uint8Array(pool.buffer, pool.byteOffset + 100, 50))
    assert.deepEqual(await readObject(subject.storage, 'view'), pool.subarray(100, 150))
  })

  for (const [size, chunkBytes] of [
    [3000, 1000],
    [12 * MiB, MiB],
  ] as const) {
    test(`a stream that fails after ${size} bytes leaves nothing new, and its own error comes out`, async () => {
      await using subject = await open()
      const { storage } = subject
      const failure = new Error('the server went away')
      const chunks = async function* () {
        for (let sent = 0; sent < size; sent += chunkBytes) yield seeded(sent, chunkBytes)
        throw failure
      }
      await storage.put('old', Buffer.from('old'))
      await assert.rejects(storage.put('new', chunks()), (error) => error === failure)
      await assert.rejects(storage.put('old', chunks()), (error) => error === failure)
      assert.equal(await storage.head('new'), undefined)
      assert.equal(String(await readObject(storage, 'old')), 'old')
    })
  }

  test('putIfAbsent creates once, and then says so and keeps what is there', async () => {
    await using subject = await open()
    const { storage } = subject
    assert.equal(await storage.putIfAbsent('walrx_005/cluster', Buffer.from('first')), 'created')
    assert.equal(await storage.putIfAbsent('walrx_005/cluster', Buffer.from('second')), 'exists')
    assert.equal(await subject.reopen().putIfAbsent('walrx_005/cluster', Buffer.from('third')), 'exists')
    assert.equal(String(await readObject(storage, 'walrx_005/cluster')), 'first')
  })

  test('of eight callers of putIfAbsent at the same time exactly one creates, and its bytes stay', async () => {
    await using subject = await open()
    for (let round = 0; round < 5; round++) {
      const storages = Array.from({ length: 8 }, () => subject.reopen())
      const results = await Promise.all(
        storages.map((storage, index) => storage.putIfAbsent(`race/${round}`, Buffer.from(`caller ${index}`))),
      )
      const creators = results.flatMap((result, index) => (result === 'created' ? [index] : []))
      const stored = String(await readObject(subject.storage, `race/${round}`))
      await Promise.all(storages.map((storage) => storage.close()))
      if (traits.atomicCreate) assert.deepEqual(creators.length, 1, `created by ${creators.join()}`)
      assert.ok(
        creators.some((index) => stored === `caller ${index}`),
        `${stored} of ${creators.join()}`,
      )
    }
  })

  test('what is not there has no head, and get says so with key and location', async () => {
    await using subject = await open()
    const { storage } = subject
    await storage.put('there', Buffer.from('x'))
    for (const key of ['nowhere', 'no/where', 'there/not']) {
      assert.equal(await storage.head(key), undefined)
      await assert.rejects(storage.get(key), (error: Error) => {
        assert.ok(isCode(error, 'WALRX_OBJECT_NOT_FOUND'))
        return error.message.includes(key) && error.message.includes(storage.location)
      })
    }
    // A folder is no object.
    await storage.put('folder/object', Buffer.from('x'))
    assert.equal(await storage.head('folder'), undefined)
    await assert.rejects(storage.get('folder'), (error) => isCode(error, 'WALRX_OBJECT_NOT_FOUND'))
  })

  test('who reads while an object is replaced gets one of the two, whole', { skip: !traits.atomicPut }, async () => {
    await using subject = await open()
    const { storage } = subject
    const versions = [seeded(1, 3 * MiB), seeded(2, 4 * MiB)]
    await storage.put('changing', versions[0]!)
    const body = (await storage.get('changing'))[Symbol.asyncIterator]()
    const chunks = [(await body.next()).value as Uint8Array]
    await storage.put('changing', versions[1]!)
    for (let next = await body.next(); !next.done; next = await body.next()) chunks.push(next.value)
    assert.ok(Buffer.concat(chunks).equals(versions[0]!))
    assert.ok((await readObject(storage, 'changing')).equals(versions[1]!))
  })

  test('objects are whole while others write them at the same time', { skip: !traits.atomicPut }, async () => {
    await using subject = await open()
    const versions = [seeded(1, 200_000), seeded(2, 300_000)]
    const { storage } = subject
    await storage.put('busy', versions[0]!)
    const write = async () => {
      for (let round = 0; round < 10; round++) await storage.put('busy', versions[round % 2]!)
    }
    const read = async () => {
      for (let round = 0; round < 20; round++) {
        const bytes = await readObject(storage, 'busy')
        assert.ok(
          versions.some((version) => version.equals(bytes)),
          `${bytes.length} bytes of neither version`,
        )
      }
    }
    await Promise.all([write(), write(), read(), read()])
  })

  test('delete removes many objects at once, and passes over what is not there', async () => {
    await using subject = await open()
    const { storage } = subject
    for (const key of ['d/1', 'd/2', 'd/3', 'd/e/4']) await storage.put(key, Buffer.from(key))
    await storage.delete(['d/1', 'd/never', 'd/e/4', 'nowhere/never'])
    await storage.delete(['d/2'])
    await storage.delete(['d/2'])
    await storage.delete([])
    for (const key of ['d/1', 'd/2', 'd/e/4']) assert.equal(await storage.head(key), undefined)
    assert.equal(String(await readObject(storage, 'd/3')), 'd/3')
    await storage.put('d/e/4', Buffer.from('again'))
    assert.equal(String(await readObject(storage, 'd/e/4')), 'again')
  })

  test('a probe reports whether putIfAbsent is atomic, and leaves no object', async () => {
    await using subject = await open()
    const { conditionalPut, listingProblem } = await subject.storage.probe()
    assert.deepEqual(
      { conditionalPut, listingProblem },
      { conditionalPut: traits.conditionalPut, listingProblem: undefined },
    )
    for await (const { key } of subject.storage.list('')) assert.fail(`${key} was left`)
  })

  test('objects are seen through every storage on the same place, and closing twice is no error', async () => {
    await using subject = await open()
    const other = subject.reopen()
    await subject.storage.put('shared', Buffer.from('seen'))
    assert.equal(String(await readObject(other, 'shared')), 'seen')
    await other.close()
    await other.close()
    assert.equal(String(await readObject(subject.storage, 'shared')), 'seen')
  })
}
