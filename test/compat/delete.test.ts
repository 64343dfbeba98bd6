/**
 * What WAL-G deletes where its rule is safe, and what it deletes where it is not. Runs where WALG_BIN and WALRUS_BIN name
 * their programs.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { Random } from '../harness/random.ts'
import { runWalrx } from '../harness/walrx/walrx-process.ts'
import { makeArchive } from '../retention/made-archive.ts'
import { keysIn, writeDirectory } from '../retention/made-directory.ts'

const run = promisify(execFile)
const tools = { walg: process.env['WALG_BIN'], walrus: process.env['WALRUS_BIN'] }
const skip = { skip: tools.walg ? false : 'no program of WAL-G given' }
const seed = Number(process.env['WALRX_TEST_SEED'] ?? Math.floor(Math.random() * 1e9))

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'walrx-delete-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

async function tool(name: 'walg' | 'walrus', root: string, ...args: string[]): Promise<string> {
  const settings = { WALG_FILE_PREFIX: root, WALG_PG_WAL_SIZE: '1', WALG_DELTA_MAX_STEPS: '7' }
  const env = { PATH: process.env['PATH'], HOME: folder, TZ: 'UTC', ...settings }
  const { stdout } = await run(tools[name] ?? '', args, { env, timeout: 120_000, maxBuffer: 64 * 1024 * 1024 })
  return stdout
}

async function walrx(root: string, ...args: string[]): Promise<string> {
  const { status, stderr, stdout } = await runWalrx([...args, '--file-prefix', root])
  assert.equal(status, 0, stderr)
  return stdout
}

const names = (json: string) =>
  (JSON.parse(json) as { readonly backup_name?: string; readonly name?: string }[])
    .map((each) => each.backup_name ?? each.name ?? '')
    .sort()

/** What walrx deletes and WAL-G does not, or the other way round, where both go by the same backup. */
const isDifferent = (key: string) => /^wal_005\/([0-9A-F]{23}\.json|[0-9A-F]{24}_delta)|^walrx_005\//.test(key)

describe(`beside WAL-G (seed ${seed})`, skip, () => {
  for (const [index, command] of [
    ['retain', 'FULL', '2'],
    ['retain', 'FIND_FULL', '3'],
    ['before', 'FIND_FULL', 'the third'],
    ['garbage'],
    ['target', 'the third'],
  ].entries()) {
    test(`delete ${command.join(' ')} of one timeline deletes the same`, async () => {
      const random = new Random(seed + index)
      const made = makeArchive(random, { events: 40, isSimple: true })
      const third = made.backups[3]?.name ?? ''
      const args = command.map((word) => (word === 'the third' ? third : word))
      const [theirs, ours] = [join(folder, 'theirs'), join(folder, 'ours')]
      for (const root of [theirs, ours]) {
        mkdirSync(root)
        writeDirectory(made.storage, root)
      }
      await tool('walg', theirs, 'delete', ...args, '--confirm')
      await walrx(ours, 'delete', ...args, '--confirm')
      const [left, wanted] = [keysIn(ours), keysIn(theirs)].map((keys) => keys.filter((key) => !isDifferent(key)))
      assert.deepEqual(left, wanted)
      const lists = [await tool('walg', ours, 'backup-list', '--json'), await walrx(theirs, 'backup-list', '--json')]
      assert.deepEqual(names(lists[0] ?? ''), names(lists[1] ?? ''))
      if (tools.walrus !== undefined) {
        assert.deepEqual(names(await tool('walrus', ours, 'backup-list', '--json')), names(lists[0] ?? ''))
      }
    })
  }

  test('the backups from after an upgrade stay, where WAL-G deletes them', async () => {
    const made = makeArchive(new Random(seed), {
      events: 0,
      story: ['backup', 'promote', 'backup', 'upgrade', 'backup'],
    })
    const [theirs, ours] = [join(folder, 'theirs'), join(folder, 'ours')]
    for (const root of [theirs, ours]) {
      mkdirSync(root)
      writeDirectory(made.storage, root)
    }
    const newest = made.backups.slice(-2).map(({ name }) => `basebackups_005/${name}_backup_stop_sentinel.json`)
    assert.deepEqual(
      made.backups.slice(-3).map(({ server, timeline }) => [server, timeline]),
      [
        [0, 2],
        [1, 1],
        [1, 1],
      ],
    )
    await tool('walg', theirs, 'delete', 'retain', '1', '--confirm')
    await walrx(ours, 'delete', 'retain', '1', '--confirm')
    assert.ok(!keysIn(theirs).includes(newest[1] ?? ''), 'WAL-G goes by names now as before')
    assert.ok(keysIn(ours).includes(newest[1] ?? ''))
  })
})
