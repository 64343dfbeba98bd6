/** The forms in which a secret of the settings could turn up in what is printed. */
import type { OptionSpec } from '../options/option-types.ts'
import { looksLikeKey, readKeyName, writingKeys } from './key-settings.ts'

/** Shorter pieces of a secret occur by chance. */
const pieceMin = 12

/** Names of the settings that are files with keys. */
const keyPathNames: ReadonlySet<string> = new Set([writingKeys.pgpKeyPath, writingKeys.libsodiumKeyPath, readKeyName])

/**
 * The texts that must not be printed of one setting: of a secret itself, of each line of it, and of a key also what stands for
 * the same bytes in hex and base64. None of what is no secret, but for a key that was set in the place of its path.
 */
export function secretForms({ env: [name = ''], secret, type }: OptionSpec, text: string): string[] {
  if (text === '') return []
  if (keyPathNames.has(name) && looksLikeKey(text)) return [text, text.trim()]
  if (!secret) return []
  // A program alone is no secret, and a message that the shell does not find it needs its name.
  if (name === writingKeys.keyCommand) return /\s/.test(text.trim()) ? [text.trim()] : []
  const whole = [text, text.trim()]
  if (type.kind !== 'secret') return whole
  return [...whole, ...linesOf(text), ...(name === writingKeys.libsodiumKey ? encodings(text) : [])]
}

/** Lines with something of a key: no beginnings, ends and headers of an armored block. */
function linesOf(text: string): string[] {
  const lines = text.split(/[\r\n]+|\\n/).map((line) => line.trim())
  if (lines.length === 1) return []
  return lines.filter((line) => line.length >= pieceMin && !/^(-----|[A-Z][A-Za-z]+: )/.test(line))
}

/** The key in hex and base64, whatever it is written in: the text, and the 32 bytes that it stands for. */
function encodings(text: string): string[] {
  const raw = Buffer.from(text, 'utf8')
  const padded = Buffer.alloc(32)
  raw.copy(padded)
  const isHex = /^[0-9A-Fa-f]{64}$/.test(text.trim())
  const keys = [raw, padded, Buffer.from(text.trim(), isHex ? 'hex' : 'base64')]
  const forms = keys
    .filter((key) => key.length >= pieceMin)
    .flatMap((key) => [key.toString('hex'), key.toString('hex').toUpperCase(), base64(key), key.toString('base64url')])
  for (const key of keys) key.fill(0)
  return forms
}

/** Without the padding, so that it is found with and without. */
function base64(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '')
}
