/** Passwords from libpq's password file (passwordFromFile in fe-connect.c). */
import { readFile, stat } from 'node:fs/promises'
import type { Logger } from '../../observe/log.ts'

/** What a line of the file is looked up by. */
export interface PasswordKey {
  /** As in the connection string: a name, an address or a socket directory; undefined for the default. */
  readonly host: string | undefined
  readonly port: number
  /** `replication` for a replication connection, as pg_receivewal and the walreceiver have it. */
  readonly database: string
  readonly user: string
}

/** Directories in which servers put their socket when nobody tells them otherwise: Debian's, and PostgreSQL's own. */
export const defaultSocketDirectories = ['/var/run/postgresql', '/tmp'] as const

/**
 * The first password in `path` whose line fits, or undefined. A file that others may read is ignored with a warning, as
 * libpq does; a missing one is no mistake.
 */
export async function passwordFromFile(path: string, key: PasswordKey, log: Logger): Promise<string | undefined> {
  const info = await stat(path).catch(() => undefined)
  if (!info) return undefined
  if (!info.isFile()) {
    log.warn('password file ignored: it is not a plain file', { path })
    return undefined
  }
  if ((info.mode & 0o077) !== 0) {
    log.warn('password file ignored: others may read it; chmod 0600 it', { path })
    return undefined
  }
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    log.warn('password file ignored: it cannot be read', { path, error })
    return ''
  })
  return findPassword(text, key)
}

/** The password of the first line `host:port:database:user:password` that fits, or undefined. */
export function findPassword(text: string, key: PasswordKey): string | undefined {
  const wanted = fieldsOf(key)
  for (const line of text.split(/\r?\n/)) {
    if (line === '' || line.startsWith('#')) continue
    const rest = wanted.reduce<string | undefined>((left, field) => left && afterField(left, field), line)
    if (rest !== undefined && rest !== '') return unescape(rest)
  }
  return undefined
}

/** Only the usual socket directories are called localhost; another one goes by its path. */
function fieldsOf(key: PasswordKey): string[] {
  const isDefault = key.host === undefined || defaultSocketDirectories.some((directory) => directory === key.host)
  return [isDefault ? 'localhost' : (key.host ?? ''), String(key.port), key.database, key.user]
}

/** What follows the first field and its colon when the field is `*` or means `wanted`; else undefined. */
function afterField(line: string, wanted: string): string | undefined {
  const field = /^((?:[^\\:]|\\.)*):/.exec(line)?.[1]
  if (field === undefined || (field !== '*' && unescape(field) !== wanted)) return undefined
  return line.slice(field.length + 1)
}

/** A backslash stands for the character behind it. */
function unescape(text: string): string {
  return text.replace(/\\(.)/gs, '$1')
}

/** The line that would fit, for hints. */
export function passwordFileLine(key: PasswordKey): string {
  return [...fieldsOf(key).map((field) => field.replace(/[\\:]/g, '\\$&')), 'PASSWORD'].join(':')
}
