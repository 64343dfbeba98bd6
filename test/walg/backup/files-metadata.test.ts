import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { hasCode } from '../../../src/primitives/errors.ts'
import {
  decodeFilesMetadata,
  embeddedFilesMetadata,
  encodeFilesMetadata,
  type FileRecord,
  type FilesMetadata,
} from '../../../src/walg/backup/files-metadata.ts'
import { goldenDocument } from '../../harness/made/golden-backups.ts'

const key = 'basebackups_005/base_X/files_metadata.json'
const record: FileRecord = { isIncremented: false, isSkipped: false, mtime: '2026-11-20T22:18:09Z' }

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  await Promise.resolve()
  for (let offset = 0; offset < bytes.length; offset += size) yield bytes.subarray(offset, offset + size)
}

const decode = (text: string | Uint8Array, size = 64 * 1024) =>
  decodeFilesMetadata(pieces(Buffer.from(text), size), key)

async function encode(metadata: FilesMetadata): Promise<string> {
  const chunks: Uint8Array[] = []
  for await (const chunk of encodeFilesMetadata(metadata)) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

interface Plain {
  readonly Files: Readonly<Record<string, { IsIncremented: boolean; IsSkipped: boolean; MTime: string }>>
  readonly TarFileSets?: Readonly<Record<string, string[]>>
}

describe('tables of the two tools', () => {
  for (const [archive, backup, parts] of [
    ['walg-remote-zstd', 'base_000000010000000000000002', []],
    [
      'walg-local-lz4-deltas',
      'base_000000010000000000000004_D_000000010000000000000002',
      ['backup_label.tar.lz4', 'part_001.tar.lz4'],
    ],
    ['walrus-remote-zstd', 'base_000000010000000000000002', ['part_001.tar', 'part_002.tar']],
  ] as const) {
    test(`${archive} is read as JSON says it, in pieces of any size`, async () => {
      const bytes = goldenDocument(archive, backup, 'files_metadata.json')
      const plain = JSON.parse(bytes.toString()) as Plain
      for (const size of [64 * 1024, 1000, 1]) {
        const { files, tarFileSets } = await decode(bytes, size)
        assert.equal(files.size, Object.keys(plain.Files).length)
        for (const [name, { IsIncremented, IsSkipped, MTime }] of Object.entries(plain.Files)) {
          assert.deepEqual(files.get(name), { isIncremented: IsIncremented, isSkipped: IsSkipped, mtime: MTime })
        }
        assert.deepEqual(Object.fromEntries(tarFileSets), plain.TarFileSets ?? {})
        assert.deepEqual([...tarFileSets.keys()].sort(), [...parts])
      }
    })

    test(`${archive} is the same after it is written and read again`, async () => {
      const read = await decode(goldenDocument(archive, backup, 'files_metadata.json'))
      assert.deepEqual(await decode(await encode(read)), read)
    })
  }
})

test('a table is written in the form of Go', async () => {
  assert.equal(
    await encode({
      files: new Map([
        ['/base/1/1259', record],
        ['/a "b" <é>\n', { ...record, corruptBlocks: { count: 12, some: [1, 5] } }],
      ]),
      tarFileSets: new Map([['part_001.tar.zst', ['/base/1/1259', '/a "b" <é>\n']]]),
    }),
    '{"Files":{"/base/1/1259":{"IsIncremented":false,"IsSkipped":false,"MTime":"2026-11-20T22:18:09Z","UpdatesCount":0},' +
      '"/a \\"b\\" <é>\\n":{"IsIncremented":false,"IsSkipped":false,"MTime":"2026-11-20T22:18:09Z",' +
      '"CorruptBlocks":{"CorruptBlocksCount":12,"SomeCorruptBlocks":[1,5]},"UpdatesCount":0}},' +
      '"TarFileSets":{"part_001.tar.zst":["/base/1/1259","/a \\"b\\" <é>\\n"]}}',
  )
})

test('empty tables are left out', async () => {
  const files = new Map([['/a', record]])
  const tarFileSets = new Map([['part_001.tar', []]])
  const none = new Map<string, never>()
  assert.equal(await encode({ files: none, tarFileSets: none }), '{}')
  assert.equal(await encode({ files: none, tarFileSets }), '{"TarFileSets":{"part_001.tar":[]}}')
  assert.match(await encode({ files, tarFileSets: none }), /^\{"Files":\{"\/a":\{.*\}\}\}$/)
  for (const metadata of [
    { files: none, tarFileSets },
    { files, tarFileSets: none },
    { files: none, tarFileSets: none },
  ])
    assert.deepEqual(await decode(await encode(metadata)), metadata)
})

test('any names survive, whatever they look like to JavaScript', async () => {
  const name = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 20 }).filter((text) => text.isWellFormed()),
    fc.constantFrom('__proto__', 'constructor', '123', '', 'Files', 'a.b', '$', '*'),
  )
  const table = fc.record({
    files: fc.array(fc.tuple(name, fc.boolean(), fc.boolean()), { maxLength: 20 }),
    sets: fc.array(fc.tuple(name, fc.array(name, { maxLength: 5 })), { maxLength: 5 }),
    size: fc.integer({ min: 1, max: 40 }),
  })
  await fc.assert(
    fc.asyncProperty(table, async ({ files, sets, size }) => {
      const metadata = {
        files: new Map(
          files.map(([key, isIncremented, isSkipped]) => [key, { isIncremented, isSkipped, mtime: '' }] as const),
        ),
        tarFileSets: new Map(sets),
      }
      const text = await encode(metadata)
      JSON.parse(text)
      assert.deepEqual(await decode(text, size), metadata)
    }),
  )
  assert.equal(({} as { isSkipped?: boolean }).isSkipped, undefined)
})

