/** wal-fetch reads whatever WAL-G and WAL-RUS have written: their own archives, and every codec. */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { after, before, describe, test } from 'node:test'
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { compress as lzmaCompress } from '@napi-rs/lzma/lzma'
import { lz4Codec } from '../../../src/compression/lz4/lz4.ts'
import { silentLog } from '../../../src/observe/log.ts'
import { fetchWalFile } from '../../../src/restore/wal/wal-fetch.ts'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import type { Storage } from '../../../src/storage/storage.ts'
import { archiveFolders, parseWalKey, walFolder } from '../../../src/walg/names.ts'
import { encodeStream } from '../../harness/made/codec-streams.ts'
import { makeSegment } from '../../harness/made/made-wal.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const golden = fileURLToPath(new URL('../../golden/', import.meta.url))
const archives = ['walg-remote-zstd', 'walg-remote-none-many-parts', 'walg-local-lz4-deltas', 'walrus-remote-zstd']

let dataDir: string
before(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'walrx-formats-'))
  await mkdir(join(dataDir, 'global'))
})
after(() => rm(dataDir, { recursive: true }))

/** Fetches as a server of this system identifier does, and returns what it got. */
async function fetch(storage: Storage, name: string, systemId: bigint): Promise<Buffer> {
  const control = Buffer.alloc(8)
  control.writeBigUInt64LE(systemId)
  await writeFile(join(dataDir, 'global', 'pg_control'), control)
  const dest = join(dataDir, 'RECOVERYXLOG')
  const outcome = await fetchWalFile({
    storage,
    name,
    dest,
    dataDir,
    retryTimeoutMs: 0,
    isStandby: false,
    signal: new AbortController().signal,
    log: silentLog,
  })
  assert.equal(outcome, 'delivered', name)
  return readFile(dest)
}

describe('archives of WAL-G and WAL-RUS', () => {
  for (const archive of archives) {
    test(`${archive}: every segment and label is whole, of its cluster, and delivered`, async () => {
      const systemId = BigInt((await readFile(join(golden, archive, 'system-identifier.txt'), 'utf8')).trim())
      const root = join(golden, archive, 'archive')
      const storage = new FileStorage({ folders: archiveFolders, root })
      const names = (await readdir(join(root, walFolder))).flatMap((file) => parseWalKey(walFolder + file) ?? [])
      assert.ok(names.length >= 3)
      for (const { kind, name } of names) {
        const bytes = await fetch(storage, name, systemId)
        if (kind === 'segment') assert.equal(bytes.readBigUInt64LE(24), systemId)
        else assert.match(bytes.toString(), /^START WAL LOCATION/)
      }
    })
  }
})

describe('every codec', () => {
  const name = '000000010000000000000005'
  const segment = makeSegment(name)
  const half = segment.length / 2
  const parts = [segment.subarray(0, half), segment.subarray(half)] as const
  const objects: Record<string, () => Uint8Array | Promise<Uint8Array>> = {
    zst: () => zstdCompressSync(segment),
    'zst in two frames': () => Buffer.concat(parts.map((part) => zstdCompressSync(part))),
    lz4: () => encodeStream(lz4Codec(), [segment]),
    br: () => brotliCompressSync(segment, { params: { 1: 3 } }),
    gz: () => gzipSync(segment),
    'gz in two members': () => Buffer.concat(parts.map((part) => gzipSync(part))),
    lzma: async () => withoutSize(await lzmaCompress(segment)),
    '': () => segment,
  }
  for (const [form, encode] of Object.entries(objects)) {
    test(`${form || 'none'} is read`, async () => {
      const storage = new MemoryStorage()
      const [extension] = form.split(' ')
      storage.seed(`wal_005/${name}${extension === '' ? '' : `.${extension}`}`, await encode())
      assert.deepEqual(await fetch(storage, name, segment.readBigUInt64LE(24)), segment)
    })
  }
})

/** LZMA_alone as both writers have it: "unknown" for a size, which needs an end marker. */
function withoutSize(object: Uint8Array): Buffer {
  const bytes = Buffer.from(object)
  assert.equal(bytes.readBigUInt64LE(5), 0xffffffffffffffffn)
  return bytes
}
