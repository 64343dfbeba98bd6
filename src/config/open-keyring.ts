/** Makes the keyring of the settings. Keys are read, and libraries loaded, when the first object needs them. */
import { readFile } from 'node:fs/promises'
import { Keyring, type Keys } from '../crypto/keyring.ts'
import { WalrxError } from '../primitives/errors.ts'
import type { OptionValues } from './options/options.ts'

/** Options that say which keys an archive has. */
export type KeyValues = Pick<
  OptionValues<'wal-show'>,
  'libsodiumKey' | 'libsodiumKeyPath' | 'libsodiumKeyTransform' | 'acceptUnencrypted'
>

/** The keyring; undefined where no key is set. */
export function openKeyring(values: KeyValues): Keyring | undefined {
  if (values.libsodiumKey === undefined && values.libsodiumKeyPath === undefined) return undefined
  return new Keyring({ load: () => loadKeys(values), acceptsUnencrypted: values.acceptUnencrypted })
}

async function loadKeys(values: KeyValues): Promise<Keys> {
  const { libsodiumKey, libsodiumKeyPath, libsodiumKeyTransform: transform } = values
  const text = libsodiumKey === undefined ? (await readFile(libsodiumKeyPath ?? '', 'utf8')).trim() : libsodiumKey
  const label = libsodiumKey === undefined ? `WALG_LIBSODIUM_KEY_PATH=${libsodiumKeyPath}` : 'WALG_LIBSODIUM_KEY'
  const bytes = Buffer.from(text, transform === 'none' ? 'utf8' : transform)
  if (transform === 'none' ? bytes.length < 25 : bytes.length !== 32) {
    throw new WalrxError('WALRX_USAGE', `${label} has a key of ${bytes.length} bytes`)
  }
  const key = Buffer.alloc(32)
  bytes.copy(key)
  const { secretstreamCrypter } = await import('../crypto/libsodium/secretstream.ts')
  return { writing: await secretstreamCrypter(key, label), reading: [] }
}
