import assert from 'node:assert/strict'
import { mkdir, unlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { readObject } from '../../../src/storage/storage.ts'
import { keysOf, seeded } from '../assertions.ts'
import { errnoError, leftovers, openArchive } from './recorded-file-system.ts'

const SEGMENT = 'wal_005/000000010000000000000001.zst'

describe('a call that was aborted', () => {
  test('ends at once although the disk hangs, and publishes nothing later', async () => {
    await using archive = await openArchive()
    const { promise: disk, resolve: recover } = Promise.withResolvers<void>()
    await mkdir(join(archive.root, 'wal_005'))
    for (const method of ['put', 'putIfAbsent'] as const) {
      const { promise: hanging, resolve: hangs } = Promise.withResolvers<void>()
      archive.fileSystem.before = async (_, call) => {
        if (call !== `sync ${SEGMENT}.tmp`) return
        hangs()
        await disk
      }
      const controller = new AbortController()
      const call = archive.storage[method](SEGMENT, seeded(1, 1000), { signal: controller.signal })
      await hanging
      controller.abort(new Error('no longer wanted'))
      await assert.rejects(call, { message: 'no longer wanted' })
    }
    recover()
    // The unfinished files go once the disk answers; the object never comes.
    while ((await leftovers(archive.root)).length > 0) await setImmediate()
    assert.deepEqual(await keysOf(archive.fresh.list('')), [])
    assert.ok(!archive.fileSystem.calls.some((call) => /^(rename|link)/.test(call)))
  })

  test('has removed its unfinished file when the storage is closed, so that the process may end then', async () => {
    await using archive = await openArchive()
    const { promise: disk, resolve: recover } = Promise.withResolvers<void>()
    const { promise: hanging, resolve: hangs } = Promise.withResolvers<void>()
    archive.fileSystem.before = async (_, call) => {
      if (call !== `sync ${SEGMENT}.tmp`) return
      hangs()
      await disk
    }
    const controller = new AbortController()
    const call = archive.storage.put(SEGMENT, seeded(1, 1000), { signal: controller.signal })
    await hanging
    controller.abort(new Error('no longer wanted'))
    await assert.rejects(call, { message: 'no longer wanted' })
    assert.equal((await leftovers(archive.root)).length, 1)
    const closed = archive.storage.close()
    recover()
    await closed
    assert.deepEqual(await leftovers(archive.root), [])
  })

  test('a file that is read is closed when its signal aborts, also between two reads', async () => {
    await using archive = await openArchive()
    await archive.fresh.put('long', seeded(1, 3 * 1024 * 1024))
    const { promise: closed, resolve } = Promise.withResolvers<void>()
    archive.fileSystem.before = (_, call) => {
      if (call === 'close long') resolve()
    }
    const controller = new AbortController()
    const body = (await archive.storage.get('long', { signal: controller.signal }))[Symbol.asyncIterator]()
    await body.next()
    controller.abort(new Error('no longer wanted'))
    await closed
    await assert.rejects(body.next(), { message: 'no longer wanted' })
  })
})

describe('a file system without hard links', () => {
  async function openWithoutLinks() {
    const archive = await openArchive(false)
    archive.fileSystem.before = (name) => {
      if (name === 'link') throw errnoError('EPERM')
    }
    return archive
  }

  test('putIfAbsent creates once, and the probe reports that it is not atomic', async () => {
    await using archive = await openWithoutLinks()
    assert.deepEqual(await archive.storage.probe(), { conditionalPut: false })
    assert.equal(await archive.storage.putIfAbsent('a/b', Buffer.from('1')), 'created')
    assert.equal(await archive.storage.putIfAbsent('a/b', Buffer.from('2')), 'exists')
    assert.equal(String(await readObject(archive.storage, 'a/b')), '1')
    assert.deepEqual(await leftovers(archive.root), [])
  })

  test('of eight callers at the same time exactly one creates', async () => {
    await using archive = await openWithoutLinks()
    const results = await Promise.all(
      Array.from({ length: 8 }, (_, index) => archive.storage.putIfAbsent('race', Buffer.from(`${index}`))),
    )
    assert.deepEqual(
      results.flatMap((result, index) => (result === 'created' ? [`${index}`] : [])),
      [String(await readObject(archive.storage, 'race'))],
    )
    assert.deepEqual(await leftovers(archive.root), [])
  })

  test('a lock is waited for while it is young, and broken when its holder must be dead', async () => {
    await using archive = await openWithoutLinks()
    const lock = join(archive.root, 'x.tmp.00000000T000000Z-0000000000000000')
    const { promise: waiting, resolve } = Promise.withResolvers<void>()
    let tries = 0
    const { before } = archive.fileSystem
    archive.fileSystem.before = (name, call) => {
      if (call.startsWith('open x.tmp.0000') && ++tries === 3) resolve()
      return before(name, call)
    }
    await writeFile(lock, '')
    const put = archive.storage.putIfAbsent('x', Buffer.from('x'))
    await waiting
    assert.equal(await archive.storage.head('x'), undefined)
    await unlink(lock)
    assert.equal(await put, 'created')
    await writeFile(join(archive.root, 'y.tmp.00000000T000000Z-0000000000000000'), '')
    const dead = new Date(Date.now() - 61_000)
    await utimes(join(archive.root, 'y.tmp.00000000T000000Z-0000000000000000'), dead, dead)
    assert.equal(await archive.storage.putIfAbsent('y', Buffer.from('y')), 'created')
    assert.deepEqual(await leftovers(archive.root), [])
  })
})
