/**
 * Keys of libsodium as WAL-G reads them (internal/crypto/libsodium/keytransform.go and crypter.go), to the byte: a key that
 * is read otherwise opens nothing.
 *
 * The text and what comes of it stand in no string, and in no memory that is not zeroed: only the caller has the text.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { loadSodium } from './sodium.ts'

/** How a key is written: `WALG_LIBSODIUM_KEY_TRANSFORM`. */
export type KeyTransform = 'none' | 'hex' | 'base64'

/** Bytes of a key (crypto_secretstream_xchacha20poly1305_KEYBYTES). */
export const keyBytes = 32

/** Fewer are refused under `none`; fewer than {@link keyBytes} are padded with zeros. */
const rawBytesMin = 25

/**
 * The key that a text stands for.
 * @param text as it is set; the caller zeroes it
 * @returns {@link keyBytes} bytes in memory of `sodium_malloc`
 * @throws WALRX_USAGE, with a message that begins with "the key" and has none of it; WALRX_KEY_UNAVAILABLE without libsodium
 */
export async function libsodiumKey(text: Buffer, transform: KeyTransform): Promise<Buffer> {
  const transforms = { none: fromRaw, hex: fromHex, base64: fromBase64 }
  const sodium = await loadSodium()
  const key = sodium.sodium_malloc(keyBytes)
  key.fill(0)
  transforms[transform](text, key)
  return key
}

/** The bytes themselves, cut or padded: "mimics the behavior of older versions of wal-g". */
function fromRaw(text: Buffer, key: Buffer): void {
  if (text.length < rawBytesMin) {
    throw refused(`has ${text.length} bytes, and needs ${rawBytesMin} at least`, randomHint)
  }
  text.copy(key)
}

/** As Go's encoding/hex: both cases, nothing else. */
function fromHex(text: Buffer, key: Buffer): void {
  const wrong = text.findIndex((byte) => valueOf(hexDigits, byte) === undefined)
  if (wrong >= 0) throw refused(`${placeOf(text, wrong)}, which is no hex digit`, hexHint)
  if (text.length !== 2 * keyBytes) {
    throw refused(`has ${text.length} hex digits instead of ${2 * keyBytes}`, hexHint)
  }
  const digit = (at: number) => valueOf(hexDigits, text[at]) ?? 0
  for (let at = 0; at < keyBytes; at++) key[at] = (digit(2 * at) << 4) | digit(2 * at + 1)
}

/**
 * As Go's base64.StdEncoding: padding is required, line ends do not count wherever they stand, and bits after the last byte
 * are not looked at.
 */
function fromBase64(text: Buffer, key: Buffer): void {
  let bits = 0
  let value = 0
  let digits = 0
  let padding = 0
  let written = 0
  for (let at = 0; at < text.length; at++) {
    const byte = text[at]
    if (byte === lineFeed || byte === carriageReturn) continue
    const digit = valueOf(base64Digits, byte)
    if (byte === paddingSign) padding++
    if (digit === undefined ? byte !== paddingSign : padding > 0) {
      const what = padding > 0 ? 'which follows after the padding' : 'which is not of base64'
      throw refused(`${placeOf(text, at)}, ${what}`, base64Hint)
    }
    if (digit === undefined) continue
    digits++
    value = ((value << 6) | digit) & 0xfff
    bits += 6
    if (bits < 8) continue
    bits -= 8
    // A buffer ignores what is written beyond its end: the number is checked below.
    key[written++] = value >> bits
  }
  if (padding > 2 || digits % 4 === 1 || (digits + padding) % 4 !== 0) {
    throw refused(`has ${digits} digits of base64 and ${padding} signs of padding, which is not complete`, base64Hint)
  }
  if (written !== keyBytes) throw refused(`has ${written} bytes in base64 instead of ${keyBytes}`, base64Hint)
}

const lineFeed = 0x0a
const carriageReturn = 0x0d
const paddingSign = 0x3d

const hexDigits = digitsOf('0123456789abcdef')
for (const [index, letter] of [...'ABCDEF'].entries()) hexDigits.set(letter.charCodeAt(0), 10 + index)
const base64Digits = digitsOf('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/')

function digitsOf(alphabet: string): Map<number, number> {
  return new Map([...alphabet].map((digit, value) => [digit.charCodeAt(0), value]))
}

function valueOf(digits: ReadonlyMap<number, number>, byte: number | undefined): number | undefined {
  return byte === undefined ? undefined : digits.get(byte)
}

const hexHint = 'hex of 32 bytes is what `openssl rand -hex 32` prints'
const base64Hint = 'base64 of 32 bytes is what `openssl rand -base64 32` prints'
const randomHint = 'make a key with `openssl rand -hex 32`, and set WALG_LIBSODIUM_KEY_TRANSFORM=hex'

/** Where a character stands, and whether it is white space, but not which it is. */
function placeOf(text: Buffer, at: number): string {
  const isSpace = spaceAt(text, at) > 0
  return `has ${isSpace ? 'white space' : 'a character'} at byte ${at + 1} of ${text.length}`
}

function refused(what: string, hint: string): WalrxError {
  return new WalrxError('WALRX_USAGE', `the key ${what}`, { hint })
}

/** White space beyond ASCII, as Go's unicode.IsSpace has it, in UTF-8. */
const wideSpaces = [
  ...[0x85, 0xa0, 0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000],
  ...Array.from({ length: 11 }, (_, index) => 0x2000 + index),
].map((point) => Buffer.from(String.fromCodePoint(point)))

/**
 * The content of a key file without the white space around it, as Go's strings.TrimSpace sees it. The bytes need not be
 * UTF-8: what is no character of it is no white space.
 * @returns a part of the same memory
 */
export function trimKeyFile(bytes: Buffer): Buffer {
  let start = 0
  let end = bytes.length
  for (let space = spaceAt(bytes, 0); space > 0; space = spaceAt(bytes, start)) start += space
  for (let space = spaceBefore(bytes, start, end); space > 0; space = spaceBefore(bytes, start, end)) end -= space
  return bytes.subarray(start, end)
}

/** Bytes of the white space that begins at an offset; 0 for none. */
function spaceAt(bytes: Buffer, at: number): number {
  if (isAsciiSpace(bytes[at])) return 1
  return wideSpaces.find((space) => space.equals(bytes.subarray(at, at + space.length)))?.length ?? 0
}

/** Bytes of the white space that ends at an offset; 0 for none. */
function spaceBefore(bytes: Buffer, start: number, end: number): number {
  if (end > start && isAsciiSpace(bytes[end - 1])) return 1
  const endsWith = (space: Buffer) =>
    end - space.length >= start && space.equals(bytes.subarray(end - space.length, end))
  return wideSpaces.find(endsWith)?.length ?? 0
}

/** Tab, the line ends, vertical tab, form feed and space. */
function isAsciiSpace(byte: number | undefined): boolean {
  return byte === 0x20 || (byte !== undefined && byte >= 0x09 && byte <= 0x0d)
}
