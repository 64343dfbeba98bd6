/**
 * Passwords as PostgreSQL takes them: bytes, which are UTF-8 or not. As a text, a byte that belongs to no UTF-8 character
 * is a lone surrogate from U+DC80 on, which no character has.
 */
import { isUtf8 } from 'node:buffer'
import {
  mappedToNothing,
  leftToRight,
  prohibited,
  type Ranges,
  rightToLeft,
  spaces,
  unassigned,
} from './stringprep-tables.ts'

const escapeBase = 0xdc00

/** The text of these bytes. */
export function textOfBytes(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8')
  let text = ''
  for (let at = 0; at < bytes.length;) {
    const length = [1, 2, 3, 4].find((count) => at + count <= bytes.length && isUtf8(bytes.subarray(at, at + count)))
    text +=
      length === undefined
        ? String.fromCharCode(escapeBase + (bytes[at] ?? 0))
        : bytes.toString('utf8', at, at + length)
    at += length ?? 1
  }
  return text
}

/** The bytes of a text from {@link textOfBytes}, or of any other. */
export function bytesOfText(text: string): Buffer {
  if (text.isWellFormed()) return Buffer.from(text, 'utf8')
  const parts = Array.from(text, (character) => {
    const code = character.codePointAt(0) ?? 0
    return code >= escapeBase + 0x80 && code <= escapeBase + 0xff
      ? Buffer.from([code - escapeBase])
      : Buffer.from(character)
  })
  return Buffer.concat(parts)
}

/**
 * What SCRAM hashes: the password after SASLprep (RFC 4013), and the bytes as they are where SASLprep refuses it, as in
 * libpq and in the server (pg_saslprep in saslprep.c, whose checks are those of the text before its normalization).
 */
export function saslBytes(password: string): Buffer {
  if (/^[\0-\x7f]*$/.test(password)) return Buffer.from(password, 'latin1')
  return Buffer.from(saslPrepared(password) ?? bytesOfText(password))
}

function saslPrepared(password: string): string | undefined {
  if (!password.isWellFormed()) return undefined
  const codes: number[] = []
  for (const character of password) {
    const code = character.codePointAt(0) ?? 0
    if (isIn(code, spaces)) codes.push(0x20)
    else if (!isIn(code, mappedToNothing)) codes.push(code)
  }
  const has = (table: Ranges) => codes.some((code) => isIn(code, table))
  if (codes.length === 0 || has(prohibited) || has(unassigned)) return undefined
  if (has(rightToLeft)) {
    const isAround = isIn(codes[0] ?? 0, rightToLeft) && isIn(codes.at(-1) ?? 0, rightToLeft)
    if (!isAround || has(leftToRight)) return undefined
  }
  return String.fromCodePoint(...codes).normalize('NFKC')
}

function isIn(code: number, table: Ranges): boolean {
  return table.some(([first, last]) => code >= first && code <= last)
}
