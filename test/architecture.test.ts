import assert from 'node:assert/strict'
import { builtinModules } from 'node:module'
import { describe, test } from 'node:test'
import {
  badFiles,
  badSpecifiers,
  environmentReads,
  flatFolders,
  importCircles,
  tooLong,
  undocumented,
  unsafeStart,
  upwardImports,
  upwardInside,
} from './lint/architecture-rules.ts'
import { parseSource, readSources, type SourceFile } from './lint/source-files.ts'
import { foldersInStorage, outsideStoredRoom } from './lint/stored-room.ts'

/** Modules of Node whose functions that we import by name are older than any Node that still runs somewhere. */
const oldModules = ['node:fs']

const sources = readSources()

/** Sources made up for a test: texts by path. */
const made = (texts: Record<string, string>): SourceFile[] =>
  Object.entries(texts).map(([path, text]) => parseSource(path, text))

describe('the sources', () => {
  test('are all here', () => assert.ok(sources.length > 20, `${sources.length} files`))

  test('import only from rooms below their own', () => assert.deepEqual(upwardImports(sources), []))

  test('import only from sub-rooms below their own', () => assert.deepEqual(upwardInside(sources), []))

  test('import each other in no circle', () => assert.deepEqual(importCircles(sources), []))

  test('have no barrels, no default exports and names of their own', () => assert.deepEqual(badFiles(sources), []))

  test('have at most 350 lines a file and 60 a function', () => assert.deepEqual(tooLong(sources), []))

  test('lie in folders of at most 14 files', () => assert.deepEqual(flatFolders(sources), []))

  test('read the environment in config and main only', () => assert.deepEqual(environmentReads(sources), []))

  test('read and write objects in one room only', () => assert.deepEqual(outsideStoredRoom(sources), []))

  test('name no folder of an archive in the storage', () => assert.deepEqual(foldersInStorage(sources), []))

  test('explain whatever they export', () => assert.deepEqual(undocumented(sources), []))

  test('name modules exactly', () => assert.deepEqual(badSpecifiers(sources, builtinModules), []))

  test('load nothing that an old Node lacks before its version is checked', () => {
    assert.deepEqual(unsafeStart(sources, oldModules), [])
  })
})

