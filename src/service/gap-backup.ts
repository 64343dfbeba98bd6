/**
 * A base backup after every gap: what lies behind a gap can only be recovered from a backup that was begun behind it.
 * Whether one is needed is read from the archive, so that neither a crash nor a failed backup leaves a gap without one.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { listInOrder } from '../catalog/backups.ts'
import type { Logger } from '../observe/log.ts'
import { formatLsn } from '../postgres/lsn.ts'
import { type Clock, sleep } from '../primitives/clock.ts'
import { toWalrxError } from '../primitives/errors.ts'
import { Backoff } from '../primitives/backoff.ts'
import type { Storage } from '../storage/storage.ts'
import { BackupArchive } from '../walg/backup/backup-archive.ts'
import { type GapRecord, listGaps } from '../walg/wal/gap-records.ts'

/** What {@link GapBackup} needs. */
export interface GapBackupOptions {
  readonly storage: Storage
  /** Program and arguments of a base backup with the same settings; the environment is inherited. */
  readonly command: readonly [string, ...string[]]
  readonly clock: Clock
  readonly log: Logger
  /** Told how each backup ended. */
  readonly onEnd: (outcome: 'done' | 'failed') => void
  /** Ends the backup under way as {@link GapBackup.close} does. */
  readonly signal: AbortSignal
}

/** How long a backup may take to tidy up after SIGTERM before it is killed. */
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

  /** Looks whether the archive has a gap without a backup behind it, and takes one then; one at a time. */
  look(): void {
    this.#isAskedAgain = true
    if (this.#stopped.signal.aborted) return
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
      if (this.#isAskedAgain) this.look()
    })
  }

  /** Ends the backup under way, which tidies up, and starts no other. */
  async close(): Promise<void> {
    this.#options.signal.removeEventListener('abort', this.#onAbort)
    this.#stopped.abort()
    await this.#running
  }

  /** Until no gap lacks a backup; failures are tried again, after a minute at first, after an hour at last. */
  async #run(): Promise<void> {
    const { clock, log, onEnd } = this.#options
    const { signal } = this.#stopped
    const backoff = new Backoff({ firstMs: 60_000, maxMs: 3_600_000 })
    while (!signal.aborted) {
      this.#isAskedAgain = false
      try {
        const gap = await this.#gapWithoutBackup()
        if (!gap) return
        const status = await this.#push(gap)
        signal.throwIfAborted()
        onEnd(status === 0 ? 'done' : 'failed')
        if (status === 0) continue
      } catch (error) {
        if (signal.aborted) return
        log.error('no base backup could be taken after a gap', { error: toWalrxError(error).message })
      }
      await backoff.wait(clock, signal).catch(() => {})
    }
  }

  /** The last gap, unless the newest backup that says where it begins was begun behind it. */
  async #gapWithoutBackup(): Promise<GapRecord | undefined> {
    const { storage } = this.#options
    const { signal } = this.#stopped
    const gaps = await listGaps(storage, { signal })
    const last = gaps.reduce<GapRecord | undefined>((a, b) => (a && a.endLsn >= b.endLsn ? a : b), undefined)
    if (!last) return undefined
    const archive = new BackupArchive(storage)
    for (const { name } of (await listInOrder(archive, { signal })).reverse()) {
      const { startLsn } = await archive.readSentinel(name, { signal })
      if (startLsn !== undefined) return startLsn >= last.endLsn ? undefined : last
    }
    return last
  }

  /** Runs the program to its end. Returns its exit status; undefined when a signal ended it. */
  async #push({ endLsn, startLsn }: GapRecord): Promise<number | undefined> {
    const { command, log } = this.#options
    const [program, ...args] = command
    log.warn('taking a base backup after a gap', { from: formatLsn(startLsn), to: formatLsn(endLsn) })
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    const status = await this.#followed(child)
    const say = status === 0 ? 'info' : 'error'
    log[say]('the base backup after a gap has ended', { status: status ?? child.signalCode })
    return status
  }

  async #followed(child: ChildProcess): Promise<number | undefined> {
    const { clock, log } = this.#options
    const { signal } = this.#stopped
    for (const stream of [child.stdout, child.stderr]) {
      if (stream) createInterface({ input: stream }).on('line', (line) => log.info('the base backup says', { line }))
    }
    const ended = new Promise<number | undefined>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (status) => resolve(status ?? undefined))
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
