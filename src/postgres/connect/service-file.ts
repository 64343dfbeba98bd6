/**
 * Connection services: named sets of settings in files, with libpq's rules (parseServiceInfo and parseServiceFile in
 * fe-connect.c). Pure: the caller reads the files. Messages never repeat a line: it may hold a password.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { keywords } from './conninfo-keywords.ts'

/** The service and where it may be. */
export interface ServiceRequest {
  readonly name: string
  /** The one file to look into first, which must exist: `servicefile`, or PGSERVICEFILE. */
  readonly file: string | undefined
  /** Directory of `.pg_service.conf`, where no file is named. */
  readonly home: string | undefined
  /** PGSYSCONFDIR, with the `pg_service.conf` for all users. */
  readonly systemDirectory: string | undefined
  /**
   * Reads a file.
   * @returns undefined when it is not there
   * @throws WALRX_USAGE when it cannot be read
   */
  readonly readFile: (path: string) => string | undefined
}

/** What libpq was built with: of Debian's packages, of those for Red Hat, and of builds with `--sysconfdir=/etc`. */
const systemDirectories = ['/etc/postgresql-common', '/etc/sysconfig/pgsql', '/etc/postgresql']

/** Longer ones do not fit into libpq's buffer. */
const lineBytesMax = 1022

/**
 * The settings of a service, by keyword; the first of several lines for one keyword counts.
 * @throws WALRX_USAGE when it is defined nowhere, or its definition is wrong; WALRX_OPTION_UNSUPPORTED for LDAP
 */
export function findService(request: ServiceRequest): ReadonlyMap<string, string> {
  const { file, home, name, readFile, systemDirectory } = request
  const own = file ?? (home === undefined ? undefined : `${home}/.pg_service.conf`)
  const system = systemDirectory === undefined ? systemDirectories : [systemDirectory]
  const paths = [...(own === undefined ? [] : [own]), ...system.map((directory) => `${directory}/pg_service.conf`)]
  for (const path of paths) {
    const text = readFile(path)
    if (text === undefined && path === file) {
      throw new WalrxError('WALRX_USAGE', `service file "${path}" not found`, {
        hint: 'correct PGSERVICEFILE, or servicefile in the connection string',
      })
    }
    const service = text === undefined ? undefined : parseService(text, name, path)
    if (service) return service
  }
  throw new WalrxError('WALRX_USAGE', `definition of service "${name}" not found`, {
    hint: `write a section [${name}] into ${paths[0]}, with lines such as host=db1; looked in ${paths.join(', ')}`,
  })
}

/** The section of this name; undefined where the file has none. */
function parseService(text: string, name: string, path: string): Map<string, string> | undefined {
  let values: Map<string, string> | undefined
  for (const [index, raw] of text.split('\n').entries()) {
    const at = `in service file "${path}", line ${index + 1}`
    if (Buffer.byteLength(raw) >= lineBytesMax) throw new WalrxError('WALRX_USAGE', `line too long ${at}`)
    const line = raw.replace(/^[ \t\v\f\r]+|[ \t\v\f\r]+$/g, '')
    if (line === '' || line.startsWith('#')) continue
    if (line.startsWith('[')) {
      if (values) return values
      if (line.startsWith(`[${name}]`)) values = new Map()
    } else if (values) setValue(values, line, at)
  }
  return values
}

function setValue(values: Map<string, string>, line: string, at: string): void {
  if (line.startsWith('ldap')) {
    throw new WalrxError('WALRX_OPTION_UNSUPPORTED', `walrx does not look up services in LDAP, as asked for ${at}`, {
      hint: 'write the settings themselves into the section',
    })
  }
  const equals = line.indexOf('=')
  const key = line.slice(0, Math.max(equals, 0))
  if (key === 'service' || key === 'servicefile') {
    throw new WalrxError('WALRX_USAGE', `nested ${key} specifications not supported ${at}`)
  }
  if (!Object.hasOwn(keywords, key)) {
    throw new WalrxError('WALRX_USAGE', `syntax error ${at}`, {
      hint: 'a line is keyword=value, without spaces around "=" and without quotes, with a keyword such as host, port or user',
    })
  }
  if (!values.has(key)) values.set(key, line.slice(equals + 1))
}
