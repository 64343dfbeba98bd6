import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { BackupArchive } from '../../../src/walg/backup/backup-archive.ts'
import { metadataOf } from '../../../src/walg/backup/backup-metadata.ts'
import { manifestKey, metadataKey, partKey, sentinelKey } from '../../../src/walg/backup/backup-names.ts'
import { parseSentinel } from '../../../src/walg/backup/sentinel.ts'
import { encodeCopy } from '../../harness/made/codec-streams.ts'
import { goldenDocument, goldenSentinel } from '../../harness/made/golden-backups.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const name = 'base_000000010000000000000002'
const delta = 'base_000000010000000000000004_D_000000010000000000000002'

let storage: MemoryStorage
let archive: BackupArchive
beforeEach(() => {
  storage = new MemoryStorage()
  archive = new BackupArchive(storage)
})

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}

const sentinelOf = (text: string) => parseSentinel(Buffer.from(text), 'test')

test('backups are those with a sentinel, and their parts are leapt over by the listing', async () => {
  for (let part = 0; part < 5000; part++) storage.seed(partKey(name, `part_${part}.tar.zst`), '')
  storage.seed(sentinelKey(name), '{}', 5)
  storage.seed(sentinelKey(delta), '{}', 3)
  storage.seed(metadataKey('base_00000001000000000000000F'), '{}')
  storage.seed(`basebackups_005/${name}/old_backup_stop_sentinel.json`, '{}')
  assert.deepEqual(await archive.listBackups(), [
    { name, lastModifiedMs: 5 },
    { name: delta, lastModifiedMs: 3 },
  ])
  assert.equal(storage.calls.length, 3, 'two pages of the first listing, and one after its parts')
  assert.deepEqual(await archive.headBackup(delta), { name: delta, lastModifiedMs: 3 })
  assert.equal(await archive.headBackup('base_00000001000000000000000F'), undefined)
})

test('small backups are listed without a request for each', async () => {
  for (let backup = 1; backup <= 300; backup++) {
    const each = `base_0000000100000000${backup.toString(16).toUpperCase().padStart(8, '0')}`
    storage.seed(sentinelKey(each), '{}')
    for (const part of ['part_001.tar.zst', 'pg_control.tar.zst']) storage.seed(partKey(each, part), '')
  }
  assert.equal((await archive.listBackups()).length, 300)
  assert.equal(storage.calls.length, 1)
})

test('a backup that is not there is reported with its name and the archive', async () => {
  await assert.rejects(archive.readSentinel(name), (error) => {
    assert.ok(hasCode(error, 'WALRX_BACKUP_NOT_FOUND'))
    assert.equal(error.message, `there is no backup ${name} at memory://test`)
    return true
  })
})

test('a damaged document is reported with its place in the archive', async () => {
  storage.seed(sentinelKey(name), '{"LSN":1')
  storage.seed(metadataKey(name), 'x')
  for (const read of [archive.readSentinel(name), archive.readMetadata(name)]) {
    await assert.rejects(read, (error) => {
      assert.ok(hasCode(error, 'WALRX_OBJECT_DAMAGED'))
      assert.match(error.message, /^memory:\/\/test\/basebackups_005\/base_/)
      return true
    })
  }
})

test('metadata that is missing is no failure, an outage is', async () => {
  assert.equal(await archive.readMetadata(name), undefined)
  storage.before = () => {
    throw new Error('outage')
  }
  await assert.rejects(archive.readMetadata(name), /outage/)
  await assert.rejects(archive.readFilesMetadata(name, sentinelOf('{}')), /outage/)
})

test('a table of files that was never written is distinguished from a lost one', async () => {
  const full = sentinelOf('{"Version":2}')
  assert.deepEqual(await archive.readFilesMetadata(name, full), { kind: 'missing' })
  assert.deepEqual(await archive.readFilesMetadata(name, sentinelOf('{"FilesMetadataDisabled":true}')), {
    kind: 'disabled',
  })
  const old = await archive.readFilesMetadata(name, sentinelOf('{"Files":{"/a":{"MTime":"t"}}}'))
  assert.equal(old.kind === 'found' && old.metadata.files.get('/a')?.mtime, 't')
})

