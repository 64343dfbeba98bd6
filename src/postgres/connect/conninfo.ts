/**
 * The address of the server and the login, with libpq's rules: a connection string, else a service, else the PG*
 * variables, else libpq's defaults. Pure: this names files, and others read them.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { nearest } from '../../primitives/nearest.ts'
import { type Keyword, type KeywordName, keywords } from './conninfo-keywords.ts'
import { encodeHint, splitConninfo } from './conninfo-text.ts'
import { findService, type ServiceRequest } from './service-file.ts'

/** One host of a connection string. */
export interface HostAddress {
  /**
   * Name or address, or the directory of a Unix socket (it begins with `/`, or `@` for the abstract namespace).
   * Undefined: the server's default Unix socket if it exists, else localhost.
   */
  readonly host: string | undefined
  /** Address to connect to without a lookup of `host`; `host` still selects the certificate and the password. */
  readonly hostaddr: string | undefined
  readonly port: number
}

const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const
const sslNegotiations = ['postgres', 'direct'] as const
const sslCertModes = ['disable', 'allow'] as const
const channelBindings = ['disable', 'prefer', 'require'] as const
const sessionAttributes = ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const
const loadBalances = ['disable', 'random'] as const
const tlsVersions = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const
const authMethods = ['password', 'md5', 'gss', 'sspi', 'scram-sha-256', 'oauth', 'none'] as const

/** libpq's sslmode. */
export type SslMode = (typeof sslModes)[number]
/** A method of require_auth. `none` means that the server asks for no login. */
export type AuthMethod = (typeof authMethods)[number]

/** The TLS settings. Undefined paths mean libpq's files in `~/.postgresql`. */
export interface TlsSettings {
  readonly mode: SslMode
  readonly negotiation: (typeof sslNegotiations)[number]
  /** `system` for the machine's own authorities. */
  readonly rootCert: string | undefined
  readonly crl: string | undefined
  readonly cert: string | undefined
  readonly key: string | undefined
  readonly keyPassword: string | undefined
  readonly sendCert: boolean
  readonly sni: boolean
  readonly minVersion: (typeof tlsVersions)[number]
  readonly maxVersion: (typeof tlsVersions)[number] | undefined
}

/** A parsed connection string, with variables and defaults filled in. */
export interface Conninfo {
  /** In the order in which they are tried; at least one. */
  readonly hosts: readonly HostAddress[]
  readonly user: string
  /** Undefined: as libpq, the user's name; replication connections have none. */
  readonly database: string | undefined
  readonly password: string | undefined
  /** Undefined without a home directory. */
  readonly passFile: string | undefined
  readonly applicationName: string
  /** Command-line options for the session, `-c name=value`. */
  readonly options: string | undefined
  /** Milliseconds for each address; 0 waits forever. Undefined: the caller's default. */
  readonly connectTimeoutMs: number | undefined
  readonly keepAlive: boolean
  /** Milliseconds of silence before the first TCP keepalive. Undefined: the caller's default. */
  readonly keepAliveIdleMs: number | undefined
  readonly targetSessionAttributes: (typeof sessionAttributes)[number]
  readonly loadBalance: (typeof loadBalances)[number]
  /** The accepted login methods. */
  readonly authMethods: ReadonlySet<AuthMethod>
  readonly channelBinding: (typeof channelBindings)[number]
  readonly tls: TlsSettings
  /** Directory with libpq's TLS files, `~/.postgresql`. Undefined without a home directory. */
  readonly postgresHome: string | undefined
  /** Given keywords without effect in walrx. */
  readonly ignored: readonly string[]
}

/** The sources of defaults for a connection string. */
export interface ConninfoSurroundings {
  /** PG* variables; others are ignored, empty ones count as unset. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Those of them that flags have set. They outrank a service, as psql's do. */
  readonly flags?: Readonly<Record<string, string | undefined>>
  /** Reads a service file: see {@link ServiceRequest}. Default: there is none. */
  readonly readFile?: ServiceRequest['readFile']
  /** The operating system's user. */
  readonly osUser?: string | undefined
  /** Home directory. */
  readonly home?: string | undefined
}

/**
 * Parses a connection string.
 * @param text keywords or URI; undefined or empty to use only the variables
 * @throws WALRX_USAGE for a string that libpq would refuse, WALRX_OPTION_UNSUPPORTED for a setting that walrx does not
 * support and must not ignore. No message repeats a value that could be secret.
 */
