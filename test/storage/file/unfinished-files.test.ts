/** Unfinished files of killed writers go in the end, and never those of a writer that lives. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { mkdir, mkdtemp, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, mock, test } from 'node:test'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import { isTempName } from '../../../src/storage/temp-name.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { until } from '../../harness/time/until.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'

const dayMs = 24 * 3600_000
const suffix = '.tmp.20260102T030405Z-0123456789abcdef'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'walrx-unfinished-'))
})
const children: ChildProcess[] = []
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await rm(root, { recursive: true, force: true })
})

const unfinished = async () =>
  (await readdir(root, { recursive: true })).filter((name) => isTempName(name) && !name.startsWith('link/')).sort()

async function age(name: string, ms: number): Promise<void> {
  const then = (Date.now() - ms) / 1000
  await utimes(join(root, name), then, then)
}

describe('unfinished files', () => {
  test('of all folders go when they are a day old, and the folders that they alone were in', async () => {
    const storage = new FileStorage({ folders: archiveFolders, root })
    const old = ['basebackups_005/base_1/tar_partitions/part_1.tar', 'walrx_005/gap/00000001/x.json', 'x', 'wal_005/y']
    for (const key of [...old, 'basebackups_005/young']) {
      await mkdir(join(root, key, '..'), { recursive: true })
      await writeFile(join(root, key + suffix), 'four')
    }
    for (const key of old) await age(key + suffix, dayMs + 60_000)
    await storage.put('wal_005/z', Buffer.from('z'))
    const elsewhere = `${root}.elsewhere`
    await mkdir(elsewhere)
    await writeFile(join(elsewhere, `a${suffix}`), '')
    await symlink(elsewhere, join(root, 'link'))
    const options = { beforeMs: Date.now() - dayMs, removes: false }
    const expected = { files: 4, bytes: 16, younger: 1 }
    assert.deepEqual(await storage.sweepUnfinished(options), expected)
    assert.equal((await unfinished()).length, 5)
    assert.deepEqual(await storage.sweepUnfinished({ ...options, removes: true }), expected)
    assert.deepEqual(await unfinished(), [`basebackups_005/young${suffix}`])
    const names = await readdir(root, { recursive: true })
    assert.deepEqual(
      names.filter((name) => name.startsWith('walrx_005/') || name.includes('base_1')),
      [],
    )
    assert.ok(existsSync(join(root, 'wal_005/z')))
    assert.ok(existsSync(join(elsewhere, `a${suffix}`)))
    await rm(elsewhere, { recursive: true })
  })

  test('are not looked for in a folder that others have put there and that cannot be read', async () => {
    const refusing = {
      ...fs,
      opendir: ((path: string, options) =>
        path.endsWith('/lost+found') || path.endsWith('/wal_005')
          ? Promise.reject(Object.assign(new Error('EACCES'), { code: 'EACCES' }))
          : fs.opendir(path, options)) as typeof fs.opendir,
    }
    const storage = new FileStorage({ folders: archiveFolders, root, fileSystem: refusing })
    await mkdir(join(root, 'lost+found'))
    const options = { beforeMs: Date.now() - dayMs, removes: false }
    assert.deepEqual(await storage.sweepUnfinished(options), { files: 0, bytes: 0, younger: 0 })
    await mkdir(join(root, 'wal_005'))
    await assert.rejects(storage.sweepUnfinished(options), /wal_005|EACCES/)
  })

  test('stay young while the stream of a writer stands still', async () => {
    const storage = new FileStorage({ folders: archiveFolders, root })
    const { promise, resolve } = Promise.withResolvers<undefined>()
    mock.timers.enable({ apis: ['setInterval'] })
    try {
      const body = async function* () {
        yield Buffer.from('a')
        await promise
      }
      const put = storage.put('x', body())
      await until('the file', async () => (await unfinished()).length === 1)
      const [name = ''] = await unfinished()
      await age(name, 2 * dayMs)
      mock.timers.tick(3600_000)
      const sweep = () => storage.sweepUnfinished({ beforeMs: Date.now() - dayMs, removes: false })
      await until('the file is young', async () => (await sweep()).younger === 1)
      resolve(undefined)
      await put
      assert.deepEqual(await readdir(root), ['x'])
    } finally {
      mock.timers.reset()
    }
  })

  test('of a killed walrx are removed by delete garbage, and those of a living one are not', async () => {
    const env = { WALG_FILE_PREFIX: root, WALRX_STATUS_LISTEN: 'off' }
    const main = new URL('../../../src/main.ts', import.meta.url).pathname
    const begin = async (key: string) => {
      const before = (await unfinished()).length
      const args = [main, 'st', 'put', '-s', key, '--no-compress', '--no-encrypt']
      const child = spawn(process.execPath, args, {
        env: { HOME: root, ...env },
        stdio: ['pipe', 'ignore', 'inherit'],
      })
      children.push(child)
      child.stdin.write('begun')
      await until('a file', async () => (await unfinished()).length > before)
      return child
    }
    const killed = await begin('notes/killed')
    const [leftover = ''] = await unfinished()
    const exited = once(killed, 'exit')
    killed.kill('SIGKILL')
    await exited
    const alive = await begin('notes/alive')
    const remove = () => runWalrx(['delete', 'garbage', '--confirm'], { env })
    const first = await remove()
    assert.match(first.stdout, /^keep +2 unfinished files .*somebody may be writing there$/m, first.stderr)
    assert.equal((await unfinished()).length, 2)
    await age(leftover, dayMs + 60_000)
    const second = await remove()
    assert.match(second.stdout, /^delete +1 unfinished file /m)
    assert.match(
      second.stdout,
      /^deleted: 0 backups, 0 objects, 0 bytes; 1 unfinished file, \d bytes; 1 unfinished file left/m,
    )
    assert.ok(!existsSync(join(root, leftover)))
    const ended = once(alive, 'exit')
    alive.stdin.end()
    assert.deepEqual(await ended, [0, null])
    assert.deepEqual(await readdir(join(root, 'notes')), ['alive'])
  })
})
