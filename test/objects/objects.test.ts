/** Listing, patterns and removal of single objects. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type ListedEntry, listBelow, listFolder, listMatching } from '../../src/objects/object-listing.ts'
import { parsePattern } from '../../src/objects/object-pattern.ts'
import { removeObjects } from '../../src/objects/object-removal.ts'
import { WalrxError } from '../../src/primitives/errors.ts'
import { sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'

function storageOf(...keys: string[]): MemoryStorage {
  const storage = new MemoryStorage()
  for (const key of keys) storage.seed(key, key)
  return storage
}

async function names(entries: AsyncIterable<ListedEntry>): Promise<string[]> {
  const found: string[] = []
  for await (const { name } of entries) found.push(name)
  return found
}

const tree = () => storageOf('a.json', 'b/1.zst', 'b/2.zst', 'b/c/3.zst', 'b.json', 'b0/x', 'd/e/f/4')

describe('a listing', () => {
  test('has the folders and objects of one folder, in the order of their keys', async () => {
    assert.deepEqual(await names(listFolder(tree(), '')), ['a.json', 'b.json', 'b/', 'b0/', 'd/'])
    assert.deepEqual(await names(listFolder(tree(), 'b/')), ['1.zst', '2.zst', 'c/'])
    assert.deepEqual(await names(listFolder(tree(), 'nothing/')), [])
    assert.deepEqual(await names(listBelow(tree(), 'b/')), ['1.zst', '2.zst', 'c/3.zst'])
  })

  test('leaps over large folders, and reads past small ones', async () => {
    const storage = new MemoryStorage()
    for (let index = 0; index < 20_000; index++) storage.seed(`large/${String(index).padStart(6, '0')}`, '')
    for (let index = 0; index < 300; index++) storage.seed(`small-${String(index).padStart(3, '0')}/x`, '')
    storage.seed('z', '')
    storage.calls.length = 0
    const found = await names(listFolder(storage, ''))
    assert.deepEqual([found.length, found[0], found.at(-1)], [302, 'large/', 'z'])
    assert.ok(storage.calls.length <= 5, `${storage.calls.length} pages`)
  })

  const patterns: readonly (readonly [string, readonly string[]])[] = [
    ['*', ['a.json', 'b.json', 'b/', 'b0/', 'd/']],
    ['*.json', ['a.json', 'b.json']],
    ['b/*', ['b/1.zst', 'b/2.zst', 'b/c/']],
    ['b/[12].zst', ['b/1.zst', 'b/2.zst']],
    ['b/[^1].zst', ['b/2.zst']],
    ['?/*/*', ['b/c/3.zst', 'd/e/f/']],
    ['b\\*', []],
    ['b', ['b/']],
    ['b.json', ['b.json']],
  ]
  for (const [pattern, expected] of patterns) {
    test(`matches ${pattern} as WAL-G does`, async () => {
      assert.deepEqual(await names(listMatching(tree(), parsePattern(pattern))), expected)
    })
  }

  test('takes every other character as it is', () => {
    const { matches } = parsePattern('a+(b)^$.{2}|ä😀*')
    assert.ok(matches('a+(b)^$.{2}|ä😀x'))
    assert.ok(!matches('a+(b)^$.{2}|ä😀x/y'))
    for (const wrong of ['[', 'a[', 'a\\', '[]']) assert.throws(() => parsePattern(wrong), /is not a pattern/)
  })
})

describe('a removal', () => {
  const remove = async (
    storage: MemoryStorage,
    path: string,
    more: Partial<Parameters<typeof removeObjects>[1]> = {},
  ) => {
    const seen: string[] = []
    const request = { path, glob: false, force: false, dryRun: false, ...more }
    const removed = await removeObjects(storage, request, ({ key }) => seen.push(key))
    assert.equal(removed.objects, seen.length)
    return seen
  }
  const refused = (message: RegExp) => (error: unknown) => {
    assert.ok(error instanceof WalrxError)
    assert.equal(error.exitStatus, 2)
    assert.match(error.message, message)
    return true
  }

  test('takes the object of a name, else the folder, and never what only begins so', async () => {
    const storage = tree()
    storage.seed('b', 'an object beside a folder')
    assert.deepEqual(await remove(storage, 'b'), ['b'])
    assert.deepEqual(await remove(storage, 'b'), ['b/1.zst', 'b/2.zst', 'b/c/3.zst'])
    await assert.rejects(remove(storage, 'b'), refused(/there is no object and no folder b /))
    assert.deepEqual([...storage.objects.keys()], ['a.json', 'b.json', 'b0/x', 'd/e/f/4'])
    assert.deepEqual(await remove(storage, '[ab].json', { glob: true }), ['a.json', 'b.json'])
  })

  test('refuses what the archive is made of, and removes nothing of a folder with any of it', async () => {
    const key = 'basebackups_005/base_000000010000000000000002/tar_partitions/part_001.tar.zst'
    for (const path of ['wal_005/000000010000000000000001.zst', key, 'walrx_005/system.json', 'wal_005/unknown']) {
      const storage = storageOf(path, 'wal_005/000000010000000000000009.zst')
      await assert.rejects(remove(storage, path), refused(/belongs to the archive .*: nothing was removed/))
      await assert.rejects(remove(storage, path.split('/', 1)[0] ?? ''), refused(/belongs to the archive/))
      await assert.rejects(remove(storage, '*', { glob: true }), refused(/belongs to the archive/))
      assert.ok(storage.peek(path))
      assert.deepEqual(await remove(storage, path, { force: true, dryRun: true }), [path])
      assert.ok(storage.peek(path))
      assert.deepEqual(await remove(storage, path, { force: true }), [path])
    }
    assert.deepEqual(await remove(storageOf('walrx_005/probe/left'), 'walrx_005/probe/left'), ['walrx_005/probe/left'])
  })

  test('of backups begins with the sentinels', async () => {
    const name = 'base_000000010000000000000002'
    const keys = Array.from(
      { length: 1500 },
      (_, index) => `basebackups_005/${name}/tar_partitions/part_${1000 + index}`,
    )
    const seen = await remove(storageOf(...keys, sentinelKey(name)), 'basebackups_005', { force: true })
    assert.deepEqual([seen.length, seen[0]], [1501, sentinelKey(name)])
  })
})
