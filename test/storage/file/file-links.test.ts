/** Symbolic links in a directory: reading follows them, a deletion never removes what one leads to. */
import assert from 'node:assert/strict'
import { existsSync, lstatSync, readdirSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import type { Storage } from '../../../src/storage/storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { isCode, keysOf } from '../assertions.ts'

interface World extends AsyncDisposable {
  /** Directory of the archive. */
  readonly root: string
  /** A directory beside it. */
  readonly elsewhere: string
  readonly storage: FileStorage
  /** The same for a deletion. */
  readonly deletion: Storage
  readonly broken: string[]
  readonly removed: string[]
  write(...paths: string[]): Promise<void>
}

async function openWorld(): Promise<World> {
  const top = await mkdtemp(join(tmpdir(), 'walrx-links-'))
  const [root, elsewhere] = [join(top, 'archive'), join(top, 'elsewhere')]
  await mkdir(root)
  await mkdir(elsewhere)
  const storage = new FileStorage({ folders: archiveFolders, root, fsync: false })
  const [broken, removed]: [string[], string[]] = [[], []]
  const deletion = storage.forDeletion({
    onBroken: (path, target) => void broken.push(`${path.slice(root.length + 1)} -> ${target}`),
    onRemoved: (path, target) => void removed.push(`${path.slice(root.length + 1)} -> ${target}`),
  })
  return {
    ...{ root, elsewhere, storage, deletion, broken, removed },
    async write(...paths) {
      for (const path of paths) {
        await mkdir(dirname(join(top, path)), { recursive: true })
        await writeFile(join(top, path), 'x')
      }
    },
    [Symbol.asyncDispose]: () => rm(top, { recursive: true }),
  }
}

const removable = { linksAsObjects: true }

/** Removes what a removal lists. */
async function removeAll(storage: Storage, prefix: string): Promise<string[]> {
  const keys = await keysOf(storage.list(prefix, removable))
  await storage.delete(keys)
  return keys
}

describe('a deletion in a directory', () => {
  test('removes a link to a folder and nothing of what it leads to, which reading sees', async () => {
    await using world = await openWorld()
    const { deletion, elsewhere, root, storage } = world
    await world.write('elsewhere/photos/1.jpg', 'elsewhere/notes', 'archive/wal_005/a', 'archive/basebackups_005/b/c')
    await symlink(elsewhere, join(root, 'x'))
    await symlink('../../../elsewhere/photos', join(root, 'basebackups_005/b/photos'))
    await symlink(join(elsewhere, 'notes'), join(root, 'wal_005/notes'))
    const seen = ['basebackups_005/b/c', 'basebackups_005/b/photos/1.jpg', 'wal_005/a', 'wal_005/notes']
    assert.deepEqual(await keysOf(storage.list('')), [...seen, 'x/notes', 'x/photos/1.jpg'])
    const going = ['basebackups_005/b/c', 'basebackups_005/b/photos', 'wal_005/a', 'wal_005/notes', 'x']
    assert.deepEqual(await removeAll(deletion, ''), going)
    assert.deepEqual(await keysOf(storage.list('')), [])
    assert.deepEqual(readdirSync(root).sort(), ['basebackups_005', 'wal_005'])
    assert.deepEqual(readdirSync(elsewhere, { recursive: true }).sort(), ['notes', 'photos', 'photos/1.jpg'])
    const { removed } = world
    assert.deepEqual(removed.sort(), [
      'basebackups_005/b/photos -> ../../../elsewhere/photos',
      `wal_005/notes -> ${join(elsewhere, 'notes')}`,
      `x -> ${elsewhere}`,
    ])
  })

  test('removes the folder of a backup that is a link, and pages that begin after it', async () => {
    await using world = await openWorld()
    const { deletion, elsewhere, root } = world
    await world.write('elsewhere/part', 'archive/basebackups_005/other/part')
    await symlink(elsewhere, join(root, 'basebackups_005/base'))
    assert.deepEqual(await removeAll(deletion, 'basebackups_005/base/'), ['basebackups_005/base'])
    assert.deepEqual(readdirSync(join(root, 'basebackups_005')), ['other'])
    assert.ok(existsSync(join(elsewhere, 'part')))
  })

  test('refuses a key that lies in such a link, removes the others, and says what to do', async () => {
    await using world = await openWorld()
    const { deletion, elsewhere, root } = world
    await world.write('elsewhere/tail/1/2', 'archive/walrx_005/y')
    await symlink(join(elsewhere, 'tail'), join(root, 'walrx_005/tail'))
    const refused: string[] = []
    await deletion.delete(['walrx_005/tail/1/2', 'walrx_005/y'], {
      onRefused: (key, error) => void refused.push(`${key}: ${error.code} ${error.hint}`),
    })
    assert.deepEqual(refused, [
      `walrx_005/tail/1/2: WALRX_STORAGE_DENIED to remove what it leads to, delete there; to remove the link alone: rm ${root}/walrx_005/tail`,
    ])
    assert.ok(existsSync(join(elsewhere, 'tail/1/2')))
    assert.ok(!existsSync(join(root, 'walrx_005/y')))
    await assert.rejects(deletion.delete(['walrx_005/tail/1/2']), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
  })

  test("follows a link of the archive's directory, and those of its own folders", async () => {
    await using world = await openWorld()
    const { deletion, elsewhere, root } = world
    await world.write('elsewhere/wal/1', 'elsewhere/wal/sub/2', 'elsewhere/backups/b/part', 'elsewhere/own/tail/3')
    await symlink('../elsewhere/wal', join(root, 'wal_005'))
    await symlink('../elsewhere/backups', join(root, 'basebackups_005'))
    await symlink('../elsewhere/own', join(root, 'walrx_005'))
    const path = `${root}-by-name`
    await symlink(root, path)
    const byName = new FileStorage({ folders: archiveFolders, root: path }).forDeletion({
      onBroken: assert.fail,
      onRemoved: assert.fail,
    })
    const keys = ['basebackups_005/b/part', 'wal_005/1', 'wal_005/sub/2', 'walrx_005/tail/3']
    assert.deepEqual(await keysOf(deletion.list('', removable)), keys)
    assert.deepEqual(await removeAll(byName, ''), keys)
    assert.deepEqual(readdirSync(elsewhere, { recursive: true }).sort(), ['backups', 'own', 'wal'])
    for (const name of archiveFolders.own) assert.ok(lstatSync(join(root, name)).isSymbolicLink(), name)
  })

  test('ends where links form a circle, as reading does', async () => {
    await using world = await openWorld()
    const { deletion, root, storage } = world
    await world.write('archive/wal_005/a', 'archive/p/1', 'archive/q/2')
    await symlink('.', join(root, 'loop'))
    await symlink('..', join(root, 'wal_005/up'))
    await symlink('../q', join(root, 'p/q'))
    await symlink('../p', join(root, 'q/p'))
    assert.deepEqual(await keysOf(storage.list('')), ['p/1', 'p/q/2', 'q/2', 'q/p/1', 'wal_005/a'])
    await symlink('self', join(root, 'self'))
    assert.deepEqual(await keysOf(deletion.list('')), ['p/1', 'p/q/2', 'q/2', 'q/p/1', 'wal_005/a'])
    const going = ['loop', 'p/1', 'p/q', 'q/2', 'q/p', 'self', 'wal_005/a', 'wal_005/up']
    assert.deepEqual(await removeAll(deletion, ''), going)
    assert.deepEqual(readdirSync(root, { recursive: true }).sort(), ['p', 'q', 'wal_005'])
  })

  test('passes over a link that leads nowhere, reports it, and removes it where all is to go', async () => {
    await using world = await openWorld()
    const { broken, deletion, root, storage } = world
    await world.write('archive/wal_005/a')
    await symlink('/nonexistent/b', join(root, 'wal_005/b'))
    assert.deepEqual(await keysOf(deletion.list('wal_005/')), ['wal_005/a'])
    assert.deepEqual(broken, ['wal_005/b -> /nonexistent/b'])
    assert.equal(await deletion.head('wal_005/b'), undefined)
    // Reading cannot know what is there; a prefix that the link does not have is no matter of it.
    await assert.rejects(keysOf(storage.list('wal_005/')), (error) => {
      return (
        isCode(error, 'WALRX_STORAGE_MISSING') && (error as { hint?: string }).hint?.endsWith(`rm ${root}/wal_005/b`)
      )
    })
    assert.deepEqual(await keysOf(storage.list('wal_005/a')), ['wal_005/a'])
    assert.deepEqual(await removeAll(deletion, ''), ['wal_005/a', 'wal_005/b'])
    assert.deepEqual(readdirSync(root, { recursive: true }), ['wal_005'])
  })

  test("does not begin where a folder of the archive's own leads nowhere: its disk may not be mounted", async () => {
    await using world = await openWorld()
    await symlink('/nonexistent', join(world.root, 'wal_005'))
    for (const prefix of ['', 'wal_005/']) {
      for (const options of [{}, removable]) {
        const listing = keysOf(world.deletion.list(prefix, options))
        await assert.rejects(listing, (error) => isCode(error, 'WALRX_STORAGE_MISSING'), prefix)
      }
    }
  })
})
