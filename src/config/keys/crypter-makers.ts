/** Crypters of keys as they are set. Each method is loaded when a key of it is. */
import { type KeyTransform, libsodiumKey } from '../../crypto/libsodium/libsodium-key.ts'
import type { Crypter } from '../../crypto/crypter.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { Secret } from '../../primitives/secret.ts'
import { encodingOf, refuseForeignKey } from './key-text.ts'

/**
 * A crypter by a key of libsodium, as it is written in a setting. The caller zeroes the text.
 * @throws WALRX_USAGE, with the setting, for what is no such key
 */
export async function libsodium(text: Buffer, transform: KeyTransform, label: string): Promise<Crypter> {
  const { secretstreamCrypter } = await import('../../crypto/libsodium/secretstream.ts')
  try {
    refuseForeignKey(text)
    const encoding = transform === 'none' ? encodingOf(text) : undefined
    const shown =
      encoding === undefined ? label : `${label}, whose ${encoding} WALG_LIBSODIUM_KEY_TRANSFORM=none takes as it is`
    return await secretstreamCrypter(await libsodiumKey(text, transform), shown)
  } catch (error) {
    throw labelled(error, label)
  }
}

/**
 * A crypter by armored keys of OpenPGP.
 * @throws WALRX_USAGE for what is no ring of keys; WALRX_KEY_UNAVAILABLE for a passphrase that is wrong
 */
export async function openpgp(armored: string, passphrase: Secret | undefined, label: string): Promise<Crypter> {
  const { openpgpCrypter } = await import('../../crypto/openpgp/openpgp-crypter.ts')
  // WAL-G's rule (internal/config, GetSetting).
  return openpgpCrypter({ armored, passphrase: passphrase?.reveal().replace(/[\r\n]+$/, ''), label })
}

/** The error with the setting that it is about. Its cause is left out: nobody knows what is in it. */
export function labelled(error: unknown, label: string): unknown {
  if (!(error instanceof WalrxError)) return error
  const { code, hint, message } = error
  return new WalrxError(code, `${label}: ${message}`, hint === undefined ? {} : { hint })
}
