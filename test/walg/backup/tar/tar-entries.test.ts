/** Tars of any tool are read as a library reads them, in pieces of any size, and a damaged one is refused. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { pack } from 'tar-stream'
import { hasCode } from '../../../../src/primitives/errors.ts'
import { type TarEntry, tarEntries } from '../../../../src/walg/backup/tar/tar-entries.ts'
import { readTar } from '../../../backup/parts/tars.ts'
import { chunksOf, randomBytesOf } from '../../../harness/made/codec-streams.ts'
import { Random } from '../../../harness/random.ts'

type Read = Pick<TarEntry, 'name' | 'kind' | 'size' | 'mode'> & { readonly content: Buffer }

/** What comes out, and how many pieces were not freed. Each piece is overwritten when it is freed. */
async function read(tar: Buffer, lengths: readonly number[], looksAhead = false): Promise<Read[]> {
  let unfreed = 0
  async function* pieces() {
    for (const chunk of chunksOf(tar, ...lengths)) {
      const bytes = Buffer.from(chunk)
      unfreed++
      yield await Promise.resolve({
        bytes,
        free: () => {
          bytes.fill(0xee)
          unfreed--
        },
      })
    }
  }
  const entries: Read[] = []
  const expected: Omit<Read, 'content'>[] = []
  try {
    for await (const entry of tarEntries(pieces(), 'the tar')) {
      const { kind, mode, name, size } = entry
      const head = { name, kind, size, mode }
      if (expected.length > 0) assert.deepEqual(head, expected.shift())
      else if (looksAhead) expected.push(...(entry.ahead?.(7) ?? []))
      const content: Buffer[] = []
      for await (const chunk of entry.body) content.push(Buffer.from(chunk))
      entries.push({ ...head, content: Buffer.concat(content) })
    }
    assert.deepEqual(expected, [], 'entries were seen ahead that did not come')
    return entries
  } finally {
    assert.equal(unfreed, 0)
  }
}

const kinds: Readonly<Record<string, TarEntry['kind']>> = {
  file: 'file',
  'contiguous-file': 'file',
  directory: 'directory',
}

/** The same by tar-stream. */
async function readByLibrary(tar: Buffer): Promise<Read[]> {
  return (await readTar(tar)).map(({ content, mode, name, size, type }) => {
    const kind = kinds[type] ?? 'other'
    return { name, kind, size: kind === 'directory' ? 0 : size, mode, content }
  })
}

/** Pieces of these lengths, again and again. */
const cuts: readonly (readonly number[])[] = [[1], [511, 2], [512], [1024, 5], [1 << 20]]

async function checkRead(tar: Buffer): Promise<Read[]> {
  const expected = await readByLibrary(tar)
  for (const lengths of cuts) {
    // A turn of the loop for each byte.
    if (tar.length > 20_000 && lengths[0] === 1) continue
    assert.deepEqual(await read(tar, lengths), expected, `pieces of ${lengths.join()}`)
    assert.deepEqual(await read(tar, lengths, true), expected, `ahead, pieces of ${lengths.join()}`)
  }
  return expected
}

let root = ''
before(() => {
  root = mkdtempSync(join(tmpdir(), 'walrx-tars-'))
  const base = join(root, 'data/base')
  mkdirSync(base, { recursive: true })
  for (const size of [0, 1, 511, 512, 513, 8192]) writeFileSync(join(base, String(size)), randomBytesOf(size, size))
  writeFileSync(join(base, 'x'.repeat(100)), 'a name that just fits')
  writeFileSync(join(base, `${'é'.repeat(60)}-${'y'.repeat(80)}`), 'a long name')
  const deep = join(base, 'd'.repeat(90), 'e'.repeat(90), 'f'.repeat(90))
  mkdirSync(deep, { recursive: true })
  writeFileSync(join(deep, 'g'.repeat(90)), 'a name beyond every prefix')
  symlinkSync('t'.repeat(200), join(base, 'link'))
  linkSync(join(base, '512'), join(base, 'hard'))
})
after(() => rmSync(root, { recursive: true, force: true }))

const gnu = spawnSync('tar', ['--version'], { encoding: 'utf8' }).stdout ?? ''
const withoutGnu = gnu.includes('GNU tar') ? false : 'tar is not GNU tar'

