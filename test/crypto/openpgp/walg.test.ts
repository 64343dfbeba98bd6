/** What WAL-G and walrx write for each other: an archive that WAL-G wrote, and WAL-G itself where WALG_BIN names it. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { openReadCodec } from '../../../src/compression/codecs.ts'
import { openpgpRecipients } from '../../../src/crypto/openpgp/message-head.ts'
import { walKey } from '../../../src/walg/names.ts'
import { chunksOf, decodeStream, walLikeBytes } from '../../harness/made/codec-streams.ts'
import {
  bytesOf,
  crypterOf,
  decryptedBy,
  encryptedInPlace,
  madeKey,
  ringOf,
  sourceOf,
} from '../../harness/made/openpgp-keys.ts'

const run = promisify(execFile)
const binary = process.env.WALG_BIN
const golden = (name: string) => readFile(new URL(`../../golden/codecs/openpgp/${name}`, import.meta.url))

/** Objects of an archive by WAL-G 3.0.9, and the SHA-256 of what WAL-G fetches from them. */
const objects: Record<string, string> = {
  '00000001000000000000000C.lzma': '6a430cf8e35a4044ab25474594d4ff01c358d78a494a4c0a027734b27bde235e',
  '00000001000000000000000B.00000028.backup.lzma': '187daaa7b2ee56d0626ede4147c080e884f5c698cd3488861958455890d248d5',
}

for (const [name, sum] of Object.entries(objects)) {
  test(`${name} of WAL-G's is decrypted`, async () => {
    const crypter = await crypterOf((await golden('secret-key.asc')).toString(), 'fixture')
    const compressed = await decryptedBy(crypter, await golden(name), 1000)
    const content = await decodeStream(openReadCodec('lzma'), chunksOf(compressed, 10_000))
    assert.equal(createHash('sha256').update(content).digest('hex'), sum)
  })
}

describe('WAL-G', { skip: binary ? false : 'no program of WAL-G given' }, () => {
  const segmentName = '000000010000000000000002'
  let folder: string
  let count = 0
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'walrx-compat-'))
    await mkdir(join(folder, 'data/pg_wal/archive_status'), { recursive: true })
  })
  after(() => rm(folder, { recursive: true, force: true }))

  /** WAL-G with a ring, on an archive of its own. */
  async function walg(ring: string, passphrase?: string): Promise<(...args: string[]) => Promise<string>> {
    const prefix = join(folder, `archive-${count++}`)
    await mkdir(join(prefix, 'wal_005'), { recursive: true })
    await writeFile(`${prefix}.asc`, ring)
    const env = {
      PATH: process.env.PATH,
      HOME: folder,
      PGDATA: join(folder, 'data'),
      WALG_FILE_PREFIX: prefix,
      WALG_COMPRESSION_METHOD: 'none',
      WALG_PG_WAL_SIZE: '1',
      WALG_PGP_KEY_PATH: `${prefix}.asc`,
      ...(passphrase !== undefined && { WALG_PGP_KEY_PASSPHRASE: passphrase }),
    }
    return async (...args) => {
      await run(binary ?? '', args, { env, timeout: 120_000 })
      return join(prefix, 'wal_005')
    }
  }

  async function bothWays(open: string, secrets: readonly string[], passphrase?: string): Promise<void> {
    const content = walLikeBytes(count, 1 << 20)
    const source = join(folder, 'data/pg_wal', segmentName)
    await writeFile(source, content)
    // WAL-G encrypts, and walrx decrypts by every secret key.
    const stored = await (await walg(open))('wal-push', source)
    const [file] = (await readdir(stored)).filter((name) => name.startsWith(segmentName))
    const object = await readFile(join(stored, file ?? ''))
    assert.equal(openpgpRecipients(object)?.length, secrets.length)
    for (const secret of secrets) {
      assert.ok((await decryptedBy(await crypterOf(secret, passphrase), object)).equals(content), 'WAL-G to walrx')
    }
    // And the reverse, in both shapes.
    const crypter = await crypterOf(open)
    for (const ours of [
      await bytesOf(crypter.encrypt(sourceOf(content, 50_000))),
      await encryptedInPlace(crypter, content),
    ]) {
      for (const secret of secrets) {
        const fetch = await walg(secret, passphrase)
        const target = join(folder, 'fetched')
        await writeFile(join(folder, `archive-${count - 1}`, walKey(segmentName, '')), ours)
        await fetch('wal-fetch', segmentName, target)
        assert.ok((await readFile(target)).equals(content), 'walrx to WAL-G')
        await rm(target)
      }
    }
  }

  for (const [name, options] of [
    ['RSA', { type: 'rsa', rsaBits: 2048 }],
    ['curve 25519', {}],
    ['NIST P-256', { type: 'ecc', curve: 'nistP256' }],
    ['X25519', { type: 'curve25519' }],
  ] as const) {
    test(name, async () => {
      const key = await madeKey(options)
      await bothWays(key.open, [key.secret])
    })
  }

  test('a key with a passphrase', async () => {
    const key = await madeKey({ passphrase: 'correct horse' })
    await bothWays(key.open, [key.secret], 'correct horse')
  })

  test('a ring of two keys', async () => {
    const keys = [await madeKey(), await madeKey({ type: 'rsa', rsaBits: 2048 })]
    await bothWays(
      await ringOf(...keys.map(({ open }) => open)),
      keys.map(({ secret }) => secret),
    )
  })
})