export function parseConninfo(text: string | undefined, surroundings: ConninfoSurroundings): Conninfo {
  const settings = new Settings(splitConninfo(text ?? ''), surroundings)
  const { home, osUser } = surroundings
  const user = settings.get('user') ?? osUser
  if (user === undefined) {
    throw new WalrxError('WALRX_USAGE', 'no role to log in as: the operating system has no name for this user', {
      hint: 'set PGUSER, or user= in the connection string',
    })
  }
  const seconds = settings.integer('connect_timeout', -1_000_000, 1_000_000)
  const idleSeconds = settings.integer('keepalives_idle', -1_000_000, 1_000_000) ?? 0
  return {
    hosts: parseHosts(settings),
    user,
    database: settings.get('dbname'),
    password: settings.get('password'),
    passFile: settings.get('passfile') ?? (home === undefined ? undefined : `${home}/.pgpass`),
    applicationName: settings.get('application_name') ?? settings.get('fallback_application_name') ?? 'walrx',
    options: settings.get('options'),
    // libpq: zero or less waits forever, and less than two seconds is rounded up to two.
    connectTimeoutMs: seconds === undefined ? undefined : seconds <= 0 ? 0 : Math.max(seconds, 2) * 1000,
    keepAlive: (settings.integer('keepalives', 0, 1) ?? 1) === 1,
    keepAliveIdleMs: idleSeconds > 0 ? idleSeconds * 1000 : undefined,
    targetSessionAttributes: settings.choice('target_session_attrs', sessionAttributes) ?? 'any',
    loadBalance: settings.choice('load_balance_hosts', loadBalances) ?? 'disable',
    authMethods: parseRequiredAuth(settings),
    channelBinding: settings.choice('channel_binding', channelBindings) ?? 'prefer',
    tls: parseTls(settings),
    postgresHome: home === undefined ? undefined : `${home}/.postgresql`,
    ignored: settings.ignored,
  }
}

/** True for the directory of a unix socket (is_unixsock_path in libpq). */
export function isSocketDirectory(host: string): boolean {
  return /^[/@]/.test(host)
}

/** Values by keyword, from connection string, flags, service and variables. */
class Settings {
  /** Given keywords and variables without effect. */
  readonly ignored: readonly string[]
  readonly #text: ReadonlyMap<string, string>
  readonly #env: ConninfoSurroundings['env']
  readonly #flags: NonNullable<ConninfoSurroundings['flags']>
  #service: ReadonlyMap<string, string> = new Map()

  constructor(text: ReadonlyMap<string, string>, surroundings: ConninfoSurroundings) {
    this.#text = text
    this.#env = surroundings.env
    this.#flags = surroundings.flags ?? {}
    for (const [index, name] of [...text.keys()].entries()) {
      if (!Object.hasOwn(keywords, name)) throw unknownKeyword(name, index + 1)
    }
    const service = this.get('service')
    if (service !== undefined) this.#service = this.#readService(service, surroundings)
    const ignored: string[] = []
    for (const [name, keyword] of Object.entries<Keyword>(keywords)) {
      const value = this.get(name as KeywordName)
      if (value === undefined) continue
      if (keyword.ignored) ignored.push(name)
      if (keyword.refused === undefined || keyword.harmless?.test(value)) continue
      throw new WalrxError('WALRX_OPTION_UNSUPPORTED', `${this.label(name as KeywordName)}: ${keyword.refused}`)
    }
    this.ignored = ignored
  }

  /** The value, or undefined when it is missing or empty. An empty one in the text hides the variable, as in libpq. */
  get(name: KeywordName): string | undefined {
    return this.#find(name).value || undefined
  }

  /** What set the value: the keyword, the variable, or the service. */
  label(name: KeywordName): string {
    return this.#find(name).label
  }

  #find(name: KeywordName): { label: string; value: string | undefined } {
    const { env }: Keyword = keywords[name]
    const text = this.#text.get(name)
    if (text !== undefined) return { label: name, value: text }
    const flag = env === undefined ? undefined : this.#flags[env]
    if (flag) return { label: env ?? name, value: flag }
    const served = this.#service.get(name)
    if (served !== undefined) return { label: `${name} of service "${this.get('service')}"`, value: served }
    const value = env === undefined ? undefined : this.#env[env]
    return { label: value ? (env ?? name) : name, value }
  }

  #readService(name: string, { env, home, readFile }: ConninfoSurroundings): ReadonlyMap<string, string> {
    return findService({
      name,
      file: this.get('servicefile'),
      home,
      systemDirectory: env['PGSYSCONFDIR'] || undefined,
      readFile: readFile ?? (() => undefined),
    })
  }

  choice<T extends string>(name: KeywordName, values: readonly T[]): T | undefined {
    const value = this.get(name)
    if (value === undefined || values.includes(value as T)) return value as T | undefined
    throw new WalrxError('WALRX_USAGE', `${this.label(name)} is "${value}"; it must be one of ${values.join(', ')}`)
  }

  integer(name: KeywordName, min: number, max: number): number | undefined {
    const value = this.get(name)
    if (value === undefined) return undefined
    const number = /^\s*[+-]?\d+\s*$/.test(value) ? Number(value) : Number.NaN
    if (number >= min && number <= max) return number
    throw new WalrxError(
      'WALRX_USAGE',
      `${this.label(name)} is "${value}"; it must be a whole number from ${min} to ${max}`,
    )
  }
}