describe('the rules see', () => {
  test('imports upwards, sideways, of types, and dynamic ones', () => {
    const complaints = upwardImports(
      made({
        'storage/a.ts': "import { x } from '../postgres/lsn.ts'",
        'storage/b.ts': "import type { X } from '../cli/command.ts'",
        'storage/c.ts': "export const load = () => import('../config/load.ts')",
        'storage/d.ts': "export * from '../walg/names.ts'",
        'storage/e.ts': "type X = import('../catalog/x.ts').X",
        'receive/f.ts': "import { x } from '../restore/x.ts'",
        'cli/g.ts': "import { x } from '../main.ts'",
        'storage/h.ts': "import { x } from '../../test/x.ts'",
        'helpers/i.ts': "import { x } from '../primitives/x.ts'",
        'storage/fine.ts': "import { x } from '../primitives/x.ts'\nimport { y } from './a.ts'\nimport 'node:fs'",
      }),
    )
    assert.equal(complaints.length, 9, complaints.join('\n'))
    assert.equal(complaints[0], 'storage/a.ts imports ../postgres/lsn.ts: postgres is not below storage')
  })

  test('imports upwards, sideways and from nowhere inside a room', () => {
    const complaints = upwardInside(
      made({
        'receive/segment/a.ts': "import { x } from '../tail/x.ts'",
        'receive/slot/b.ts': "import type { X } from '../tail/x.ts'",
        'receive/ports.ts': "import { x } from './receiver.ts'",
        'receive/elsewhere/c.ts': '',
        'status/deep/d.ts': '',
        'receive/receiver.ts': "import { x } from './gap/x.ts'\nimport { y } from './ports.ts'",
        'receive/gap/fine.ts': "import { x } from './b.ts'\nimport { y } from '../../storage/x.ts'",
      }),
    )
    assert.equal(complaints.length, 5, complaints.join('\n'))
    assert.equal(complaints[0], 'receive/segment/a.ts imports ../tail/x.ts: tail is not below segment')
  })

  test('circles, however long, also of types', () => {
    const circle = {
      'walg/a.ts': "import { b } from './b.ts'",
      'walg/b.ts': "import { c } from './c.ts'",
      'walg/c.ts': "import { a } from './a.ts'",
    }
    assert.deepEqual(importCircles(made(circle)), ['walg/a.ts - walg/b.ts - walg/c.ts'])
    const ofTypes = { ...circle, 'walg/c.ts': "import type { A } from './a.ts'" }
    assert.deepEqual(importCircles(made(ofTypes)), ['walg/a.ts - walg/b.ts - walg/c.ts'])
    assert.deepEqual(importCircles(made({ ...circle, 'walg/c.ts': '' })), [])
    assert.deepEqual(importCircles(made({ 'walg/a.ts': "const x = () => import('./a.ts')" })), ['walg/a.ts'])
  })

  test('barrels, default exports and names that say nothing', () => {
    const complaints = badFiles(
      made({
        'walg/index.ts': '',
        'walg/utils.ts': '',
        'primitives/string-utils.ts': '',
        'walg/segmentName.ts': '',
        'walg/a.ts': "export * from './b.ts'",
        'walg/b.ts': 'const x = 1\nexport { x }',
        'walg/c.ts': 'export default 1',
        'walg/d.ts': 'export default function f() {}',
      }),
    )
    assert.equal(complaints.length, 8, complaints.join('\n'))
  })

  test('long files and functions of every kind', () => {
    const lines = (count: number) => 'x\n'.repeat(count)
    assert.deepEqual(tooLong(made({ 'walg/a.ts': lines(350) })), [])
    assert.deepEqual(tooLong(made({ 'walg/a.ts': lines(351) })), ['walg/a.ts has 351 lines'])
    for (const [open, close] of [
      ['function f() {\n', '}'],
      ['const f = () => {\n', '}'],
      ['class A { m() {\n', '} }'],
      ['class A { get m() {\n', '} }'],
      ['const o = { async *m() {\n', '} }'],
    ] as const) {
      assert.deepEqual(tooLong(made({ 'walg/a.ts': open + lines(58) + close })), [], open)
      assert.deepEqual(
        tooLong(made({ 'walg/a.ts': open + lines(59) + close })),
        ['walg/a.ts:1 is a function of 61 lines'],
        open,
      )
    }
  })

  test('folders of many files', () => {
    const many = (count: number) =>
      made(Object.fromEntries(Array.from({ length: count }, (_, index) => [`walg/wal/a${index}.ts`, ''])))
    assert.deepEqual(flatFolders(many(14)), [])
    assert.deepEqual(flatFolders(many(15)), ['walg/wal has 15 files'])
  })

  test('reads of the environment in any form', () => {
    const texts = [
      'process.env.HOME',
      "process['env']",
      "import { env } from 'node:process'",
      'const { A } = process.env',
    ]
    for (const text of texts) {
      assert.equal(environmentReads(made({ 'walg/a.ts': text })).length, 1, text)
      assert.equal(environmentReads(made({ 'config/a.ts': text })).length, 0, text)
    }
  })

  test('reads and writes of the storage, and codecs, in any form', () => {
    const storage = "import type { Storage } from '../storage/storage.ts'\ndeclare const s: Storage\n"
    const codec = "import { zstdCodec } from '../compression/zstd/zstd.ts'\n"
    const nearby = `${storage.replace('../', '../../')}await s.get('key')`
    const bad = [
      `${storage}await s.get('key')`,
      `${storage}await s?.putIfAbsent('key', bytes)`,
      `${storage}const read = s.get.bind(s)`,
      `${storage}s['put']('key', bytes)`,
      `${storage}for (const each of ['get', 'put'] as const) s[each]`,
      `${storage}const { get } = s`,
      `${storage}const { put: write } = s`,
      `${storage}const f = ({ get }: Pick<Storage, 'get'>) => get`,
      `${storage}class A { s = s }\nnew A().s.put('key', bytes)`,
      "import { readObject } from '../storage/storage.ts'",
      "import { readObject as read } from '../storage/storage.ts'",
      "import * as all from '../storage/storage.ts'\nall.readObject",
      "const { readObject } = await import('../storage/storage.ts')",
      "import { FileStorage } from '../storage/file/file-storage.ts'\nnew FileStorage(x).get('key')",
      "import { codecOfExtension } from '../compression/codecs.ts'",
      `${codec}zstdCodec().encoder()`,
      `${codec}zstdCodec().decodePieces?.(source)`,
      `${codec}await zstdCodec().encodeInPlace(buffer, 1)`,
      "import type { WriteCodec } from '../compression/codec.ts'\nconst f = (c: WriteCodec) => c.decoder()",
    ]
    const fine = [
      `${storage}await s.head('key')`,
      "new Map([['storage', 1]]).get('storage')",
      "import { openWriteCodec } from '../compression/codecs.ts'\nopenWriteCodec('zstd').extension",
      'declare const archive: { encodeInPlace(b: Buffer): void }\narchive.encodeInPlace(x)',
    ]
    const files = { 'walg/wal/bad.ts': nearby, 'walg/stored/fine.ts': nearby }
    bad.forEach((text, index) => Object.assign(files, { [`backup/bad-${index}.ts`]: text }))
    fine.forEach((text, index) => Object.assign(files, { [`backup/fine-${index}.ts`]: text }))
    const below = sources.filter(({ room }) => ['storage', 'compression', 'primitives'].includes(room))
    const complaints = outsideStoredRoom([...below, ...made(files)])
    const found = complaints.map((complaint) => complaint.split(':', 1)[0] ?? '')
    const expected = Object.keys(files).filter((path) => path.includes('bad'))
    assert.deepEqual(found.toSorted(), expected.toSorted())
    assert.ok(complaints.includes('backup/bad-0.ts:3 uses get: read and write by walg/stored/'), complaints.join('\n'))
  })

  test('folders of an archive in the storage', () => {
    const texts = { 'storage/a.ts': "const at = 'wal_005/x'", 'storage/s3/b.ts': '/** `put of basebackups_005/x` */' }
    assert.equal(foldersInStorage(made({ ...texts, 'walg/names.ts': "const at = 'wal_005/'" })).length, 2)
  })

  test('exports without a comment', () => {
    for (const text of [
      'export function f() {}',
      'export class A {}',
      'export interface A {}',
      'export type A = 1',
      'export const a = 1',
    ]) {
      assert.equal(undocumented(made({ 'walg/a.ts': text })).length, 1, text)
      assert.equal(undocumented(made({ 'walg/a.ts': `// no doc\n${text}` })).length, 1, text)
      assert.equal(undocumented(made({ 'walg/a.ts': `/** What it is. */\n${text}` })).length, 0, text)
    }
    const shared = '/** Smallest and largest. */\nexport const min = 1\nexport const max = 2\n'
    assert.deepEqual(undocumented(made({ 'walg/a.ts': shared })), [])
    assert.deepEqual(undocumented(made({ 'walg/a.ts': `${shared}\nexport const other = 3` })), [
      'walg/a.ts:5 has no doc comment',
    ])
  })

  test('modules that are not named exactly', () => {
    const texts = {
      'walg/a.ts': "import fs from 'fs'",
      'walg/b.ts': "import { x } from './a.js'",
      'walg/c.ts': "import pg from 'pg'",
    }
    assert.equal(badSpecifiers(made(texts), builtinModules).length, 2)
  })

  test('what an old Node would fail on at the start', () => {
    const complain = (main: string, other = '') => unsafeStart(made({ 'main.ts': main, 'cli/a.ts': other }), oldModules)
    assert.deepEqual(complain("import module from 'node:module'\nimport { existsSync } from 'node:fs'"), [])
    assert.equal(complain("import { enableCompileCache } from 'node:module'").length, 1)
    assert.equal(complain("import { a } from './cli/a.ts'", "import yargs from 'yargs'").length, 1)
    assert.deepEqual(complain("const a = await import('./cli/a.ts')", "import yargs from 'yargs'"), [])
  })
})
