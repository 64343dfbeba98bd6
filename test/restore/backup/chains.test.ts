/**
 * Deltas are restored, with the backups that they build on, to the files at the time of the delta; damaged ones are
 * refused.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { crc32c } from '@node-rs/crc32'
import { applyIncrement } from '../../../src/restore/backup/increment-apply.ts'
import type { ChangedFile } from '../../../src/restore/backup/parts/restored-file.ts'
import { formatContents } from '../../../src/walg/backup/backup-contents.ts'
import { nativeBytes, page, u32, wi1Of } from '../../harness/made/increments.ts'
import { Random } from '../../harness/random.ts'
import { fetch, flipped, type Objects, verify, wrongLeftover } from './damaged-backups.ts'
import { drawChain, type MadeChain, type MadeEntry, type State, storeChain } from './made-chains.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'walrx-chains-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

const destination = () => join(root, 'data')

async function contentsOf(directory: string): Promise<Map<string, Buffer>> {
  const contents = new Map<string, Buffer>()
  for (const name of await readdir(directory, { recursive: true })) {
    const path = join(directory, name)
    if ((await stat(path)).isFile()) contents.set(name, await readFile(path))
  }
  return contents
}

function assertSame(found: State, expected: State, at: string): void {
  assert.deepEqual([...found.keys()].sort(), [...expected.keys()].sort(), at)
  for (const [path, content] of expected) assert.ok(content.equals(found.get(path)!), `${at}: ${path}`)
}

describe('a chain', () => {
  test('of any length is restored at each of its backups, with the files of that backup and no others', async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = new Random(seed)
      const chain = drawChain(random, random.int(1, 5))
      const objects = storeChain(random, chain)
      for (const { name, state } of random.chance(0.2) ? chain.steps : chain.steps.slice(-1)) {
        const at = `seed ${seed}, ${name}`
        assert.deepEqual((await verify(objects, name)).message, '', at)
        assert.deepEqual((await fetch(objects, name, destination())).message, '', at)
        assertSame(await contentsOf(destination()), state, at)
        const folders = await readdir(destination(), { recursive: true, withFileTypes: true })
        const directories = folders.filter((each) => each.isDirectory()).map((each) => join(each.parentPath, each.name))
        const needed = [...state.keys()].map((path) => join(destination(), path))
        for (const each of directories) {
          assert.ok(
            needed.some((path) => path.startsWith(`${each}/`)),
            `${at}: ${each} holds nothing`,
          )
        }
        await rm(destination(), { recursive: true })
      }
    }
  })
})

/** A full backup, and two deltas that change one relation of it. */
function small(first: MadeEntry, second: MadeEntry): MadeChain {
  const content = Buffer.alloc(4 * page, 1)
  const common = new Map([
    ['global/pg_control', Buffer.alloc(8192, 1)],
    ['backup_label', Buffer.from('START')],
    ['base/5/1', content],
  ])
  const full = 'base_000000010000000000000002'
  const delta = 'base_000000010000000000000004_D_000000010000000000000002'
  const name = 'base_000000010000000000000006_D_000000010000000000000004'
  const step = (own: string, entry: MadeEntry) => ({
    name: own,
    state: common,
    entries: new Map([['base/5/1', entry]]),
  })
  return { slash: true, steps: [step(full, { kind: 'whole', body: content }), step(delta, first), step(name, second)] }
}

const pages = new Map([[1, Buffer.alloc(page, 2)]])
const wi1: MadeEntry = { kind: 'wi1', body: wi1Of(4, pages) }
const native: MadeEntry = { kind: 'native', body: nativeBytes({ truncation: 4, pages }) }
const skipped: MadeEntry = { kind: 'skipped', body: Buffer.alloc(0) }

const stored = (chain: MadeChain) => storeChain(new Random(1), chain, 1)

const folderOf = (chain: MadeChain, step: number) => `basebackups_005/${chain.steps[step]!.name}`

function edited(objects: Objects, key: string, edit: (text: string) => string): void {
  const text = objects.get(key)!.toString()
  const changed = edit(text)
  assert.notEqual(changed, text)
  objects.set(key, Buffer.from(changed))
}

