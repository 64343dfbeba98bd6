/** Keeps secrets out of all output. */

const mask = '[redacted]'

/** Where one of these is a password it is in every message anyway, and a message without it is of no use. */
const publicWords: ReadonlySet<string> = new Set(['walrx', 'postgres', 'postgresql'])

/** Shorter secrets may be a part of an ordinary word: `test` of `latest`. */
const surelySecretLength = 12

/** Names of fields that are never printed. */
const secretName = /passw|passphrase|secret|session_?token|_token$|authorization|sse_?c$|private_?key|api_?key/i

/** True for the name of a field that holds a secret. */
export function isSecretName(name: string): boolean {
  return secretName.test(name)
}

/**
 * `text` without the passwords of connection strings (`password=…`) and URLs (`user:…@`), without the signatures of
 * signed requests, and without any of `secrets`.
 * @param secrets known secret texts; those shorter than four characters are ignored, as they occur by chance, and those
 * shorter than twelve inside of longer words
 */
export function redactText(text: string, secrets: readonly string[] = []): string {
  let result = text
  for (const secret of secrets) result = withoutSecret(result, secret)
  return (
    result
      .replace(/\b((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'"]+)/gi, `$1${mask}`)
      // To the last "@": a password that nobody has encoded may hold "@" and "/".
      .replace(/(\bpostgres(?:ql)?:\/\/[^\s:/@]*:)\S+@/gi, `$1${mask}@`)
      .replace(/(\b[a-z][a-z0-9+.-]*:\/\/[^\s:/@]*:)[^\s/@]+@/gi, `$1${mask}@`)
      .replace(/\b(X-Amz-(?:Signature|Credential|Security-Token)=)[^\s&"']+/gi, `$1${mask}`)
  )
}

function withoutSecret(text: string, secret: string): string {
  if (secret.length < 4 || publicWords.has(secret) || !text.includes(secret)) return text
  if (secret.length >= surelySecretLength) return text.replaceAll(secret, mask)
  const before = /^[\p{L}\p{N}]/u.test(secret) ? '(?<![\\p{L}\\p{N}])' : ''
  const after = /[\p{L}\p{N}]$/u.test(secret) ? '(?![\\p{L}\\p{N}])' : ''
  const literal = secret.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
  return text.replace(new RegExp(`${before}${literal}${after}`, 'gu'), mask)
}

/** Words before a value that is a secret, as programs print headers, variables and settings. */
const secretValue =
  /((?:token|authorization|passw(?:or)?d|passphrase|secret|api[_-]?key|private[_-]?key)[\w-]*["']?\s*[:=]\s*)(?:(?:bearer|basic)\s+)?(?:"[^"]*"|'[^']*'|[^\s,;"']+)/gi

/** Digits in hex or base64 that are long enough for a key. A path begins with slashes, or has dots. */
const longDigits =
  /(?<![\w./-])(?!\/[^/\s]+\/[^/\s]+\/)(?:[0-9A-Fa-f]{32,}|(?=[\w+/-]*\d)(?=[\w+/-]*[A-Z])[A-Za-z0-9+/_-]{40,}={0,2})(?!\w|\.\w)/g

/** What another program has printed, without what looks like a secret: more is masked than in texts of our own. */
export function redactForeignText(text: string, secrets: readonly string[] = []): string {
  return redactText(text, secrets).replace(secretValue, `$1${mask}`).replace(longDigits, mask)
}
