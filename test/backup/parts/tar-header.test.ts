import assert from 'node:assert/strict'
import { truncateSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  formatHeader,
  paddingOf,
  type PartTarEntry,
  tarBlockBytes,
  tarTrailer,
} from '../../../src/backup/parts/tar-header.ts'
import { listTar, readHeader, readTar } from './tars.ts'

const gigabyte = 1024 ** 3

/** One component of a path: any well-formed text that a file may be called. */
const component = fc
  .oneof(
    fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }),
    fc.string({ unit: fc.constantFrom('ü', '漢', '😀', 'e\u0301', '\\', ' ', "'", '"', '\n', '-', '\ufeff', '~') }),
    fc.stringMatching(/^[a-z0-9_.]{1,60}$/),
  )
  .map((text) => text.replace(/[\0/]/g, '_'))
  .filter((text) => text !== '' && text !== '.' && text !== '..')
const partName = fc.array(component, { minLength: 1, maxLength: 5 }).map((parts) => `/${parts.join('/')}`)
const mode = fc.integer({ min: 0, max: 0o7777 })
const mtime = fc.oneof(fc.integer({ min: 0, max: 0xffffffff }), fc.constantFrom(0, 8 ** 11 - 1))
const kind = fc.constantFrom('file' as const, 'directory' as const)

/** Permissions as ls writes them. */
function permissions({ kind: of, mode: bits }: PartTarEntry): string {
  const triple = (at: number, special: number, letter: string) => {
    const has = (bit: number) => (bits & (bit << at)) !== 0
    const executes = has(1) ? letter : letter.toUpperCase()
    return (has(4) ? 'r' : '-') + (has(2) ? 'w' : '-') + (bits & special ? executes : has(1) ? 'x' : '-')
  }
  const own = triple(6, 0o4000, 's') + triple(3, 0o2000, 's') + triple(0, 0o1000, 't')
  return (of === 'directory' ? 'd' : '-') + own
}

describe('a header of a part', () => {
  test('is read by tar-stream as it was written, bodies after it', async () => {
    const entry = fc.record({ name: partName, kind, mode, mtime, size: fc.integer({ min: 0, max: 3000 }) })
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { minLength: 1, maxLength: 5 }), async (entries) => {
        const whole = entries.map((each) => (each.kind === 'file' ? each : { ...each, size: 0 }))
        const bodies = whole.map(({ size }, index) => Buffer.alloc(size, 0x61 + index))
        const blocks = whole.flatMap((each, index) => {
          return [formatHeader(each), bodies[index] ?? Buffer.alloc(0), Buffer.alloc(paddingOf(each.size))]
        })
        const tar = Buffer.concat([...blocks, tarTrailer])
        assert.equal(tar.length % tarBlockBytes, 0)
        const read = await readTar(tar)
        assert.deepEqual(
          read.map(({ content, type, ...rest }) => ({ ...rest, kind: type, content: content.toString() })),
          whole.map((each, index) => ({ ...each, content: bodies[index]?.toString() })),
        )
      }),
      { numRuns: 300 },
    )
  })

  test('is read by /bin/tar as it was written', () => {
    const entry = fc.record({ name: partName, kind, mode, mtime, size: fc.constant(0) })
    fc.assert(
      fc.property(fc.array(entry, { minLength: 20, maxLength: 60 }), (entries) => {
        const tar = Buffer.concat([...entries.map((each) => formatHeader(each)), tarTrailer])
        assert.deepEqual(
          listTar(tar),
          entries.map((each) => ({ name: each.name, mode: permissions(each), size: 0, mtime: each.mtime })),
        )
      }),
      { numRuns: 15 },
    )
  })

  test('gives sizes of more than 8 GB to both', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'walrx-tar-'))
    try {
      for (const size of [8 * gigabyte - 1, 8 * gigabyte, 8 * gigabyte + 1, 9 * gigabyte + 511, 2 ** 40]) {
        for (const name of ['/base/5/16384', `/base/${'ü'.repeat(60)}`]) {
          const entry = { name, kind: 'file', size, mode: 0o600, mtime: 1_700_000_000 } as const
          const head = formatHeader(entry)
          assert.deepEqual(await readHeader(head), { name, type: 'file', size, mode: 0o600, mtime: entry.mtime })
          // A body of holes, which tar passes over.
          const file = join(directory, 'huge.tar')
          writeFileSync(file, head)
          truncateSync(file, head.length + size + paddingOf(size) + tarTrailer.length)
          assert.deepEqual(
            listTar(file).map((each) => [each.name, each.size]),
            [[name, size]],
          )
        }
      }
    } finally {
      await rm(directory, { recursive: true })
    }
  })

  test('needs no PAX up to 100 bytes of name, however few letters these are, and has it beyond', async () => {
    for (const [letters, blocks] of [
      ['a'.repeat(99), 1],
      ['a'.repeat(100), 3],
      ['ü'.repeat(49) + 'a', 1],
      ['ü'.repeat(50), 3],
      ['😀'.repeat(24) + 'abc', 1],
      ['😀'.repeat(25), 3],
    ] as const) {
      const name = `/${letters}`
      const header = formatHeader({ name, kind: 'file', size: 0, mode: 0o600, mtime: 0 })
      assert.equal(header.length, blocks * tarBlockBytes, name)
      const tar = Buffer.concat([header, tarTrailer])
      assert.deepEqual([(await readTar(tar))[0]?.name, listTar(tar)[0]?.name], [name, name])
    }
  })

  test('shows readers without PAX the beginning of a long name, in whole letters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 26, maxLength: 120 }), (text) => {
        const name = `/${text.replaceAll('\0', '_')}`
        fc.pre(Buffer.byteLength(name) > 100)
        const header = formatHeader({ name, kind: 'file', size: 1, mode: 0o600, mtime: 0 })
        const field = header.subarray(-tarBlockBytes).subarray(0, 100)
        const short = field.toString('utf8').replace(/\0+$/, '')
        assert.ok(name.startsWith(short), `${JSON.stringify(short)} of ${JSON.stringify(name)}`)
        assert.ok(Buffer.byteLength(short) > 96)
      }),
      { numRuns: 500 },
    )
  })

  test('counts its own digits in a PAX record, at every length about a power of ten', async () => {
    for (const letters of [101, 102, 983, 984, 985, 986, 987, 988, 989, 990, 991, 992, 993, 9979, 9984, 9985, 9986]) {
      const name = `/${'n'.repeat(letters)}`
      const tar = Buffer.concat([formatHeader({ name, kind: 'file', size: 0, mode: 0o600, mtime: 0 }), tarTrailer])
      assert.equal((await readTar(tar))[0]?.name, name)
      assert.equal(listTar(tar)[0]?.name, name)
    }
  })
})
