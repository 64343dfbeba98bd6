import assert from 'node:assert/strict'
import { mkdir, readFile, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { readObject } from '../../../src/storage/storage.ts'
import { isCode, keysOf, seeded } from '../assertions.ts'
import { errnoError, leftovers, openArchive } from './recorded-file-system.ts'

const SEGMENT = 'wal_005/000000010000000000000001.zst'

describe('what is durable', () => {
  test('a put syncs the file before it renames, then the directory, and the parent of a new directory', async () => {
    await using archive = await openArchive()
    await archive.storage.put(SEGMENT, seeded(1, 1000))
    await archive.storage.put(SEGMENT, seeded(2, 1000))
    const write = [`open ${SEGMENT}.tmp`, `write ${SEGMENT}.tmp`, `sync ${SEGMENT}.tmp`, `close ${SEGMENT}.tmp`]
    const publish = [`rename ${SEGMENT}.tmp ${SEGMENT}`, 'sync wal_005', 'close wal_005']
    assert.deepEqual(archive.fileSystem.calls, [
      'mkdir wal_005',
      'sync .',
      'close .',
      ...write,
      ...publish,
      ...write,
      ...publish,
    ])
  })

  test('putIfAbsent links instead of renaming; what exists already is synced before it says so', async () => {
    await using archive = await openArchive()
    await mkdir(join(archive.root, 'wal_005'))
    await writeFile(join(archive.root, SEGMENT), 'from a writer that was killed')
    assert.equal(await archive.storage.putIfAbsent(SEGMENT, Buffer.from('x')), 'exists')
    const calls = archive.fileSystem.calls
    assert.deepEqual(calls.slice(calls.indexOf(`link ${SEGMENT}.tmp ${SEGMENT}`)), [
      `link ${SEGMENT}.tmp ${SEGMENT}`,
      `unlink ${SEGMENT}.tmp`,
      `sync ${SEGMENT}`,
      `close ${SEGMENT}`,
      'sync wal_005',
      'close wal_005',
    ])
  })

  test('a probe syncs the folder of segments, so that what is listed after it is durable', async () => {
    await using archive = await openArchive()
    await mkdir(join(archive.root, 'wal_005'))
    await archive.storage.probe()
    assert.ok(archive.fileSystem.calls.indexOf('sync wal_005') >= 0)
    assert.ok(archive.fileSystem.calls.indexOf('sync wal_005') < archive.fileSystem.calls.indexOf('mkdir walrx_005'))
  })

  test('puts at the same time share syncs of the directory, each by one that began after its rename', async () => {
    await using archive = await openArchive()
    const { calls } = archive.fileSystem
    await archive.storage.put('wal_005/first', Buffer.from('x'))
    calls.length = 0
    await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        const key = `wal_005/${index}`
        await archive.storage.put(key, Buffer.from(key))
        const renamed = calls.findIndex((call) => call.startsWith('rename ') && call.endsWith(` ${key}`))
        const synced = calls.indexOf('sync wal_005', renamed)
        assert.ok(renamed >= 0 && synced > renamed, `${key} was promised before it was synced`)
        assert.ok(calls.indexOf('close wal_005', synced) > synced, `${key} was promised during the sync`)
      }),
    )
    const syncs = calls.filter((call) => call === 'sync wal_005').length
    assert.ok(syncs < 30, `${syncs} syncs of the directory for 40 puts`)
  })

  test('a failed sync of the directory fails every put that shares it, and the next one syncs again', async () => {
    await using archive = await openArchive()
    await archive.storage.put('wal_005/first', Buffer.from('x'))
    let fails = true
    archive.fileSystem.before = (_, call) => {
      if (fails && call === 'sync wal_005') throw errnoError('EIO')
    }
    const puts = ['a', 'b', 'c'].map((name) => archive.storage.put(`wal_005/${name}`, Buffer.from(name)))
    for (const result of await Promise.allSettled(puts)) {
      assert.ok(result.status === 'rejected' && isCode(result.reason, 'WALRX_STORAGE_UNAVAILABLE'))
    }
    fails = false
    await archive.storage.put('wal_005/a', Buffer.from('a'))
  })

  test('a directory that can not be synced at all, as on CIFS, is no error', async () => {
    await using archive = await openArchive()
    archive.fileSystem.before = (_, call) => {
      if (call === 'sync .' || call === 'sync wal_005') throw errnoError('EINVAL')
    }
    await archive.storage.put(SEGMENT, Buffer.from('x'))
  })

  test('without fsync nothing is synced', async () => {
    await using archive = await openArchive(false)
    await archive.storage.put(SEGMENT, Buffer.from('x'))
    await archive.storage.putIfAbsent(SEGMENT, Buffer.from('x'))
    await archive.storage.probe()
    assert.deepEqual(
      archive.fileSystem.calls.filter((call) => call.startsWith('sync')),
      [],
    )
  })
})

