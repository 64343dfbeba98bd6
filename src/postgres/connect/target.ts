/** From a host of a connection string to the addresses that sockets connect to. */
import { access } from 'node:fs/promises'
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { orAborted } from '../../primitives/wait.ts'
import type { SocketAddress } from '../protocol/transport.ts'
import { type HostAddress, isSocketDirectory } from './conninfo.ts'
import { defaultSocketDirectories } from './pgpass.ts'

/** One address of one host. */
export interface Target {
  /** As in the connection string, with the default filled in. */
  readonly host: HostAddress
  readonly address: SocketAddress
  /** `host:port`, or the path of the socket. */
  readonly label: string
}

/** A host's name in messages before its addresses are known. */
export function hostLabel({ host, hostaddr, port }: HostAddress): string {
  const name = host ?? hostaddr ?? 'localhost'
  if (isSocketDirectory(name)) return socketPath(name, port)
  return name.includes(':') ? `[${name}]:${port}` : `${name}:${port}`
}

function socketPath(directory: string, port: number): string {
  return `${directory}/.s.PGSQL.${port}`
}

/**
 * All addresses of a host, in the order in which they are tried. Without a host name, this is the Unix socket in one of
 * the usual directories, if one exists, else localhost: libpq has one directory from its build, walrx has not.
 * @throws the error of the name lookup (ENOTFOUND, EAI_AGAIN), or the signal's reason
 */
export async function findTargets(host: HostAddress, signal: AbortSignal): Promise<Target[]> {
  const { hostaddr, port } = host
  if (hostaddr !== undefined) return [{ host, address: { ip: hostaddr, port }, label: hostLabel(host) }]
  const name = host.host ?? (await defaultHost(port))
  const named = { ...host, host: name }
  const label = hostLabel(named)
  if (isSocketDirectory(name)) return [{ host: named, address: { path: socketPath(name, port) }, label }]
  if (isIP(name) !== 0) return [{ host: named, address: { ip: name, port }, label }]
  const found = await orAborted(lookup(name, { all: true, order: 'verbatim' }), signal)
  return found.map(({ address }) => ({ host: named, address: { ip: address, port }, label }))
}

async function defaultHost(port: number): Promise<string> {
  for (const directory of defaultSocketDirectories) {
    const isThere = await access(socketPath(directory, port)).then(
      () => true,
      () => false,
    )
    if (isThere) return directory
  }
  return 'localhost'
}
