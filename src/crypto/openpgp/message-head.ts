/**
 * The beginning of an encrypted OpenPGP message: for each key that it is encrypted to a packet with the session key, then the
 * encrypted data. Nothing here needs a key, or a library.
 *
 *     message  := (session key of a public key | session key of a passphrase | marker)+ encrypted data
 *     of a key := version 3, 8 bytes of key ID (zeros: not said), algorithm, fields of the algorithm
 *                 version 6, 1 byte of length, version and fingerprint of the key, algorithm, fields
 */
import { packetTypes } from './packet-header.ts'

/**
 * Most bytes that packets before the encrypted data may take; a recipient with an RSA key of 4096 bits takes 527. What follows
 * fits into the rest of the 32 KiB that {@link encryptSlack} has for OpenPGP.
 */
export const recipientBytesMax = 32 * 1024 - 64

/** Bytes that {@link parseMessageHead} needs to see the encrypted data begin. */
export const messageHeadBytes = 32 * 1024

/** The key ID of a recipient that the message does not name. */
export const unnamedKey = '0'.repeat(16)

/** A key that a message is encrypted to. */
export interface Recipient {
  /** 16 hexadecimal digits, upper case as gpg prints them; {@link unnamedKey} where the message does not say. */
  readonly keyId: string
  /** The packet, without its header. */
  readonly body: Buffer
}

/** See the file's header. */
export interface MessageHead {
  readonly recipients: readonly Recipient[]
  /** True where a passphrase opens it as well. */
  readonly hasPassphrase: boolean
}

/** A packet in memory. */
interface WholePacket {
  readonly type: number
  readonly body: Buffer
  readonly end: number
}

/**
 * What a message is encrypted to; undefined where the bytes don't begin as an encrypted message does. Strict: one in 10^10
 * objects of random bytes passes.
 * @param head the first bytes of an object; packets that it cuts are left out
 */
export function parseMessageHead(head: Buffer): MessageHead | undefined {
  const recipients: Recipient[] = []
  let hasPassphrase = false
  for (let at = 0; at < head.length;) {
    const type = typeAt(head, at)
    const isMessage = recipients.length > 0 || hasPassphrase
    if (type === undefined) return undefined
    if (isData(type)) return isMessage ? { recipients, hasPassphrase } : undefined
    const packet = wholePacketAt(head, at, type)
    if (packet === 'cut') return isMessage ? { recipients, hasPassphrase } : undefined
    if (packet === undefined) return undefined
    if (type === packetTypes.publicKeySessionKey) {
      const recipient = recipientOf(packet.body)
      if (!recipient) return undefined
      recipients.push(recipient)
    } else if (type === packetTypes.symmetricKeySessionKey) {
      if (!isPassphrasePacket(packet.body)) return undefined
      hasPassphrase = true
    } else if (type !== packetTypes.marker || packet.body.toString('latin1') !== 'PGP') {
      return undefined
    }
    at = packet.end
  }
  return recipients.length > 0 || hasPassphrase ? { recipients, hasPassphrase } : undefined
}

/**
 * The IDs of the keys that an object is encrypted to, by OpenPGP: 16 hexadecimal digits each, zeros for one that the object
 * does not name. Empty where only a passphrase opens it; undefined where it is no such object.
 * @param head the first bytes of the object: 1 KiB shows the first key
 */
export function openpgpRecipients(head: Buffer): string[] | undefined {
  return parseMessageHead(head)?.recipients.map(({ keyId }) => keyId)
}

function isData(type: number): boolean {
  return (
    type === packetTypes.encrypted || type === packetTypes.aeadEncrypted || type === packetTypes.encryptedUnprotected
  )
}

function typeAt(head: Buffer, at: number): number | undefined {
  const tag = head[at] ?? 0
  if (tag < 0x80) return undefined
  return tag >= 0xc0 ? tag & 0x3f : (tag >> 2) & 0x0f
}

