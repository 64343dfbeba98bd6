/**
 * One WAL file for a restore_command, and the promise about how that ends. PostgreSQL takes exit statuses 1 to 125 of a
 * restore_command for "no such file": without standby.signal it then ends recovery and promotes (xlogarchive.c,
 * RestoreArchivedFile). So "absent" is said only when the storage has positively answered that the file is not there,
 * nothing later of its timeline either, and that this is an archive at all (an empty one is an unmounted directory or
 * a mistyped prefix). Everything else is tried again for a while and then is an error.
 */
import { lstat, readdir, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Logger } from '../../observe/log.ts'
import { type Clock, sleep, systemClock, type Timer } from '../../primitives/clock.ts'
import { type ErrorCode, toWalrxError, WalrxError } from '../../primitives/errors.ts'
import { Backoff } from '../../primitives/backoff.ts'
import { walFileKind } from '../../postgres/wal/wal-file.ts'
import type { Storage } from '../../storage/storage.ts'
import { describeGap, type GapRecord } from '../../walg/wal/gap-records.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'
import { RequiredSystems } from './required-systems.ts'
import { runningProcess } from './recovery-process.ts'
import { paddedFile, segmentBeginning } from './tail-fetch.ts'
import { downloadWalFile, localWork } from './wal-download.ts'

/** Options of {@link fetchWalFile}. */
export interface WalFetchOptions {
  readonly storage: Storage
  /** Name of the WAL file, as %f gives it. */
  readonly name: string
  /** Where it goes; a file that is there is replaced. */
  readonly dest: string
  /** Extension to ask for first. */
  readonly extension?: string | undefined
  /** Bytes of a segment, when configured. */
  readonly segmentSize?: number | undefined
  /** How long a storage that fails, a hole or a damaged object is tried again, in milliseconds. */
  readonly retryTimeoutMs: number
  /** True when a standby asks, which asks again by itself: then failures are told after a few seconds. */
  readonly isStandby: boolean
  /** The server's data directory, where its system identifier is read; default: the working directory. */
  readonly dataDir?: string
  /** Called at the first page of a segment, once in all: the bytes of a segment. */
  readonly onSegment?: (segmentSize: number) => void
  readonly signal: AbortSignal
  readonly log: Logger
  /** Default the real clock. */
  readonly clock?: Clock
}

/** How long a standby is kept waiting. */
const standbyPatienceMs = 3_000
/** How long a segment is waited for of which there is the beginning, and others behind it. */
const beginningPatienceMs = 10_000
/** A standby is told after its second attempt, which comes after half a second at least. */
const standbyBeginningPatienceMs = 300
/** An attempt in which nothing moves for this long has failed: at least, whatever the time for trying again, and at most. */
const stalledMsMin = 5_000
const stalledMsMax = 30_000

/** Failures that may be over at the next attempt. A storage may deny or miss things while somebody repairs it. */
const retriedCodes: readonly ErrorCode[] = [
  'WALRX_STORAGE_UNAVAILABLE',
  'WALRX_STORAGE_DENIED',
  'WALRX_STORAGE_MISSING',
  'WALRX_OBJECT_DAMAGED',
  'WALRX_ARCHIVE_HOLE',
]

/**
 * Fetches a WAL file.
 * @returns `absent` when the archive positively lacks it and nothing later of its timeline is there
 * @throws WALRX_ARCHIVE_HOLE, WALRX_OBJECT_DAMAGED, WALRX_STORAGE_…, after trying for `retryTimeoutMs`; at once
 * WALRX_USAGE, WALRX_OTHER_CLUSTER, WALRX_CODEC_UNSUPPORTED, WALRX_DESTINATION; WALRX_INTERRUPTED when `signal` aborts.
 * Never WALRX_OBJECT_NOT_FOUND
 */
export async function fetchWalFile(options: WalFetchOptions): Promise<'delivered' | 'absent'> {
  const { clock = systemClock, dest, isStandby, log, name, retryTimeoutMs, signal } = options
  await checkDestination(dest)
  const fetch = new WalFetch(options)
  const patienceMs = isStandby ? Math.min(standbyPatienceMs, retryTimeoutMs) : retryTimeoutMs
  const backoff = new Backoff(isStandby ? { firstMs: 1000 } : { firstMs: 200, maxMs: 5_000 })
  const startMs = clock.now()
  for (let attempt = 1; ; attempt++) {
    const result = await fetch.attempt().catch((error: unknown) => nameFailure(error))
    if (typeof result === 'string') return result
    if (signal.aborted) throw new WalrxError('WALRX_INTERRUPTED', `stopped by a signal before ${name} was delivered`)
    if (!retriedCodes.includes(result.code)) throw result
    const delayMs = backoff.next()
    const isLast = clock.now() + delayMs - startMs > patienceMs || (isStandby && attempt > 1)
    if (isLast) throw attempt === 1 ? result : givenUp(result, attempt, clock.now() - startMs)
    if (attempt === 1) log.warn('not delivered yet, trying again', { file: name, error: result })
    await sleep(clock, delayMs, signal).catch(() => {})
  }
}

