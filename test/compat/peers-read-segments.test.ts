/** WAL-G and WAL-RUS fetch what walrx has compressed. Runs where WALG_BIN and WALRUS_BIN name their programs. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { openWriteCodec } from '../../src/compression/codecs.ts'
import { walKey } from '../../src/walg/names.ts'
import { chunksOf, encodeCopy, encodeStream, randomBytesOf, walLikeBytes } from '../harness/made/codec-streams.ts'

const run = promisify(execFile)
const mebi = 1024 * 1024
const contents = [
  walLikeBytes(1, 16 * mebi),
  Buffer.concat([randomBytesOf(2, 3 * mebi), Buffer.alloc(5 * mebi)]),
  Buffer.from('1\t0/3000000\tno recovery target specified\n'),
]

for (const [peer, binary] of [
  ['WAL-G', process.env.WALG_BIN],
  ['WAL-RUS', process.env.WALRUS_BIN],
] as const) {
  describe(`${peer} fetches the content back`, { skip: binary ? false : `no program of ${peer} given` }, () => {
    let folder: string
    before(async () => {
      folder = await mkdtemp(join(tmpdir(), 'walrx-compat-'))
      for (const part of ['archive/wal_005', 'data']) await mkdir(join(folder, part), { recursive: true })
    })
    after(() => rm(folder, { recursive: true, force: true }))

    async function fetchBack(name: string, method: string): Promise<Buffer> {
      const target = join(folder, `fetched-${name}`)
      const env = {
        PATH: process.env.PATH,
        HOME: folder,
        PGDATA: join(folder, 'data'),
        WALG_FILE_PREFIX: join(folder, 'archive'),
        WALG_COMPRESSION_METHOD: method,
        WALG_DOWNLOAD_CONCURRENCY: '1',
      }
      await run(binary ?? '', ['wal-fetch', name, target], { env, timeout: 120_000 })
      return readFile(target)
    }

    for (const [index, method] of (['zstd', 'lz4', 'brotli', 'lzma', 'none'] as const).entries()) {
      test(method, async () => {
        const codec = openWriteCodec(method)
        for (const [n, content] of contents.entries()) {
          for (const [way, encoded] of [
            [0, await encodeCopy(codec, content)],
            [1, await encodeStream(codec, chunksOf(content, 100_000))],
          ] as const) {
            const name = `00000001000000000000${index}0${n}${way}`
            await writeFile(join(folder, 'archive', walKey(name, codec.extension)), encoded)
            assert.ok((await fetchBack(name, method)).equals(content), `content ${n}, way ${way}`)
          }
        }
      })
    }
  })
}
