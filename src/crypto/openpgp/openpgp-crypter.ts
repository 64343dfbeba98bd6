/**
 * OpenPGP as WAL-G has it (internal/crypto/openpgp/crypter.go): a binary message to every key of a ring, not signed, not
 * compressed. The library `openpgp` does what is done once for an object, on keys and session keys; the content goes through
 * `node:crypto`. Measured on 1.2 GB from memory with AES-128, three times each in turn, Node 24 with openpgp 6.3.2:
 *
 *     way                                          CPU-s/GB    peak of memory   turns of the event loop
 *     node:crypto alone, AES-128-CFB and SHA-1     2.3 - 2.4
 *     encrypt                                      2.5 - 2.6   + 24 - 28 MB     9156
 *     encryptInPlace, 16 MiB each                  2.3 - 2.4   + 35 MB          9272
 *     encrypt of the library                       3.4 - 3.7   + 60 - 76 MB     none: it blocks till the end
 *     decrypt                                      2.7 - 2.9   + 19 - 20 MB     9299
 *     decrypt of the library                       4.5 - 6.0   + 75 - 123 MB    none
 *
 * What each object costs on top, in CPU-ms to encrypt and to decrypt a session key for one recipient: RSA of 2048 bits 0.3 and
 * 1.2, RSA of 4096 bits 0.3 and 3.6, curve 25519 0.8 and 0.7, NIST P-256 0.8 and 0.8, P-384 3.6 and 3.3.
 */
import { createHash } from 'node:crypto'
import { ByteReader } from '../../primitives/byte-reader.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { Crypter, Recognised } from '../crypter.ts'
import { openKeyRing, type KeyRing, type KeyRingSource } from './key-ring.ts'
import { decryptByLibrary, legacyCipher } from './library-decryption.ts'
import { messageHeadBytes, parseMessageHead, unnamedKey, type Recipient } from './message-head.ts'
import { messageContent, readBeginning } from './message-reader.ts'
import { encryptMessage, encryptMessageInPlace } from './message-writer.ts'
import { packetBody, packetTypes, type PacketHeader } from './packet-header.ts'
import { openProtected } from './protected-data.ts'
import { sessionCiphers, type SessionKey } from './session-cipher.ts'

/** Session keys that wait between {@link Crypter.recognise} and {@link Crypter.decrypt}. */
const waitingMax = 64

/** Chunks of 4 MiB: more are not to be held in memory. gpg and go-crypto write no larger ones. */
const chunkPowerMax = 16

/** Key IDs that a message names at most. */
const namedMax = 4

/**
 * A crypter by a ring of OpenPGP keys.
 * @throws WALRX_USAGE, WALRX_KEY_UNAVAILABLE: see {@link openKeyRing}
 */
export async function openpgpCrypter(source: KeyRingSource): Promise<Crypter> {
  return new OpenpgpCrypter(await openKeyRing(source), source.label)
}

class OpenpgpCrypter implements Crypter {
  readonly method = 'OpenPGP'
  readonly headBytes = messageHeadBytes
  readonly label: string
  readonly #ring: KeyRing
  /** By the packets that they come from. Decrypting one costs milliseconds, and {@link recognise} has done it. */
  readonly #waiting = new Map<string, SessionKey>()

  constructor(ring: KeyRing, label: string) {
    this.#ring = ring
    this.label = label
  }

  get canDecrypt(): boolean {
    return this.#ring.canDecrypt
  }

