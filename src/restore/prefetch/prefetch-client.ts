/**
 * wal-fetch's side of prefetching: takes segments that lie ready, tells the prefetcher what the server wants, and starts
 * one where none serves this recovery. Nothing that fails here fails the fetch. What is not needed for every call is
 * loaded when it is.
 */
import { rename } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import type { Logger } from '../../observe/log.ts'
import { parseSegmentName, segmentName } from '../../postgres/wal/wal-file.ts'
import { findRecovery, type Recovery, runningProcess } from '../wal/recovery-process.ts'
import { ReadyFolder } from './ready-folder.ts'

/** What a prefetcher is started with. */
export interface PrefetchStart {
  /** Path of the ready folder. */
  readonly folder: string
  /** Name of the first segment to get. */
  readonly first: string
  /** Bytes of a segment. */
  readonly segmentSize: number
}

/** Options of {@link PrefetchClient.open}. */
export interface PrefetchClientOptions {
  /** Where the server wants the file, as it says it. */
  readonly dest: string
  /** Process id of the server's startup process. */
  readonly startupPid: number
  /** Starts a prefetcher that outlives this process; resolves with its process id. */
  readonly startPrefetcher: (start: PrefetchStart) => Promise<number>
  readonly log: Logger
}

/** See the head of the file. */
export class PrefetchClient {
  readonly #options: PrefetchClientOptions
  readonly #folder: ReadyFolder
  readonly #recovery: Recovery

  private constructor(options: PrefetchClientOptions, recovery: Recovery) {
    this.#options = options
    this.#folder = ReadyFolder.beside(options.dest, options.startupPid)
    this.#recovery = recovery
  }

  /**
   * Undefined where prefetching makes no sense: no such startup process, or a caller that is no server's
   * restore_command: a server gives a path relative to its data directory.
   */
  static open(options: PrefetchClientOptions): PrefetchClient | undefined {
    if (isAbsolute(options.dest)) return undefined
    const recovery = findRecovery(options.startupPid)
    return recovery && new PrefetchClient(options, recovery)
  }

  /** Empties what earlier recoveries have left. Every recovery begins by asking for something that never lies ready. */
  async sweep(): Promise<void> {
    await this.#quietly('sweep', () => this.#folder.sweep())
  }

  /**
   * Takes a segment that lies ready, or is about to.
   * @returns true when it is at the destination now
   */
  async take(name: string, signal: AbortSignal): Promise<boolean> {
    return (
      (await this.#quietly('take', async () => {
        if (!(await this.#folder.isServed(this.#recovery))) {
          await this.#folder.sweep()
          return false
        }
        const { askForSegment } = await import('./prefetch-channel.ts')
        if (!(await askForSegment(this.#folder.socket, name, signal))) return false
        await rename(this.#folder.ready(name), this.#options.dest)
        return true
      })) ?? false
    )
  }

  /** Starts a prefetcher for what follows this segment, unless there is one. */
  async startBehind(name: string, segmentSize: number): Promise<void> {
    await this.#quietly('start', async () => {
      const self = runningProcess(process.pid)
      const id = parseSegmentName(name, segmentSize)
      const recovery = this.#recovery
      if (!self || !id || (await this.#folder.isServed(recovery))) return
      if (!(await this.#folder.claim({ recovery, prefetcher: { pid: self.pid, startTime: self.startTime } }))) return
      const first = segmentName(id.timeline, id.segno + 1n, segmentSize)
      try {
        const pid = await this.#options.startPrefetcher({ folder: this.#folder.path, first, segmentSize })
        const prefetcher = runningProcess(pid)
        if (!prefetcher) throw new Error(`the prefetcher ${pid} ended at once`)
        await this.#folder.setOwner({ recovery, prefetcher: { pid, startTime: prefetcher.startTime } })
      } catch (error) {
        await this.#folder.remove()
        throw error
      }
    })
  }

  async #quietly<T>(step: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work()
    } catch (error) {
      this.#options.log.debug('no prefetching', { step, error })
      return undefined
    }
  }
}
