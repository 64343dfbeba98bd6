/**
 * Fetches one WAL file for a restore_command, and decides how the command ends. PostgreSQL takes exit statuses 1 to 125
 * of a restore_command for "no such file": without standby.signal it then ends recovery and promotes (xlogarchive.c,
 * RestoreArchivedFile). So the result is "absent" only when the storage has answered that the file is not there, that
 * no later segment of its timeline is there, and that the archive holds anything at all (an empty one is an unmounted
 * directory or a mistyped prefix). Any other failure is retried for a while and then is an error.
 */
import { lstat, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Logger } from '../../observe/log.ts'
import { type Clock, sleep, systemClock } from '../../primitives/clock.ts'
import { type ErrorCode, hasCode, isKeyOutage, toWalrxError, WalrxError } from '../../primitives/errors.ts'
import { Backoff } from '../../primitives/backoff.ts'
import { walFileKind } from '../../postgres/wal/wal-file.ts'
import type { Storage } from '../../storage/storage.ts'
import { describeGap, type GapRecord } from '../../walg/wal/gap-records.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'
import { type ArchiveView, viewArchive } from './archive-view.ts'
import { DamageWatch } from './damage-watch.ts'
import { RequiredSystems } from './required-systems.ts'
import { StallGuard } from './stall-guard.ts'
import { paddedFile, segmentTail } from './tail-fetch.ts'
import { downloadWalFile, isOutOfSpace, localWork } from './wal-download.ts'
import { temporaryName } from './wal-temporaries.ts'

/** Options of {@link fetchWalFile}. */
export interface WalFetchOptions {
  readonly storage: Storage
  /** Name of the WAL file, as %f gives it. */
  readonly name: string
  /** The path to write it to; an existing file is replaced. */
  readonly dest: string
  /** Extension to try first. */
  readonly extension?: string | undefined
  /** Bytes of a segment, when configured. */
  readonly segmentSize?: number | undefined
  /** How long to retry after a storage failure, a gap, or damage that may pass, in milliseconds. */
  readonly retryTimeoutMs: number
  /** True for a standby, which asks again by itself: then failures are reported after a few seconds. */
  readonly isStandby: boolean
  /**
   * True never delivers the tail of a segment: a standby would replay WAL that its next primary may never have had, and
   * could not follow it. Default false.
   */
  readonly wholeOnly?: boolean
  /** The server's data directory, where its system identifier is read; default: the working directory. */
  readonly dataDir?: string
  /**
   * Called once, at the first page of a segment, with the segment size in bytes, and whether a later segment was seen;
   * undefined where nobody has looked.
   */
  readonly onSegment?: ((segmentSize: number, isFollowed: boolean | undefined) => void) | undefined
  readonly signal: AbortSignal
  readonly log: Logger
  /** Default the real clock. */
  readonly clock?: Clock
}

/**
 * How many times the retry timeout a full file system is waited for. The server's own restartpoint frees space, and a
 * restartpoint is spread over most of checkpoint_timeout: with the defaults of both, five minutes.
 */
const fullDiskPatience = 5
/** How often a wait for space is logged. */
const fullDiskLogMs = 30_000

/** The longest wait of a standby. */
const standbyPatienceMs = 3_000
/** How long to wait for a segment that the archive has only as a tail although later segments are there. */
const tailPatienceMs = 10_000
/** A standby gets its answer after the second attempt, which comes after half a second at least. */
const standbyTailPatienceMs = 300

/**
 * Failures that the next attempt may not meet. A storage may deny access or lack a bucket while it is being repaired. Damage:
 * see {@link DamageWatch}.
 */
const retriedCodes: readonly ErrorCode[] = [
  'WALRX_STORAGE_UNAVAILABLE',
  'WALRX_STORAGE_DENIED',
  'WALRX_STORAGE_MISSING',
  'WALRX_OBJECT_DAMAGED',
  'WALRX_ARCHIVE_HOLE',
]

/**
 * Fetches a WAL file.
 * @returns `absent` when the storage has answered that the archive lacks it and every later segment of its timeline
 * @throws WALRX_ARCHIVE_HOLE, WALRX_OBJECT_DAMAGED, WALRX_STORAGE_…, and WALRX_KEY_UNAVAILABLE where the service of the key does
 * not answer, after trying for `retryTimeoutMs`; at once WALRX_USAGE, WALRX_OTHER_CLUSTER, WALRX_CODEC_UNSUPPORTED, the other
 * WALRX_KEY_…, WALRX_DESTINATION but for a full file system; WALRX_INTERRUPTED when `signal` aborts. Never WALRX_OBJECT_NOT_FOUND
 */
