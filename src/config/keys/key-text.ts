/** Keys as they are written in files, variables and the output of commands. */
import { isUtf8 } from 'node:buffer'
import { trimKeyFile } from '../../crypto/libsodium/libsodium-key.ts'
import { WalrxError } from '../../primitives/errors.ts'

/** More than any key, or any ring of them, takes: what is larger is no key, and is not read into memory. */
export const keyBytesMax = 1024 * 1024

/** One key of a text that has several. */
export interface KeyText {
  readonly method: 'libsodium' | 'OpenPGP'
  /** A part of the text, and no copy. */
  readonly bytes: Buffer
}

const armorBegin = Buffer.from('-----BEGIN PGP ')
const armorEnd = Buffer.from('-----END PGP ')
const pemBegin = Buffer.from('-----BEGIN ')

/** True for a text that begins with an armored block of OpenPGP. */
export function isArmored(text: Buffer): boolean {
  return beginsWith(trimKeyFile(text), armorBegin)
}

/**
 * The keys of a text: an armored block is an OpenPGP key, any other line a key of libsodium. White space around a line, CRLF
 * and empty lines don't count.
 * @throws WALRX_KEY_UNAVAILABLE for what is no text, and for a block that is cut; no message has any of the text
 */
export function splitKeys(text: Buffer): KeyText[] {
  if (!isText(text)) {
    throw new WalrxError('WALRX_KEY_UNAVAILABLE', 'what it printed is no text', {
      hint: 'have it print the key in hex or base64 and set WALG_LIBSODIUM_KEY_TRANSFORM, or an OpenPGP key in armor: gpg --armor',
    })
  }
  const keys: KeyText[] = []
  let blockStart: number | undefined
  for (const { end, start } of linesOf(text)) {
    const line = trimKeyFile(text.subarray(start, end))
    if (blockStart !== undefined) {
      if (!beginsWith(line, armorEnd)) continue
      keys.push({ method: 'OpenPGP', bytes: text.subarray(blockStart, end) })
      blockStart = undefined
    } else if (beginsWith(line, armorBegin)) blockStart = start
    else if (line.length > 0) keys.push({ method: 'libsodium', bytes: line })
  }
  if (blockStart === undefined) return keys
  throw new WalrxError('WALRX_KEY_UNAVAILABLE', 'an OpenPGP key in it has no end', {
    hint: 'print it up to the line that begins with -----END PGP',
  })
}

/**
 * Refuses what would be taken for a key of libsodium, and is none: with the transform `none` any 25 bytes are a key, and the
 * first 32 of every armored file are the same.
 * @throws WALRX_USAGE
 */
export function refuseForeignKey(text: Buffer): void {
  if (beginsWith(text, armorBegin) || isBinaryOpenpgp(text)) {
    throw new WalrxError('WALRX_USAGE', 'this is an OpenPGP key, and no key of libsodium', {
      hint: 'set WALG_PGP_KEY_PATH to the file of the key, armored by gpg --armor, and unset this one',
    })
  }
  if (!beginsWith(text, pemBegin)) return
  throw new WalrxError('WALRX_USAGE', 'this is a PEM file, and no key of libsodium', {
    hint: 'make a key by: openssl rand -hex 32; and set WALG_LIBSODIUM_KEY_TRANSFORM=hex',
  })
}

/** How a key looks that is 32 bytes in another form; undefined for any other text. */
export function encodingOf(text: Buffer): 'hex' | 'base64' | undefined {
  if (text.length === 64 && text.every((byte) => isHexDigit(byte))) return 'hex'
  return text.length === 44 && text[43] === 0x3d ? 'base64' : undefined
}

function isHexDigit(byte: number): boolean {
  return (byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x46) || (byte >= 0x61 && byte <= 0x66)
}

/** Packets of keys in both formats of their headers (RFC 9580, 4.2), in what is too long for a raw key of libsodium. */
function isBinaryOpenpgp(text: Buffer): boolean {
  return text.length > 64 && [0x94, 0x95, 0x98, 0x99, 0xc5, 0xc6].includes(text[0] ?? 0) && !isUtf8(text)
}

function isText(bytes: Buffer): boolean {
  const isControl = (byte: number) => (byte < 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d) || byte === 0x7f
  return isUtf8(bytes) && !bytes.some(isControl)
}

function* linesOf(text: Buffer): Generator<{ readonly start: number; readonly end: number }> {
  for (let start = 0; start < text.length;) {
    const at = text.indexOf(0x0a, start)
    const end = at < 0 ? text.length : at
    yield { start, end }
    start = end + 1
  }
}

function beginsWith(text: Buffer, beginning: Buffer): boolean {
  return text.subarray(0, beginning.length).equals(beginning)
}
