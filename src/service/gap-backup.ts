/**
 * A base backup after every gap: what comes after a gap can only be recovered from a backup that was begun after it.
 * Whether one is needed is read from the archive, so that neither a crash nor a failed backup leaves a gap without one.
 * A gap that others have filled since, another receiver or an archive_command, needs none.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { isOpenGap } from '../catalog/open-gaps.ts'
import type { Logger } from '../observe/log.ts'
import { formatLsn, type Lsn } from '../postgres/lsn.ts'
import { type Clock, sleep } from '../primitives/clock.ts'
import { toWalrxError } from '../primitives/errors.ts'
import { Backoff } from '../primitives/backoff.ts'
import type { Storage } from '../storage/storage.ts'
import { BackupArchive } from '../walg/backup/backup-archive.ts'
import { parseBackupName } from '../walg/backup/backup-names.ts'
import { type GapRange, gapRanges } from '../walg/wal/gap-records.ts'
import { readSystem } from '../walg/wal/system-marker.ts'
import { WalReader } from '../walg/wal/wal-reader.ts'
import type { GapBackupSettings } from './service-settings.ts'

/** What {@link GapBackup} needs. */
export type GapBackupOptions = GapBackupSettings & {
  readonly storage: Storage
  readonly clock: Clock
  /** Random number in [0, 1) for back-off jitter. */
  readonly random: () => number
  readonly log: Logger
  /** Called with the outcome of each backup. */
  readonly onEnd: (outcome: 'done' | 'failed') => void
  /** Ends the backup under way as {@link GapBackup.close} does. */
  readonly signal: AbortSignal
}

/** How long a backup may take to clean up after SIGTERM before it is killed. */
const killAfterMs = 10_000

/** See the file's header. */
export class GapBackup {
  readonly #options: GapBackupOptions
  #running: Promise<void> | undefined
  #isAskedAgain = false
  readonly #stopped = new AbortController()
  readonly #onAbort = () => this.#stopped.abort()

  constructor(options: GapBackupOptions) {
    this.#options = options
    options.signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  /**
   * Looks whether the archive has a gap without a backup after it, and takes one then; one at a time. Never throws.
   * @returns when no gap lacks a backup, or when this is closed
   */
  look(): Promise<void> {
    this.#isAskedAgain = true
    if (this.#stopped.signal.aborted) return Promise.resolve()
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
      return this.#isAskedAgain ? this.look() : undefined
    })
    return this.#running
  }

  /** Ends the backup under way, which cleans up, and starts no other. */
  async close(): Promise<void> {
    this.#options.signal.removeEventListener('abort', this.#onAbort)
    this.#stopped.abort()
    await this.#running
  }

