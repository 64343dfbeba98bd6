/** Real archives of WAL-G v3.0.9 and WAL-RUS 0.3.0; golden/<name> holds the WAL part of each. */
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { describe, test } from 'node:test'
import { openWriteCodec } from '../../src/compression/codecs.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import { parseSegmentName, segmentStartLsn, walFileKind } from '../../src/postgres/wal/wal-file.ts'
import { checkSegment } from '../../src/postgres/wal/wal-page.ts'
import { WalArchive } from '../../src/walg/wal/wal-archive.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'

const mebi = 1024 * 1024
const archives = [
  { name: 'walg-remote-zstd', extension: 'zst', segmentSize: 16 * mebi },
  { name: 'walrus-remote-zstd', extension: 'zst', segmentSize: 16 * mebi },
  { name: 'walg-local-lz4-deltas', extension: 'lz4', segmentSize: 16 * mebi },
  { name: 'walg-remote-none-many-parts', extension: '', segmentSize: mebi },
]

async function load(name: string): Promise<{ storage: MemoryStorage; systemId: bigint }> {
  const root = new URL(`../golden/${name}/`, import.meta.url)
  const storage = new MemoryStorage()
  for (const folder of ['wal_005', 'basebackups_005']) {
    // The folders of the backups are left aside: sentinels and WAL answer what is asked here.
    const entries = await readdir(new URL(`archive/${folder}/`, root), { withFileTypes: true })
    for (const file of entries.filter((entry) => entry.isFile()).map((entry) => entry.name)) {
      storage.seed(`${folder}/${file}`, await readFile(new URL(`archive/${folder}/${file}`, root)))
    }
  }
  return { storage, systemId: BigInt((await readFile(new URL('system-identifier.txt', root), 'utf8')).trim()) }
}

async function read(body: AsyncIterable<Uint8Array> | undefined): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body ?? []) chunks.push(chunk)
  return Buffer.concat(chunks)
}

for (const { name, extension, segmentSize } of archives) {
  describe(name, () => {
    test('every segment has the right size and pages, every label its text', async () => {
      const { storage, systemId } = await load(name)
      const archive = new WalArchive(storage, openWriteCodec('zstd'))
      let segments = 0
      for await (const object of archive.walObjects()) {
        const file = await archive.openWalFile(object.name, extension)
        assert.equal(file?.extension, extension)
        const content = await read(file?.body)
        if (walFileKind(object.name) === 'backup') {
          assert.match(content.toString(), /^START WAL LOCATION: .*\n/)
          continue
        }
        const id = parseSegmentName(object.name, segmentSize)
        assert.ok(id)
        assert.equal(content.length, segmentSize)
        const startLsn = segmentStartLsn(id, segmentSize)
        checkSegment(content, { name: object.name, timeline: 1, startLsn, segmentSize, systemId, magic: 0xd116 })
        segments++
      }
      assert.equal(segments, 3)
    })

    test('its own cluster is bound to it, without a marker being there before', async () => {
      const { storage, systemId } = await load(name)
      await new WalArchive(storage, openWriteCodec('zstd')).bindSystem(systemId, segmentSize)
      assert.match(
        storage.peek('walrx_005/system.json')?.toString() ?? '',
        new RegExp(`"SystemIdentifier":${systemId}\\b`),
      )
    })

    test('another cluster is refused by its backups and by its segments alone', async () => {
      const { storage, systemId } = await load(name)
      const withoutBackups = new MemoryStorage()
      for (const [key, { bytes }] of storage.objects) if (key.startsWith('wal_005/')) withoutBackups.seed(key, bytes)
      for (const each of [storage, withoutBackups]) {
        await assert.rejects(
          new WalArchive(each, openWriteCodec('zstd')).bindSystem(systemId + 1n, segmentSize),
          (error) => hasCode(error, 'WALRX_OTHER_CLUSTER') && error.message.includes(String(systemId)),
        )
        assert.equal(each.peek('walrx_005/system.json'), undefined)
      }
    })

    test('the same segment, compressed by us, is the same', async () => {
      const { storage } = await load(name)
      for (const method of ['zstd', 'lz4', 'brotli', 'none'] as const) {
        const archive = new WalArchive(storage, openWriteCodec(method))
        const { value } = await archive.segments(1, 0n, segmentSize).next()
        const first = value?.name ?? ''
        const raw = await read((await archive.openWalFile(first, extension))?.body)
        const buffer = Buffer.alloc(raw.length + mebi)
        raw.copy(buffer)
        const encoded = buffer.subarray(0, await archive.encodeInPlace(buffer, raw.length))
        await archive.lookAhead(first)
        assert.equal(await archive.archive(first, encoded), 'same')
      }
      assert.equal([...storage.objects.keys()].filter((key) => key.startsWith('wal_005/')).length, 4)
    })
  })
}
