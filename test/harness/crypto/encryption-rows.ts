/**
 * Every way in which WAL-G is given a key, each with one codec: the table that the tests of encryption beside other tools go
 * through. Another method or transform is one more row.
 */
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { WriteMethod } from '../../../src/compression/codec.ts'

/** True where walrx has OpenPGP. */
export const isOpenPgpThere = existsSync(new URL('../../../src/crypto/openpgp', import.meta.url))

/** The tools that WAL-G's format has beside walrx. */
export type PeerName = 'WAL-G' | 'WAL-RUS'

/** One way to encrypt. */
export interface EncryptionRow {
  readonly name: string
  readonly method: 'libsodium' | 'OpenPGP'
  readonly codec: WriteMethod
  /** Variables by their names, with the texts of keys. */
  readonly key: Readonly<Record<string, string>>
  /** The variable whose text is put into a file, with a newline at its end, for `<variable>_PATH`. */
  readonly byFile?: 'WALG_LIBSODIUM_KEY' | 'WALG_PGP_KEY'
  /** The key of libsodium that comes of it. */
  readonly keyBytes?: Buffer
  /** Who has the method too. */
  readonly peers: readonly PeerName[]
}

const key25 = 'walrx-tests-25-byte-key..'
const key32 = 'walrx-tests: a key of 32 bytes..'
const key40 = 'walrx-tests: WAL-G cuts it to 32 byteskey'.slice(0, 40)
const random32 = Buffer.from('8f1d04c37ab0e9f6d2255d8ca41b7703ff00e1923cc458ab6e97d41a0b63f5c2', 'hex')

interface LibsodiumKey {
  readonly text: string
  readonly transform?: 'hex' | 'base64' | 'none'
  readonly keyBytes: Buffer
}

/** What each text of a key is to libsodium. */
const libsodiumKeys = {
  '25 bytes': { text: key25, keyBytes: Buffer.concat([Buffer.from(key25), Buffer.alloc(7)]) },
  '32 bytes': { text: key32, transform: 'none', keyBytes: Buffer.from(key32) },
  '40 bytes': { text: key40, keyBytes: Buffer.from(key40.slice(0, 32)) },
  hex: { text: random32.toString('hex'), transform: 'hex', keyBytes: random32 },
  base64: { text: random32.toString('base64'), transform: 'base64', keyBytes: random32 },
} as const satisfies Record<string, LibsodiumKey>

function libsodium(kind: keyof typeof libsodiumKeys, place: 'inline' | 'file', codec: WriteMethod): EncryptionRow {
  const { keyBytes, text, transform }: LibsodiumKey = libsodiumKeys[kind]
  return {
    name: `libsodium, ${kind} ${place}, ${codec}`,
    method: 'libsodium',
    codec,
    key: {
      WALG_LIBSODIUM_KEY: text,
      ...(transform === undefined ? {} : { WALG_LIBSODIUM_KEY_TRANSFORM: transform }),
    },
    ...(place === 'file' && { byFile: 'WALG_LIBSODIUM_KEY' as const }),
    keyBytes,
    peers: ['WAL-G', 'WAL-RUS'],
  }
}

/** A secret key of RSA, made for tests, and its passphrase. */
const pgpFolder = new URL('../../golden/walg-local-lzma-openpgp/', import.meta.url)
export const pgpSecretKey = fileURLToPath(new URL('pgp-secret-key.asc', pgpFolder))
export const pgpPassphrase = 'fixture'

function openPgp(place: 'inline' | 'file', codec: WriteMethod): EncryptionRow {
  return {
    name: `OpenPGP, ${place}, ${codec}`,
    method: 'OpenPGP',
    codec,
    key: { WALG_PGP_KEY: readFileSync(pgpSecretKey, 'utf8'), WALG_PGP_KEY_PASSPHRASE: pgpPassphrase },
    ...(place === 'file' && { byFile: 'WALG_PGP_KEY' as const }),
    // WAL-RUS refuses to run with such a key.
    peers: ['WAL-G'],
  }
}

/** The table. The first four have all four codecs. */
export const encryptionRows: readonly EncryptionRow[] = [
  libsodium('32 bytes', 'inline', 'zstd'),
  libsodium('hex', 'file', 'lz4'),
  libsodium('40 bytes', 'inline', 'brotli'),
  libsodium('base64', 'file', 'none'),
  libsodium('25 bytes', 'file', 'zstd'),
  libsodium('hex', 'inline', 'brotli'),
  libsodium('base64', 'inline', 'lz4'),
  ...(isOpenPgpThere ? [openPgp('inline', 'none'), openPgp('file', 'zstd')] : []),
]

/** Those with which whole backups are taken and restored, by every codec and method: it takes seconds each. */
export const backupRows: readonly EncryptionRow[] = encryptionRows.filter(
  (row, index) => index < 4 || (row.method === 'OpenPGP' && row.byFile !== undefined),
)

/**
 * The variables of a row for WAL-G, WAL-RUS and walrx.
 * @param folder where a file with the key goes
 */
export async function settingsOf(row: EncryptionRow, folder: string): Promise<Record<string, string>> {
  const common = { WALG_COMPRESSION_METHOD: row.codec }
  if (row.byFile === undefined) return { ...row.key, ...common }
  const { [row.byFile]: text = '', ...others } = row.key
  const path = join(folder, `key-${encryptionRows.indexOf(row)}`)
  await writeFile(path, `${text}\n`)
  return { ...others, [`${row.byFile}_PATH`]: path, ...common }
}