  /** Until no gap lacks a backup; failures are tried again, after a minute at first, after an hour at last. */
  async #run(): Promise<void> {
    const { clock, log, onEnd, random } = this.#options
    const { signal } = this.#stopped
    const backoff = new Backoff({ firstMs: 60_000, maxMs: 3_600_000, random })
    let doneFor: Lsn | undefined
    while (!signal.aborted) {
      this.#isAskedAgain = false
      try {
        const gap = await this.#gapWithoutBackup()
        if (!gap) return
        if (gap.endLsn !== doneFor) {
          const status = await this.#push(gap)
          signal.throwIfAborted()
          onEnd(status === 0 ? 'done' : 'failed')
          if (status === 0) doneFor = gap.endLsn
          if (status === 0) continue
        } else {
          // As from a standby that had not replayed so far.
          log.error('the base backup was begun before the end of the gap, so that a new one is needed', {
            gapEnd: formatLsn(gap.endLsn),
            hint: 'walrx takes it by itself: it waits first, for a standby may not have replayed that far',
          })
          doneFor = undefined
        }
      } catch (error) {
        if (signal.aborted) return
        log.error('the base backup after a gap could not be taken, trying again', {
          error: toWalrxError(error).message,
        })
      }
      await backoff.wait(clock, signal).catch(() => {})
    }
  }

  /**
   * The last open gap that ends after the start of the newest backup. The newest is the last that says where it begins.
   * Where such gaps were recorded, the segments of each are listed, the last gap first, until one is found open.
   */
  async #gapWithoutBackup(): Promise<GapRange | undefined> {
    const { storage } = this.#options
    const { signal } = this.#stopped
    const gaps: GapRange[] = []
    for await (const gap of gapRanges(storage, { signal })) gaps.push(gap)
    if (gaps.length === 0) return undefined
    const startLsn = await this.#newestStart()
    const later = gaps.filter(({ endLsn }) => startLsn === undefined || endLsn > startLsn)
    if (later.length === 0) return undefined
    const segmentSize = (await readSystem(storage, { signal }))?.segmentSize
    const reader = new WalReader(storage)
    for (const gap of later.sort((a, b) => (a.endLsn > b.endLsn ? -1 : 1))) {
      // An archive that doesn't say how large its segments are can't show that the gap was filled.
      if (segmentSize === undefined || (await isOpenGap(reader, gap, segmentSize, { signal }))) return gap
    }
    return undefined
  }

  /** Where the backup of the highest segment was begun; undefined where there is none that says so. */
  async #newestStart(): Promise<Lsn | undefined> {
    const { signal } = this.#stopped
    const archive = new BackupArchive(this.#options.storage)
    // By their names: what counts is the position, and one sentinel is enough.
    const positionOf = (name: string) => parseBackupName(name)?.segment.slice(8) ?? ''
    const names = (await archive.listBackups({ signal })).map((backup) => backup.name)
    for (const name of names.sort((a, b) => (positionOf(a) < positionOf(b) ? 1 : -1))) {
      const { startLsn } = await archive.readSentinel(name, { signal })
      if (startLsn !== undefined) return startLsn
    }
    return undefined
  }

  /** Runs the program to its end. Returns its exit status; undefined when a signal ended it. */
  async #push({ endLsn, startLsn }: GapRange): Promise<number | undefined> {
    const { log } = this.#options
    log.warn('taking a base backup after a gap', { from: formatLsn(startLsn), to: formatLsn(endLsn) })
    const status = await this.#taken()
    if (status === 0) log.info('the base backup after a gap is complete', { gapEnd: formatLsn(endLsn), status })
    else {
      log.error('the base backup after a gap has failed', {
        gapEnd: formatLsn(endLsn),
        status: status ?? 'ended by a signal',
        hint: 'its output is in the log before this line; walrx tries again while it runs',
      })
    }
    return typeof status === 'number' ? status : undefined
  }

  async #taken(): Promise<number | NodeJS.Signals | undefined> {
    const options = this.#options
    if ('take' in options) return await options.take(this.#stopped.signal)
    const [program, ...args] = options.command
    return await this.#followed(spawn(program, args, { env: options.environment, stdio: ['ignore', 'pipe', 'pipe'] }))
  }

  async #followed(child: ChildProcess): Promise<number | NodeJS.Signals | undefined> {
    const { clock, log } = this.#options
    const { signal } = this.#stopped
    for (const stream of [child.stdout, child.stderr]) {
      if (stream)
        createInterface({ input: stream }).on('line', (line) => log.info('output of the base backup', { line }))
    }
    const ended = new Promise<number | NodeJS.Signals | undefined>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (status, signalCode) => resolve(status ?? signalCode ?? undefined))
    })
    const isOver = new AbortController()
    const onAbort = () => {
      child.kill('SIGTERM')
      sleep(clock, killAfterMs, isOver.signal).then(
        () => child.kill('SIGKILL'),
        () => {},
      )
    }
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    try {
      return await ended
    } finally {
      signal.removeEventListener('abort', onAbort)
      isOver.abort()
    }
  }
}