test('what else is in the document is passed over, however deep', async () => {
  const { files, tarFileSets } = await decode(
    ' \n{"DatabasesByNames":{"Files":{"x":{"oid":1}},"db":{"tables":{"a":[{"TarFileSets":{"p":["q"]}}]}}},' +
      '"Files":{"/a":{"IsIncremented":true,"IsSkipped":false,"MTime":"t","UpdatesCount":18446744073709551615}},' +
      '"TarFileSets":null,"To":{"Come":[]}}\n',
  )
  assert.deepEqual([...files], [['/a', { isIncremented: true, isSkipped: false, mtime: 't' }]])
  assert.equal(tarFileSets.size, 0)
})

test('damage and truncation are reported with the object', async () => {
  const whole = await encode({ files: new Map([['/a', record]]), tarFileSets: new Map([['p', ['/a']]]) })
  const bad = [
    '',
    ' ',
    '[]',
    'null',
    '"x"',
    '{"Files":[{}]}',
    '{"Files":{"/a":1}}',
    '{"Files":{"/a":{"IsSkipped":"no"}}}',
    '{"TarFileSets":{"p":{"a":1}}}',
    '{"TarFileSets":{"p":[1]}}',
    `${whole}x`,
    `${whole}{}`,
    ...Array.from({ length: whole.length - 1 }, (_, length) => whole.slice(0, length)),
  ]
  for (const text of bad) {
    await assert.rejects(
      decode(text),
      (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED') && error.message.includes(key),
      text,
    )
  }
  await assert.rejects(decode(Buffer.from([...Buffer.from('{"Files":{"'), 0xff, ...Buffer.from('":{}}}')])), (error) =>
    hasCode(error, 'WALRX_OBJECT_DAMAGED'),
  )
})

test('a failure of the storage is not taken for damage', async () => {
  const failing = async function* () {
    yield Buffer.from('{"Files":')
    await Promise.reject(new Error('gone'))
  }
  await assert.rejects(decodeFilesMetadata(failing(), key), /^Error: gone$/)
})

test('old sentinels carry the table in themselves', () => {
  assert.equal(embeddedFilesMetadata({}, key), undefined)
  const found = embeddedFilesMetadata(
    { Files: { '/a': { IsSkipped: true, MTime: 't' } }, TarFileSets: { p: ['/a'] } },
    key,
  )
  assert.deepEqual(found, {
    files: new Map([['/a', { isIncremented: false, isSkipped: true, mtime: 't' }]]),
    tarFileSets: new Map([['p', ['/a']]]),
  })
})
