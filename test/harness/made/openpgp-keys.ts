/** OpenPGP keys for tests: made by the library, or by a gpg with a home of its own. */
import { execFile, execFileSync, spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { promisify } from 'node:util'
import * as openpgp from 'openpgp'
import { encryptSlack, type Crypter } from '../../../src/crypto/crypter.ts'
import { openpgpCrypter } from '../../../src/crypto/openpgp/openpgp-crypter.ts'
import { chunksOf } from './codec-streams.ts'

const run = promisify(execFile)

/** The setting that keys of tests come from, as far as messages know. */
export const testLabel = 'WALG_PGP_KEY'

/** A key pair of the library, armored. */
export async function madeKey(
  options: Partial<openpgp.KeyOptions> = {},
): Promise<{ readonly secret: string; readonly open: string; readonly keyIds: readonly string[] }> {
  const userIDs = [{ name: 'Test' }]
  const made = { type: 'ecc', curve: 'curve25519Legacy', ...options, userIDs, format: 'object' } as const
  const { privateKey, publicKey } = await openpgp.generateKey(made)
  const keyIds = privateKey.getKeyIDs().map((id) => id.toHex().toUpperCase())
  return { secret: privateKey.armor(), open: publicKey.armor(), keyIds }
}

/** Armored keys in one block, as a ring has them. */
export async function ringOf(...armored: readonly string[]): Promise<string> {
  const keys = (await Promise.all(armored.map((armoredKeys) => openpgp.readKeys({ armoredKeys })))).flat()
  const type = armored[0]?.includes('PRIVATE') ? openpgp.enums.armor.privateKey : openpgp.enums.armor.publicKey
  return openpgp.armor(type, Buffer.concat(keys.map((key) => key.write())))
}

/** A crypter by armored keys. */
export function crypterOf(armored: string, passphrase?: string): Promise<Crypter> {
  return openpgpCrypter({ armored, label: testLabel, ...(passphrase !== undefined && { passphrase }) })
}

/** Everything that comes out. */
export async function bytesOf(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Bytes in chunks, as a source. */
export async function* sourceOf(
  bytes: Uint8Array,
  ...lengths: readonly number[]
): AsyncGenerator<Uint8Array, undefined> {
  for (const chunk of chunksOf(bytes, ...lengths)) {
    await Promise.resolve()
    yield chunk
  }
}

/** Encrypted inside of a buffer. */
export async function encryptedInPlace(crypter: Crypter, content: Uint8Array): Promise<Buffer> {
  const data = Buffer.alloc(content.length + encryptSlack(content.length))
  data.set(content)
  return data.subarray(0, await crypter.encryptInPlace(data, content.length))
}

/** Recognises, then decrypts. */
export async function decryptedBy(crypter: Crypter, object: Uint8Array, chunkBytes = 10_000): Promise<Buffer> {
  const recognised = await crypter.recognise(Buffer.from(object.subarray(0, crypter.headBytes)))
  if (recognised !== 'opens') throw new Error(`the crypter says ${JSON.stringify(recognised)}`)
  return bytesOf(crypter.decrypt(sourceOf(object, chunkBytes)))
}

/** True where there is a gpg. */
export const hasGpg = ((): boolean => {
  try {
    execFileSync('gpg', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

/** A gpg with a home of its own. Close it: gpg leaves an agent running. */
export class GpgHome {
  readonly #home = mkdtempSync(join(tmpdir(), 'walrx-gpg-'))

  constructor() {
    chmodSync(this.#home, 0o700)
    // Passphrases are to be checked fast.
    writeFileSync(join(this.#home, 'gpg-agent.conf'), 's2k-count 65536\n')
  }

  /** Environment in which gpg uses this home. */
  get env(): NodeJS.ProcessEnv {
    return { PATH: process.env.PATH, GNUPGHOME: this.#home }
  }

  /** What gpg prints, given its input. */
  async gpg(args: readonly string[], input: Uint8Array | string = ''): Promise<Buffer> {
    const child = spawn('gpg', ['--batch', '--quiet', '--no-tty', '--trust-model', 'always', ...args], {
      env: this.env,
    })
    child.stdin.on('error', () => {})
    child.stdin.end(input)
    const [output, errors] = await Promise.all([buffer(child.stdout), buffer(child.stderr)])
    const status = child.exitCode ?? (await new Promise((resolve) => child.once('exit', resolve)))
    if (status !== 0) throw new Error(`gpg ${args.join(' ')} ends with ${String(status)}: ${errors.toString()}`)
    return output
  }

  /** Makes a key by gpg's parameters (gpg's doc/DETAILS, "Unattended key generation"). */
  async makeKey(name: string, ...parameters: readonly string[]): Promise<void> {
    const protection = parameters.some((line) => line.startsWith('Passphrase')) ? [] : ['%no-protection']
    await this.gpg(
      ['--gen-key'],
      [...protection, ...parameters, `Name-Real: ${name}`, 'Expire-Date: 0', '%commit', ''].join('\n'),
    )
  }

  /** The armored public half of keys. */
  async publicOf(...names: readonly string[]): Promise<string> {
    return (await this.gpg(['--armor', '--export', ...names])).toString()
  }

  /** The armored secret half of keys. */
  async secretOf(names: readonly string[], passphrase = ''): Promise<string> {
    const loopback = ['--pinentry-mode', 'loopback', '--passphrase', passphrase]
    return (await this.gpg([...loopback, '--armor', '--export-secret-keys', ...names])).toString()
  }

  /** Stops the agent, and removes the home. */
  async close(): Promise<void> {
    await run('gpgconf', ['--kill', 'all'], { env: this.env })
    rmSync(this.#home, { recursive: true, force: true })
  }
}