async function assertRefused(objects: Objects, chain: MadeChain, says: RegExp, isKnownBefore: boolean): Promise<void> {
  const { name } = chain.steps.at(-1)!
  const verified = await verify(objects, name)
  assert.equal(verified.code, 'WALRX_BACKUP_DAMAGED')
  assert.match(verified.message, says)
  const fetched = await fetch(objects, name, destination())
  assert.equal(fetched.message, verified.message)
  const left = await readdir(destination()).catch(() => undefined)
  assert.equal(left === undefined, isKnownBefore, `it left ${String(left)}`)
  assert.equal(await wrongLeftover(destination()), undefined)
}

describe('a chain is refused before anything is written', () => {
  const cases: readonly (readonly [
    what: string,
    damage: (objects: Objects, chain: MadeChain) => void,
    says: RegExp,
  ])[] = [
    [
      'without its full backup',
      (objects, chain) => void objects.delete(`${folderOf(chain, 0)}_backup_stop_sentinel.json`),
      /^base_0+10+4_D_0+10+2 builds on base_0+10+2, which is missing at /,
    ],
    [
      'without a delta in the middle',
      (objects, chain) => void objects.delete(`${folderOf(chain, 1)}_backup_stop_sentinel.json`),
      /^base_0+10+6_D_0+10+4 builds on base_0+10+4_D_0+10+2, which is missing at /,
    ],
    [
      'in a circle',
      (objects, chain) => {
        const delta = `"DeltaLSN":3000,"DeltaFrom":"${chain.steps[2]!.name}","FinishLSN"`
        edited(objects, `${folderOf(chain, 0)}_backup_stop_sentinel.json`, (text) => text.replace('"FinishLSN"', delta))
      },
      /^base_0+10+2 builds on base_0+10+6_D_0+10+4, which builds on base_0+10+2$/,
    ],
    [
      'with another full backup under the same name',
      (objects, chain) =>
        edited(objects, `${folderOf(chain, 0)}_backup_stop_sentinel.json`, (text) =>
          text.replace('"LSN":1000', '"LSN":1001'),
        ),
      /^base_0+10+4_D_0+10+2 builds on a base_0+10+2 that started at 0\/3E8, but the archive's started at 0\/3E9$/,
    ],
    [
      'with backups of two clusters',
      (objects, chain) => {
        for (const [step, id] of [7455523487659893045n, 7455523487659893046n].entries()) {
          const key = `${folderOf(chain, step)}_backup_stop_sentinel.json`
          edited(objects, key, (text) => text.replace('"PgVersion"', `"SystemIdentifier":${id},"PgVersion"`))
        }
      },
      /has system identifier 7455523487659893046, but base_0+10+2, which it builds on, has 7455523487659893045$/,
    ],
    [
      'without the files_metadata.json of a delta',
      (objects, chain) => void objects.delete(`${folderOf(chain, 1)}/files_metadata.json`),
      /base_0+10+4_D_0+10+2\/files_metadata\.json is missing$/,
    ],
    [
      'with a delta that lists no file',
      (objects, chain) => void objects.set(`${folderOf(chain, 1)}/files_metadata.json`, Buffer.from('{}')),
      /^base_0+10+4_D_0+10+2 is a delta, but its files_metadata\.json lists no file$/,
    ],
    [
      'with a file that the delta in the middle does not list',
      (objects, chain) =>
        edited(objects, `${folderOf(chain, 1)}/files_metadata.json`, (text) => text.replace('base/5/1', 'base/5/2')),
      /^a delta needs base\/5\/1 from (base_0+10+4_D_0+10+2), but the files_metadata\.json of \1 does not list it$/,
    ],
    [
      'with an increment of a file that the full backup does not list',
      (objects, chain) =>
        edited(objects, `${folderOf(chain, 0)}/files_metadata.json`, (text) => text.replace('base/5/1', 'base/5/2')),
      /^a delta needs base\/5\/1 from (base_0+10+2), but the files_metadata\.json of \1 does not list it$/,
    ],
    [
      'with an increment in the full backup',
      (objects, chain) =>
        edited(objects, `${folderOf(chain, 0)}/files_metadata.json`, (text) =>
          text.replace('"IsIncremented":false', '"IsIncremented":true'),
        ),
      /^base_0+10+2 is a full backup, but its files_metadata\.json lists base\/5\/1 as incremented$/,
    ],
    [
      'with a delta that has no parts',
      (objects, chain) => {
        for (const key of [...objects.keys()]) {
          if (key.startsWith(`${folderOf(chain, 1)}/tar_partitions/part_`)) objects.delete(key)
        }
      },
      /^base_0+10+4_D_0+10+2 has no parts at /,
    ],
    [
      'with a full backup that has no pg_control',
      (objects, chain) => void objects.delete(`${folderOf(chain, 0)}/tar_partitions/pg_control.tar`),
      /^base_0+10+2 has no pg_control\.tar at /,
    ],
  ]
  for (const [what, damage, says] of cases) {
    test(what, async () => {
      const chain = small(wi1, skipped)
      const objects = stored(chain)
      damage(objects, chain)
      await assertRefused(objects, chain, says, true)
    })
  }

  test('with a delta that was taken without files_metadata.json on purpose', async () => {
    const chain = small(wi1, skipped)
    const objects = stored(chain)
    objects.delete(`${folderOf(chain, 2)}/files_metadata.json`)
    edited(objects, `${folderOf(chain, 2)}_backup_stop_sentinel.json`, (text) =>
      text.replace('"PgVersion"', '"FilesMetadataDisabled":true,"PgVersion"'),
    )
    const { code, message } = await fetch(objects, chain.steps[2]!.name, destination())
    assert.equal(code, 'WALRX_BACKUP_UNSUPPORTED')
    assert.match(message, /^base_0+10+6_D_0+10+4 is a delta that was taken without files_metadata\.json$/)
  })
})

