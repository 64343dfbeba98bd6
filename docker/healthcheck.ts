/**
 * HEALTHCHECK of the image: ends with 0 for healthy and 1 for not. Where `walrx wal-receive` runs, its status page must
 * answer /healthz; it is asked where WALRX_STATUS_LISTEN says, and `off` is as good as an answer. Any other command of
 * walrx has no status page: it is healthy for as long as it runs, and its exit status tells the rest.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { get } from 'node:http'

/** True when one of the processes below `/proc` (another directory for tests) is `… wal-receive …`. */
export function isReceiving(proc: string = '/proc'): boolean {
  return readdirSync(proc).some((pid) => /^\d+$/.test(pid) && commandLine(`${proc}/${pid}`).includes('wal-receive'))
}

/** Arguments of a process; none for one that has ended meanwhile. */
function commandLine(process: string): string[] {
  try {
    return readFileSync(`${process}/cmdline`, 'utf8').split('\0')
  } catch {
    return []
  }
}

/** URL of /healthz for a value of WALRX_STATUS_LISTEN: `HOST:PORT`, or `PORT` on 127.0.0.1. Undefined for `off`. */
export function healthUrl(listen: string): string | undefined {
  if (listen.toLowerCase() === 'off') return undefined
  // Linux takes a connection to 0.0.0.0 or :: for one to itself.
  return `http://${/^\d+$/.test(listen) ? `127.0.0.1:${listen}` : listen}/healthz`
}

/** True when `url` answers with 200. How long that may take is for HEALTHCHECK's --timeout to say. */
function answers(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    get(url, ({ statusCode }) => resolve(statusCode === 200)).on('error', () => resolve(false))
  })
}

if (import.meta.main) {
  const url = healthUrl(process.env['WALRX_STATUS_LISTEN'] || '127.0.0.1:8432')
  process.exit(!isReceiving() || url === undefined || (await answers(url)) ? 0 : 1)
}