export async function fetchWalFile(options: WalFetchOptions): Promise<'delivered' | 'absent'> {
  const { clock = systemClock, dest, isStandby, log, name, retryTimeoutMs, signal } = options
  await checkDestination(dest)
  const fetch = new WalFetch(options)
  const backoff = new Backoff(isStandby ? { firstMs: 1000 } : { firstMs: 200, maxMs: 5_000 })
  const startMs = clock.now()
  const last = (error: WalrxError, attempt: number) =>
    attempt === 1 ? error : givenUp(error, attempt, clock.now() - startMs)
  const damage = new DamageWatch(options)
  let loggedMs = startMs
  for (let attempt = 1; ; attempt++) {
    const result = await fetch.attempt().catch((error: unknown) => nameFailure(error))
    if (typeof result === 'string') return result
    if (signal.aborted) throw new WalrxError('WALRX_INTERRUPTED', `stopped by a signal before ${name} was delivered`)
    const isFull = isOutOfSpace(result)
    if (hasCode(result, 'WALRX_OBJECT_DAMAGED') && (await damage.isFinal())) throw last(result, attempt)
    if (!isFull && !retriedCodes.includes(result.code) && !isKeyOutage(result)) throw result
    const error = isFull ? fullDisk(result, dest) : result
    const patienceMs = isFull ? fullDiskPatience * retryTimeoutMs : retryTimeoutMs
    const delayMs = backoff.next()
    const nowMs = clock.now()
    const isLast = nowMs + delayMs - startMs > (isStandby ? Math.min(standbyPatienceMs, patienceMs) : patienceMs)
    if (isLast || (isStandby && attempt > 1)) throw last(error, attempt)
    if (attempt === 1 || (isFull && nowMs - loggedMs >= fullDiskLogMs)) {
      log.warn('WAL file not delivered yet, trying again', { file: name, error })
      loggedMs = nowMs
    }
    await sleep(clock, delayMs, signal).catch(() => {})
  }
}

/** An object that vanishes between two requests does not prove that the archive lacks the file. */
function nameFailure(thrown: unknown): WalrxError {
  const error = toWalrxError(thrown)
  if (error.code !== 'WALRX_OBJECT_NOT_FOUND') return error
  return new WalrxError('WALRX_STORAGE_UNAVAILABLE', error.message, { cause: error })
}

/** Adds what to do. */
function fullDisk(error: WalrxError, dest: string): WalrxError {
  return new WalrxError(error.code, error.message, {
    cause: error.cause,
    hint: `free space on the file system of ${dirname(dest)}: the server removes WAL there at its next restartpoint, sooner with a smaller max_wal_size or checkpoint_timeout`,
  })
}

function givenUp(error: WalrxError, attempts: number, ms: number): WalrxError {
  const message = `${error.message} (tried ${attempts} times in ${(ms / 1000).toFixed(1)} s)`
  return new WalrxError(error.code, message, { cause: error, ...(error.hint !== undefined && { hint: error.hint }) })
}

/** A rename would also replace a symbolic link or a device, which nobody wants. */
async function checkDestination(dest: string): Promise<void> {
  const stats = await lstat(dest).catch(() => undefined)
  if (stats && !stats.isFile()) {
    throw new WalrxError('WALRX_DESTINATION', `${dest} exists and is not a regular file`, {
      hint: 'pass %p of restore_command as the destination',
    })
  }
}

/** The attempts at one file, and the state that they share. */
class WalFetch {
  readonly #options: WalFetchOptions
  readonly #reader: WalReader
  readonly #systems: RequiredSystems
  readonly #temporary: string
  readonly #tailPatienceMs: number
  #isSegmentReported = false
  #tailSeenMs: number | undefined

  constructor(options: WalFetchOptions) {
    this.#options = options
    this.#reader = new WalReader(options.storage)
    this.#systems = new RequiredSystems(options)
    this.#temporary = temporaryName(options.dest, process.pid)
    const patienceMs = options.isStandby ? standbyTailPatienceMs : tailPatienceMs
    this.#tailPatienceMs = Math.min(patienceMs, options.retryTimeoutMs / 2)
  }

