/** What a restore over a data directory refuses, before it has changed anything. */
import assert from 'node:assert/strict'
import { cp, lstat, mkdir, readlink, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { after, before, describe, test } from 'node:test'
import { goldenArchive } from '../../../harness/made/golden-backups.ts'
import { runWalrx } from '../../../harness/walrx/walrx-process.ts'
import { assertSameTree, DeltaWorld, type Tree, treeOf } from './delta-world.ts'

describe('a restore over a data directory refuses', { timeout: 200_000 }, () => {
  let world: DeltaWorld
  let directory: string
  let tree: Tree
  let data: string
  let name: string

  before(async () => {
    world = await DeltaWorld.open()
    const { place, server } = world
    await server.sql(`create tablespace place location '${place}'`)
    await server.sql('create table t tablespace place as select 1 as id')
    name = await world.push('--no-wait')
    ;({ directory, tree } = await world.plain(name))
    data = join(directory, 'data')
  })

  after(() => world[Symbol.asyncDispose]())

  /** The restore is refused with this status and text, and has changed nothing. */
  async function refused(status: number, says: RegExp, args: readonly string[] = []): Promise<void> {
    const before = await treeOf(directory)
    const end = await world.fetch(directory, name, '--delta', ...args)
    assert.equal(end.status, status, end.stderr)
    assert.match(end.stderr, says)
    assertSameTree(await treeOf(directory), before)
  }

  test('a running server, with its process', async () => {
    const { pid, dataDir } = world.server
    const over = () => runWalrx(['backup-fetch', dataDir, name, '--delta', ...world.prefix])
    const running = await over()
    assert.equal(running.status, 9)
    assert.match(running.stderr, new RegExp(`a server runs: \\S+ is in use: postmaster.pid names process ${pid}"`))
    // One that has lost its lock file.
    await rename(join(dataDir, 'postmaster.pid'), join(dataDir, 'hidden'))
    try {
      assert.match((await over()).stderr, /a server runs: \S+ is in use by process \d+/)
    } finally {
      await rename(join(dataDir, 'hidden'), join(dataDir, 'postmaster.pid'))
    }
    assert.equal((await world.server.sql('select id from t')).length, 1)
  })

  test('a lock file with a process that runs, and not one that is stale', async () => {
    const lock = join(data, 'postmaster.pid')
    await writeFile(lock, `1\n${data}\n`)
    await refused(9, /data is in use: postmaster.pid names process 1 \(\S+\)"/)
    await refused(9, /data is in use: postmaster.pid names process 1 \(\S+\)"/, ['--dry-run'])
    await writeFile(lock, '')
    await refused(9, /postmaster.pid names no process: a server may be starting/)
    // One that runs in another container, as far as one can see from here.
    await writeFile(lock, `${2 ** 22 + 1}\n${data}\n1788185632\n`)
    await refused(9, /may be in use: postmaster.pid names process 4194305, .* pg_control says \S*in production/)
    await writeFile(lock, `${2 ** 22 + 1}\n${data}\nwalrx backup-fetch\n`)
    await world.over(directory, name)
    assertSameTree(await treeOf(directory), tree)
  })

  test('a directory that is no data directory, or that another program has left', async () => {
    const control = join(data, 'global/pg_control')
    await rename(control, join(directory, 'pg_control'))
    await refused(9, /has no global\/pg_control: another restore has not come to its end there/)
    await rename(join(data, 'PG_VERSION'), join(directory, 'PG_VERSION'))
    await refused(9, /is not empty, and no data directory: it has no global\/pg_control/)
    await rename(join(directory, 'PG_VERSION'), join(data, 'PG_VERSION'))
    // A restore of walrx that was interrupted is completed, if it is of this cluster.
    const marker = join(data, 'walrx_restore_incomplete')
    await writeFile(marker, 'walrx backup-fetch has not come to its end here\nsystem identifier 17\n')
    await refused(5, /system identifier 17, and base_\S+ of that with \d+/)
    for (const text of ['walrx backup-fetch has not come to its end here\n', '']) {
      await writeFile(marker, text)
      await rm(control, { force: true })
      await world.over(directory, name)
      assertSameTree(await treeOf(directory), tree)
    }
  })

  test('what is no directory', async () => {
    const file = join(directory, 'file')
    await writeFile(file, '')
    const { status, stderr } = await runWalrx(['backup-fetch', file, name, '--delta', ...world.prefix])
    assert.equal(status, 9)
    assert.match(stderr, /destination \S+ cannot be read: ENOTDIR/)
  })

  test('another cluster, with both system identifiers', async () => {
    const control = join(data, 'global/pg_control')
    await cp(control, join(directory, 'pg_control'))
    await writeFile(control, Buffer.alloc(8192, 1))
    await refused(5, /is of the cluster with system identifier 72340172838076673, and base_\S+ of that with \d+/)
    await rename(join(directory, 'pg_control'), control)
  })

  test('links that lead out and are not of the backup, and removes none of what they lead to', async () => {
    const outside = join(directory, 'outside')
    await mkdir(outside)
    await writeFile(join(outside, 'file'), 'mine')
    for (const path of ['log_of_mine', 'base/1/link']) {
      await symlink(outside, join(data, path))
      await refused(9, new RegExp(`${path} is a link to ${outside}, and the backup has no such link`))
      await unlink(join(data, path))
    }
    // A folder of the backup that is somewhere else.
    await rename(join(data, 'pg_xact'), join(outside, 'pg_xact'))
    await symlink(join(outside, 'pg_xact'), join(data, 'pg_xact'))
    await refused(9, /pg_xact is a link to/)
    await unlink(join(data, 'pg_xact'))
    await rename(join(outside, 'pg_xact'), join(data, 'pg_xact'))
    // Links within go, and so does that of a tablespace which the backup does not have.
    await symlink('../base', join(data, 'global/inside'))
    await symlink(outside, join(data, 'pg_tblspc/99999'))
    // But not where it would leave files that a recovery takes for those of a tablespace which it makes.
    const folder = join(outside, 'PG_17_202406281')
    await mkdir(join(folder, '5'), { recursive: true })
    await refused(9, new RegExp(`mv ${folder} .*99999 is the link of a tablespace.*${folder} holds files`))
    await refused(9, /99999 is the link of a tablespace/, ['--dry-run'])
    await rename(folder, join(outside, 'old.PG_17_202406281'))
    const { status, stderr } = await world.fetch(directory, name, '--delta')
    assert.equal(status, 0, stderr)
    assert.match(stderr, /pg_tblspc\/99999",.*a link of a tablespace does not lead where/)
    assertSameTree(await treeOf(directory), tree)
    assert.equal((await lstat(join(outside, 'file'))).size, 4)
  })

  test('a pg_wal elsewhere that holds more than WAL, and clears it else', async () => {
    const wal = join(directory, 'wal')
    await rename(join(data, 'pg_wal'), wal)
    await symlink(wal, join(data, 'pg_wal'))
    await writeFile(join(wal, 'novel.txt'), '')
    await refused(9, /pg_wal is a link to \S+, which holds novel.txt: that is no WAL/)
    await rm(join(wal, 'novel.txt'))
    await writeFile(join(wal, '000000010000000000000009'), 'old')
    await writeFile(join(wal, 'archive_status/000000010000000000000009.ready'), '')
    await refused(9, /for the WAL is not empty/, ['--waldir', world.archive])
    assert.equal((await world.over(directory, name)).removed, 2)
    assert.equal(await readlink(join(data, 'pg_wal')), wal)
    // And to another place, where it is to go there.
    await writeFile(join(wal, '000000010000000000000009'), 'old')
    const other = join(directory, 'other')
    await world.over(directory, name, '--waldir', other)
    assert.equal(await readlink(join(data, 'pg_wal')), other)
    assert.ok((await lstat(join(other, 'archive_status'))).isDirectory())
    assert.equal((await lstat(join(wal, '000000010000000000000009'))).size, 3)
    await unlink(join(data, 'pg_wal'))
    await world.over(directory, name)
    assertSameTree(await treeOf(directory), tree)
  })

  test("a tablespace's directory that is not where the data directory has it", async () => {
    // A clone whose mapping is forgotten: the original's tablespace is in use.
    const args = ['backup-fetch', data, name, '--delta', ...world.prefix]
    const { status, stderr } = await runWalrx(args)
    assert.equal(status, 9)
    const [, hint = ''] = /(--tablespace-mapping \S+?)["\s]/.exec(stderr) ?? []
    assert.equal(hint, `--tablespace-mapping ${world.place}=${join(directory, 'place')}`)
    const pasted = await runWalrx([...args, ...hint.split(' ')])
    assert.equal(pasted.status, 0, pasted.stderr)
    assertSameTree(await treeOf(directory), tree)
  })

  test('an archive in the data directory, and single files', async () => {
    const inside = join(data, 'archive')
    await rename(world.archive, inside)
    const args = ['backup-fetch', data, name, '--delta', '--tablespace-mapping', `${world.place}=${directory}/place`]
    const { status, stderr } = await runWalrx([...args, '--file-prefix', inside])
    assert.equal(status, 2)
    assert.match(stderr, /the archive \S+ is in \S+, which the restore would clear/)
    await rename(inside, world.archive)
    await refused(2, /--mask restores single files/, ['--mask', 'base/*'])
  })

  test('a backup without a manifest', async () => {
    const archive = join(directory, 'walg')
    await cp(fileURLToPath(goldenArchive('walg-remote-zstd')), archive, { recursive: true })
    const { status, stderr } = await runWalrx(['backup-fetch', data, 'LATEST', '--delta', '--file-prefix', archive])
    assert.equal(status, 2)
    assert.match(stderr, /has no manifest: nothing shows which files are as in it/)
    assertSameTree(await treeOf(directory), tree)
  })

  test('nothing where there is nothing yet: it restores all', async () => {
    const fresh = await world.newDirectory()
    const counts = await world.over(fresh, name)
    assert.deepEqual([counts.kept_files, counts.removed], [0, 0])
    assert.ok(counts.read_parts > 3)
  })
})
