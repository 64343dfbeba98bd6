import assert from 'node:assert/strict'
import { cp, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { type Owner, ReadyFolder } from '../../../src/restore/prefetch/ready-folder.ts'
import { findRecovery, runningProcess } from '../../../src/restore/wal/recovery-process.ts'
import { type FakeStartup, startFakeStartup } from '../../harness/postgres/fake-startup.ts'

const segment = '000000010000000000000005'

let pgWal: string
let startup: FakeStartup
let owner: Pick<Owner, 'recovery' | 'prefetcher'>
let folder: ReadyFolder
beforeEach(async () => {
  pgWal = await mkdtemp(join(tmpdir(), 'walrx-ready-'))
  startup = await startFakeStartup()
  const recovery = findRecovery(startup.pid)
  const self = runningProcess(process.pid)
  assert.ok(recovery && self)
  owner = { recovery, prefetcher: { pid: self.pid, startTime: self.startTime } }
  folder = ReadyFolder.beside(join(pgWal, 'RECOVERYXLOG'), startup.pid)
})
afterEach(async () => {
  await startup.end()
  await rm(pgWal, { recursive: true })
})

const left = () => readdir(join(pgWal, '.walrx'))

describe('a ready folder', () => {
  test('is where the printed restore_command looks, and nobody else may read it', async () => {
    assert.equal(folder.path, join(pgWal, '.walrx', String(startup.pid)))
    const claimed = await folder.claim(owner)
    assert.ok(claimed)
    for (const path of [join(pgWal, '.walrx'), folder.path, join(folder.path, 'running')]) {
      assert.equal((await stat(path)).mode & 0o777, 0o700, path)
    }
    assert.deepEqual(await folder.owner(), claimed)
  })

  test('is given to one of many who claim it at the same time', async () => {
    const claims = await Promise.all(Array.from({ length: 20 }, () => folder.claim(owner)))
    assert.equal(claims.filter(Boolean).length, 1)
    assert.deepEqual(await left(), [String(startup.pid)])
  })

  test('serves its recovery while prefetcher and startup process are the same ones', async () => {
    assert.ok(!(await folder.isServed(owner.recovery)))
    const claimed = await folder.claim(owner)
    assert.ok(claimed && (await folder.isServed(owner.recovery)))
    await folder.setPrefetcher(claimed, { ...owner.prefetcher, startTime: 1 })
    assert.ok(!(await folder.isServed(owner.recovery)), 'a prefetcher that is gone')
    const { postmaster, startup: own } = owner.recovery
    const earlier = { ...claimed, recovery: { postmaster, startup: { ...own, startTime: 1 } } }
    await folder.setPrefetcher(earlier, owner.prefetcher)
    assert.ok(!(await folder.isServed(owner.recovery)), 'an earlier process of the same id')
  })

  test('lists segments only', async () => {
    await folder.claim(owner)
    for (const name of [segment, `${segment}.x`, 'socket']) await writeFile(folder.ready(name), '')
    assert.deepEqual(await folder.readyNames(), [segment])
  })

  test('is removed with everything in it, and with its empty parent folder', async () => {
    await folder.claim(owner)
    await writeFile(folder.ready(segment), '')
    await writeFile(folder.running(segment), '')
    await folder.remove()
    assert.deepEqual(await readdir(pgWal), [])
    await folder.remove()
  })
})

describe('a sweep', () => {
  test('keeps the folder of a running prefetcher of a running recovery', async () => {
    await folder.claim(owner)
    await writeFile(folder.ready(segment), '')
    await folder.sweep()
    assert.deepEqual(await folder.readyNames(), [segment])
  })

  test('removes the folder of an earlier startup process with the same id', async () => {
    const claimed = await folder.claim(owner)
    assert.ok(claimed)
    await writeFile(folder.ready(segment), 'of another archive, perhaps')
    const { postmaster, startup: own } = owner.recovery
    const earlier = { ...claimed, recovery: { postmaster, startup: { ...own, startTime: 1 } } }
    await folder.setPrefetcher(earlier, owner.prefetcher)
    await folder.sweep()
    assert.deepEqual(await readdir(pgWal), [])
    assert.ok(await folder.claim(owner))
  })

  test('removes the folder of an ended prefetcher of a running recovery', async () => {
    await folder.claim({ ...owner, prefetcher: { pid: 999_999_999, startTime: 1 } })
    await folder.sweep()
    assert.deepEqual(await readdir(pgWal), [])
  })

  test('removes a copy that came with a copied data directory, while the original is in use', async () => {
    await folder.claim(owner)
    await writeFile(folder.ready(segment), '')
    const copy = await mkdtemp(join(tmpdir(), 'walrx-ready-copy-'))
    await cp(join(pgWal, '.walrx'), join(copy, '.walrx'), { recursive: true })
    const copied = ReadyFolder.beside(join(copy, 'RECOVERYXLOG'), startup.pid)
    assert.ok(!(await copied.isServed(owner.recovery)))
    await copied.sweep()
    assert.deepEqual(await readdir(copy), [])
    assert.deepEqual(await folder.readyNames(), [segment])
    await rm(copy, { recursive: true })
  })

  test('removes the rest: other recoveries, claims of ended processes, half-finished removals, folders without an owner', async () => {
    await folder.claim(owner)
    const root = join(pgWal, '.walrx')
    await mkdir(join(root, '4711', 'running'), { recursive: true })
    await mkdir(join(root, '.new-999999999-abcd'))
    await mkdir(join(root, '.old-abcd'))
    await writeFile(join(root, 'file'), '')
    await mkdir(join(root, '4712'))
    await writeFile(join(root, '4712', 'owner'), '{"recovery":')
    await mkdir(join(root, `.new-${process.pid}-abcd`))
    await folder.sweep()
    assert.deepEqual((await left()).sort(), [`.new-${process.pid}-abcd`, String(startup.pid)].sort())
  })

  test('is no error where there is nothing', async () => {
    await folder.sweep()
    assert.deepEqual(await readdir(pgWal), [])
  })
})
