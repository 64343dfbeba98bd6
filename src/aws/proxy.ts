/**
 * Proxies between here and the store, by the rules of Go's http.ProxyFromEnvironment (golang.org/x/net/http/httpproxy),
 * which WAL-G follows: HTTPS_PROXY for https, HTTP_PROXY for http, neither for what NO_PROXY names, nor for this machine.
 */
import { Agent as HttpAgent, type AgentOptions, type ClientRequest } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { BlockList, isIP } from 'node:net'
import { WalrxError } from '../primitives/errors.ts'

/** The settings, as they are written. */
export interface ProxySettings {
  /** For https. With or without a scheme; may hold a user and a password. */
  readonly httpsProxy?: string | undefined
  /** For http. */
  readonly httpProxy?: string | undefined
  /** Hosts without a proxy, with commas between them. */
  readonly noProxy?: string | undefined
}

/** The agents of the SDK's HTTP handler. */
export interface ProxyAgents {
  readonly httpAgent: HttpAgent
  readonly httpsAgent: HttpsAgent
}

/**
 * The proxy for a URL; undefined for none.
 * @throws WALRX_USAGE for a proxy that walrx cannot use
 */
export function proxyFor(settings: ProxySettings, url: URL): URL | undefined {
  const [text, name] =
    url.protocol === 'https:' ? [settings.httpsProxy, 'HTTPS_PROXY'] : [settings.httpProxy, 'HTTP_PROXY']
  if (text === undefined || text === '') return undefined
  const proxy = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`)
  if (proxy?.protocol !== 'http:' && proxy?.protocol !== 'https:') {
    // It may hold a password.
    throw new WalrxError('WALRX_USAGE', `${name} is not the http:// or https:// URL of a proxy`, {
      hint: 'write http://host:port; characters other than letters and digits in a password as %XX',
    })
  }
  const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80)
  return isExempt(settings.noProxy ?? '', url.hostname.replace(/^\[|\]$/g, '').toLowerCase(), port) ? undefined : proxy
}

/** A proxy for messages: without user and password. */
export function describeProxy({ host, protocol }: URL): string {
  return `${protocol}//${host}`
}

function isExempt(noProxy: string, host: string, port: number): boolean {
  if (host === 'localhost' || isLoopback(host)) return true
  return noProxy
    .toLowerCase()
    .split(/[,\s]+/)
    .some((entry) => entry !== '' && covers(entry, host, port))
}

function isLoopback(host: string): boolean {
  return host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}

function covers(entry: string, host: string, port: number): boolean {
  if (entry === '*') return true
  const range = /^([0-9a-f.:]+)\/(\d+)$/.exec(entry)
  if (range) return isInRange(host, range[1]!, Number(range[2]))
  const [, bracketed, plain, wanted] =
    /^(?:\[([^\]]*)\]|([^:]*|[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*))(?::(\d+))?$/.exec(entry) ?? []
  const name = bracketed ?? plain
  if (name === undefined || (wanted !== undefined && Number(wanted) !== port)) return false
  if (isIP(name) !== 0) return isInRange(host, name, isIP(name) === 4 ? 32 : 128)
  const domain = name.replace(/^\*/, '')
  return domain.startsWith('.') ? host.endsWith(domain) : host === domain || host.endsWith(`.${domain}`)
}

function isInRange(host: string, address: string, bits: number): boolean {
  const [family, own] = [isIP(address), isIP(host)]
  if (own === 0 || family !== own || bits > (family === 4 ? 32 : 128)) return false
  const kind = family === 4 ? 'ipv4' : 'ipv6'
  const list = new BlockList()
  list.addSubnet(address, bits, kind)
  return list.check(host, kind)
}

/** Agents that send each request through the proxy for its host, or straight. Undefined where no proxy is set. */
export async function proxyAgents(
  settings: ProxySettings,
  options: AgentOptions,
  tls: { readonly ca?: Buffer },
): Promise<ProxyAgents | undefined> {
  const needs = [settings.httpProxy, settings.httpsProxy].some((text) => text !== undefined && text !== '')
  if (!needs) return undefined
  const { HttpProxyAgent } = await import('http-proxy-agent')
  const { HttpsProxyAgent } = await import('https-proxy-agent')
  const agents = new Map<string, HttpAgent>()
  const through = (proxy: URL, isSecure: boolean): HttpAgent => {
    const key = `${proxy.href} ${isSecure}`
    const known = agents.get(key)
    if (known) return known
    const made = isSecure ? new HttpsProxyAgent(proxy, { ...options, ...tls }) : new HttpProxyAgent(proxy, options)
    agents.set(key, made)
    return made
  }
  const choose = (agent: HttpAgent, protocol: 'http:' | 'https:', send: AddRequest): AddRequest => {
    return (request, target) => {
      const host = String(target.host)
      const url = new URL(`${protocol}//${isIP(host) === 6 ? `[${host}]` : host}:${target.port}`)
      const proxy = proxyFor(settings, url)
      if (!proxy) return send.call(agent, request, target)
      return (through(proxy, protocol === 'https:') as unknown as WithRequests).addRequest(request, {
        ...target,
        ...tls,
      })
    }
  }
  const equip = <A extends HttpAgent>(agent: A, protocol: 'http:' | 'https:'): A => {
    const own = agent as unknown as WithRequests
    const destroy = agent.destroy.bind(agent)
    own.addRequest = choose(agent, protocol, own.addRequest)
    agent.destroy = () => {
      destroy()
      for (const other of agents.values()) other.destroy()
    }
    return agent
  }
  return {
    httpAgent: equip(new HttpAgent(options), 'http:'),
    httpsAgent: equip(new HttpsAgent({ ...options, ...tls }), 'https:'),
  }
}

/** What Node calls of an agent for each request; its types do not have it. */
type AddRequest = (request: ClientRequest, target: { host?: string; port?: number | string }) => void
interface WithRequests {
  addRequest: AddRequest
}