function unknownKeyword(name: string, number: number): WalrxError {
  // The word may be a fragment of a password that should have been quoted or encoded; one that is nearly a keyword is not.
  const known = nearest(name, Object.keys(keywords))
  const shown = known === undefined ? `keyword, its number ${number}` : `keyword "${name}"`
  return new WalrxError('WALRX_USAGE', `the connection string has an unknown ${shown}`, {
    hint:
      known === undefined
        ? `put a value that holds spaces into single quotes: application_name='a b'; ${encodeHint}`
        : `did you mean ${known}?`,
  })
}

/**
 * libpq's rules for lists (connectOptions2): one port serves all hosts, else each has its own; an empty one is 5432.
 */
function parseHosts(settings: Settings): HostAddress[] {
  const names = settings.get('host')?.split(',')
  const addresses = settings.get('hostaddr')?.split(',')
  if (names && addresses && names.length !== addresses.length) {
    throw new WalrxError(
      'WALRX_USAGE',
      `${names.length} values in ${settings.label('host')} do not match ${addresses.length} in ${settings.label('hostaddr')}`,
    )
  }
  const count = names?.length ?? addresses?.length ?? 1
  const ports = settings.get('port')?.split(',') ?? ['']
  if (ports.length !== 1 && ports.length !== count) {
    throw new WalrxError(
      'WALRX_USAGE',
      `${ports.length} values in ${settings.label('port')} do not match ${count} hosts`,
    )
  }
  return Array.from({ length: count }, (_, index) => ({
    host: names?.[index] || undefined,
    hostaddr: addresses?.[index] || undefined,
    port: parsePort((ports.length === 1 ? ports[0] : ports[index]) ?? '', settings.label('port')),
  }))
}

function parsePort(text: string, label: string): number {
  if (text.trim() === '') return 5432
  const port = /^\s*\d{1,5}\s*$/.test(text) ? Number(text) : 0
  if (port >= 1 && port <= 65_535) return port
  if (/^\s*[+-]?\d+\s*$/.test(text)) {
    throw new WalrxError('WALRX_USAGE', `${label} is "${text}"; it must be a number from 1 to 65535`)
  }
  // What is after the first ":" of a URL may be a piece of the password.
  throw new WalrxError('WALRX_USAGE', `${label} is not a number from 1 to 65535`, { hint: encodeHint })
}

/** A comma-separated list of methods, either the allowed ones or, each with a `!`, the forbidden ones. */
function parseRequiredAuth(settings: Settings): ReadonlySet<AuthMethod> {
  const items = settings.get('require_auth')?.split(',') ?? []
  const negated = items.filter((item) => item.startsWith('!'))
  if (negated.length !== 0 && negated.length !== items.length) {
    throw new WalrxError('WALRX_USAGE', `${settings.label('require_auth')} mixes methods with and without "!"`)
  }
  const named = items.map((item) => item.replace(/^!/, ''))
  const unknown = named.find((item) => !authMethods.includes(item as AuthMethod))
  if (unknown !== undefined) {
    throw new WalrxError(
      'WALRX_USAGE',
      `${settings.label('require_auth')} names "${unknown}"; methods are ${authMethods.join(', ')}`,
    )
  }
  const allowed = authMethods.filter((method) => named.includes(method) === (negated.length === 0))
  return new Set(items.length === 0 ? authMethods : allowed)
}

/** The rules for combinations of TLS settings (connectOptions2). */
function parseTls(settings: Settings): TlsSettings {
  const rootCert = settings.get('sslrootcert')
  const usesSystem = rootCert === 'system'
  const mode = settings.choice('sslmode', sslModes) ?? (usesSystem ? 'verify-full' : 'prefer')
  const negotiation = settings.choice('sslnegotiation', sslNegotiations) ?? 'postgres'
  if (usesSystem && mode !== 'verify-full') {
    throw new WalrxError('WALRX_USAGE', `sslmode=${mode} is too weak for sslrootcert=system`, {
      hint: 'use sslmode=verify-full: anyone can get a certificate from a public authority',
    })
  }
  if (negotiation === 'direct' && ['disable', 'allow', 'prefer'].includes(mode)) {
    throw new WalrxError('WALRX_USAGE', `sslmode=${mode} is too weak for sslnegotiation=direct`, {
      hint: 'use sslmode=require, verify-ca or verify-full',
    })
  }
  const key = settings.get('sslkey')
  if (key !== undefined && /^[a-z0-9]+:(?!\/)/i.test(key)) {
    throw new WalrxError('WALRX_OPTION_UNSUPPORTED', 'sslkey: walrx reads keys from files, not from an OpenSSL engine')
  }
  return {
    mode,
    negotiation,
    rootCert,
    crl: settings.get('sslcrl'),
    cert: settings.get('sslcert'),
    key,
    keyPassword: settings.get('sslpassword'),
    sendCert: settings.choice('sslcertmode', sslCertModes) !== 'disable',
    sni: (settings.integer('sslsni', 0, 1) ?? 1) === 1,
    minVersion: settings.choice('ssl_min_protocol_version', tlsVersions) ?? 'TLSv1.2',
    maxVersion: settings.choice('ssl_max_protocol_version', tlsVersions),
  }
}