/** The packet at a place; undefined where it has no length that such packets have. */
function wholePacketAt(head: Buffer, at: number, type: number): WholePacket | 'cut' | undefined {
  const tag = head[at] ?? 0
  const lengthAt = at + 1
  // A header has six bytes at most.
  const padded = Buffer.concat([head.subarray(lengthAt, lengthAt + 5), Buffer.alloc(5)])
  const first = padded.readUInt8()
  let bytes = first
  let lengthBytes = 1
  if (tag < 0xc0) {
    lengthBytes = 1 << (tag & 3)
    if (lengthBytes === 8) return undefined
    bytes = padded.readUIntBE(0, lengthBytes)
  } else if (first >= 192) {
    if (first >= 224 && first < 255) return undefined
    lengthBytes = first === 255 ? 5 : 2
    bytes = first === 255 ? padded.readUInt32BE(1) : ((first - 192) << 8) + padded.readUInt8(1) + 192
  }
  const start = lengthAt + lengthBytes
  const end = start + bytes
  if (end > head.length) return 'cut'
  return { type, body: head.subarray(start, end), end }
}

/** The key that a packet's session key is encrypted to; undefined for what is no such packet. */
export function recipientOf(body: Buffer): Recipient | undefined {
  const named = body[0] === 3 ? version3(body) : body[0] === 6 ? version6(body) : undefined
  if (!named || named.end >= body.length || !hasFieldsOf(body.readUInt8(named.end), body.subarray(named.end + 1))) {
    return undefined
  }
  return { keyId: named.keyId, body }
}

interface NamedKey {
  readonly keyId: string
  /** Where the algorithm is. */
  readonly end: number
}

function version3(body: Buffer): NamedKey {
  return { keyId: hexOf(body.subarray(1, 9)), end: 9 }
}

/** A fingerprint of version 4 ends with the key ID, one of version 6 begins with it. */
function version6(body: Buffer): NamedKey | undefined {
  const length = body[1]
  if (length === 0) return { keyId: unnamedKey, end: 2 }
  if (length === 21 && body[2] === 4) return { keyId: hexOf(body.subarray(15, 23)), end: 23 }
  return length === 33 && body[2] === 6 ? { keyId: hexOf(body.subarray(3, 11)), end: 35 } : undefined
}

function hexOf(bytes: Buffer): string {
  return bytes.toString('hex').toUpperCase()
}

/** True where the fields of a session key fill the rest of the packet, as its algorithm has them (RFC 9580, 5.1). */
function hasFieldsOf(algorithm: number, fields: Buffer): boolean {
  const first = numberEnd(fields, 0)
  switch (algorithm) {
    case 1: // RSA
    case 2:
      return first === fields.length
    case 16: // Elgamal
      return numberEnd(fields, first) === fields.length
    case 18: // ECDH
      return first + 1 + (fields[first] ?? 0) === fields.length
    case 25: // X25519
      return 33 + (fields[32] ?? 0) === fields.length
    case 26: // X448
      return 57 + (fields[56] ?? 0) === fields.length
    default:
      return false
  }
}

/** Where a number ends that begins with its length in bits; beyond the end for none. */
function numberEnd(fields: Buffer, at: number): number {
  if (at + 2 > fields.length) return Infinity
  return at + 2 + Math.ceil(fields.readUInt16BE(at) / 8)
}

/** A passphrase's packet: version, cipher, how the passphrase becomes a key (RFC 9580, 3.7.1 and 5.3). */
function isPassphrasePacket(body: Buffer): boolean {
  const [version = 0, second = 0, third = 0, fourth = 0] = body
  if (body.length > 128) return false
  if (version === 4) return second >= 1 && second <= 13 && [0, 1, 3, 4].includes(third)
  // Version 6 has the length of the next fields first.
  const [cipher, mode] = version === 5 ? [second, third] : [third, fourth]
  return (version === 5 || version === 6) && cipher >= 7 && cipher <= 9 && mode >= 1 && mode <= 3
}