describe('what a crash leaves', () => {
  for (const method of ['put', 'putIfAbsent'] as const) {
    test(`${method} killed at any system call leaves the object whole or not at all`, async () => {
      const bytes = seeded(1, 5000)
      let isThere = false
      for (let survived = 0; ; survived++) {
        await using archive = await openArchive()
        let made = 0
        archive.fileSystem.before = () => {
          if (made++ >= survived) throw errnoError('EKILLED')
        }
        const ended = await archive.storage[method](SEGMENT, bytes).then(
          () => true,
          () => false,
        )
        const keys = await keysOf(archive.fresh.list(''))
        assert.ok(keys.length === 0 || keys.join() === SEGMENT, keys.join())
        isThere = keys.length > 0
        if (isThere) assert.ok((await readObject(archive.fresh, SEGMENT)).equals(bytes))
        // Who comes after is not hindered by what is left.
        assert.equal(await archive.fresh.putIfAbsent(SEGMENT, bytes), isThere ? 'exists' : 'created')
        if (ended) break
        assert.ok(survived < 30)
      }
      assert.ok(isThere)
    })
  }

  test('a put killed at any system call leaves the object that it was to replace, or the new one', async () => {
    const versions = [seeded(1, 3000), seeded(2, 4000)] as const
    for (let survived = 0, ended = false; !ended; survived++) {
      await using archive = await openArchive()
      await archive.fresh.put(SEGMENT, versions[0])
      let made = 0
      archive.fileSystem.before = () => {
        if (made++ >= survived) throw errnoError('EKILLED')
      }
      ended = await archive.storage.put(SEGMENT, versions[1]).then(
        () => true,
        () => false,
      )
      const stored = await readObject(archive.fresh, SEGMENT)
      assert.ok(stored.equals(versions[1]) || (!ended && stored.equals(versions[0])))
    }
  })

  test('unfinished files of WAL-G, WAL-RUS and walrx are hidden, and nothing is put under such a name', async () => {
    await using archive = await openArchive(false)
    await archive.storage.put(SEGMENT, Buffer.from('x'))
    const hidden = [
      `${SEGMENT}.tmp.20260102T030405Z-0123456789abcdef`,
      `${SEGMENT}.tmp.4711`,
      `${SEGMENT}.tmp.00000000T000000Z-0000000000000000`,
    ]
    for (const name of hidden) await writeFile(join(archive.root, name), 'half of it')
    await writeFile(join(archive.root, 'wal_005/plain.tmp'), 'an object')
    assert.deepEqual(await keysOf(archive.storage.list('')), [SEGMENT, 'wal_005/plain.tmp'])
    for (const name of hidden) {
      assert.equal(await archive.storage.head(name), undefined)
      await assert.rejects(archive.storage.get(name), (error) => isCode(error, 'WALRX_OBJECT_NOT_FOUND'))
      await assert.rejects(archive.storage.put(name, Buffer.from('x')), (error) => isCode(error, 'WALRX_INTERNAL'))
      await archive.storage.delete([name])
    }
    assert.equal((await leftovers(archive.root)).length, 3)
  })

  test('a probe removes unfinished files of the segment folder that are older than a day, no others', async () => {
    await using archive = await openArchive(false)
    const old = new Date(Date.now() - 25 * 3600 * 1000)
    const files: [name: string, time: Date, stays: boolean][] = [
      [`${SEGMENT}.tmp.20200102T030405Z-0123456789abcdef`, old, false],
      // A living writer's: its name may be old, its time is not.
      [`${SEGMENT}.tmp.20200102T030405Z-fedcba9876543210`, new Date(), true],
      [`${SEGMENT}.tmp.4711`, old, true],
      [`wal_005/000000010000000000000002`, old, true],
      [`basebackups_005/x.tmp.20200102T030405Z-0123456789abcdef`, old, true],
    ]
    await mkdir(join(archive.root, 'wal_005'))
    await mkdir(join(archive.root, 'basebackups_005'))
    for (const [name, time] of files) {
      await writeFile(join(archive.root, name), '')
      await utimes(join(archive.root, name), time, time)
    }
    await archive.storage.probe()
    for (const [name, , stays] of files) {
      const isThere = await readFile(join(archive.root, name)).then(
        () => true,
        () => false,
      )
      assert.equal(isThere, stays, name)
    }
  })
})
