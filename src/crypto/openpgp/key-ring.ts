/**
 * A ring of OpenPGP keys, by the library `openpgp`: it reads keys, unlocks them, and encrypts and decrypts session keys. Loading
 * it takes a tenth of a second, so nothing imports this file before an object is to be encrypted or decrypted.
 *
 * The keys that objects are encrypted to are chosen once, by go-crypto's rule (openpgp/keys.go, EncryptionKey): of each key in
 * the ring the subkey that is valid now and whose binding signature is the newest, else the primary key. A key that expires
 * while a process runs stays in use until its end: what it encrypts can still be decrypted.
 */
import { randomBytes } from 'node:crypto'
import * as openpgp from 'openpgp'
import { WalrxError } from '../../primitives/errors.ts'
import { recipientBytesMax, unnamedKey, type Recipient } from './message-head.ts'
import type { SealedKey } from './message-writer.ts'
import { packetHeader, packetTypes } from './packet-header.ts'
import { sessionCiphers, type SessionKey } from './session-cipher.ts'

/** Where a ring comes from. */
export interface KeyRingSource {
  /** Armored text, in one block or several: see {@link openKeyRing}. */
  readonly armored: string
  /** Unlocks secret keys. */
  readonly passphrase?: string | undefined
  /** The setting, for messages. */
  readonly label: string
}

/** What a key cannot be used for, and why. */
type Refusal = (keyId: string, reason: string) => WalrxError

/** A part of a key that decrypts. */
interface DecryptionKey {
  readonly key: openpgp.PrivateKey
  readonly isLocked: boolean
}

/** What the ring can do with a message. */
export type Opened =
  | { readonly sessionKey: SessionKey }
  /** The session key that is for one of the ring's keys does not decrypt. */
  | { readonly damagedFor: string }
  | undefined

/** A key of any age and kind is used that go-crypto uses: the choice was made when it was created. */
const lenient: openpgp.Config = {
  ...openpgp.config,
  minRSABits: 1024,
  rejectPublicKeyAlgorithms: new Set(),
  rejectCurves: new Set(),
}

const forDecryption: openpgp.Config = { ...lenient, allowMissingKeyFlags: true }

/** Kinds of keys that a session key can be encrypted to. */
const encrypting: ReadonlySet<openpgp.enums.publicKey> = new Set([
  openpgp.enums.publicKey.rsaEncryptSign,
  openpgp.enums.publicKey.rsaEncrypt,
  openpgp.enums.publicKey.elgamal,
  openpgp.enums.publicKey.ecdh,
  openpgp.enums.publicKey.x25519,
  openpgp.enums.publicKey.x448,
])

/** Keys that objects are encrypted to. */
interface Recipients {
  readonly keys: openpgp.PublicKey[]
  readonly keyIds: openpgp.KeyID[]
  readonly cipher: 'aes128' | 'aes256'
  /** When the choice was made. */
  readonly date: Date
}

/** See the file's header. */
export class KeyRing {
  readonly #label: string
  readonly #keys: readonly openpgp.Key[]
  /** By key ID. */
  readonly #decryption: ReadonlyMap<string, DecryptionKey>
  #recipients: Promise<Recipients> | undefined

  constructor(label: string, keys: readonly openpgp.Key[], decryption: ReadonlyMap<string, DecryptionKey>) {
    this.#label = label
    this.#keys = keys
    this.#decryption = decryption
  }