  async recognise(head: Buffer): Promise<Recognised> {
    const message = parseMessageHead(head)
    if (!message) return 'other method'
    const { recipients } = message
    if (recipients.length === 0) {
      throw new WalrxError(
        'WALRX_CODEC_UNSUPPORTED',
        'the object is encrypted by OpenPGP with a passphrase, and to no key',
        {
          hint: 'WAL-G does not read such an object: decrypt it with gpg, and encrypt it again to a key',
        },
      )
    }
    const sessionKey = await this.#open(recipients)
    if (!sessionKey) {
      const isSealed = !this.canDecrypt && recipients.some(({ keyId }) => this.#ring.holdsPublic(keyId))
      return isSealed ? 'opens' : { wants: this.#wanted(recipients) }
    }
    this.#keep(recipients, sessionKey)
    return 'opens'
  }

  async *decrypt(stored: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
    const reader = new ByteReader(stored, 'encrypted object')
    try {
      const { data, recipients } = await readBeginning(reader)
      const sessionKey = this.#take(recipients) ?? (await this.#open(recipients))
      if (!sessionKey) {
        throw new WalrxError('WALRX_KEY_WRONG', `is encrypted to ${this.#wanted(recipients)}, not to ${this.label}`)
      }
      try {
        yield* contentOf(reader, data, sessionKey)
      } finally {
        sessionKey.key.fill(0)
      }
      await reader.expectEnd()
    } finally {
      await reader.close()
    }
  }

  async *encrypt(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
    const sealed = await this.#ring.seal()
    try {
      yield* encryptMessage(content, sealed)
    } finally {
      sealed.key.fill(0)
    }
  }

  async encryptInPlace(buffer: Buffer, length: number): Promise<number> {
    const sealed = await this.#ring.seal()
    try {
      return await encryptMessageInPlace(buffer, length, sealed)
    } finally {
      sealed.key.fill(0)
    }
  }

  async #open(recipients: readonly Recipient[]): Promise<SessionKey | undefined> {
    const opened = await this.#ring.open(recipients)
    if (opened && 'damagedFor' in opened) {
      throw new WalrxError(
        'WALRX_OBJECT_DAMAGED',
        `the session key of the encrypted object does not decrypt with OpenPGP key ${opened.damagedFor}: its beginning is changed, or its cipher unknown`,
      )
    }
    return opened?.sessionKey
  }

  #keep(recipients: readonly Recipient[], sessionKey: SessionKey): void {
    const id = idOf(recipients)
    this.#waiting.get(id)?.key.fill(0)
    this.#waiting.set(id, sessionKey)
    for (const [oldest, { key }] of this.#waiting) {
      if (this.#waiting.size <= waitingMax) return
      key.fill(0)
      this.#waiting.delete(oldest)
    }
  }

  #take(recipients: readonly Recipient[]): SessionKey | undefined {
    const id = idOf(recipients)
    const sessionKey = this.#waiting.get(id)
    this.#waiting.delete(id)
    return sessionKey
  }

  /** The keys that open a message, for people. */
  #wanted(recipients: readonly Recipient[]): string {
    const named = recipients.filter(({ keyId }) => keyId !== unnamedKey).map(({ keyId }) => keyId)
    const [first] = named
    if (first === undefined) return 'an OpenPGP key that the object does not name'
    if (named.some((keyId) => this.#ring.holdsPublic(keyId)))
      return `OpenPGP key ${first}, and its secret half is not set`
    const shown = named.slice(0, namedMax).join(', ') + (named.length > namedMax ? ', ...' : '')
    return named.length === 1 ? `OpenPGP key ${first}` : `OpenPGP keys ${shown}`
  }
}

function idOf(recipients: readonly Recipient[]): string {
  const hash = createHash('sha256')
  for (const { body } of recipients) hash.update(body)
  return hash.digest('base64')
}

/** The content of the encrypted data, which begins where the reader stands. */
async function* contentOf(
  reader: ByteReader,
  header: PacketHeader,
  sessionKey: SessionKey,
): AsyncGenerator<Uint8Array, undefined> {
  const body = new ByteReader(packetBody(reader, header), 'encrypted data')
  const first = await body.peek()
  const isVersion1 = header.type === packetTypes.encrypted && first?.[0] === 1
  const cipher = sessionKey.cipher === null ? undefined : sessionCiphers[sessionKey.cipher]
  if (isVersion1 && cipher) {
    await body.skip(1)
    yield* messageContent(openProtected(body.rest(), cipher, sessionKey.key))
    return
  }
  if (isVersion1 && sessionKey.cipher !== legacyCipher) {
    throw unsupported(`cipher ${sessionKey.cipher ?? 'of version 2 in data of version 1'}`)
  }
  const beginning = await body.read(4)
  const [version = 0, , , chunkPower = 0] = beginning
  if (version > 2) throw unsupported(`encrypted data of version ${version}`)
  if (!isVersion1 && chunkPower > chunkPowerMax) throw unsupported(`chunks of 2^${chunkPower + 6} bytes`)
  yield* decryptByLibrary(header.type, after(beginning, body), sessionKey)
}

async function* after(beginning: Buffer, reader: ByteReader): AsyncGenerator<Uint8Array, undefined> {
  yield beginning
  yield* reader.rest()
}

function unsupported(what: string): WalrxError {
  return new WalrxError(
    'WALRX_CODEC_UNSUPPORTED',
    `the encrypted object has OpenPGP's ${what}, which walrx cannot read`,
  )
}
