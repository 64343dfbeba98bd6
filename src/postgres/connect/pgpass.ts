/** Passwords from libpq's password file (passwordFromFile in fe-connect.c). */
import { readFile, stat } from 'node:fs/promises'
import type { Logger } from '../../observe/log.ts'
import { textOfBytes } from '../protocol/password-text.ts'

/** The values that select a line of the file. */
export interface PasswordKey {
  /** As in the connection string: a name, an address or a socket directory; undefined for the default. */
  readonly host: string | undefined
  readonly port: number
  /** `replication` for a replication connection, as pg_receivewal and the walreceiver have it. */
  readonly database: string
  readonly user: string
}

/** The default socket directories: Debian's, and PostgreSQL's own. */
export const defaultSocketDirectories = ['/var/run/postgresql', '/tmp'] as const

/**
 * The password of the first matching line in `path`, or undefined. As in libpq, a file that other users may read is
 * ignored with a warning, and a missing one is not an error.
 */
export async function passwordFromFile(path: string, key: PasswordKey, log: Logger): Promise<string | undefined> {
  const info = await stat(path).catch(() => undefined)
  if (!info) return undefined
  if (!info.isFile()) {
    log.warn('password file ignored: it is not a plain file', { path })
    return undefined
  }
  if ((info.mode & 0o077) !== 0) {
    log.warn('password file ignored: other users may read it; run chmod 0600 on it', { path })
    return undefined
  }
  const bytes = await readFile(path).catch((error: unknown) => {
    log.warn('password file ignored: it cannot be read', { path, error })
    return Buffer.alloc(0)
  })
  return findPassword(textOfBytes(bytes), key)
}

/** The password of the first line `host:port:database:user:password` that matches, or undefined. */
export function findPassword(text: string, key: PasswordKey): string | undefined {
  const wanted = fieldsOf(key)
  for (const line of text.split(/\r?\n/)) {
    if (line === '' || line.startsWith('#')) continue
    const rest = wanted.reduce<string | undefined>((left, field) => left && afterField(left, field), line)
    if (rest !== undefined && rest !== '') return unescape(rest)
  }
  return undefined
}

/** Only the default socket directories match localhost; any other one matches its path. */
function fieldsOf(key: PasswordKey): string[] {
  const isDefault = key.host === undefined || defaultSocketDirectories.some((directory) => directory === key.host)
  return [isDefault ? 'localhost' : (key.host ?? ''), String(key.port), key.database, key.user]
}

/** The text after the first field and its colon when the field is `*` or equals `wanted`; else undefined. */
function afterField(line: string, wanted: string): string | undefined {
  const field = /^((?:[^\\:]|\\.)*):/.exec(line)?.[1]
  if (field === undefined || (field !== '*' && unescape(field) !== wanted)) return undefined
  return line.slice(field.length + 1)
}

/** A backslash escapes the character after it. */
function unescape(text: string): string {
  return text.replace(/\\(.)/gs, '$1')
}

/** A matching line, for hints. */
export function passwordFileLine(key: PasswordKey): string {
  return [...fieldsOf(key).map((field) => field.replace(/[\\:]/g, '\\$&')), 'PASSWORD'].join(':')
}
