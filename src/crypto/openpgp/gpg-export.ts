/**
 * Keys out of gpg's own ring, for WAL-G's old settings GPG_KEY_ID and WALG_GPG_KEY_ID (internal/crypto/gpg.go, which runs
 * `gpg -a --export` and `gpg -a --export-secret-key`). Other than WAL-G, walrx keeps no copy of a key in a file.
 */
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { isAbort, WalrxError } from '../../primitives/errors.ts'

/** gpg is not waited for longer, in milliseconds: its agent may ask somebody for a passphrase. */
const timeoutMs = 60_000

/**
 * The armored public half of a key, and its secret half where gpg has it and lets it go, one after the other.
 * @param passphrase of the key: gpg's agent wants it for the secret half
 * @param environment of gpg; default that of this process
 * @throws WALRX_KEY_UNAVAILABLE where gpg cannot be run, or has no such key. Messages hold nothing that gpg has printed
 */
export async function exportFromGpg(
  keyId: string,
  passphrase?: string,
  environment?: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  const open = await gpg(['--armor', '--export', '--', keyId], '', environment)
  if (!open.includes('BEGIN PGP PUBLIC KEY')) {
    throw new WalrxError('WALRX_KEY_UNAVAILABLE', `gpg has no key ${keyId}`, {
      hint: 'see "gpg --list-keys" as the user that walrx runs as, and GNUPGHOME',
    })
  }
  const loopback = passphrase === undefined ? [] : ['--pinentry-mode', 'loopback', '--passphrase-fd', '0']
  return open + (await gpg([...loopback, '--armor', '--export-secret-keys', '--', keyId], passphrase, environment))
}

/** What gpg prints: nothing where it has no such key, or does not get its passphrase. */
async function gpg(
  args: readonly string[],
  input = '',
  environment?: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  const child = spawn('gpg', ['--batch', '--no-tty', '--quiet', ...args], {
    stdio: ['pipe', 'pipe', 'ignore'],
    ...(environment && { env: environment }),
    signal: AbortSignal.timeout(timeoutMs),
  })
  const failed = new Promise<never>((_, reject) => {
    child.once('error', (error) => {
      reject(unavailable(error))
    })
  })
  // One that ends before it has read its input.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  return Promise.race([text(child.stdout), failed])
}

function unavailable(error: NodeJS.ErrnoException): WalrxError {
  const what = isAbort(error) ? `gpg did not end in ${timeoutMs / 1000} s` : `gpg cannot be run: ${error.code}`
  return new WalrxError('WALRX_KEY_UNAVAILABLE', what, {
    hint: 'export the key to a file by "gpg --armor --export-secret-keys ID", and set WALG_PGP_KEY_PATH',
  })
}