test('what is written is what is read', async () => {
  const sentinel = parseSentinel(goldenSentinel('walg-local-lz4-deltas', delta), 'test')
  storage.seed(
    `basebackups_005/${delta}/files_metadata.json`,
    goldenDocument('walg-local-lz4-deltas', delta, 'files_metadata.json'),
  )
  const found = await archive.readFilesMetadata(delta, sentinel)
  assert.ok(found.kind === 'found' && found.metadata.files.size > 100)
  await archive.putFilesMetadata(name, found.metadata)
  await archive.putMetadata(name, metadataOf(sentinel))
  await archive.putSentinel(name, sentinel)
  assert.deepEqual(await archive.readFilesMetadata(name, sentinel), found)
  assert.deepEqual(await archive.readMetadata(name), metadataOf(sentinel))
  assert.deepEqual(await archive.readSentinel(name), sentinel)
  assert.deepEqual(storage.peek(metadataKey(name)), goldenDocument('walg-local-lz4-deltas', delta, 'metadata.json'))
})

test('parts are decoded by their own extensions', async () => {
  const content = Buffer.from('tar '.repeat(1000))
  for (const method of ['zstd', 'lz4', 'brotli', 'none'] as const) {
    const codec = openWriteCodec(method)
    const dot = codec.extension === '' ? '' : '.'
    storage.seed(partKey(name, `part_${method}.tar${dot}${codec.extension}`), await encodeCopy(codec, content))
  }
  storage.seed(partKey(name, 'part_old.tar.'), content)
  storage.seed(partKey(name, 'pg_control.tar.lzo'), 'x')
  storage.seed(partKey(name, 'part_left.tar.zst.tmp.123'), 'x')
  const parts = await archive.listParts(name)
  assert.deepEqual(
    parts.map(({ fileName, extension, kind }) => [fileName, extension, kind]),
    [
      ['part_brotli.tar.br', 'br', 'data'],
      ['part_lz4.tar.lz4', 'lz4', 'data'],
      ['part_none.tar', '', 'data'],
      ['part_old.tar.', '', 'data'],
      ['part_zstd.tar.zst', 'zst', 'data'],
      ['pg_control.tar.lzo', 'lzo', 'control'],
    ],
  )
  for (const part of parts.filter(({ kind }) => kind === 'data')) {
    assert.ok((await collect(await archive.openPart(part))).equals(content), part.fileName)
  }
  const unreadable = parts.find(({ kind }) => kind === 'control')
  assert.ok(unreadable)
  await assert.rejects(archive.openPart(unreadable), (error) => {
    assert.ok(hasCode(error, 'WALRX_CODEC_UNSUPPORTED'))
    assert.ok(error.message.includes('pg_control.tar.lzo'), error.message)
    return true
  })
  assert.equal(storage.openBodies, 0)
})

test('a damaged part is reported with its place in the archive', async () => {
  const encoded = await encodeCopy(openWriteCodec('zstd'), Buffer.alloc(100_000, 'x'))
  storage.seed(partKey(name, 'part_001.tar.zst'), encoded.subarray(0, -5))
  const [part] = await archive.listParts(name)
  assert.ok(part)
  await assert.rejects(collect(await archive.openPart(part)), (error) => {
    assert.ok(hasCode(error, 'WALRX_OBJECT_DAMAGED'))
    assert.ok(error.message.startsWith(`memory://test/${partKey(name, 'part_001.tar.zst')}`), error.message)
    return true
  })
})

test('the manifest is found under any extension, and nothing else is', async () => {
  assert.equal(await archive.findManifest(name), undefined)
  storage.seed(`${manifestKey(name, '')}_of_mine`, 'x')
  storage.seed(manifestKey(name, 'zst.tmp.17'), 'x')
  assert.equal(await archive.findManifest(name), undefined)
  storage.seed(manifestKey(name, 'zst'), 'xy')
  const found = await archive.findManifest(name)
  assert.deepEqual([found?.key, found?.extension, found?.size], [manifestKey(name, 'zst'), 'zst', 2])
  storage.objects.clear()
  storage.seed(manifestKey(name, ''), 'x')
  assert.equal((await archive.findManifest(name))?.extension, '')
})