/** Something that vanishes between two requests is no proof that the file isn't there. */
function nameFailure(thrown: unknown): WalrxError {
  const error = toWalrxError(thrown)
  if (error.code !== 'WALRX_OBJECT_NOT_FOUND') return error
  return new WalrxError('WALRX_STORAGE_UNAVAILABLE', error.message, { cause: error })
}

function givenUp(error: WalrxError, attempts: number, ms: number): WalrxError {
  const message = `${error.message} (tried ${attempts} times in ${(ms / 1000).toFixed(1)} s)`
  return new WalrxError(error.code, message, { cause: error, ...(error.hint !== undefined && { hint: error.hint }) })
}

/** A rename would replace a link or a device as well, and nobody means that. */
async function checkDestination(dest: string): Promise<void> {
  const stats = await lstat(dest).catch(() => undefined)
  if (stats && !stats.isFile()) throw new WalrxError('WALRX_DESTINATION', `${dest} is there and no regular file`)
}

/** The attempts at one file, and what they keep from one to the next. */
class WalFetch {
  readonly #options: WalFetchOptions
  readonly #reader: WalReader
  readonly #systems: RequiredSystems
  readonly #temporary: string
  readonly #beginningPatienceMs: number
  #isSegmentTold = false
  #beginningSeenMs: number | undefined

  constructor(options: WalFetchOptions) {
    this.#options = options
    this.#reader = new WalReader(options.storage)
    this.#systems = new RequiredSystems(options)
    this.#temporary = temporaryName(options.dest, process.pid)
    const patienceMs = options.isStandby ? standbyBeginningPatienceMs : beginningPatienceMs
    this.#beginningPatienceMs = Math.min(patienceMs, options.retryTimeoutMs / 2)
  }

