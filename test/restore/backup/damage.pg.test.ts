/** Damage to a backup, of any kind and at any place, is found by backup-verify and by backup-fetch. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { chown, mkdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { after, before, describe, test } from 'node:test'
import { backupFolder, contentsKey, filesMetadataKey, sentinelKey } from '../../../src/walg/backup/backup-names.ts'
import { isFullRun } from '../../harness/extent.ts'
import { pgBinary, serverIdentity } from '../../harness/postgres/postgres-files.ts'
import { Random } from '../../harness/random.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'
import {
  changed,
  fetch,
  flipped,
  type MadeBackup,
  makeBackups,
  membersOf,
  methods,
  type Objects,
  partsOf,
  TreeDigest,
  verify,
  wrongLeftover,
  zstdBlockEnds,
} from './damaged-backups.ts'

const seed = Number(process.env['WALRX_SEED'] ?? Date.now() % 100_000)
const run = promisify(execFile)

/** A damaged archive. */
interface Damage {
  readonly what: string
  readonly objects: Objects
  /** One of these objects has to be named. */
  readonly blamed: readonly string[]
}

const base = (key: string) => key.slice(key.lastIndexOf('/') + 1)

describe('damage to a backup', () => {
  let root: string
  let backups: MadeBackup[]
  /** What the whole backups restore to, by method. */
  const trees = new Map<string, string>()

  before(async () => {
    root = mkdtempSync(join(tmpdir(), 'walrx-damage-'))
    backups = await makeBackups(root)
  })

  after(() => rmSync(root, { recursive: true, force: true }))

  function backupOf(method: string): MadeBackup {
    const found = backups.find((backup) => backup.method === method)
    assert.ok(found, `no backup by ${method} was made`)
    return found
  }

  /** Counts what is verified, from the seed on, so that each run fetches others. */
  let turn = seed

  /**
   * Both commands report the damage, and leave nothing that starts. They read in the same way, so of damage to the
   * parts that come before pg_control a quarter has to do for fetching.
   */
  async function assertCaught(backup: MadeBackup, damages: readonly Damage[], status?: number): Promise<void> {
    assert.ok(damages.length > 0)
    const destination = join(root, 'caught')
    for (const [index, { blamed, objects, what }] of damages.entries()) {
      const isLate = blamed.some((name) => name.includes('pg_control'))
      const isDrawn = isFullRun ? index % 4 === 0 : turn++ % 8 === 0
      for (const command of isLate || isDrawn ? ['verify', 'fetch'] : ['verify']) {
        const outcome =
          command === 'fetch' ? await fetch(objects, backup.name, destination) : await verify(objects, backup.name)
        const said = `${command}, ${what}: ${outcome.status} ${outcome.code} ${outcome.message}`
        // A damaged object that looks like one of another tool may be in a codec that walrx cannot read.
        const isForeign = !objects.has(contentsKey(backup.name)) && outcome.code === 'WALRX_BACKUP_UNSUPPORTED'
        assert.equal(outcome.status, status ?? (isForeign ? 2 : 5), said)
        assert.ok(
          blamed.some((name) => outcome.message.includes(name)),
          `${said} names none of ${blamed.join(', ')}`,
        )
        if (command === 'fetch') assert.equal(await wrongLeftover(destination), undefined, said)
      }
    }
  }

  /** Where nothing knows an object's every byte, damage may be harmless, but never silently harmful. */
  async function assertCaughtOrHarmless(backup: MadeBackup, damages: readonly Damage[]): Promise<number> {
    const caught: Damage[] = []
    for (const damage of damages) {
      const tree = new TreeDigest()
      const outcome = await verify(damage.objects, backup.name, tree)
      if (outcome.status === 0) assert.equal(tree.text, trees.get(backup.method), damage.what)
      else caught.push(damage)
    }
    if (caught.length > 0) await assertCaught(backup, caught)
    return caught.length
  }

  function flips(backup: MadeBackup, keys: readonly string[], count: number, random: Random): Damage[] {
    return keys.flatMap((key) => {
      const bytes = backup.objects.get(key) ?? Buffer.alloc(0)
      // The first bytes, the last ones and some between: headers and checksums are where decoders look.
      const bits = [random.int(0, 31), random.int(32, 95), bytes.length * 8 - 1 - random.int(0, 31)]
      for (let more = bits.length; more < count; more++) bits.push(random.int(0, bytes.length * 8 - 1))
      return bits.map((bit) => ({
        what: `bit ${bit & 7} of byte ${bit >> 3} of the ${bytes.length} of ${key} flipped (seed ${seed})`,
        objects: changed(backup.objects, key, flipped(bytes, bit)),
        blamed: [key],
      }))
    })
  }

  function cuts(backup: MadeBackup, key: string, lengths: readonly number[]): Damage[] {
    const bytes = backup.objects.get(key) ?? Buffer.alloc(0)
    return lengths.map((length) => ({
      what: `${key} cut to ${length} of ${bytes.length} bytes (seed ${seed})`,
      objects: changed(backup.objects, key, bytes.subarray(0, length)),
      blamed: [key],
    }))
  }

  /** The same damage to a backup that has no walrx.json, so that only the manifest and files_metadata.json show it. */
  function withoutContents({ name }: MadeBackup, damages: readonly Damage[]): Damage[] {
    return damages.map(({ blamed, objects, what }) => ({
      what: `${what}, without walrx.json`,
      objects: changed(objects, contentsKey(name), undefined),
      // What lacks a file names the part that should hold it.
      blamed: [...blamed, ...blamed.map(base)],
    }))
  }

  /** Parts to be damaged: usually all by two of the codecs, and by the others, which differ in little, some. */
  function triedParts(backup: MadeBackup, random: Random): string[] {
    const parts = partsOf(backup)
    if (isFullRun || backup.method === 'zstd' || backup.method === 'none') return parts
    const drawn = random.int(0, parts.length - 1)
    return parts.filter((key, index) => index === drawn || key.includes('pg_control'))
  }

  // What a codec finds by itself is tested with the codecs; here it is one with checksums and one with nothing.
  for (const method of isFullRun ? methods : (['zstd', 'none'] as const)) {
    describe(`stored by ${method}`, { timeout: 300_000 }, () => {
      const random = new Random(seed)

      test('is not claimed where there is none', async () => {
        const backup = backupOf(method)
        assert.ok(partsOf(backup).length >= 5, 'several parts, the label and pg_control')
        const tree = new TreeDigest()
        assert.deepEqual(await verify(backup.objects, backup.name, tree), { code: undefined, status: 0, message: '' })
        assert.ok(tree.text.split('\n').length > 300)
        trees.set(method, tree.text)
        const destination = join(root, `whole-${method}`)
        assert.equal((await fetch(backup.objects, backup.name, destination)).message, '')
        assert.match((await wrongLeftover(destination)) ?? '', /it left a pg_control/)
        const bare = changed(backup.objects, contentsKey(backup.name), undefined)
        assert.equal((await verify(bare, backup.name)).status, 0, 'walrx.json may be missing, as in backups of others')
      })

      test('is found when any bit of any part has changed', async (t) => {
        t.diagnostic(`seed ${seed}`)
        const backup = backupOf(method)
        await assertCaught(backup, flips(backup, triedParts(backup, random), isFullRun ? 5 : 2, random))
      })

      test('does no harm when any bit of a part has changed and nothing knows its checksum', async (t) => {
        const backup = backupOf(method)
        const damages = withoutContents(backup, flips(backup, triedParts(backup, random), isFullRun ? 4 : 2, random))
        const caught = await assertCaughtOrHarmless(backup, damages)
        t.diagnostic(`${caught} of ${damages.length} caught (seed ${seed})`)
        assert.ok(caught > damages.length / 2, `only ${caught} of ${damages.length} were caught (seed ${seed})`)
      })

      test('does no harm when any bit of its documents has changed', async (t) => {
        const backup = backupOf(method)
        const parts = new Set(partsOf(backup))
        const documents = [...backup.objects.keys()].filter((key) => !parts.has(key))
        assert.equal(documents.length, 5, String(documents))
        for (const key of documents) {
          const damages = flips(backup, [key], isFullRun ? 6 : 2, random).map((damage) => ({
            ...damage,
            blamed: [backup.name],
          }))
          const caught = await assertCaughtOrHarmless(backup, damages)
          t.diagnostic(`${base(key)}: ${caught} of ${damages.length} caught (seed ${seed})`)
          if (/backup_manifest|walrx/.test(key)) assert.equal(caught, damages.length, `${key} (seed ${seed})`)
        }
      })

      test('is found when a part has gone', async () => {
        const backup = backupOf(method)
        const damages = partsOf(backup).map((key) => ({
          what: `${key} gone`,
          objects: changed(backup.objects, key, undefined),
          blamed: [base(key).replace(/\.tar.*/, '.tar')],
        }))
        await assertCaught(backup, damages)
        await assertCaught(backup, withoutContents(backup, damages))
      })

      test('is found when a part was cut short', async () => {
        const backup = backupOf(method)
        for (const key of triedParts(backup, random)) {
          const { length } = backup.objects.get(key) ?? []
          assert.ok(length !== undefined && length > 20)
          const lengths = [0, random.int(1, 19), random.int(20, length - 1), length - 1]
          await assertCaught(backup, cuts(backup, key, lengths))
          const bare = withoutContents(backup, cuts(backup, key, [random.int(1, length - 1), length - 4]))
          // The closing blocks and the padding of a plain tar may be missing: WAL-G writes such tars.
          if (method === 'none') await assertCaughtOrHarmless(backup, bare)
          else await assertCaught(backup, bare)
        }
      })

      test('is found when two objects have changed places', async () => {
        const backup = backupOf(method)
        const parts = partsOf(backup)
        const damages: Damage[] = []
        for (const one of parts) {
          const other = random.pick(parts.filter((key) => key !== one))
          const objects = changed(backup.objects, one, backup.objects.get(other))
          objects.set(other, backup.objects.get(one) ?? Buffer.alloc(0))
          damages.push({ what: `${one} and ${other} exchanged (seed ${seed})`, objects, blamed: [one, other] })
        }
        await assertCaught(backup, damages)
        // All files are there then, unless pg_control is where nobody takes it from.
        await assertCaughtOrHarmless(
          backup,
          withoutContents(backup, damages).map((damage) => ({ ...damage, blamed: ['tar'] })),
        )
      })

      test('is found when bytes follow after a part', async () => {
        const backup = backupOf(method)
        const tail = Buffer.from(Array.from({ length: 700 }, () => random.int(0, 255)))
        for (const bytes of [tail, Buffer.alloc(1)]) {
          const damages = triedParts(backup, random).map((key) => ({
            what: `${bytes.length} bytes after ${key} (seed ${seed})`,
            objects: changed(backup.objects, key, Buffer.concat([backup.objects.get(key) ?? tail, bytes])),
            blamed: [key],
          }))
          await assertCaught(backup, damages)
          await assertCaughtOrHarmless(backup, withoutContents(backup, damages))
        }
      })

      test('is found when a part was added', async () => {
        const backup = backupOf(method)
        const some = partsOf(backup).find((each) => base(each).startsWith('part_')) ?? ''
        const key = some.replace(/part_\d+/, 'part_77')
        const objects = changed(backup.objects, key, backup.objects.get(some))
        await assertCaught(backup, [{ what: `${key} added`, objects, blamed: [key] }])
      })

      test('is found when the manifest has gone, or is another', async () => {
        const backup = backupOf(method)
        const folder = backupFolder(backup.name)
        const key = [...backup.objects.keys()].find((each) => each.startsWith(`${folder}backup_manifest`)) ?? ''
        const other = backups.find((each) => each.method === (method === 'lz4' ? 'none' : 'lz4'))
        const others = [...(other?.objects ?? [])].find(([each]) => base(each).startsWith('backup_manifest'))?.[1]
        const damages = [
          { what: 'gone', objects: changed(backup.objects, key, undefined), blamed: [key] },
          { what: 'empty', objects: changed(backup.objects, key, Buffer.alloc(0)), blamed: [key] },
          { what: "another backup's", objects: changed(backup.objects, key, others), blamed: [key] },
        ]
        await assertCaught(backup, damages)
      })

      test('is found when files_metadata.json has gone, and a backup without sentinel is none', async () => {
        const { name, objects } = backupOf(method)
        const table = filesMetadataKey(name)
        await assertCaught(backupOf(method), [
          { what: 'gone', objects: changed(objects, table, undefined), blamed: [table] },
        ])
        const nothing = { what: 'no sentinel', objects: changed(objects, sentinelKey(name), undefined), blamed: [name] }
        await assertCaught(backupOf(method), [nothing], 2)
      })
    })
  }

  test('is found when a part was cut at the end of any zstd block', { timeout: 120_000 }, async () => {
    const backup = backupOf('zstd')
    let blocks = 0
    for (const key of partsOf(backup)) {
      const all = zstdBlockEnds(backup.objects.get(key) ?? Buffer.alloc(0))
      blocks += all.length
      const ends = isFullRun ? all : all.filter((_, index) => index % 8 === seed % 8 || index === all.length - 1)
      if (ends.length === 0) continue
      await assertCaught(backup, cuts(backup, key, ends))
      await assertCaught(backup, withoutContents(backup, cuts(backup, key, ends)))
    }
    assert.ok(blocks > 50, `only ${blocks} blocks`)
  })

  test('is found when whole members were cut off a plain tar', { timeout: 120_000 }, async () => {
    const backup = backupOf('none')
    const random = new Random(seed)
    for (const key of partsOf(backup)) {
      const bytes = backup.objects.get(key) ?? Buffer.alloc(0)
      const members = membersOf(bytes)
      const lastFile = members.findLastIndex(({ isFile }) => isFile)
      for (const index of new Set([0, lastFile, random.int(0, lastFile), members.length - 1])) {
        const cut = bytes.subarray(0, members[index]?.at)
        for (const closing of [0, 1024]) {
          const damage = {
            what: `${key} without its members from ${index} of ${members.length} on, ${closing} bytes after`,
            objects: changed(backup.objects, key, Buffer.concat([cut, Buffer.alloc(closing)])),
            blamed: [key],
          }
          await assertCaught(backup, [damage])
          // Directories are in no list but walrx.json's sizes: a server that lacks one says so when it starts.
          if (index <= lastFile) await assertCaught(backup, withoutContents(backup, [damage]))
        }
      }
    }
  })

  describe('by the program itself', { timeout: 120_000 }, () => {
    const ways = ['a flipped bit', 'cut short', 'gone', 'files_metadata.json gone', 'no sentinel'] as const
    for (const [index, way] of ways.entries()) {
      test(`${way}: both commands say so, and PostgreSQL does not start on what is left`, async () => {
        const random = new Random(seed + index)
        const backup = backupOf(methods[index % methods.length] ?? 'zstd')
        const key = random.pick(partsOf(backup).filter((each) => base(each).startsWith('part_')))
        const bytes = backup.objects.get(key) ?? Buffer.alloc(0)
        const table = filesMetadataKey(backup.name)
        const [blamed, objects] = {
          'a flipped bit': [key, changed(backup.objects, key, flipped(bytes, random.int(0, bytes.length * 8 - 1)))],
          'cut short': [key, changed(backup.objects, key, bytes.subarray(0, random.int(1, bytes.length - 1)))],
          gone: [key, changed(backup.objects, key, undefined)],
          'files_metadata.json gone': [table, changed(backup.objects, table, undefined)],
          'no sentinel': [backup.name, changed(backup.objects, sentinelKey(backup.name), undefined)],
        }[way] as [string, Objects]
        const archive = join(root, `program-${index}`)
        for (const [path, content] of objects) {
          await mkdir(dirname(join(archive, path)), { recursive: true })
          await writeFile(join(archive, path), content)
        }
        const destination = join(root, `restored-${index}`)
        const expected = way === 'no sentinel' ? 2 : 5
        for (const args of [
          ['backup-verify', backup.name],
          ['backup-fetch', destination, backup.name],
        ]) {
          const { status, stderr, stdout } = await runWalrx([...args, '--file-prefix', archive])
          assert.equal(status, expected, `${args[0]}: ${stderr} (seed ${seed})`)
          assert.equal(stdout, '')
          assert.ok(stderr.includes(blamed), `${args[0]} names no ${blamed}: ${stderr} (seed ${seed})`)
          assert.doesNotMatch(stderr, /\n\s+at /)
        }
        assert.ok(!existsSync(join(destination, 'global/pg_control')))
        if (!existsSync(destination)) return
        assert.ok(existsSync(join(destination, 'walrx_restore_incomplete')))
        const again = await runWalrx(['backup-fetch', destination, backup.name, '--file-prefix', archive])
        assert.notEqual(again.status, 0)
        assert.match(again.stderr, /an earlier restore into it did not finish|is missing|bytes instead of/)
        await refusesToStart(destination)
      })
    }
  })
})

/** The server itself says that it has no data directory there. */
async function refusesToStart(directory: string): Promise<void> {
  if (serverIdentity.uid !== undefined) await chown(directory, serverIdentity.uid, serverIdentity.gid ?? -1)
  const failure = await run(pgBinary(17, 'postgres'), ['-D', directory], { ...serverIdentity, timeout: 100_000 }).then(
    () => undefined,
    (error: { readonly code?: number; readonly stderr?: string }) => error,
  )
  assert.ok(failure && typeof failure.code === 'number' && failure.code > 0, 'it started')
  assert.match(failure.stderr ?? '', /pg_control|PG_VERSION|postgresql\.conf|Permission denied/)
}
