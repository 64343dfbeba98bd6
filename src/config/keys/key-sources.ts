/** Reads the keys that the settings name. Loaded with the first object that needs one. */
import { type KeyTransform, trimKeyFile } from '../../crypto/libsodium/libsodium-key.ts'
import type { Crypter } from '../../crypto/crypter.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { labelled, libsodium, openpgp } from './crypter-makers.ts'
import { runKeyCommand } from './key-command.ts'
import { readKeyFile } from './key-file.ts'
import {
  fileLabel,
  type KeyFileSetting,
  type KeySource,
  type KeyValues,
  readFilesOf,
  readKeyName,
  type WritingKey,
  writingKeys,
  writingKeysOf,
} from './key-settings.ts'
import { isArmored, splitKeys } from './key-text.ts'

/** Makes the crypter of a key of AWS KMS: it needs the way to AWS. */
export type OpenKms = (keyId: string, label: string) => Promise<Crypter>

/** The crypters of all keys. */
export interface OpenedKeys {
  /** The first one encrypts. */
  readonly writing: readonly Crypter[]
  readonly reading: readonly Crypter[]
}

/**
 * Reads all keys that are set.
 * @throws WALRX_KEY_UNAVAILABLE and WALRX_USAGE, naming the setting and nothing of a key
 */
export async function openKeys(values: KeySource, openKms: OpenKms): Promise<OpenedKeys> {
  const writing: Crypter[] = []
  for (const key of writingKeysOf(values)) writing.push(...(await openKey(key, values, openKms)))
  return { writing, reading: values.readKeyPath === undefined ? [] : await ofReadFiles(values.readKeyPath, values) }
}

async function openKey(key: WritingKey, values: KeySource, openKms: OpenKms): Promise<readonly Crypter[]> {
  const {
    cseKmsId = '',
    gpgKeyId = '',
    keyCommand,
    libsodiumKey,
    libsodiumKeyPath = '',
    pgpKey,
    pgpKeyPath = '',
  } = values
  const name = writingKeys[key]
  switch (key) {
    case 'pgpKey':
      return [await inlineOpenpgp(name, pgpKey?.reveal() ?? '', values)]
    case 'pgpKeyPath':
      return [await openpgpFile({ name, path: pgpKeyPath }, values)]
    case 'gpgKeyId':
      return [await ringOfGpg(gpgKeyId, `${name}=${gpgKeyId}`, values)]
    case 'cseKmsId':
      return [await openKms(cseKmsId, `${name}=${cseKmsId}`)]
    case 'libsodiumKey':
      return [await inlineLibsodium(name, libsodiumKey?.reveal() ?? '', values)]
    case 'libsodiumKeyPath':
      return [await libsodiumFile({ name, path: libsodiumKeyPath }, values)]
    case 'keyCommand':
      return ofCommand(keyCommand?.reveal() ?? '', values)
    default:
      return key satisfies never
  }
}

/** In a variable line breaks may be written as `\n` (internal/crypto/openpgp/crypter.go). */
function inlineOpenpgp(name: string, text: string, values: KeyValues): Promise<Crypter> {
  return openpgp(text.replaceAll('\\n', '\n'), values.pgpKeyPassphrase, name)
}

async function ringOfGpg(keyId: string, label: string, values: KeySource): Promise<Crypter> {
  const { exportFromGpg } = await import('../../crypto/openpgp/gpg-export.ts')
  const armored = await exportFromGpg(keyId, values.pgpKeyPassphrase?.reveal(), values.keyEnvironment)
  return openpgp(armored, values.pgpKeyPassphrase, label)
}

async function inlineLibsodium(name: string, text: string, values: KeyValues): Promise<Crypter> {
  const bytes = Buffer.from(text, 'utf8')
  try {
    // Node has put it in the place of each byte that is not UTF-8.
    if (text.includes('\ufffd')) {
      throw new WalrxError('WALRX_USAGE', `${name}: the key has bytes that are not UTF-8`, {
        hint: 'write it into a file and set WALG_LIBSODIUM_KEY_PATH, or write it in hex and set WALG_LIBSODIUM_KEY_TRANSFORM=hex',
      })
    }
    return await libsodium(bytes, values.libsodiumKeyTransform, name)
  } finally {
    bytes.fill(0)
  }
}

function openpgpFile(setting: KeyFileSetting, values: KeyValues): Promise<Crypter> {
  return withFile(setting, (bytes, label) => openpgp(bytes.toString('utf8'), values.pgpKeyPassphrase, label))
}

function libsodiumFile(setting: KeyFileSetting, { libsodiumKeyTransform }: KeyValues): Promise<Crypter> {
  return withFile(setting, (bytes, label) => ofFile(bytes, libsodiumKeyTransform, label))
}

/** A file has one key of libsodium, with white space around it. */
function ofFile(bytes: Buffer, transform: KeyTransform, label: string): Promise<Crypter> {
  return libsodium(trimKeyFile(bytes), transform, label)
}

async function ofReadFiles(text: string, values: KeyValues): Promise<Crypter[]> {
  const files = readFilesOf(text)
  if (files.length === 0) {
    throw new WalrxError('WALRX_USAGE', `${readKeyName} names no file`, {
      hint: 'write the paths with commas between them, or unset it',
    })
  }
  const crypters: Crypter[] = []
  for (const { path, transform = values.libsodiumKeyTransform } of files) {
    if (path === '') throw new WalrxError('WALRX_USAGE', `${readKeyName} has ${transform}: without a path after it`)
    const opened = await withFile({ name: readKeyName, path }, (bytes, label) =>
      isArmored(bytes)
        ? openpgp(bytes.toString('utf8'), values.pgpKeyPassphrase, label)
        : ofFile(bytes, transform, label),
    )
    crypters.push(opened)
  }
  return crypters
}

async function ofCommand(command: string, values: KeySource): Promise<Crypter[]> {
  const output = await runKeyCommand(command, { environment: values.keyEnvironment })
  try {
    const keys = keysOf(output)
    const crypters: Crypter[] = []
    for (const [index, { bytes, method }] of keys.entries()) {
      const label = keys.length === 1 ? writingKeys.keyCommand : `${writingKeys.keyCommand}, key ${index + 1}`
      crypters.push(
        method === 'OpenPGP'
          ? await openpgp(bytes.toString('utf8'), values.pgpKeyPassphrase, label)
          : await libsodium(bytes, values.libsodiumKeyTransform, label),
      )
    }
    return crypters
  } finally {
    output.fill(0)
  }
}

function keysOf(output: Buffer): ReturnType<typeof splitKeys> {
  try {
    return splitKeys(output)
  } catch (error) {
    throw labelled(error, writingKeys.keyCommand)
  }
}

async function withFile<T>(setting: KeyFileSetting, use: (bytes: Buffer, label: string) => Promise<T>): Promise<T> {
  const bytes = await readKeyFile(setting)
  try {
    return await use(bytes, fileLabel(setting))
  } finally {
    bytes.fill(0)
  }
}
