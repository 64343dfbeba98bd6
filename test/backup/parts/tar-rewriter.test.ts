import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { TarRewriter } from '../../../src/backup/parts/tar-rewriter.ts'
import type { BackupTablespace } from '../../../src/postgres/backup/base-backup-sink.ts'
import { RecordingPlacer, type Wait } from './recording-placer.ts'
import { readTar, type ServerFile, serverTar } from './tars.ts'

const main: BackupTablespace = { oid: undefined, location: '', sizeBytes: undefined }

interface Archive {
  readonly tablespace: BackupTablespace
  readonly files: readonly ServerFile[]
}

/** Feeds archives in pieces of these lengths, from memory that is used again as soon as a piece has been taken. */
async function rewrite(rewriter: TarRewriter, archives: readonly Archive[], lengths: Iterator<number>): Promise<void> {
  for (const { files, tablespace } of archives) {
    await rewriter.beginArchive(tablespace)
    const tar = serverTar(files)
    const memory = Buffer.alloc(tar.length)
    for (let at = 0; at < tar.length;) {
      const length = tar.copy(memory, 0, at, at + ((lengths.next().value as number | undefined) ?? tar.length))
      await rewriter.feed(memory.subarray(0, length))
      memory.fill(0xee, 0, length)
      at += length
    }
  }
  rewriter.end()
}

/** Feeds one archive of the data directory at once. */
async function rewriteMain(
  ...files: readonly ServerFile[]
): Promise<{ placer: RecordingPlacer; rewriter: TarRewriter }> {
  const placer = new RecordingPlacer()
  const rewriter = new TarRewriter(placer)
  await rewrite(rewriter, [{ tablespace: main, files }], [].values())
  return { placer, rewriter }
}

const content = fc
  .tuple(fc.oneof(fc.integer({ min: 0, max: 3000 }), fc.constantFrom(0, 1, 511, 512, 513, 8192)), fc.nat(255))
  .map(([length, fill]) => Buffer.alloc(length, fill))
const component = fc
  .oneof(fc.stringMatching(/^[a-z0-9_]{1,12}$/), fc.string({ unit: 'binary', minLength: 1, maxLength: 8 }))
  .map((text) => text.replace(/[\0/]/g, '_').replace(/^\.+$/, 'dots'))
// A hundred bytes are no more than a server can send; with the prefix of a tablespace they take a PAX header.
const path = fc
  .oneof(fc.array(component, { minLength: 1, maxLength: 4 }), fc.constantFrom(['n'.repeat(99)], ['x', 'ü'.repeat(47)]))
  .map((parts) => parts.join('/'))
  .filter((name) => Buffer.byteLength(name) <= 99)
const file = fc.record({
  name: path,
  kind: fc.constantFrom('file' as const, 'file' as const, 'directory' as const),
  content,
  mode: fc.integer({ min: 0, max: 0o777 }),
  mtime: fc.integer({ min: 0, max: 2 ** 32 }),
})
const files = fc.uniqueArray(file, { selector: ({ name }) => name, maxLength: 8 })
const place = fc.oneof(fc.constant('/mnt/fast'), fc.constant('in place'))
const tablespaces = fc.uniqueArray(fc.record({ oid: fc.integer({ min: 16384, max: 2 ** 32 - 1 }), place, files }), {
  selector: ({ oid }) => oid,
  maxLength: 3,
})
const asideNames = {
  'global/pg_control': '/global/pg_control',
  backup_label: 'backup_label',
  tablespace_map: 'tablespace_map',
}
const aside = fc.subarray(Object.keys(asideNames) as (keyof typeof asideNames)[])
const lengths = fc.infiniteStream(fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.constantFrom(1, 511, 512, 513, 1e6)))
const waits = fc.infiniteStream(fc.constantFrom<Wait>(0, 0, 0, 1, 2))

