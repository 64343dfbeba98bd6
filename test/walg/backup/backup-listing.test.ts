/** What a listing shows that a backup lacks. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lackOf, listFolder, listFolders } from '../../../src/walg/backup/backup-listing.ts'
import {
  contentsKey,
  filesMetadataKey,
  manifestKey,
  partKey,
  sentinelKey,
} from '../../../src/walg/backup/backup-names.ts'
import { parseSentinel } from '../../../src/walg/backup/sentinel.ts'
import { seedParts } from '../../harness/made/made-parts.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const name = 'base_000000010000000000000002'
const sentinel = (more: object = {}) =>
  parseSentinel(Buffer.from(JSON.stringify({ CompressedSize: 100, ...more })), sentinelKey(name))

test('what every restore needs and a listing shows', async () => {
  const cases: readonly (readonly [
    lack: string | undefined,
    change: (storage: MemoryStorage) => void,
    more?: object,
  ])[] = [
    [undefined, () => {}],
    [undefined, (storage) => storage.seed(contentsKey('base_000000010000000000000003'), '')],
    ['has no part with pg_control', (storage) => storage.objects.delete(partKey(name, 'pg_control.tar.zst'))],
    ['has no part with data', (storage) => storage.objects.delete(partKey(name, 'part_001.tar.zst'))],
    ['has a part of 0 bytes', (storage) => storage.seed(partKey(name, 'part_002.tar.zst'), '')],
    ['has a part of 0 bytes', (storage) => storage.seed(partKey(name, 'pg_control.tar.zst'), '')],
    ['has 100 bytes of parts instead of 101', () => {}, { CompressedSize: 101 }],
    ['has no files_metadata.json', (storage) => storage.objects.delete(filesMetadataKey(name))],
    ['has no files_metadata.json', (storage) => storage.seed(filesMetadataKey(name), '')],
    [undefined, (storage) => storage.objects.delete(filesMetadataKey(name)), { FilesMetadataDisabled: true }],
    [undefined, (storage) => storage.objects.delete(filesMetadataKey(name)), { Files: {} }],
    ['has a walrx.json of 0 bytes', (storage) => storage.seed(contentsKey(name), '')],
    ['has no backup_manifest', (storage) => storage.seed(contentsKey(name), '{}')],
    [
      undefined,
      (storage) => {
        storage.seed(contentsKey(name), '{}')
        storage.seed(manifestKey(name, 'zst'), 'x')
      },
    ],
  ]
  for (const [index, [lack, change, more]] of cases.entries()) {
    const storage = new MemoryStorage()
    seedParts(storage, name)
    change(storage)
    const folder = await listFolder(storage, name)
    assert.equal(lackOf(sentinel(more), folder), lack, `case ${index}`)
    assert.deepEqual((await listFolders(storage)).folders.get(name), folder)
  }
})
