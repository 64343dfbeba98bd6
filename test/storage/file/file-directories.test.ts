/** Empty directories of a file storage are removed, also while other processes put objects into them. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { mkdir, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import { readObject } from '../../../src/storage/storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { Random } from '../../harness/random.ts'
import { isCode, keysOf } from '../assertions.ts'
import { openArchive } from './recorded-file-system.ts'

const bytes = Buffer.from('x')
const chunk = 'walrx_005/tail/00000001/000000010000000000000001/00000000-00000100'

describe('directories that hold nothing any more', () => {
  test("go with their last object, up to the archive's own folders, and that is made durable", async () => {
    await using archive = await openArchive()
    await archive.storage.put(chunk, bytes)
    await archive.storage.put('wal_005/x', bytes)
    archive.fileSystem.calls.length = 0
    await archive.storage.delete([chunk, 'wal_005/x'])
    assert.deepEqual(readdirSync(archive.root, { recursive: true }).sort(), ['wal_005', 'walrx_005'])
    const { calls } = archive.fileSystem
    assert.ok(calls.indexOf('sync walrx_005') > calls.indexOf('rmdir walrx_005/tail'), calls.join('\n'))
  })

  test('stay while there is anything in them, be it an unfinished file, and where they are links', async () => {
    await using archive = await openArchive()
    const folder = join(archive.root, 'walrx_005/a')
    await archive.storage.put('walrx_005/a/b/c', bytes)
    await writeFile(join(folder, 'b/c.tmp.20260102T030405Z-0123456789abcdef'), '')
    await archive.storage.delete(['walrx_005/a/b/c'])
    assert.ok(existsSync(join(folder, 'b')))
    const elsewhere = `${archive.root}.elsewhere`
    await mkdir(elsewhere)
    await symlink(elsewhere, join(folder, 'link'))
    await archive.storage.put('walrx_005/a/link/c', bytes)
    await archive.storage.delete(['walrx_005/a/link/c'])
    assert.ok(existsSync(join(folder, 'link')))
    await rm(elsewhere, { recursive: true })
  })

  test('go with the unfinished files of a folder', async () => {
    await using archive = await openArchive()
    await mkdir(join(archive.root, 'basebackups_005/base_1/tar_partitions'), { recursive: true })
    await writeFile(
      join(archive.root, 'basebackups_005/base_1/tar_partitions/part_001.tar.tmp.20260102T030405Z-0123456789abcdef'),
      '',
    )
    await archive.storage.removeUnfinished('basebackups_005/base_1/')
    assert.deepEqual(readdirSync(archive.root, { recursive: true }), ['basebackups_005'])
  })

  test('go with the chunks that a killed receiver has not finished, a day later', async () => {
    await using archive = await openArchive()
    const [old, young] = ['1', '2'].map((segment) => join(archive.root, `walrx_005/tail/00000001/${segment}`)) as [
      string,
      string,
    ]
    const unfinished = '00000000-00000100.zst.tmp.20260102T030405Z-0123456789abcdef'
    const then = Date.now() / 1000 - 2 * 24 * 3600
    for (const folder of [old, young]) {
      await mkdir(folder, { recursive: true })
      await writeFile(join(folder, unfinished), '')
    }
    await utimes(join(old, unfinished), then, then)
    await archive.storage.probe()
    assert.deepEqual(
      [old, young].map((folder) => existsSync(folder)),
      [false, true],
    )
    assert.deepEqual(readdirSync(young), [unfinished])
  })

  test('are created again by puts, and finished puts stay durable', async (t) => {
    const seed = Number(process.env['WALRX_SEED'] ?? Date.now() % 100_000)
    t.diagnostic(`seed ${seed}`)
    const random = new Random(seed)
    await using archive = await openArchive(false)
    const other = new FileStorage({ folders: archiveFolders, root: archive.root, fsync: false })
    for (let round = 0; round < 60; round++) {
      const key = (name: number) => `walrx_005/tail/1/${round % 2}/${name}`
      const kept: string[] = []
      await Promise.all(
        Array.from({ length: 8 }, async (_, name) => {
          const storage = random.pick([archive.storage, other])
          const isGone = random.chance(0.7)
          await storage.put(key(name), bytes)
          if (isGone) await random.pick([archive.storage, other]).delete([key(name)])
          else kept.push(key(name))
        }),
      )
      assert.deepEqual(await keysOf(other.list('walrx_005/')), kept.sort())
      await other.delete(kept)
      assert.deepEqual(readdirSync(archive.root, { recursive: true }), ['walrx_005'])
    }
  })

  test('that other processes have created again are made durable again', async () => {
    await using archive = await openArchive()
    await archive.storage.put('walrx_005/a/b/c', bytes)
    await rm(join(archive.root, 'walrx_005/a'), { recursive: true })
    await mkdir(join(archive.root, 'walrx_005/a/b'), { recursive: true })
    archive.fileSystem.calls.length = 0
    await archive.storage.put('walrx_005/a/b/c', bytes)
    for (const directory of ['walrx_005', 'walrx_005/a']) {
      assert.ok(archive.fileSystem.calls.includes(`sync ${directory}`), archive.fileSystem.calls.join('\n'))
    }
    assert.ok((await readObject(archive.storage, 'walrx_005/a/b/c')).equals(bytes))
  })

  test('report any other failure of their removal', async () => {
    await using archive = await openArchive()
    await archive.storage.put(chunk, bytes)
    archive.fileSystem.before = (name) => {
      if (name === 'rmdir') throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' })
    }
    await assert.rejects(archive.storage.delete([chunk]), (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
  })
})