describe('a chain leaves nothing that starts', () => {
  const changed = (entry: MadeEntry, at: number, value: number): MadeEntry => {
    const body = Buffer.from(entry.body)
    body.writeUInt32LE(value, at)
    return { ...entry, body }
  }
  const cut = (entry: MadeEntry): MadeEntry => ({ ...entry, body: entry.body.subarray(0, -1) })
  const longer = (entry: MadeEntry): MadeEntry => ({ ...entry, body: Buffer.concat([entry.body, u32(0)]) })
  const two = new Map([1, 2].map((block) => [block, Buffer.alloc(page, 3)]))
  const increments: readonly (readonly [what: string, entry: MadeEntry, says: RegExp])[] = [
    ['wi1 that is too short', cut(wi1), /it has 8211 bytes, and with 1 pages 8212/],
    ['native that is too short', cut(native), /it has 16383 bytes, and with 1 pages 16384/],
    ['wi1 with bytes after its end', longer(wi1), /it has 8216 bytes, and with 1 pages 8212/],
    ['wi1 with a wrong count', changed(wi1, 12, 0), /it has 8212 bytes, and with 0 pages 16/],
    ['wi1 with unsorted blocks', changed({ kind: 'wi1', body: wi1Of(4, two) }, 16, 3), /\[1\] is 2 after 3/],
    ['wi1 with a block beyond the file', changed(wi1, 16, 4), /block numbers\[0\] is 4, but the file has 4 blocks/],
    ['a whole file as an increment', { kind: 'wi1', body: Buffer.alloc(page, 5) }, /the magic is 05050505 instead of/],
  ]
  for (const [what, entry, says] of increments) {
    test(`of an increment: ${what}`, async () => {
      const chain = small(entry, skipped)
      const named = new RegExp(
        `base_0+10+4_D_0+10+2/tar_partitions/part_001.tar holds a damaged increment of /base/5/1: .*${says.source}`,
      )
      await assertRefused(stored(chain), chain, named, false)
    })
  }

  for (const [what, step, says] of [
    ['the full backup lacks a file', 0, /^base_0+10+2 lacks base\/5\/1, which one of its parts should hold$/],
    ['a delta lacks an increment', 2, /^base_0+10+6_D_0+10+4 lacks base\/5\/1, which one of its parts should hold$/],
  ] as const) {
    test(`when ${what} that it lists`, async () => {
      const chain = small(wi1, wi1)
      const objects = stored(chain)
      chain.steps[step]!.entries.clear()
      const key = `${folderOf(chain, step)}/tar_partitions/part_001.tar`
      objects.set(key, stored(chain).get(key)!)
      await assertRefused(objects, chain, says, false)
    })
  }
})

