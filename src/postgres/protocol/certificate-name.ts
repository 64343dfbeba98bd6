/**
 * Whether a certificate is that of a host, with libpq's rules (fe-secure-common.c, fe-secure-openssl.c; since 15 with
 * addresses among the alternative names), which are not quite those of RFC 6125.
 */
import { isIP } from 'node:net'

/** The names in a certificate, as Node gives them. */
export interface CertificateNames {
  /** Alternative names, such as `DNS:db1, IP Address:10.0.0.1`. */
  readonly subjectaltname?: string | undefined
  /** The first of several common names counts. */
  readonly subject?: { readonly CN?: string | readonly string[] | undefined } | undefined
}

/**
 * Undefined when the certificate is that of the host, else an error that says what it lacks, in libpq's words. An
 * alternative name of the kind that the host is, a name or an address, keeps the common name out of it.
 */
export function hostMismatch(host: string, certificate: CertificateNames): Error | undefined {
  const isAddress = isIP(host) !== 0 && !host.includes('%')
  const names: string[] = []
  let usesCommonName = true
  for (const { kind, value } of alternativeNames(certificate.subjectaltname ?? '')) {
    if (kind === (isAddress ? 'IP Address' : 'DNS')) usesCommonName = false
    if (kind === 'DNS' ? isName(value, host) : kind === 'IP Address' && isSameAddress(value, host)) return undefined
    if (kind === 'DNS' || kind === 'IP Address') names.push(value)
  }
  const { CN } = certificate.subject ?? {}
  const commonName = typeof CN === 'string' ? CN : CN?.[0]
  if (usesCommonName && commonName !== undefined) {
    if (isName(commonName, host)) return undefined
    names.push(commonName)
  }
  return mismatch(host, isAddress, names)
}

function mismatch(host: string, isAddress: boolean, names: readonly string[]): Error {
  const [first, ...others] = names
  const shown = first === undefined ? 'without any name' : `for "${first}"`
  const more = others.length === 0 ? '' : ` (and ${others.length} other name${others.length === 1 ? '' : 's'})`
  const lacking = isAddress ? `IP:${host}` : `DNS:${host}`
  const message = `server certificate ${shown}${more} does not match host name "${host}": it lacks the alternative name ${lacking}`
  return Object.assign(new Error(message), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' })
}

/** Node puts a value that holds anything unusual into quotes, as JSON. */
function alternativeNames(text: string): { kind: string; value: string }[] {
  return [...text.matchAll(/(?:^|, )([^:,"]+):("(?:[^"\\]|\\.)*"|[^,]*)/g)].map(([, kind = '', value = '']) => ({
    kind,
    value: value.startsWith('"') ? (JSON.parse(value) as string) : value,
  }))
}

/** A name is equal but for case; or it is `*.` and the whole of the host after its first label. */
function isName(name: string, host: string): boolean {
  if (name.includes('\0')) return false
  const [pattern, wanted] = [lower(name), lower(host)]
  if (pattern === wanted) return true
  if (!pattern.startsWith('*.') || pattern.length < 3 || pattern.length > wanted.length) return false
  return wanted.endsWith(pattern.slice(1)) && wanted.indexOf('.') === wanted.length - pattern.length + 1
}

/** Only ASCII, as pg_strcasecmp does it in UTF-8. */
function lower(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase())
}

function isSameAddress(address: string, host: string): boolean {
  if (isIP(address) !== isIP(host) || host.includes('%')) return false
  if (isIP(host) === 4) return address === host
  return isIP(host) === 6 && new URL(`http://[${address}]`).hostname === new URL(`http://[${host}]`).hostname
}
