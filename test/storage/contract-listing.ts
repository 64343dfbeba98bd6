/** The part of the contract about listings. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readObject } from '../../src/storage/storage.ts'
import { inByteOrder, keysOf } from './assertions.ts'
import type { ContractContext, Subject } from './contract.ts'

async function fill({ storage }: Subject, keys: readonly string[]): Promise<void> {
  const left = [...keys]
  const work = async () => {
    for (let key = left.pop(); key !== undefined; key = left.pop()) await storage.put(key, Buffer.from(key))
  }
  await Promise.all(Array.from({ length: 16 }, work))
}

/** Segments of two timelines and what lies beside them. */
const ARCHIVE = [
  'basebackups_005/base_000000010000000000000002/metadata.json',
  'basebackups_005/base_000000010000000000000002/tar_partitions/part_001.tar.zst',
  'basebackups_005/base_000000010000000000000002_backup_stop_sentinel.json',
  'wal_005/000000010000000000000001.zst',
  'wal_005/000000010000000000000002.lz4',
  'wal_005/000000010000000000000003.partial.zst',
  'wal_005/00000002.history.zst',
  'wal_005/000000020000000000000003.zst',
  'walrx_005/cluster',
]

export function listingTests({ open, traits }: ContractContext): void {
  test('a listing has key, size and time of every object at any depth, in order', async () => {
    await using subject = await open()
    await fill(subject, ARCHIVE)
    const objects = []
    for await (const object of subject.storage.list('')) objects.push(object)
    assert.deepEqual(
      objects.map(({ key }) => key),
      ARCHIVE,
    )
    for (const { key, size, lastModifiedMs } of objects) {
      assert.equal(size, key.length)
      assert.ok(Math.abs(lastModifiedMs - Date.now()) < 60_000)
    }
  })

  test('a prefix is the beginning of keys, be it a folder or not', async () => {
    await using subject = await open()
    await fill(subject, ARCHIVE)
    for (const prefix of ['wal_005/', 'wal_005/00000001', 'wal', 'w', 'wal_005/00000002.', 'basebackups_005/base_0']) {
      assert.deepEqual(
        await keysOf(subject.storage.list(prefix)),
        ARCHIVE.filter((key) => key.startsWith(prefix)),
        prefix,
      )
    }
    for (const prefix of ['x', 'wal_005/9', 'wal_005/000000010000000000000001.zst/', 'nowhere/', 'no/where']) {
      assert.deepEqual(await keysOf(subject.storage.list(prefix)), [], prefix)
    }
    assert.deepEqual(await keysOf(subject.storage.list(ARCHIVE[3]!)), [ARCHIVE[3]])
  })

  test('startAfter leaves out what sorts up to it, whether it exists or not', async () => {
    await using subject = await open()
    await fill(subject, ARCHIVE)
    const places = [
      ...ARCHIVE,
      'a',
      'wal_005',
      'wal_005/',
      'wal_005/00000002',
      'wal_005/z',
      'z',
      'basebackups_005/base_1',
    ]
    for (const startAfter of places) {
      for (const prefix of ['', 'wal_005/', 'basebackups_005/base_']) {
        assert.deepEqual(
          await keysOf(subject.storage.list(prefix, { startAfter })),
          ARCHIVE.filter(
            (key) => key.startsWith(prefix) && Buffer.compare(Buffer.from(key), Buffer.from(startAfter)) > 0,
          ),
          `${prefix} after ${startAfter}`,
        )
      }
    }
  })

  test('the order is that of the bytes of whole keys', { skip: !traits.byteOrder }, async () => {
    await using subject = await open()
    const keys = [
      'a.b',
      'a/b',
      'a/b.c',
      'a0',
      'a-b/c',
      'a/b-c/d',
      'A',
      'B/a',
      'a b',
      'á',
      'z',
      'zz/z',
      '\uffee',
      '😀',
      'é/😀',
    ]
    await fill(subject, keys)
    assert.deepEqual(await keysOf(subject.storage.list('')), inByteOrder(keys))
    for (const startAfter of keys) {
      const rest = inByteOrder([...keys, startAfter])
      assert.deepEqual(
        await keysOf(subject.storage.list('', { startAfter })),
        rest.slice(rest.lastIndexOf(startAfter) + 1),
        startAfter,
      )
    }
  })

  test('keys with spaces, signs and letters of any script are kept as they are', async () => {
    await using subject = await open()
    const { storage } = subject
    const keys = [
      'odd/with space',
      'odd/ leading and trailing ',
      'odd/1+1=2',
      'odd/100%',
      'odd/%41%2F%2e',
      'odd/a&b?c=d#e',
      `odd/"quoted" 'twice' <tag>`,
      ...(traits.backslashes === false ? [] : ['odd/back\\slash']),
      'odd/(a)[b]{c}!*~,;:@$^`|',
      'odd/grüße/日本語/😀',
      'odd/...',
    ]
    await fill(subject, keys)
    assert.deepEqual(inByteOrder(await keysOf(storage.list('odd/'))), inByteOrder(keys))
    for (const key of keys) {
      assert.equal(String(await readObject(storage, key)), key)
      assert.equal((await storage.head(key))?.size, Buffer.byteLength(key))
      assert.equal((await keysOf(storage.list(key)))[0], key)
    }
    // The second alone: s3rver trims the keys of a batch.
    await storage.delete(keys.slice(2))
    await storage.delete([keys[1]!])
    assert.deepEqual(await keysOf(storage.list('odd/')), [keys[0]])
    await storage.delete([keys[0]!])
    assert.deepEqual(await keysOf(storage.list('odd/')), [])
  })

  test('a listing of 1,105 objects is whole over several pages, from any place, and can be left early', async () => {
    await using subject = await open()
    const { storage } = subject
    const keys = Array.from({ length: 1105 }, (_, index) => `wal_005/${index.toString(16).padStart(24, '0')}.zst`)
    await fill(subject, keys)
    assert.deepEqual(await keysOf(storage.list('wal_005/')), keys)
    assert.deepEqual(await keysOf(storage.list('wal_005/', { startAfter: keys[50]! })), keys.slice(51))
    assert.deepEqual(await keysOf(storage.list('', { startAfter: keys[1000]! })), keys.slice(1001))
    const firstFew: string[] = []
    for await (const { key } of storage.list('wal_005/')) {
      if (firstFew.push(key) === 3) break
    }
    assert.deepEqual(firstFew, keys.slice(0, 3))
    await storage.delete(keys)
    assert.deepEqual(await keysOf(storage.list('wal_005/')), [])
  })
}