  async attempt(): Promise<'delivered' | 'absent'> {
    const { dest, extension, name, segmentSize } = this.#options
    const guard = new StallGuard(this.#options)
    const { signal } = guard
    try {
      signal.throwIfAborted()
      // An earlier process with our id may have been killed and left this file.
      await unlink(this.#temporary).catch(() => {})
      const view = await this.#view(signal)
      if (view?.kind === 'absent') return 'absent'
      const found = await downloadWalFile({
        reader: this.#readerOf(view),
        name,
        path: this.#temporary,
        extension,
        segmentSize,
        systems: () => this.#systems.get(signal),
        signal,
        onProgress: () => guard.progress(),
        onSegment: (size) => this.#reportSegment(size, view?.kind === 'there' ? view.isFollowed : undefined),
      })
      if (!found && !(await this.#fetchTail(signal, guard))) return await this.#absent(signal)
      await this.#deliver(dest)
      return 'delivered'
    } finally {
      guard.close()
    }
  }

  /** Undefined where a lookup by name costs less than a look. */
  async #view(signal: AbortSignal): Promise<ArchiveView | undefined> {
    const { extension, name, onSegment, segmentSize, storage, wholeOnly = false } = this.#options
    if (storage.hasCheapHeads === true) return undefined
    const wantsFollower = onSegment !== undefined
    return await viewArchive(storage, name, { extension, segmentSize, wholeOnly, wantsFollower, signal })
  }

  /** Opens the form that was seen; it may have gone since. */
  #readerOf(view: ArchiveView | undefined): Pick<WalReader, 'openWalFile' | 'location'> {
    const reader = this.#reader
    if (view?.kind !== 'there') return reader
    return {
      location: reader.location,
      openWalFile: async (name, preferred, options) =>
        (await reader.openForm(view.form, options)) ?? (await reader.openWalFile(name, preferred, options)),
    }
  }

  /**
   * Delivers the tail of a segment that the archive lacks as a whole. While later segments are there, the whole segment
   * may be on its way, so this waits for it. A receiver that was killed for good also leaves such a tail; then the WAL
   * after it is of no use.
   */
  async #fetchTail(signal: AbortSignal, guard: StallGuard): Promise<boolean> {
    const { clock = systemClock, log, name, storage, wholeOnly = false } = this.#options
    if (wholeOnly || walFileKind(name) !== 'segment') return false
    const tail = await segmentTail(this.#reader, name, { signal })
    if (!tail) return false
    const gap = await this.#reader.gapAt(name, { signal })
    if (gap) throw this.#recordedGap(gap)
    this.#tailSeenMs ??= clock.now()
    const isFollowed = await this.#reader.hasLaterSegment(name, { signal })
    if (isFollowed && clock.now() - this.#tailSeenMs < this.#tailPatienceMs) throw this.#gap()
    const bytes = tail.bytes.length
    if (isFollowed) {
      log.warn('the archive has only the tail of this segment, although it holds later segments: recovery ends here', {
        file: name,
        bytes,
      })
    } else log.info('the archive has the tail of this segment: delivering it', { file: name, bytes })
    const file = paddedFile(tail)
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

  #reportSegment(size: number, isFollowed: boolean | undefined): void {
    if (!this.#isSegmentReported) this.#options.onSegment?.(size, isFollowed)
    this.#isSegmentReported = true
  }

  #gap(): WalrxError {
    const { name, storage } = this.#options
    return new WalrxError(
      'WALRX_ARCHIVE_HOLE',
      `${storage.location} lacks ${name}, although it holds later segments of that timeline`,
      { hint: 'recovery cannot pass this gap: set a recovery target before it, or copy the segment into the archive' },
    )
  }

  /** With no later segment archived yet, a gap would look like the end of the archive, and the server would promote. */
  #recordedGap(gap: GapRecord): WalrxError {
    const { name, storage } = this.#options
    return new WalrxError('WALRX_ARCHIVE_HOLE', `${storage.location} lacks ${name}: ${describeGap(gap)}`, {
      hint: 'recovery cannot pass this gap: set a recovery target before it, or restore a backup that started after it',
    })
  }

  /** Returns at the end of the archive; throws at a gap. */
  async #absent(signal: AbortSignal): Promise<'absent'> {
    const { log, name, storage } = this.#options
    const kind = walFileKind(name)
    if (kind === 'segment' && (await this.#reader.hasLaterSegment(name, { signal }))) {
      throw this.#gap()
    }
    const gap = kind === 'segment' ? await this.#reader.gapAt(name, { signal }) : undefined
    if (gap) throw this.#recordedGap(gap)
    if (
      kind === 'history' &&
      !/^0{7}1/.test(name) &&
      (await this.#reader.hasLaterSegment(name.slice(0, 8).padEnd(24, '0'), { signal }))
    ) {
      log.warn('the archive lacks this history file, although it holds segments of its timeline', { file: name })
    }
    for await (const _ of storage.list('', { signal })) return 'absent'
    throw new WalrxError('WALRX_STORAGE_MISSING', `${storage.location} holds no object at all`, {
      hint: 'check that the prefix is right and that the file system is mounted',
    })
  }
}
