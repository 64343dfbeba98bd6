/** wal-finalize as a process: what it prints, and how it ends. */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import { tailKey } from '../../src/walg/names.ts'
import { makeSegment } from '../harness/made/made-wal.ts'
import { runWalrx } from '../harness/walrx/walrx-process.ts'

const name = '000000010000000000000007'

let archive: string
beforeEach(async () => {
  archive = await mkdtemp(join(tmpdir(), 'walrx-finalize-'))
})
afterEach(() => rm(archive, { recursive: true }))

/** Puts the first bytes of a segment there as a chunk, written so long ago. */
async function chunk(to: number, agoMs = 120_000, segment = name): Promise<void> {
  const path = join(archive, tailKey(segment, { from: 0, to }, ''))
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, makeSegment(segment).subarray(0, to))
  const at = new Date(Date.now() - agoMs)
  await utimes(path, at, at)
}

const run = (...args: string[]) => runWalrx(['wal-finalize', '--file-prefix', archive, ...args])
const files = async () => (await readdir(archive, { recursive: true })).filter((file) => /\/[^/]*[-.][^/]*$/.test(file))

test('shows what it would do, does it, and has nothing more to do', async () => {
  await chunk(9000)
  const before = await files()
  const dry = await run('--dry-run')
  assert.deepEqual([dry.status, dry.stdout], [0, `${name} would be created, with WAL up to 0/702328\n`])
  assert.deepEqual(await files(), before)
  const { status, stdout } = await run()
  assert.deepEqual([status, stdout], [0, `${name} created, with WAL up to 0/702328\n`])
  assert.deepEqual(await files(), [`wal_005/${name}.zst`])
  const segment = zstdDecompressSync(await readFile(join(archive, 'wal_005', `${name}.zst`)))
  assert.deepEqual(segment, makeSegment(name).fill(0, 9000))
  const again = await run('--json')
  assert.deepEqual([again.status, again.stdout], [0, '[]\n'])
})

test('prints JSON, and makes the segment of the timeline that is named', async () => {
  await chunk(9000)
  await chunk(9100, 120_000, '000000020000000000000007')
  const { status, stdout } = await run('--json', '--timeline', '1')
  assert.equal(status, 0)
  assert.deepEqual(JSON.parse(stdout), [{ segment: name, end_lsn: '0/702328', outcome: 'created' }])
  assert.equal((await files()).filter((file) => file.startsWith('wal_005/')).length, 1)
})

test('refuses where a receiver wrote a moment ago, unless it is forced', async () => {
  await chunk(9000, 5000)
  const { status, stderr, stdout } = await run()
  assert.deepEqual([status, stdout], [2, ''])
  assert.match(stderr, /grew \d+ s ago, to 0\/702328: is its receiver still running\?/)
  assert.match(stderr, /--force/)
  assert.equal((await files()).length, 1)
  assert.equal((await run('--force')).status, 0)
})

test('sets chunks aside, and takes no other name than those of segments and histories', async () => {
  await chunk(9000)
  for (const wrong of ['x', `${name}.partial`, name.slice(1)]) {
    const { status, stderr } = await run('--set-aside', wrong)
    assert.equal(status, 2, wrong)
    assert.match(stderr, /--set-aside/)
  }
  const { status, stdout } = await run('--set-aside', name, '--json')
  assert.deepEqual([status, JSON.parse(stdout)], [0, { set_aside: name, objects: 1 }])
  assert.deepEqual(await files(), [`walrx_005/aside/tail/00000001/${name}/00000000-00002328`])
  assert.equal((await run('--set-aside', name)).stdout, `moved 0 objects of ${name} to walrx_005/aside\n`)
})

test('needs its key to make segments, and none to set chunks aside', async () => {
  await chunk(9000)
  const missing = ['--libsodium-key-path', join(archive, 'lost')]
  const { status, stderr } = await run(...missing)
  assert.equal(status, 2)
  assert.match(stderr, /the key file WALG_LIBSODIUM_KEY_PATH=\S*lost does not exist/)
  const aside = await run('--set-aside', name, ...missing)
  assert.deepEqual([aside.status, aside.stdout], [0, `moved 1 object of ${name} to walrx_005/aside\n`])
})

test('ends with an error of its own where chunks cannot be right', async () => {
  await chunk(9000)
  await writeFile(join(archive, tailKey(name, { from: 0, to: 9000 }, '')), 'short')
  const { status, stderr } = await run('--force')
  assert.ok(status !== 0 && status !== 2 && status !== 70, String(status))
  assert.match(stderr, /holds 5 bytes, its name says 9000/)
  assert.equal((await files()).length, 1)
})
