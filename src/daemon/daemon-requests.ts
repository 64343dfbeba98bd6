/**
 * What the requests to the daemon ask for, by WAL-G's rules (daemon_handler.go), and no more: names must be those of WAL
 * files, and paths must lie in the data directory.
 */
import { lstat, opendir } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, normalize, relative, resolve } from 'node:path'
import type { Logger } from '../observe/log.ts'
import type { Clock } from '../primitives/clock.ts'
import { WalrxError } from '../primitives/errors.ts'
import { isSegmentName, walFileKind } from '../postgres/wal/wal-file.ts'
import { isReady } from '../push/ready-files.ts'
import type { WalPusher } from '../push/wal-pusher.ts'
import { decodeArguments, type Frame, type ReplyType } from './frames.ts'

/** What {@link DaemonRequests} needs. */
export interface DaemonRequestsOptions {
  /** The server's data directory, as an absolute path. */
  readonly dataDir: string
  readonly pusher: Pick<WalPusher, 'push'>
  /** Fetches one WAL file; throws as fetchWalFile does. */
  readonly fetch: (name: string, dest: string, signal: AbortSignal) => Promise<'delivered' | 'absent'>
  /** How long a push may take, in milliseconds; 0 for no limit. */
  readonly uploadTimeoutMs: number
  readonly clock: Clock
  readonly log: Logger
}

/** The name field of the C extension walg_archive: a longer name is cut there, a shorter one filled with whatever there is. */
const nameFieldBytes = 24

/** See the file's header. */
export class DaemonRequests {
  readonly #options: DaemonRequestsOptions
  /** By destination: the fetch under way. A later one for the same place ends it. */
  readonly #fetches = new Map<string, { readonly stop: AbortController; readonly settled: Promise<unknown> }>()

  constructor(options: DaemonRequestsOptions) {
    this.#options = options
  }

  /** Does what a frame asks for. Throws WALRX_PROTOCOL for one that asks for nothing, and what made it fail. */
  async handle({ body, type }: Frame, signal: AbortSignal): Promise<ReplyType> {
    if (type === 'C') return 'O'
    if (type === 'F') return await this.#push(body)
    if (type === 'f') return await this.#fetch(body, signal)
    throw new WalrxError('WALRX_PROTOCOL', `there is no request of the type ${JSON.stringify(type)}`)
  }

  async #push(body: Buffer): Promise<ReplyType> {
    const { clock, dataDir, log, pusher, uploadTimeoutMs } = this.#options
    const zero = body.indexOf(0)
    const name = walNameOf(body.toString('utf8', 0, zero < 0 ? body.length : zero), dataDir)
    const limit = new AbortController()
    const startMs = clock.now()
    const timer =
      uploadTimeoutMs > 0
        ? clock.setTimer(uploadTimeoutMs, () => limit.abort(tooLong(name, uploadTimeoutMs)))
        : undefined
    try {
      for (const file of await this.#meant(name, body.length === nameFieldBytes && zero < 0)) {
        const outcome = await pusher.push(join(dataDir, 'pg_wal', file), limit.signal)
        log.info('archived', { file, outcome, ms: Math.round(clock.now() - startMs) })
      }
      return 'O'
    } finally {
      timer?.cancel()
    }
  }

  /**
   * walg_archive cuts names after 24 bytes, so that a partial segment or a backup label looks like a segment. What waits is
   * what is meant.
   */
  async #meant(name: string, mayBeCut: boolean): Promise<string[]> {
    const folder = join(this.#options.dataDir, 'pg_wal')
    if (!mayBeCut || !isSegmentName(name) || (await isReady(join(folder, name)))) return [name]
    const waiting: string[] = []
    for await (const entry of await opendir(join(folder, 'archive_status')).catch(() => [])) {
      const [, file = ''] = /^(.*)\.ready$/.exec(entry.name) ?? []
      if (file.startsWith(`${name}.`) && walFileKind(file) !== undefined) waiting.push(file)
    }
    return waiting.length > 0 ? waiting.sort() : [name]
  }

  async #fetch(body: Buffer, signal: AbortSignal): Promise<ReplyType> {
    const { dataDir, log } = this.#options
    const words = decodeArguments(body)
    const [name = '', dest = ''] = words ?? []
    if (words?.length !== 2)
      throw new WalrxError('WALRX_PROTOCOL', 'a wal-fetch has not the two arguments that it needs')
    if (walFileKind(name) === undefined) throw notWal(name)
    const path = await destinationOf(dest, dataDir)
    const before = this.#fetches.get(path)
    before?.stop.abort()
    const stop = new AbortController()
    const onGone = () => stop.abort()
    signal.addEventListener('abort', onGone, { once: true })
    if (signal.aborted) onGone()
    const result = Promise.resolve(before?.settled).then(() => this.#options.fetch(name, path, stop.signal))
    const settled = result.catch(() => {})
    this.#fetches.set(path, { stop, settled })
    try {
      const outcome = await result
      log.info(outcome === 'delivered' ? 'fetched' : 'the archive lacks a file', { file: name, to: path })
      return outcome === 'delivered' ? 'O' : 'N'
    } finally {
      signal.removeEventListener('abort', onGone)
      if (this.#fetches.get(path)?.stop === stop) this.#fetches.delete(path)
    }
  }
}

/** The name of a WAL file, of a %f, a %p, or a whole path into pg_wal. */
function walNameOf(text: string, dataDir: string): string {
  const name = basename(text)
  const folder = dirname(text)
  const isInPlace = folder === '.' || resolve(dataDir, folder) === join(dataDir, 'pg_wal')
  if (!isInPlace || !text.endsWith(name) || walFileKind(name) === undefined) throw notWal(text)
  return name
}

/** Where a file goes: below the data directory. What is there is only replaced in pg_wal, where it is PostgreSQL's. */
async function destinationOf(text: string, dataDir: string): Promise<string> {
  const path = isAbsolute(text) ? normalize(text) : join(dataDir, text)
  const inside = relative(dataDir, path)
  if (text === '' || text.includes('\0') || inside === '' || inside.startsWith('..') || isAbsolute(inside)) {
    throw new WalrxError(
      'WALRX_DESTINATION',
      `${JSON.stringify(text)} is not a path in the data directory ${dataDir}`,
      {
        hint: 'pass %p of restore_command as the destination',
      },
    )
  }
  if (dirname(inside) !== 'pg_wal' && (await lstat(path).catch(() => undefined))) {
    throw new WalrxError('WALRX_DESTINATION', `${path} is there already, and is not in pg_wal`, {
      hint: 'pass %p of restore_command as the destination',
    })
  }
  return path
}

function notWal(text: string): WalrxError {
  return new WalrxError('WALRX_USAGE', `${JSON.stringify(text)} is not the name of a WAL file in pg_wal`, {
    hint: 'pass %f of archive_command, or of restore_command, as the name',
  })
}

function tooLong(name: string, ms: number): WalrxError {
  return new WalrxError('WALRX_STORAGE_UNAVAILABLE', `${name} was not archived within ${ms / 1000} s`, {
    hint: 'PostgreSQL asks again, and the upload goes on meanwhile; --upload-timeout sets the limit',
  })
}