describe('of a delta by walrx', () => {
  const version = Buffer.from('17\n')
  const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

  /** The chain with the server's manifest for the delta, which describes what the server sent, and walrx.json. */
  function withOwnDocuments(change: (manifest: string) => string = (manifest) => manifest): [MadeChain, Objects] {
    const chain = small(wi1, wi1)
    chain.steps[2]!.entries.set('PG_VERSION', { kind: 'whole', body: version })
    const objects = stored(chain)
    const file = (path: string, bytes: Buffer) =>
      `{ "Path": "${path}", "Size": ${bytes.length}, "Checksum-Algorithm": "SHA256", "Checksum": "${sha256(bytes)}" }`
    const files = [
      file('PG_VERSION', version),
      file('base/5/INCREMENTAL.1', native.body),
      file('backup_label', Buffer.from('START\nINCREMENTAL FROM LSN: 0/3E8\n')),
      file('global/pg_control', chain.steps[2]!.state.get('global/pg_control')!),
    ]
    const body = `{ "PostgreSQL-Backup-Manifest-Version": 2,\n"Files": [\n${change(files.join(',\n'))}\n],\n`
    const folder = `${folderOf(chain, 2)}/`
    objects.set(
      `${folder}backup_manifest`,
      Buffer.from(`${body}"Manifest-Checksum": "${sha256(Buffer.from(body))}"}\n`),
    )
    const own = [...objects].filter(([key]) => key.startsWith(folder) && !key.endsWith('files_metadata.json'))
    const contents = own.map(([key, bytes]) => ({
      name: key.slice(folder.length),
      size: bytes.length,
      crc32c: crc32c(bytes),
    }))
    objects.set(`${folder}walrx.json`, formatContents(contents))
    return [chain, objects]
  }

  test('files that are stored as the server sent them are checked against its manifest', async () => {
    const [chain, objects] = withOwnDocuments()
    const { name } = chain.steps[2]!
    assert.deepEqual((await verify(objects, name)).message, '')
    assert.deepEqual((await fetch(objects, name, destination())).message, '')
    assert.deepEqual((await readdir(destination())).sort(), [
      'PG_VERSION',
      'backup_label',
      'backup_manifest',
      'base',
      'global',
    ])
    await rm(destination(), { recursive: true })
    const [other, damaged] = withOwnDocuments((manifest) => manifest.replace(sha256(version), sha256(Buffer.of(1))))
    await assertRefused(damaged, other, /holds \/PG_VERSION with SHA256 .*, but the server's manifest lists/, false)
  })

  test('a flipped bit in a page of an increment is found by walrx.json', async () => {
    const [chain, objects] = withOwnDocuments()
    const key = `${folderOf(chain, 2)}/tar_partitions/part_001.tar`
    const tar = Buffer.from(objects.get(key)!)
    const at = tar.indexOf(Buffer.alloc(page, 2))
    assert.notEqual(at, -1)
    objects.set(key, flipped(tar, 8 * at + 100))
    await assertRefused(
      objects,
      chain,
      /D_0+10+4\/tar_partitions\/part_001\.tar was changed after the backup: it has CRC-32C/,
      false,
    )
  })
})

test('an increment of many pages is not held in memory', { timeout: 60_000 }, async () => {
  const blocks = 131072
  const numbers = Buffer.alloc(4 * blocks)
  for (let block = 0; block < blocks; block++) numbers.writeUInt32LE(block, 4 * block)
  const head = Buffer.alloc(16)
  head.write('wi1\x55', 'latin1')
  head.writeBigUInt64LE(BigInt(blocks * page), 4)
  head.writeUInt32LE(blocks, 12)
  const size = head.length + numbers.length + blocks * page
  const pieces = Buffer.alloc(256 * 1024, 7)
  async function* body() {
    yield await Promise.resolve(Buffer.concat([head, numbers]))
    for (let left = blocks * page; left > 0; left -= pieces.length) yield pieces
  }
  let written = 0
  let mostBytes = 0
  const before = process.memoryUsage()
  const file: ChangedFile = {
    resize: async () => {},
    write: async (position, bytes) => {
      assert.equal(position, written)
      written += bytes.length
      const { arrayBuffers, heapUsed } = process.memoryUsage()
      mostBytes = Math.max(mostBytes, arrayBuffers + heapUsed - before.arrayBuffers - before.heapUsed)
      return Promise.resolve()
    },
    finish: async () => {},
    drop: async () => {},
  }
  await applyIncrement({ name: '/base/5/1', kind: 'file', size, mode: 0o600, body: body() }, file, 'part_001.tar')
  assert.equal(written, blocks * page)
  assert.ok(mostBytes < 32 * 1024 * 1024, `${mostBytes} bytes for an increment of ${size}`)
})
