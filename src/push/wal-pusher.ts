/**
 * Archives WAL files as PostgreSQL asks for them, and those that wait after them meanwhile: PostgreSQL asks for one at a
 * time, and goes on when it has its answer. An answer is never given ahead: a file that was archived ahead is looked at again
 * when it is asked for.
 *
 * Nothing is removed. Only where it is asked for (WALG_PG_READY_RENAME), the mark of a file that was archived ahead is
 * renamed, so that PostgreSQL does not ask for it at all.
 */
import { stat } from 'node:fs/promises'
import { type Clock } from '../primitives/clock.ts'
import { toWalrxError } from '../primitives/errors.ts'
import { orAborted, settledWithin } from '../primitives/wait.ts'
import { ByteBudget } from './byte-budget.ts'
import { GuardedArchive, type GuardedArchiveOptions } from './guarded-archive.ts'
import { type LocalWalFile, localWalFile } from './local-wal.ts'
import { markDone, readyAfter } from './ready-files.ts'
import { pushFile, type PushOutcome } from './wal-push.ts'

/** What {@link WalPusher} needs. */
export interface WalPusherOptions extends GuardedArchiveOptions {
  readonly clock: Clock
  /** Bytes of segments that may be held at once; undefined: see {@link memoryBytesDefault}. */
  readonly memoryBytes: number | undefined
  /** Files that are archived at once. */
  readonly concurrency: number
  /** Files that one call archives at most, the one that was asked for among them. */
  readonly filesMax: number
  /** Renames the marks of files that were archived ahead. */
  readonly renameReady: boolean
  /** True for a process that lives on: files ahead are not given up when the one that was asked for is done. */
  readonly isLasting: boolean
}

/** The bound without a setting: four segments, or so many bytes where that is more. With one, two segments at least. */
const memoryBytesDefault = 64 * 1024 * 1024

/** How many archived files a lasting process remembers. */
const rememberedMax = 256

/** See the file's header. */
export class WalPusher {
  readonly #options: WalPusherOptions
  readonly #guarded: GuardedArchive
  readonly #budget: ByteBudget
  readonly #stop = new AbortController()
  /** By path: what is being archived, for whatever reason. */
  readonly #running = new Map<string, Promise<PushOutcome>>()
  /** By path: archived files, as they were on the disk. */
  readonly #done = new Map<string, string>()
  readonly #ahead = new Set<Promise<void>>()
  #aheadRunning = 0
  #isEnding = false

  constructor(options: WalPusherOptions) {
    this.#options = options
    this.#guarded = new GuardedArchive(options)
    this.#budget = new ByteBudget(options.memoryBytes ?? memoryBytesDefault, options.memoryBytes === undefined ? 4 : 2)
  }

  /**
   * Archives a file, and begins with those after it if it has to be sent.
   * @param path as PostgreSQL gives it (%p)
   * @param signal gives up waiting; the file itself is given up by {@link destroy} alone
   * @throws WALRX_USAGE for a path of no WAL file, and as {@link pushFile} does
   */
  async push(path: string, signal: AbortSignal): Promise<PushOutcome> {
    const local = localWalFile(path)
    signal.throwIfAborted()
    const state = await stateOf(path)
    if (this.#done.has(path) && [undefined, this.#done.get(path)].includes(state)) return 'same'
    const pushed = this.#archive(local, true, (segmentSize) => this.#startAhead(local, segmentSize))
    return await orAborted(pushed, signal)
  }

  /** Archives nothing ahead any more, and waits for what is under way, at most so many milliseconds; gives up the rest. */
  async end(waitMs: number): Promise<void> {
    this.#isEnding = true
    await settledWithin(Promise.allSettled([...this.#ahead, ...this.#running.values()]), waitMs, this.#options.clock)
    this.destroy()
  }

  /** Gives up everything that is under way. */
  destroy(): void {
    this.#isEnding = true
    this.#stop.abort()
  }

  /** One at a time for each path. */
  #archive(local: LocalWalFile, isFirst: boolean, onSend?: (segmentSize: number) => void): Promise<PushOutcome> {
    const running = this.#running.get(local.path)
    if (running) return running
    const { log } = this.#options
    const { signal } = this.#stop
    const run = async () => {
      const state = await stateOf(local.path)
      const options = { guarded: this.#guarded, budget: this.#budget, isFirst, onSend, signal, log }
      const outcome = await pushFile(local, options)
      if (state !== undefined) this.#remember(local.path, state)
      log.debug('archived', { file: local.name, outcome })
      return outcome
    }
    const pushed = run().finally(() => this.#running.delete(local.path))
    this.#running.set(local.path, pushed)
    pushed.catch(() => {})
    return pushed
  }

  #remember(path: string, state: string): void {
    if (!this.#options.isLasting) return
    this.#done.delete(path)
    this.#done.set(path, state)
    for (const oldest of this.#done.keys()) {
      if (this.#done.size <= rememberedMax) return
      this.#done.delete(oldest)
    }
  }

  #startAhead(local: LocalWalFile, segmentSize: number): void {
    const { concurrency, filesMax, log } = this.#options
    if (local.kind !== 'segment' || concurrency < 2 || filesMax < 2 || this.#ahead.size > 0) return
    const files = readyAfter(local, segmentSize, filesMax - 1)
    const asked = this.#running.get(local.path)
    // A process that ends with the file that was asked for begins none after that.
    if (!this.#options.isLasting) asked?.then(() => (this.#isEnding = true)).catch(() => this.destroy())
    for (; this.#aheadRunning < concurrency - 1; this.#aheadRunning++) {
      const worker = this.#archiveAhead(files)
        .catch((error: unknown) => log.debug('archiving ahead has ended', { error: toWalrxError(error) }))
        .finally(() => {
          this.#aheadRunning--
          this.#ahead.delete(worker)
        })
      this.#ahead.add(worker)
    }
  }

  /** Each file will be asked for, and its failure reported then. */
  async #archiveAhead(files: AsyncGenerator<LocalWalFile, undefined>): Promise<void> {
    for (let next = await files.next(); !next.done && !this.#isEnding; next = await files.next()) {
      const local = next.value
      if (this.#running.has(local.path) || this.#done.has(local.path)) continue
      try {
        await this.#archive(local, false)
        if (this.#options.renameReady) await markDone(local.path)
      } catch (error) {
        this.#options.log.debug('not archived ahead', { file: local.name, error: toWalrxError(error) })
      }
    }
  }
}

/** Which file is there, and as of when: PostgreSQL changes no file that waits. Undefined for none. */
async function stateOf(path: string): Promise<string | undefined> {
  const stats = await stat(path).catch(() => undefined)
  return stats && `${stats.ino} ${stats.size} ${stats.mtimeMs}`
}