  /** False for a ring whose keys are all public, or locked. */
  get canDecrypt(): boolean {
    return [...this.#decryption.values()].some(({ isLocked }) => !isLocked)
  }

  /** True for a key whose public half the ring has. */
  holdsPublic(keyId: string): boolean {
    return this.#keys.some((key) => key.getKeyIDs().some((own) => hexOf(own) === keyId))
  }

  /**
   * A new session key, encrypted to every key of the ring.
   * @throws WALRX_KEY_UNAVAILABLE for a key that is expired, revoked or for signing only; WALRX_USAGE for too many keys
   */
  async seal(): Promise<SealedKey> {
    const { keys, keyIds, date, cipher: algorithm } = await (this.#recipients ??= this.#chooseRecipients())
    const cipher = sessionCiphers[algorithm]
    if (!cipher) throw new WalrxError('WALRX_INTERNAL', `no cipher ${algorithm}`)
    const key = randomBytes(cipher.keyBytes)
    const encryptionKeyIDs = [...keyIds]
    const options = { data: key, algorithm, encryptionKeys: keys, encryptionKeyIDs, date, config: lenient }
    const packets = Buffer.from(await openpgp.encryptSessionKey({ ...options, format: 'binary' }))
    if (packets.length > recipientBytesMax) {
      throw new WalrxError(
        'WALRX_USAGE',
        `${this.#label} has ${keys.length} keys: their session keys take ${packets.length} bytes of each object, and ${recipientBytesMax} are possible`,
        { hint: 'take keys out of the ring, or use smaller ones' },
      )
    }
    return { cipher, key, packets }
  }

  /**
   * The session key of a message.
   * @throws WALRX_KEY_UNAVAILABLE where it is for a key that is locked
   */
  async open(recipients: readonly Recipient[]): Promise<Opened> {
    let damagedFor: string | undefined
    let locked: string | undefined
    for (const { body, keyId } of recipients) {
      for (const [ownId, own] of this.#decryption) {
        if (keyId !== ownId && keyId !== unnamedKey) continue
        if (own.isLocked) {
          locked ??= ownId
          continue
        }
        const sessionKey = await sessionKeyOf(body, own.key)
        if (sessionKey) return { sessionKey }
        if (keyId === ownId) damagedFor ??= ownId
      }
    }
    if (locked !== undefined) throw lockedKey(this.#label, locked)
    return damagedFor === undefined ? undefined : { damagedFor }
  }

  async #chooseRecipients(): Promise<Recipients> {
    const date = new Date()
    const refusal: Refusal = (keyId, reason) =>
      new WalrxError('WALRX_KEY_UNAVAILABLE', `${this.#label}: OpenPGP key ${keyId} ${reason}`, {
        hint: 'renew the key, or take it out of the ring: objects are encrypted to every key of it',
      })
    const keyIds: openpgp.KeyID[] = []
    for (const key of this.#keys) keyIds.push(await encryptionKeyId(key, date, refusal))
    const preferences = await Promise.all(this.#keys.map((key) => preferredCiphers(key, date)))
    return { keys: [...this.#keys], keyIds, cipher: cipherFor(preferences), date }
  }
}

/**
 * Reads a ring. WAL-G reads the first armored block only, which may hold several keys; here all blocks count, so that a file may
 * have the public and the secret half of a key.
 * @throws WALRX_USAGE for what is no ring; WALRX_KEY_UNAVAILABLE for a wrong passphrase. Messages hold nothing of the text
 */
export async function openKeyRing({ armored, label, passphrase }: KeyRingSource): Promise<KeyRing> {
  const blocks = armored.match(/-----BEGIN PGP (PUBLIC|PRIVATE) KEY BLOCK-----[\s\S]*?-----END PGP \1 KEY BLOCK-----/g)
  const keys = new Map<string, openpgp.Key>()
  for (const block of blocks ?? []) {
    for (const key of await keysOf(block, label)) {
      const known = keys.get(key.getFingerprint())
      if (!known || (!known.isPrivate() && key.isPrivate())) keys.set(key.getFingerprint(), key)
    }
  }
  if (keys.size === 0) throw noRing(label)
  const decryption = new Map<string, DecryptionKey>()
  for (const key of keys.values()) {
    if (!key.isPrivate()) continue
    for (const { keyPacket } of key.getKeys()) {
      if (!isSecret(keyPacket) || !encrypting.has(keyPacket.algorithm)) continue
      if (passphrase !== undefined && !keyPacket.isDecrypted()) await unlock(keyPacket, passphrase, label)
      decryption.set(hexOf(keyPacket.getKeyID()), { key, isLocked: !keyPacket.isDecrypted() })
    }
  }
  return new KeyRing(label, [...keys.values()], decryption)
}

/** The library's messages quote lines that it does not understand, and these may be of the key. */
async function keysOf(block: string, label: string): Promise<openpgp.Key[]> {
  try {
    return await openpgp.readKeys({ armoredKeys: block })
  } catch {
    throw noRing(label)
  }
}

function noRing(label: string): WalrxError {
  return new WalrxError('WALRX_USAGE', `${label} has no armored OpenPGP key that can be read`, {
    hint: 'give the output of "gpg --armor --export-secret-keys ID", or of "gpg --armor --export ID" to encrypt only',
  })
}

/** True for a secret key that is there: not on a card, and not left out as gpg leaves out an offline primary key. */
function isSecret(packet: object): packet is openpgp.SecretKeyPacket | openpgp.SecretSubkeyPacket {
  return 'isDummy' in packet && !(packet as openpgp.SecretKeyPacket).isMissingSecretKeyMaterial()
}

async function unlock(
  packet: openpgp.SecretKeyPacket | openpgp.SecretSubkeyPacket,
  passphrase: string,
  label: string,
): Promise<void> {
  try {
    await packet.decrypt(passphrase)
  } catch (error) {
    const isWrong = /passphrase/i.test((error as Error).message)
    const reason = isWrong ? 'the passphrase is not that of' : 'walrx cannot unlock'
    throw new WalrxError('WALRX_KEY_UNAVAILABLE', `${label}: ${reason} OpenPGP key ${hexOf(packet.getKeyID())}`, {
      hint: isWrong
        ? 'set WALG_PGP_KEY_PASSPHRASE to the passphrase of the key'
        : 'export the key again with a current gpg: how its secret half is protected is unknown or too weak',
    })
  }
}

function lockedKey(label: string, keyId: string): WalrxError {
  return new WalrxError(
    'WALRX_KEY_UNAVAILABLE',
    `${label}: OpenPGP key ${keyId} is locked by a passphrase, and none is set`,
    { hint: 'set WALG_PGP_KEY_PASSPHRASE' },
  )
}

/** The part of a key that objects are encrypted to. */
async function encryptionKeyId(key: openpgp.Key, date: Date, refusal: Refusal): Promise<openpgp.KeyID> {
  const signedAt = ({ bindingSignatures }: openpgp.Subkey) =>
    Math.max(...bindingSignatures.map(({ created }) => created?.getTime() ?? 0))
  const newestFirst = key.subkeys.toSorted((a, b) => signedAt(b) - signedAt(a))
  for (const subkey of newestFirst) {
    try {
      return (await key.getEncryptionKey(subkey.getKeyID(), date, undefined, lenient)).getKeyID()
    } catch {
      // The next may be valid.
    }
  }
  try {
    return (await key.getEncryptionKey(undefined, date, undefined, lenient)).getKeyID()
  } catch (error) {
    throw refusal(hexOf(key.getKeyID()), reasonOf((error as Error).message))
  }
}

/** By the library's message. */
function reasonOf(message: string): string {
  if (/revoked/i.test(message)) return 'is revoked: nothing can be encrypted to it'
  if (/expired/i.test(message)) return 'is expired: nothing can be encrypted to it'
  return 'has no part that is for encryption'
}

/** Ciphers that a key asks for; empty where it does not say. */
async function preferredCiphers(key: openpgp.Key, date: Date): Promise<readonly openpgp.enums.symmetric[]> {
  try {
    const { selfCertification } = await key.getPrimaryUser(date, undefined, lenient)
    return selfCertification.preferredSymmetricAlgorithms ?? []
  } catch {
    return []
  }
}

/** WAL-G's choice: AES-128, which every program has, but for keys that all ask for AES-256 and not all for AES-128. */
function cipherFor(preferences: readonly (readonly openpgp.enums.symmetric[])[]): 'aes128' | 'aes256' {
  const all = (cipher: openpgp.enums.symmetric) => preferences.every((preferred) => preferred.includes(cipher))
  return !all(openpgp.enums.symmetric.aes128) && all(openpgp.enums.symmetric.aes256) ? 'aes256' : 'aes128'
}

async function sessionKeyOf(body: Buffer, key: openpgp.PrivateKey): Promise<SessionKey | undefined> {
  const packet = Buffer.concat([packetHeader(packetTypes.publicKeySessionKey, body.length), body])
  try {
    const message = await openpgp.readMessage({ binaryMessage: packet, config: forDecryption })
    const [found] = await openpgp.decryptSessionKeys({ message, decryptionKeys: key, config: forDecryption })
    return found && { key: found.data, cipher: found.algorithm }
  } catch {
    return undefined
  }
}

function hexOf(keyId: openpgp.KeyID): string {
  return keyId.toHex().toUpperCase()
}
