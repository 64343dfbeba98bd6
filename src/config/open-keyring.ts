/** Makes the keyring of the settings. Keys are read, and libraries loaded, when the first object needs them. */
import type { Crypter } from '../crypto/crypter.ts'
import { Keyring, type Keys } from '../crypto/keyring.ts'
import { awsAccess, type AwsValues } from './aws-access.ts'
import { type KeySource, readKeyName, writingKeys, writingKeysOf } from './keys/key-settings.ts'
import type { OptionValues } from './options/options.ts'

/** Options that say which keys an archive has, and how the service is reached that keeps some of them. */
export type KeyringValues = KeySource &
  AwsValues &
  Pick<OptionValues<'wal-show'>, 'acceptUnencrypted' | 'cseKmsRegion' | 'kmsEndpoint'>

/** The keyring; undefined where no key is set. */
export function openKeyring(values: KeyringValues): Keyring | undefined {
  const isReadOnly = writingKeysOf(values).length === 0
  if (isReadOnly && values.readKeyPath === undefined) return undefined
  return new Keyring({
    load: () => loadKeys(values),
    source: slowestSource(values),
    acceptsUnencrypted: values.acceptUnencrypted,
    isReadOnly,
  })
}

/** The setting whose keys are waited for, where there are several: a file is there at once. */
function slowestSource(values: KeyringValues): string {
  const set = writingKeysOf(values)
  const slowest = (['keyCommand', 'gpgKeyId'] as const).find((key) => set.includes(key)) ?? set[0]
  return slowest === undefined ? readKeyName : writingKeys[slowest]
}

async function loadKeys(values: KeyringValues): Promise<Keys> {
  const { openKeys } = await import('./keys/key-sources.ts')
  const opened = await openKeys(values, (keyId, label) => openKms(keyId, values, label))
  const [first, ...others] = [...opened.writing, ...opened.reading]
  // A setting has a key, or reading it throws.
  return { writing: first as Crypter, reading: others }
}

async function openKms(keyId: string, values: KeyringValues, label: string): Promise<Crypter> {
  const { kmsCrypter } = await import('../crypto/kms/kms-crypter.ts')
  return kmsCrypter({
    keyId,
    region: values.cseKmsRegion,
    endpoint: values.kmsEndpoint,
    label,
    access: awsAccess(values),
  })
}
