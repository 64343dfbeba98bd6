/** The settings of keys as they are written, before any key is read: what every command may look at. */
import type { KeyTransform } from '../../crypto/libsodium/libsodium-key.ts'
import type { OptionValues } from '../options/options.ts'

/** Options that say which keys an archive has. */
export type KeyValues = Pick<
  OptionValues<'wal-show'>,
  | 'pgpKey'
  | 'pgpKeyPath'
  | 'pgpKeyPassphrase'
  | 'gpgKeyId'
  | 'cseKmsId'
  | 'libsodiumKey'
  | 'libsodiumKeyPath'
  | 'libsodiumKeyTransform'
  | 'keyCommand'
  | 'readKeyPath'
>

/** Variables that a command for keys is run with. */
export type KeyEnvironment = Readonly<Record<string, string | undefined>>

/** Keys, and the environment of the commands that are run for them. */
export interface KeySource extends KeyValues {
  /** Default that of this process: of several archives in one process, each has one of its own. */
  readonly keyEnvironment?: KeyEnvironment | undefined
}

/**
 * Options of keys that encrypt, in the order in which they are tried: WAL-G's order of precedence (internal/configure.go,
 * ConfigureCrypterForSpecificConfig), then the command, which WAL-G does not have. So WAL-G with the same settings reads what
 * walrx writes.
 */
export const writingKeys = {
  pgpKey: 'WALG_PGP_KEY',
  pgpKeyPath: 'WALG_PGP_KEY_PATH',
  gpgKeyId: 'WALG_GPG_KEY_ID',
  cseKmsId: 'WALG_CSE_KMS_ID',
  libsodiumKey: 'WALG_LIBSODIUM_KEY',
  libsodiumKeyPath: 'WALG_LIBSODIUM_KEY_PATH',
  keyCommand: 'WALRX_KEY_COMMAND',
} as const satisfies Partial<Record<keyof KeyValues, string>>

/** An option of {@link writingKeys}. */
export type WritingKey = keyof typeof writingKeys

/** Those that are set, in their order. */
export function writingKeysOf(values: Partial<KeyValues>): WritingKey[] {
  return (Object.keys(writingKeys) as WritingKey[]).filter((key) => values[key] !== undefined)
}

/** The setting of keys that only decrypt. */
export const readKeyName = 'WALRX_READ_KEY_PATH'

/** A file of {@link readFilesOf}. */
export interface ReadKeyFile {
  readonly path: string
  /** How a key of libsodium is written in it; undefined where the setting does not say it. */
  readonly transform: KeyTransform | undefined
}

/** The files that WALRX_READ_KEY_PATH names: `/etc/walrx/old,hex:/etc/walrx/older`. */
export function readFilesOf(text: string): ReadKeyFile[] {
  const parts = text.split(',').map((part) => part.trim())
  return parts
    .filter((part) => part !== '')
    .map((part) => {
      const [, transform, path = part] = /^(hex|base64|none):(.*)$/s.exec(part) ?? []
      return { path, transform: transform as KeyTransform | undefined }
    })
}

/** A setting that names a file. */
export interface KeyFileSetting {
  readonly name: string
  readonly path: string
}

/** How the setting is called in messages: with its path, unless somebody has put a key there. */
export function fileLabel({ name, path }: KeyFileSetting): string {
  return looksLikeKey(path) ? name : `${name}=${path}`
}

/** True for what is rather a key than a path: no message may show it. */
export function looksLikeKey(path: string): boolean {
  if (/[\n\r]|\\n|-----BEGIN/.test(path)) return true
  return /^([0-9A-Fa-f]{64}|[A-Za-z0-9+/]{43}=)$/.test(path) || (path.length >= 25 && !/[/.]/.test(path))
}
