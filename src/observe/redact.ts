/** Keeps secrets out of all output. */

const mask = '[redacted]'

/** Names of fields that are never printed. */
const secretName = /passw|passphrase|secret|session_?token|authorization|sse_?c$|private_?key/i

/** True for the name of a field that holds a secret. */
export function isSecretName(name: string): boolean {
  return secretName.test(name)
}

/**
 * `text` without the passwords of connection strings (`password=…`) and URLs (`user:…@`), without the signatures of
 * signed requests, and without any of `secrets`.
 * @param secrets known secret texts; those shorter than four characters are ignored, as they occur by chance
 */
export function redactText(text: string, secrets: readonly string[] = []): string {
  let result = text
  for (const secret of secrets) if (secret.length >= 4) result = result.replaceAll(secret, mask)
  return (
    result
      .replace(/\b((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'"]+)/gi, `$1${mask}`)
      // To the last "@": a password that nobody has encoded may hold "@" and "/".
      .replace(/(\bpostgres(?:ql)?:\/\/[^\s:/@]*:)\S+@/gi, `$1${mask}@`)
      .replace(/(\b[a-z][a-z0-9+.-]*:\/\/[^\s:/@]*:)[^\s/@]+@/gi, `$1${mask}@`)
      .replace(/\b(X-Amz-(?:Signature|Credential|Security-Token)=)[^\s&"']+/gi, `$1${mask}`)
  )
}
