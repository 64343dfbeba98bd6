/**
 * To whom an OpenPGP message is encrypted, by its first packets (RFC 4880): one for each key (5.1, public-key encrypted
 * session key, version 3) or passphrase (5.3, symmetric-key encrypted session key, version 4).
 */

const publicKeyTag = 1
const symmetricTag = 3
/** RSA, Elgamal, ECDH, X25519 and X448 (RFC 4880, 9.1; RFC 9580, 9.1). */
const publicKeyAlgorithms: ReadonlySet<number> = new Set([1, 2, 16, 18, 25, 26])
/** Of the lengths of session keys, which are all that these packets hold. */
const packetBytesMax = 8192

/**
 * The ids of the keys that an object is encrypted to, as 16 hex digits, 0000000000000000 for one that is hidden; empty for a
 * passphrase only.
 * Of random bytes fewer than one in a million begin so: tag, version and algorithm are at fixed places.
 * @param head the first bytes of an object
 * @returns undefined for what is no OpenPGP message
 */
export function openpgpRecipients(head: Buffer): string[] | undefined {
  const recipients: string[] = []
  let isMessage = false
  for (let at = 0; ;) {
    const packet = packetAt(head, at)
    if (packet?.tag === symmetricTag && head[packet.body] === 4) isMessage = true
    else if (packet?.tag === publicKeyTag && isSessionKey(head, packet.body)) {
      recipients.push(head.toString('hex', packet.body + 1, packet.body + 9).toUpperCase())
      isMessage = true
    } else return isMessage ? recipients : undefined
    at = packet.body + packet.length
  }
}

function isSessionKey(head: Buffer, body: number): boolean {
  return head[body] === 3 && publicKeyAlgorithms.has(head[body + 9] ?? 0)
}

/** A packet's tag, and where its body lies; undefined for what is none, and for the lengths that these packets never have. */
function packetAt(
  head: Buffer,
  at: number,
): { readonly tag: number; readonly body: number; readonly length: number } | undefined {
  const first = head[at] ?? 0
  if ((first & 0x80) === 0) return undefined
  const isNew = (first & 0x40) !== 0
  const tag = isNew ? first & 0x3f : (first >> 2) & 0x0f
  const found = isNew ? newLength(head, at + 1) : oldLength(head, at + 1, first & 3)
  if (!found || found.length < 3 || found.length > packetBytesMax) return undefined
  return { tag, body: at + 1 + found.bytes, length: found.length }
}

/** @returns the length of the body, and how many bytes say it */
function newLength(head: Buffer, at: number): { readonly length: number; readonly bytes: number } | undefined {
  const first = head[at]
  if (first === undefined || first > 223) return undefined
  return first < 192
    ? { length: first, bytes: 1 }
    : { length: ((first - 192) << 8) + (head[at + 1] ?? 0) + 192, bytes: 2 }
}

function oldLength(
  head: Buffer,
  at: number,
  type: number,
): { readonly length: number; readonly bytes: number } | undefined {
  const bytes = [1, 2, 4][type]
  return bytes === undefined || head.length < at + bytes ? undefined : { length: head.readUIntBE(at, bytes), bytes }
}