describe('an archive of the server', () => {
  test('becomes entries of a part however it is cut into pieces and whenever their target wants to wait', async () => {
    const world = fc.record({ tablespaces, files, aside, asideContent: content, lengths, waits })
    await fc.assert(
      fc.asyncProperty(world, async (drawn) => {
        const spaces = drawn.tablespaces.map(({ files: own, oid, place: where }): Archive => {
          const location = where === 'in place' ? `pg_tblspc/${oid}` : where
          return { tablespace: { oid, location, sizeBytes: undefined }, files: own }
        })
        const links = spaces.map(({ tablespace: { location, oid } }): ServerFile => {
          return { name: `pg_tblspc/${oid}`, kind: 'symlink', linkTarget: location }
        })
        const asides = drawn.aside.map((name): ServerFile => {
          return { name, kind: 'file', content: drawn.asideContent, mode: 0o640, mtime: 7 }
        })
        const taken = new Set<unknown>([...links, ...asides].map(({ name }) => name))
        const plain = drawn.files.filter(({ name }) => !taken.has(name))
        const halves = [asides.slice(0, 1), asides.slice(1)] as const
        const archives = [...spaces, { tablespace: main, files: [...halves[0], ...links, ...plain, ...halves[1]] }]

        const placer = new RecordingPlacer(drawn.waits)
        const rewriter = new TarRewriter(placer)
        await rewrite(rewriter, archives, drawn.lengths)

        const root = plain.find(({ kind }) => kind === 'directory')
        const expected = [
          ...spaces.flatMap(({ files: own, tablespace: { location, oid } }) => [
            ...(location.startsWith('/')
              ? []
              : [{ name: `/pg_tblspc/${oid}`, kind: 'directory' as const, mode: 0o700 }]),
            ...own.map((each) => ({ ...each, name: `/pg_tblspc/${oid}/${each.name}` })),
          ]),
          ...plain.flatMap((each) => [
            ...(each === root ? [{ ...root, name: '/' }] : []),
            { ...each, name: `/${each.name}` },
          ]),
        ].map((each) => (each.kind === 'file' ? each : { ...each, content: Buffer.alloc(0) }))
        // A tar needs its end to be read.
        const read = await readTar(Buffer.concat([placer.tar, Buffer.alloc(1024)]))
        const ofNow = new Set(
          spaces
            .filter(({ tablespace }) => !tablespace.location.startsWith('/'))
            .map(({ tablespace }) => `/pg_tblspc/${tablespace.oid}`),
        )
        assert.deepEqual(
          read.map(({ content: body, mode, mtime, name, type }) => {
            return { name, kind: type, mode, body, ...(ofNow.has(name) ? {} : { mtime }) }
          }),
          expected.map((each) => {
            return {
              name: each.name,
              kind: each.kind,
              mode: each.mode,
              body: each.content,
              ...('mtime' in each ? { mtime: each.mtime } : {}),
            }
          }),
        )
        const regular = expected.filter(({ kind }) => kind === 'file')
        assert.deepEqual(
          [...rewriter.files],
          regular.map((each) => {
            const mtime = new Date(('mtime' in each ? each.mtime : 0) * 1000).toISOString().replace('.000', '')
            return [each.name, { isIncremented: false, isSkipped: false, mtime }]
          }),
        )
        // Placed by name but for directories, which no table of files has.
        assert.deepEqual(
          placer.placed.map(({ name }) => name),
          expected.map(({ kind, name }) => (kind === 'file' ? name : undefined)),
        )
        assert.deepEqual(
          [...rewriter.aside],
          drawn.aside.map((name) => {
            const own = { name: asideNames[name], mode: 0o640, mtime: 7, content: drawn.asideContent }
            return [asideNames[name], own]
          }),
        )
      }),
      { numRuns: 150 },
    )
  })

  test('is the same byte by byte', async () => {
    const some: ServerFile[] = [
      { name: 'base', kind: 'directory' },
      { name: 'base/1', kind: 'file', content: Buffer.alloc(700, 1) },
      { name: 'global/pg_control', kind: 'file', content: Buffer.alloc(8192, 2) },
      { name: 'empty', kind: 'file' },
    ]
    const whole = await rewriteMain(...some)
    const placer = new RecordingPlacer()
    const rewriter = new TarRewriter(placer)
    await rewrite(
      rewriter,
      [{ tablespace: main, files: some }],
      fc.sample(fc.infiniteStream(fc.constant(1)), 1)[0] as Iterator<number>,
    )
    assert.ok(placer.tar.equals(whole.placer.tar))
    assert.deepEqual(rewriter.aside, whole.rewriter.aside)
    assert.deepEqual(rewriter.files, whole.rewriter.files)
  })

  test('has its files set aside by their names in the data directory only', async () => {
    const names = ['global/pg_control', 'backup_label', 'tablespace_map']
    const some = names.map((name): ServerFile => ({ name, kind: 'file', content: Buffer.from(name) }))
    const placer = new RecordingPlacer()
    const rewriter = new TarRewriter(placer)
    const tablespace = { oid: 16385, location: '/mnt/fast', sizeBytes: undefined }
    const deeper = some.map((each) => ({ ...each, name: `base/${each.name as string}` }))
    await rewrite(
      rewriter,
      [
        { tablespace, files: some },
        { tablespace: main, files: deeper },
      ],
      [].values(),
    )
    assert.equal(rewriter.aside.size, 0)
    const expected = [...names.map((name) => `/pg_tblspc/16385/${name}`), ...names.map((name) => `/base/${name}`)]
    assert.deepEqual([...rewriter.files.keys()], expected)
  })

  test('that names its files from ./ on means the same', async () => {
    const { rewriter } = await rewriteMain(
      { name: './base/1', kind: 'file' },
      { name: './././backup_label', kind: 'file', content: Buffer.from('START') },
    )
    assert.deepEqual([[...rewriter.files.keys()], [...rewriter.aside.keys()]], [['/base/1'], ['backup_label']])
  })
})

describe('directories and modes', () => {
  test('are noted as the server sends them, those of the archives of tablespaces and of increments too', async () => {
    const rewriter = new TarRewriter(new RecordingPlacer())
    const entry = (name: string, kind: 'file' | 'directory', mode: number): ServerFile => {
      return { name, kind, mode, mtime: 1, content: Buffer.alloc(0) }
    }
    const place = { oid: 16384, location: '/mnt/fast', sizeBytes: undefined }
    const archives = [
      { tablespace: place, files: [entry('PG_17_1', 'directory', 0o700), entry('PG_17_1/5/9', 'file', 0o600)] },
      {
        tablespace: main,
        files: [
          entry('base', 'directory', 0o750),
          entry('postgresql.conf', 'file', 0o644),
          entry('global/pg_control', 'file', 0o600),
        ],
      },
    ]
    await rewrite(rewriter, archives, [].values())
    assert.deepEqual(rewriter.tree, {
      fileMode: 0o600,
      modes: new Map([['postgresql.conf', 0o644]]),
      directories: new Map([
        ['pg_tblspc/16384/PG_17_1', 0o700],
        ['', 0o750],
        ['base', 0o750],
      ]),
    })
  })
})
