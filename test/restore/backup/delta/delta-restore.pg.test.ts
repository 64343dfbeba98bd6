/** A restore over a data directory makes what one into an empty directory makes, and fetches only what it has to. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { chmod, lstat, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { trials } from '../../../harness/extent.ts'
import { startRestored } from '../../../harness/postgres/restored-server.ts'
import { Random } from '../../../harness/random.ts'
import { assertSameTree, damageSilently, DeltaWorld, disturb, type Tree, treeOf } from './delta-world.ts'

const seed = Number(process.env['WALRX_SEED'] ?? Date.now() % 100_000)

describe('a restore over a data directory', { timeout: 300_000 }, () => {
  let world: DeltaWorld

  before(async () => {
    world = await DeltaWorld.open()
    await world.fill()
  })

  after(() => world[Symbol.asyncDispose]())

  test('keeps all that is as in the backup, and reads two small tars', async () => {
    for (const name of [world.names[0] ?? '', world.names[2] ?? '']) {
      const { directory, tree } = await world.plain(name)
      const counts = await world.over(directory, name)
      assertSameTree(await treeOf(directory), tree, name)
      assert.ok(counts.kept_files > 900, String(counts.kept_files))
      // Of the full one all is known but what a restore writes itself; of a delta, not what increments make of a few files.
      if (name === world.names[0]) assert.deepEqual([counts.read_parts, counts.removed], [2, 0])
    }
  })

  test('makes of a disturbed one what is in the backup, and reads no tar that it does not need', async (t) => {
    t.diagnostic(`seed ${seed}`)
    for (let trial = 0; trial < trials('WALRX_TEST_DELTAS', 2, 30); trial++) {
      const random = new Random(seed + trial)
      const name = world.names[(2 * trial) % world.names.length] ?? ''
      const what = `${name}, seed ${seed + trial}`
      const { directory, tree } = await world.plain(name)
      await disturb(directory, random)
      const before = await treeOf(directory)
      const planned = await world.over(directory, name, '--dry-run')
      assertSameTree(await treeOf(directory), before, `${what}: a dry run changes nothing`)
      const restoring = await unreadable(world.names.slice(0, world.names.indexOf(name) + 1), planned.parts ?? [])
      try {
        const counts = await world.over(directory, name)
        assertSameTree(await treeOf(directory), tree, what)
        const { fetch = [], parts: _, remove = [], ...rest } = planned
        assert.deepEqual(counts, rest, what)
        assert.ok(fetch.length > 1 && remove.length >= 3, what)
        assert.ok(restoring.count > 5, `${what}: ${restoring.count} parts are not needed`)
      } finally {
        await restoring.undo()
      }
    }
  })

  /** Makes rubbish of all tars of a chain but these: a restore that reads one of them fails. */
  async function unreadable(
    chain: readonly string[],
    needed: readonly string[],
  ): Promise<{ readonly count: number; undo(): Promise<void> }> {
    const contents = new Map<string, Buffer>()
    for (const name of chain) {
      const folder = join(world.archive, 'basebackups_005', name, 'tar_partitions')
      for (const file of await readdir(folder)) {
        if (needed.includes(`basebackups_005/${name}/tar_partitions/${file}`)) continue
        const path = join(folder, file)
        const content = await readFile(path)
        contents.set(path, content)
        await writeFile(path, Buffer.alloc(content.length))
      }
    }
    const undo = async () => {
      for (const [path, content] of contents) await writeFile(path, content)
    }
    return { count: contents.size, undo }
  }

  test('makes the same of a backup whose writer stored no list of directories and modes', async () => {
    const [name = ''] = world.names
    const document = join(world.archive, 'basebackups_005', name, 'walrx.json')
    const text = await readFile(document, 'utf8')
    const { tree: _, ...older } = JSON.parse(text) as { readonly tree: object }
    assert.ok(Object.keys(_).length === 3)
    await writeFile(document, JSON.stringify(older))
    try {
      const { directory, tree } = await world.plain(name)
      const data = join(directory, 'data')
      await chmod(join(data, 'global/1262'), 0o644)
      await rm(join(data, 'pg_logical'), { recursive: true })
      for (const folder of ['base/99999', 'mine']) {
        await mkdir(join(data, folder))
        await writeFile(join(data, folder, 'file'), '')
      }
      // Empty, it may be of the backup or not.
      await mkdir(join(data, 'conf.d'))
      await world.over(directory, name)
      const found = new Map(await treeOf(directory))
      assert.ok(found.delete('data/conf.d'))
      assertSameTree(found, tree)
    } finally {
      await writeFile(document, text)
    }
  })

  test('finds a byte that was changed without a change of size and time', async () => {
    const [name = ''] = world.names
    const { directory, tree } = await world.plain(name)
    const [path = ''] = [...tree.keys()].filter((each) => /data\/base\/\d+\/1259$/.test(each))
    await damageSilently(join(directory, path), 4000)
    const { fetch } = await world.over(directory, name, '--dry-run')
    assert.deepEqual(
      fetch?.filter(({ reason }) => reason === 'differs'),
      [{ path: path.replace('data/', ''), reason: 'differs' }],
    )
    await world.over(directory, name)
    assertSameTree(await treeOf(directory), tree)
  })

  test('turns a cluster that went on alone back, as its owner, and the server recovers', async () => {
    const [first = '', second = ''] = world.names
    const { directory } = await world.plain(first, '--recover')
    const fresh = await world.plain(second, '--recover')
    await using server = await startRestored(directory, 17, [join(directory, 'place')])
    await server.sql('create table alone as select g from generate_series(1, 5000) g; update t4 set id = -id')
    await server.sql('drop table t10')
    await server.sql('create database alone')
    await server.stop()
    const counts = await world.over(directory, second, '--recover')
    assert.ok(counts.kept_files > 800 && counts.removed > 10, JSON.stringify(counts))
    const owners = new Set<number>()
    for (const path of (await treeOf(directory)).keys()) owners.add((await lstat(join(directory, path))).uid)
    assert.deepEqual(owners, new Set([(await stat(join(directory, 'data'))).uid]))
    // Some name the directory of the tablespace, and so do their sums.
    const comparable = (tree: Tree, own: string) =>
      new Map(
        [...tree]
          .filter(([path]) => !/^data\/(tablespace_map|backup_manifest)$/.test(path))
          .map(([path, is]) => [path, is.replace(own, '')] as const),
      )
    assertSameTree(comparable(await treeOf(directory), directory), comparable(fresh.tree, fresh.directory))
    await using again = await startRestored(directory, 17, [join(directory, 'place')])
    assert.deepEqual(await again.sql('select id from after_all'), [{ id: 7 }])
    assert.equal((await again.sql('select 1 from t10')).length, 2001)
    assert.equal((await again.sql(`select 1 from pg_class where relname in ('alone', 't3')`)).length, 0)
  })

  test('that was killed at any moment is never taken for whole, and is completed by the next run', async (t) => {
    t.diagnostic(`seed ${seed}`)
    const random = new Random(seed)
    const [name = ''] = world.names.slice(-1)
    const { directory, tree } = await world.plain(name)
    const data = join(directory, 'data')
    const marked = () => existsSync(join(data, 'walrx_restore_incomplete'))
    let inTheMiddle = 0
    for (let kill = 0; kill < trials('WALRX_TEST_KILLS', 4, 60); kill++) {
      await disturb(directory, random)
      const before = await treeOf(directory)
      const run = world.start(directory, name, '--delta')
      // The first moments are of the comparison, which changes nothing.
      if (random.chance(0.8)) while (!marked() && !run.hasEnded) await delay(1)
      await delay(random.int(0, marked() ? 150 : 600))
      await run.stop('SIGKILL')
      const what = `kill ${kill}, seed ${seed}`
      if (marked()) {
        inTheMiddle++
        const plain = await world.fetch(directory, name)
        assert.equal(plain.status, 9, what)
        assert.match(plain.stderr, /an earlier restore into it did not finish: complete it with --delta/)
        // With pg_control nothing has been changed yet, or all has been.
        if (existsSync(join(data, 'global/pg_control'))) {
          const now = new Map(await treeOf(directory))
          now.delete('data/walrx_restore_incomplete')
          now.delete('data/postmaster.pid')
          if (now.size === tree.size) assertSameTree(now, tree, what)
          else assertSameTree(now, before, what)
        }
      } else {
        const now = new Map(await treeOf(directory))
        now.delete('data/postmaster.pid')
        const isDone = !now.has('data/stray') && now.size === tree.size
        assertSameTree(now, isDone ? tree : before, what)
      }
      await world.over(directory, name)
      assertSameTree(await treeOf(directory), tree, what)
    }
    assert.ok(inTheMiddle > 1, `${inTheMiddle} kills were in the middle`)
    // One into an empty directory is completed, too.
    for (const part of ['data', 'place']) await rm(join(directory, part), { recursive: true })
    const run = world.start(directory, name)
    while (!marked() && !run.hasEnded) await delay(1)
    await run.stop('SIGKILL')
    assert.ok(marked())
    await world.over(directory, name)
    assertSameTree(await treeOf(directory), tree)
  })
})
