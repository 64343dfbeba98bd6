/** What can be said of the keys that are set before any of them is read. */
import { stat } from 'node:fs/promises'
import { WalrxError } from '../../primitives/errors.ts'
import { shellWord } from '../../primitives/shell-word.ts'
import { isIn } from '../commands.ts'
import { encodingOf } from './key-text.ts'
import { fileLabel, type KeyValues, readFilesOf, readKeyName, writingKeys, writingKeysOf } from './key-settings.ts'

/** Something that the log should say: a {@link SettingNotice}. */
export interface KeyNotice {
  readonly level: 'warn'
  readonly name: string
  readonly message: string
  readonly hint: string
}

/** Others may read or change it (chmod(2)). A group may: keys of root are mostly given to a service in that way. */
const openToAll = 0o006

/**
 * The notices of a command.
 * @throws WALRX_USAGE for a command that encrypts and has keys for reading only: it would write what nobody has asked for
 */
export async function keyNotices(command: string, values: Partial<KeyValues>): Promise<KeyNotice[]> {
  const { readKeyPath } = values
  const writing = writingKeysOf(values).map((key) => writingKeys[key])
  if (readKeyPath !== undefined && writing.length === 0 && isIn(command, ['all that compress'])) {
    throw new WalrxError('WALRX_USAGE', 'WALRX_READ_KEY_PATH is set, and no key to encrypt with', {
      hint: `set that too, for instance WALG_LIBSODIUM_KEY_PATH; without encryption, unset WALRX_READ_KEY_PATH for ${command}`,
    })
  }
  return [...severalKeys(writing), ...(await encodedKey(values)), ...(await openFiles(values))]
}

function severalKeys([first, ...others]: readonly string[]): KeyNotice[] {
  if (first === undefined || others.length === 0) return []
  return [
    {
      level: 'warn',
      name: others.join(', '),
      message: 'several keys are set: this one only decrypts',
      hint: `${first} encrypts, as with WAL-G; give keys that only decrypt by WALRX_READ_KEY_PATH`,
    },
  ]
}

/**
 * A key that is probably written in hex or base64, and is used as it is: half of it or less would protect the archive. A file
 * is not read yet, but its length is known, with a line end or without.
 */
async function encodedKey(values: Partial<KeyValues>): Promise<KeyNotice[]> {
  const { libsodiumKey, libsodiumKeyPath, libsodiumKeyTransform: transform } = values
  if (transform !== 'none') return []
  const [name, encoding] =
    libsodiumKey === undefined
      ? [writingKeys.libsodiumKeyPath, await encodingOfFile(libsodiumKeyPath)]
      : [writingKeys.libsodiumKey, encodingOf(Buffer.from(libsodiumKey.reveal()))]
  if (encoding === undefined) return []
  const message = `the key is as long as 32 bytes in ${encoding}, but WALG_LIBSODIUM_KEY_TRANSFORM is none: its first 32 characters are the key`
  const hint = `if it is ${encoding}, set WALG_LIBSODIUM_KEY_TRANSFORM=${encoding}; what is archived already needs WALRX_READ_KEY_PATH=none:FILE then`
  return [{ level: 'warn', name, message, hint }]
}

async function encodingOfFile(path: string | undefined): Promise<'hex' | undefined> {
  const bytes =
    path === undefined
      ? 0
      : await stat(path).then(
          ({ size }) => size,
          () => 0,
        )
  return bytes >= 64 && bytes <= 66 ? 'hex' : undefined
}

/** Files of keys that every user of the machine can read. One that is not there is reported when it is needed. */
async function openFiles({ libsodiumKeyPath, pgpKeyPath, readKeyPath }: Partial<KeyValues>): Promise<KeyNotice[]> {
  const files = [
    { name: writingKeys.pgpKeyPath, path: pgpKeyPath },
    { name: writingKeys.libsodiumKeyPath, path: libsodiumKeyPath },
    ...readFilesOf(readKeyPath ?? '').map(({ path }) => ({ name: readKeyName, path })),
  ]
  const notices: KeyNotice[] = []
  for (const { name, path } of files) {
    const mode =
      path === undefined
        ? 0
        : await stat(path).then(
            (status) => (status.isFile() ? status.mode : 0),
            () => 0,
          )
    if (path === undefined || (mode & openToAll) === 0) continue
    notices.push({
      level: 'warn',
      name: fileLabel({ name, path }),
      message: 'every user of this machine can read the key file, or change it',
      hint: `run: chmod o= ${shellWord(path)}`,
    })
  }
  return notices
}