  async attempt(): Promise<'delivered' | 'absent'> {
    const { dest, extension, name, segmentSize } = this.#options
    const guard = new StallGuard(this.#options)
    const { signal } = guard
    try {
      signal.throwIfAborted()
      // An earlier process of our id may have been killed.
      await unlink(this.#temporary).catch(() => {})
      const found = await downloadWalFile({
        reader: this.#reader,
        name,
        path: this.#temporary,
        extension,
        segmentSize,
        systems: () => this.#systems.get(signal),
        signal,
        onProgress: () => guard.progress(),
        onSegment: (size) => this.#tellSegment(size),
      })
      if (!found && !(await this.#beginning(signal, guard))) return await this.#absent(signal)
      await this.#deliver(dest)
      return 'delivered'
    } finally {
      guard.close()
    }
  }

  /**
   * Downloads what the archive has of a segment that is not whole. While whole ones follow behind it, it may be on its
   * way, and is waited for; a receiver that was killed for good leaves such a place, and what is behind it is of no use.
   */
  async #beginning(signal: AbortSignal, guard: StallGuard): Promise<boolean> {
    const { clock = systemClock, log, name, storage } = this.#options
    if (walFileKind(name) !== 'segment') return false
    const beginning = await segmentBeginning(this.#reader, name, { signal })
    if (!beginning) return false
    const gap = await this.#reader.gapAt(name, { signal })
    if (gap) throw this.#lost(gap)
    this.#beginningSeenMs ??= clock.now()
    const isFollowed = await this.#reader.hasLaterSegment(name, { signal })
    if (isFollowed && clock.now() - this.#beginningSeenMs < this.#beginningPatienceMs) throw this.#hole()
    const bytes = beginning.bytes.length
    if (isFollowed)
      log.warn('the archive has only the beginning of this segment, and others behind it', { file: name, bytes })
    else log.info('the archive has the beginning of this segment', { file: name, bytes })
    const file = paddedFile(beginning)
    const { location } = storage
    await downloadWalFile({
      reader: { location, openWalFile: () => Promise.resolve(file) },
      name,
      path: this.#temporary,
      segmentSize: this.#options.segmentSize,
      systems: () => this.#systems.get(signal),
      signal,
      onProgress: () => guard.progress(),
    })
    return true
  }

  async #deliver(dest: string): Promise<void> {
    try {
      await localWork(dest, 'replace', rename(this.#temporary, dest))
    } catch (error) {
      await unlink(this.#temporary).catch(() => {})
      throw error
    }
  }

  #tellSegment(size: number): void {
    if (!this.#isSegmentTold) this.#options.onSegment?.(size)
    this.#isSegmentTold = true
  }

  #hole(): WalrxError {
    const { name, storage } = this.#options
    return new WalrxError(
      'WALRX_ARCHIVE_HOLE',
      `${storage.location} lacks ${name}, although it holds later segments of that timeline`,
      { hint: 'recovery cannot pass here; set a recovery target before it, or find the segment' },
    )
  }

  /** Nothing has been archived behind it yet: it would look like the end of the archive, and the server would promote. */
  #lost(gap: GapRecord): WalrxError {
    const { name, storage } = this.#options
    return new WalrxError('WALRX_ARCHIVE_HOLE', `${storage.location} lacks ${name}: ${describeGap(gap)}`, {
      hint: 'recovery cannot pass here; set a recovery target before it, or take a backup that was begun behind it',
    })
  }

  /** The end of the archive, if it is one. */
  async #absent(signal: AbortSignal): Promise<'absent'> {
    const { log, name, storage } = this.#options
    const kind = walFileKind(name)
    if (kind === 'segment' && (await this.#reader.hasLaterSegment(name, { signal }))) {
      throw this.#hole()
    }
    const gap = kind === 'segment' ? await this.#reader.gapAt(name, { signal }) : undefined
    if (gap) throw this.#lost(gap)
    if (
      kind === 'history' &&
      !/^0{7}1/.test(name) &&
      (await this.#reader.hasLaterSegment(name.slice(0, 8).padEnd(24, '0'), { signal }))
    ) {
      log.warn('history file is missing, although segments of its timeline are archived', { file: name })
    }
    for await (const _ of storage.list('', { signal })) return 'absent'
    throw new WalrxError('WALRX_STORAGE_MISSING', `${storage.location} holds no object at all`, {
      hint: 'is the prefix right, and the file system mounted?',
    })
  }
}

/** Aborts an attempt in which nothing moves, as well as when the command is stopped. */
class StallGuard {
  readonly #clock: Clock
  readonly #stalledMs: number
  readonly #location: string
  readonly #abort = new AbortController()
  readonly #outer: AbortSignal
  readonly #onOuterAbort = () => this.#abort.abort(this.#outer.reason)
  #timer: Timer

  constructor({ clock = systemClock, isStandby, retryTimeoutMs, signal, storage }: WalFetchOptions) {
    this.#clock = clock
    this.#stalledMs = isStandby ? stalledMsMin : Math.min(stalledMsMax, Math.max(stalledMsMin, retryTimeoutMs))
    this.#location = storage.location
    this.#outer = signal
    signal.addEventListener('abort', this.#onOuterAbort, { once: true })
    if (signal.aborted) this.#onOuterAbort()
    this.#timer = this.#set()
  }

  get signal(): AbortSignal {
    return this.#abort.signal
  }

  progress(): void {
    this.#timer.cancel()
    this.#timer = this.#set()
  }

  close(): void {
    this.#timer.cancel()
    this.#outer.removeEventListener('abort', this.#onOuterAbort)
  }

  #set(): Timer {
    const message = `${this.#location} did not answer for ${this.#stalledMs / 1000} s`
    return this.#clock.setTimer(this.#stalledMs, () =>
      this.#abort.abort(new WalrxError('WALRX_STORAGE_UNAVAILABLE', message)),
    )
  }
}

/** Where the file is written until it is whole: hidden, beside the destination, and told apart by the process. */
function temporaryName(dest: string, pid: number): string {
  return join(dirname(dest), `.${basename(dest)}.walrx-${pid}`)
}

/** Removes what killed processes have left beside a destination. Errors are none of the caller's. */
export async function sweepTemporaries(dest: string): Promise<void> {
  const directory = dirname(dest)
  for (const name of await readdir(directory).catch(() => [])) {
    const pid = /^\..+\.walrx-(\d+)$/.exec(name)?.[1]
    if (pid === undefined || runningProcess(Number(pid))) continue
    await unlink(join(directory, name)).catch(() => {})
  }
}
