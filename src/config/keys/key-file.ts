/** Reads files with keys. What stands between walrx and the key is said in one line, with the path and without the key. */
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { isAbsolute, resolve } from 'node:path'
import { trimKeyFile } from '../../crypto/libsodium/libsodium-key.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { fileLabel, type KeyFileSetting, looksLikeKey, readKeyName } from './key-settings.ts'
import { keyBytesMax } from './key-text.ts'

/**
 * The content of a key file, which the caller zeroes.
 * @throws WALRX_KEY_UNAVAILABLE
 */
export async function readKeyFile(setting: KeyFileSetting): Promise<Buffer> {
  // Does not wait for the writer of a pipe.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK
  let file: FileHandle
  try {
    file = await open(setting.path, flags)
  } catch (error) {
    throw unopened(setting, (error as NodeJS.ErrnoException).code ?? '')
  }
  try {
    return await readOpened(file, setting)
  } finally {
    await file.close()
  }
}

async function readOpened(file: FileHandle, setting: KeyFileSetting): Promise<Buffer> {
  const status = await file.stat()
  if (status.isDirectory()) throw refusal(setting, 'is a directory', 'name the file with the key in it')
  if (!status.isFile()) {
    throw refusal(
      setting,
      'is no regular file',
      'to read a pipe or a device, set WALRX_KEY_COMMAND to a command for it',
    )
  }
  const bytes = Buffer.allocUnsafeSlow(keyBytesMax + 1)
  let length = 0
  try {
    for (let read = -1; read !== 0 && length < bytes.length; length += read) {
      read = (await file.read(bytes, length, bytes.length - length)).bytesRead
    }
  } catch (error) {
    bytes.fill(0, 0, length)
    throw refusal(setting, `cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
  const content = bytes.subarray(0, length)
  if (length <= keyBytesMax && trimKeyFile(content).length > 0) return content
  content.fill(0)
  if (length > keyBytesMax) throw refusal(setting, 'has more than 1 MB', 'name the file of the key')
  throw refusal(setting, 'is empty', 'write the key into it, or name another file')
}

function unopened(setting: KeyFileSetting, code: string): WalrxError {
  if (code !== 'EACCES' && looksLikeKey(setting.path)) {
    return new WalrxError('WALRX_USAGE', `${setting.name} looks like a key, and must be the path of a file`, {
      hint: `write the key into a file of mode 0600, and set ${setting.name} to its path`,
    })
  }
  if (code === 'ENOENT') return refusal(setting, 'does not exist', hintOfMissing(setting))
  if (code === 'EACCES' || code === 'EPERM') {
    const uid = process.getuid?.()
    return refusal(setting, `cannot be read by this user${uid === undefined ? '' : ` (uid ${uid})`}`, deniedHint)
  }
  if (code === 'ENOTDIR') return refusal(setting, 'does not exist: a part of its path is no directory', missingHint)
  if (code === 'ELOOP') return refusal(setting, 'cannot be opened: the symbolic links in its path form a circle')
  return refusal(setting, `cannot be opened (${code})`)
}

const missingHint =
  'correct the path, or bring the file: a server runs wal-fetch in its data directory, as its own user'
/** `hexx:/etc/key` is no path that anybody means. */
function hintOfMissing({ name, path }: KeyFileSetting): string {
  const prefix = name === readKeyName ? /^\w+:/.exec(path)?.[0] : undefined
  return prefix === undefined
    ? missingHint
    : `${prefix} is taken as part of the path: before one, walrx knows hex:, base64: and none:`
}

const deniedHint = 'give the file to the user that runs walrx; for wal-fetch that is the user of the server'

function refusal(setting: KeyFileSetting, what: string, hint?: string): WalrxError {
  const { path } = setting
  const where = isAbsolute(path) || looksLikeKey(path) ? '' : `, which is ${resolve(path)},`
  return new WalrxError('WALRX_KEY_UNAVAILABLE', `the key file ${fileLabel(setting)}${where} ${what}`, {
    ...(hint !== undefined && { hint }),
  })
}