describe('a tar by GNU tar', { skip: withoutGnu }, () => {
  const made = (...args: string[]) => execFileSync('tar', ['-C', root, '-cf', '-', ...args], { maxBuffer: 1 << 26 })

  for (const format of ['gnu', 'pax', 'oldgnu']) {
    test(`in the format ${format} is read as it was made`, async () => {
      const entries = await checkRead(made(`--format=${format}`, '--sort=name', 'data'))
      assert.ok(entries.some(({ name }) => name.length > 360))
      assert.ok(
        entries.some(({ content, name }) => name.endsWith('/8192') && content.equals(randomBytesOf(8192, 8192))),
      )
      assert.equal(entries.filter(({ kind }) => kind === 'other').length, 2, 'the links')
    })
  }

  test('in the format ustar is read as it was made', async () => {
    const entries = await checkRead(made('--format=ustar', 'data/base/513', `data/base/${'x'.repeat(100)}`))
    assert.deepEqual(
      entries.map(({ size }) => size),
      [513, 21],
    )
  })

  for (const format of ['gnu', 'pax']) {
    test(`in the format ${format} has files beyond what octal digits hold, and more is asked for`, async () => {
      const large = 9 * 2 ** 30
      writeFileSync(join(root, 'large'), '')
      truncateSync(join(root, 'large'), large)
      // Cut by head, which ends the tar early.
      const script = `tar -C "$0" --format=${format} -cf - large 2>/dev/null | head -c 8192`
      const tar = execFileSync('sh', ['-c', script, root])
      const sizes: number[] = []
      await assert.rejects(
        (async () => {
          for await (const { size } of tarEntries(once(tar), 'the tar')) sizes.push(size)
        })(),
        (error) =>
          hasCode(error, 'WALRX_OBJECT_DAMAGED') &&
          / ends \d+ bytes before the end of its last file/.test(error.message),
      )
      assert.deepEqual(sizes, [large])
    })
  }
})

async function* once(bytes: Uint8Array) {
  yield await Promise.resolve({ bytes, free: () => {} })
}

/** Drawn files, by tar-stream. */
async function drawnTar(random: Random): Promise<Buffer> {
  const writer = pack()
  for (let left = random.int(1, 12); left > 0; left--) {
    const name = `base/${random.int(1, 9)}/${random.chance(0.2) ? 'ä'.repeat(random.int(50, 200)) : random.int(1, 1e6)}`
    if (random.chance(0.1)) writer.entry({ name: `${name}/`, type: 'directory', mode: 0o700 })
    else if (random.chance(0.1)) writer.entry({ name, type: 'symlink', linkname: 'z'.repeat(random.int(1, 150)) })
    else writer.entry({ name, mode: 0o600 }, randomBytesOf(left, random.pick([0, 1, 100, 511, 512, 513, 3000])))
  }
  writer.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of writer) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

describe('a tar by tar-stream', () => {
  test('is read as it was made', async () => {
    for (let seed = 1; seed <= 5; seed++) await checkRead(await drawnTar(new Random(seed)))
  })

  test('that is cut is damaged, or has lost nothing but what follows its last body', async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const random = new Random(seed)
      const tar = await drawnTar(random)
      const whole = await readByLibrary(tar)
      let damaged = 0
      for (let n = 0; n < 60; n++) {
        const end = random.int(0, tar.length)
        try {
          const entries = await read(tar.subarray(0, end), [random.pick([100, 512, 5000])], true)
          assert.deepEqual(entries, whole.slice(0, entries.length), `seed ${seed}, cut at ${end}`)
        } catch (error) {
          assert.ok(hasCode(error, 'WALRX_OBJECT_DAMAGED'), `seed ${seed}, cut at ${end}: ${String(error)}`)
          damaged++
        }
      }
      assert.ok(damaged > 0)
    }
  })

  test('with a changed header is damaged', async () => {
    const tar = await drawnTar(new Random(3))
    // The checksum ends before its last byte.
    for (let at = 0; at < 512; at += at === 154 ? 2 : 1) {
      const changed = Buffer.from(tar)
      changed[at] = (changed[at] ?? 0) ^ 0x11
      await assert.rejects(read(changed, [700]), (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED'), `at ${at}`)
    }
  })

  test('with other bytes after its end is damaged', async () => {
    const tar = await drawnTar(new Random(4))
    const longer = Buffer.concat([tar, randomBytesOf(1, 700)])
    await assert.rejects(read(longer, [4096]), (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED'))
    await read(Buffer.concat([tar, Buffer.alloc(10_240)]), [4096])
  })
})
