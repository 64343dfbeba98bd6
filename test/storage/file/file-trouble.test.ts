import assert from 'node:assert/strict'
import { mkdir, mkdtemp, open, readdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import type { ErrorCode, WalrxError } from '../../../src/primitives/errors.ts'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { Random } from '../../harness/random.ts'
import { inByteOrder, isCode, keysOf, seeded } from '../assertions.ts'
import { errnoError, leftovers, openArchive } from './recorded-file-system.ts'

const SEGMENT = 'wal_005/000000010000000000000001.zst'
const BYTES = Buffer.from('x')

describe('an error of the file system', () => {
  const cases: [errno: string, code: ErrorCode, transient: boolean][] = [
    ['EACCES', 'WALRX_STORAGE_DENIED', false],
    ['EPERM', 'WALRX_STORAGE_DENIED', false],
    ['EROFS', 'WALRX_STORAGE_DENIED', false],
    ['ENOSPC', 'WALRX_STORAGE_UNAVAILABLE', true],
    ['EDQUOT', 'WALRX_STORAGE_UNAVAILABLE', true],
    ['EIO', 'WALRX_STORAGE_UNAVAILABLE', true],
    ['ESTALE', 'WALRX_STORAGE_UNAVAILABLE', true],
    ['ETIMEDOUT', 'WALRX_STORAGE_UNAVAILABLE', true],
    ['EMFILE', 'WALRX_STORAGE_UNAVAILABLE', true],
  ]
  for (const [errno, code, transient] of cases) {
    test(`${errno} is ${code}, ${transient ? 'transient' : 'with a hint'}, and leaves no unfinished file`, async () => {
      for (const call of ['open', 'write', 'sync', 'close', 'rename'] as const) {
        await using archive = await openArchive()
        await mkdir(join(archive.root, 'wal_005'))
        archive.fileSystem.before = (name, text) => {
          if (name === call && text.includes(SEGMENT)) throw errnoError(errno)
        }
        await assert.rejects(archive.storage.put(SEGMENT, BYTES), (error: WalrxError) => {
          assert.ok(isCode(error, code))
          assert.equal(error.transient, transient)
          assert.equal(error.hint !== undefined, !transient)
          return [SEGMENT, archive.root, errno].every((part) => error.message.includes(part))
        })
        assert.deepEqual(await leftovers(archive.root), [], `after ${call}`)
        assert.deepEqual(await keysOf(archive.fresh.list('')), [], `after ${call}`)
      }
    })
  }

  test('a listing and a read name what they were about as well', async () => {
    await using archive = await openArchive()
    await archive.fresh.put(SEGMENT, BYTES)
    archive.fileSystem.before = (name) => {
      if (name === 'opendir') throw errnoError('EACCES')
    }
    await assert.rejects(keysOf(archive.storage.list('wal_005/')), (error: WalrxError) => {
      return isCode(error, 'WALRX_STORAGE_DENIED') && error.message.includes('list of wal_005/')
    })
    // Before 3.0.9 WAL-G wrote objects in place.
    await archive.fresh.put('long', seeded(1, 3 * 1024 * 1024))
    const body = (await archive.storage.get('long'))[Symbol.asyncIterator]()
    await body.next()
    await truncate(join(archive.root, 'long'), 1024 * 1024)
    await assert.rejects(body.next(), (error) => isCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
  })
})

test('a deletion passes files on that may not be removed, and removes all others', async () => {
  await using archive = await openArchive()
  for (const key of ['d/a', 'd/b', 'd/c']) await archive.fresh.put(key, BYTES)
  archive.fileSystem.before = (name, text) => {
    if (name === 'unlink' && text.endsWith('d/b')) throw errnoError('EPERM')
  }
  const refused: [string, string][] = []
  const onRefused = (key: string, { message }: WalrxError) => void refused.push([key, message])
  await archive.storage.delete(['d/a', 'd/b', 'd/c'], { onRefused })
  assert.deepEqual(
    refused.map(([key]) => key),
    ['d/b'],
  )
  assert.match(refused[0]?.[1] ?? '', /delete of d\/b at .* EPERM/)
  assert.deepEqual(await keysOf(archive.fresh.list('')), ['d/b'])
  await assert.rejects(archive.storage.delete(['d/b']), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
})

describe('the directory of the archive', () => {
  test('is never made by walrx, nor is a file taken for it', async () => {
    const parent = await mkdtemp(join(tmpdir(), 'walrx-file-'))
    try {
      const storage = new FileStorage({ folders: archiveFolders, root: join(parent, 'archive') })
      await assert.rejects(storage.probe(), (error) => isCode(error, 'WALRX_STORAGE_MISSING'))
      await assert.rejects(storage.put(SEGMENT, BYTES), (error) => isCode(error, 'WALRX_STORAGE_MISSING'))
      assert.deepEqual(await readdir(parent), [])
      await writeFile(join(parent, 'archive'), '')
      const calls = [
        () => storage.probe(),
        () => storage.put(SEGMENT, BYTES),
        () => storage.head(SEGMENT),
        () => storage.get(SEGMENT),
      ]
      for (const call of calls) await assert.rejects(call(), (error) => isCode(error, 'WALRX_STORAGE_MISSING'))
    } finally {
      await rm(parent, { recursive: true })
    }
  })

  test('may vanish while it is in use, which is an error, and come back, and then puts work again', async () => {
    await using archive = await openArchive()
    await archive.storage.put(SEGMENT, BYTES)
    await rename(archive.root, `${archive.root}.away`)
    await assert.rejects(archive.storage.put(SEGMENT, BYTES), (error) => isCode(error, 'WALRX_STORAGE_MISSING'))
    await assert.rejects(archive.storage.head(SEGMENT), (error) => isCode(error, 'WALRX_STORAGE_MISSING'))
    await mkdir(archive.root)
    // Without the folder of segments, which the storage believes in.
    await archive.storage.put(SEGMENT, BYTES)
    assert.equal(await archive.storage.putIfAbsent(SEGMENT, BYTES), 'exists')
    await rm(`${archive.root}.away`, { recursive: true })
  })

  test('may hold the archive in a folder, which is made when needed', async () => {
    await using archive = await openArchive()
    const storage = new FileStorage({ folders: archiveFolders, root: archive.root, prefix: '/a/b/' })
    assert.equal(storage.location, `file://${archive.root}/a/b`)
    assert.deepEqual(await keysOf(storage.list('')), [])
    assert.equal(await storage.head(SEGMENT), undefined)
    assert.deepEqual(await storage.probe(), { conditionalPut: true })
    await storage.put(SEGMENT, BYTES)
    assert.deepEqual(await keysOf(storage.list('')), [SEGMENT])
    assert.deepEqual(await keysOf(archive.fresh.list('')), [`a/b/${SEGMENT}`])
    await rm(archive.root, { recursive: true })
    await assert.rejects(storage.head(SEGMENT), (error) => isCode(error, 'WALRX_STORAGE_MISSING'))
    await mkdir(archive.root)
  })

  test('may have folders elsewhere by symbolic links; a missing target does not count as absent objects', async () => {
    await using archive = await openArchive()
    const elsewhere = `${archive.root}.elsewhere`
    await mkdir(elsewhere)
    await symlink(elsewhere, join(archive.root, 'wal_005'))
    await archive.storage.put(SEGMENT, BYTES)
    assert.deepEqual(await keysOf(archive.storage.list('')), [SEGMENT])
    assert.equal(await archive.storage.head('wal_005/other'), undefined)
    await rm(elsewhere, { recursive: true })
    const { storage } = archive
    const asked = [
      () => storage.head(SEGMENT),
      () => storage.get(SEGMENT),
      () => storage.put(SEGMENT, BYTES),
      () => keysOf(storage.list('wal_005/')),
      () => keysOf(storage.list('')),
      () => storage.delete([SEGMENT]),
      () => storage.probe(),
    ]
    for (const ask of asked) await assert.rejects(ask(), (error) => isCode(error, 'WALRX_STORAGE_MISSING'), String(ask))
  })

  test('may hold a file where a folder belongs and the reverse: reading finds nothing, writing is refused', async () => {
    await using archive = await openArchive()
    const { storage } = archive
    await writeFile(join(archive.root, 'wal_005'), 'a file')
    assert.equal(await storage.head(SEGMENT), undefined)
    assert.deepEqual(await keysOf(storage.list('wal_005/')), [])
    await mkdir(join(archive.root, 'folder', 'inside'), { recursive: true })
    for (const put of [
      () => storage.put(SEGMENT, BYTES),
      () => storage.put('folder', BYTES),
      () => storage.putIfAbsent('folder', BYTES),
    ]) {
      await assert.rejects(put(), (error) => isCode(error, 'WALRX_STORAGE_DENIED'), String(put))
    }
    await storage.delete(['folder', 'wal_005/x'])
    assert.deepEqual(await leftovers(archive.root), [])
    const name = 'n'.repeat(250)
    await assert.rejects(storage.put(name, BYTES), (error) => isCode(error, 'WALRX_STORAGE_DENIED'))
    assert.equal(await storage.head('n'.repeat(300)), undefined)
  })
})

describe('a listing of files', () => {
  test('is the same in parts of a few names as at once, for any tree, prefix and start', async () => {
    const seed = Date.now() % 1_000_000
    const random = new Random(seed)
    const parts = ['a', 'a.b', 'a-b', 'b', 'B', 'ab', 'a0', '\uffee', '😀', 'wal_005', '0', '00']
    for (let round = 0; round < 10; round++) {
      await using archive = await openArchive(false)
      const folders = new Set<string>()
      const keys = new Set<string>()
      for (let made = 0; made < 60; made++) {
        const path = Array.from({ length: random.int(1, 3) }, () => random.pick(parts))
        const above = path.map((_, depth) => path.slice(0, depth).join('/')).slice(1)
        const key = path.join('/')
        if (folders.has(key) || above.some((folder) => keys.has(folder))) continue
        for (const folder of above) folders.add(folder)
        keys.add(key)
        await archive.storage.put(key, BYTES)
      }
      const paged = new FileStorage({ folders: archiveFolders, root: archive.root, listNameBytes: 10 })
      const all = inByteOrder([...keys])
      for (const start of [undefined, ...all, 'a/', 'm']) {
        const prefix = random.pick(['', '', 'a', 'a/', 'a.', 'wal_005/'])
        const wanted = all.filter(
          (key) =>
            key.startsWith(prefix) && (start === undefined || Buffer.compare(Buffer.from(key), Buffer.from(start)) > 0),
        )
        const options = start === undefined ? {} : { startAfter: start }
        const where = `seed ${seed}, round ${round}, ${prefix} after ${start}`
        assert.deepEqual(await keysOf(paged.list(prefix, options)), wanted, where)
        assert.deepEqual(await keysOf(archive.storage.list(prefix, options)), wanted, where)
      }
    }
  })

  test('does not look into folders that can not hold what is asked for', async () => {
    await using archive = await openArchive(false)
    for (const key of ['a/x/1', 'a/y/1', 'b/x/1', 'c/1']) await archive.fresh.put(key, BYTES)
    assert.deepEqual(await keysOf(archive.storage.list('a/x')), ['a/x/1'])
    assert.deepEqual(archive.fileSystem.calls.splice(0), ['opendir a', 'opendir a/x'])
    assert.deepEqual(await keysOf(archive.storage.list('', { startAfter: 'b/x' })), ['b/x/1', 'c/1'])
    // Folders are read ahead.
    assert.deepEqual(archive.fileSystem.calls.splice(0).sort(), ['opendir .', 'opendir b', 'opendir b/x', 'opendir c'])
  })

  test('leaves out what is no file, and what vanishes while it is read', async () => {
    await using archive = await openArchive(false)
    for (const key of ['a/1', 'a/2', 'b/1']) await archive.fresh.put(key, BYTES)
    await mkdir(join(archive.root, 'empty'))
    archive.fileSystem.before = async (_, call) => {
      if (call === 'opendir b') await rm(join(archive.root, 'b'), { recursive: true })
    }
    assert.deepEqual(await keysOf(archive.storage.list('')), ['a/1', 'a/2'])
  })

  test('of objects that were written by others in between still reads each of the old ones once', async () => {
    await using archive = await openArchive(false)
    const keys = Array.from({ length: 50 }, (_, index) => `k${String(index).padStart(3, '0')}`)
    for (const key of keys) await archive.fresh.put(key, BYTES)
    const paged = new FileStorage({ folders: archiveFolders, root: archive.root, listNameBytes: 25 })
    const seen: string[] = []
    for await (const { key } of paged.list('')) {
      seen.push(key)
      const file = await open(join(archive.root, `${key}-new`), 'w')
      await file.close()
    }
    assert.deepEqual(
      seen.filter((key) => !key.endsWith('-new')),
      keys,
    )
    assert.deepEqual(seen, [...new Set(seen)])
  })
})
