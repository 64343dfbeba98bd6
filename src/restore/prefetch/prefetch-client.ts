/**
 * wal-fetch's side of prefetching: it takes segments that are ready, reports to the prefetcher which segment the server
 * wants, and starts a prefetcher where none serves this recovery. A failure here never fails the fetch. Modules that
 * not every call needs are loaded on demand.
 */
import { rename, statfs } from 'node:fs/promises'
import { dirname, isAbsolute } from 'node:path'
import type { Logger } from '../../observe/log.ts'
import { parseSegmentName, segmentName } from '../../postgres/wal/wal-file.ts'
import { findRecovery, isOfServer, type Recovery, runningProcess } from '../wal/recovery-process.ts'
import { segmentsThatFit } from './prefetch-space.ts'
import { ReadyFolder } from './ready-folder.ts'

/** The arguments of a prefetcher. */
export interface PrefetchStart {
  /** Path of the ready folder. */
  readonly folder: string
  /** Name of the first segment to download. */
  readonly first: string
  /** Bytes of a segment. */
  readonly segmentSize: number
}

/** Options of {@link PrefetchClient.open}. */
export interface PrefetchClientOptions {
  /** Path at which the server wants the file, as in %p. */
  readonly dest: string
  /** Process id of the server's startup process. */
  readonly startupPid: number
  /** Bytes of segments that a prefetcher keeps ready, where they fit. */
  readonly windowBytes: number
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
   * Undefined where the caller is no recovering server: the startup process does not exist or is another program's, or
   * the destination is absolute. A server's restore_command gets a path relative to the data directory.
   */
  static open(options: PrefetchClientOptions): PrefetchClient | undefined {
    if (isAbsolute(options.dest)) return undefined
    const recovery = findRecovery(options.startupPid)
    if (!recovery || !isOfServer(recovery, dirname(dirname(options.dest)))) return undefined
    return new PrefetchClient(options, recovery)
  }

  /** Removes folders of earlier recoveries. Every recovery first asks for a file that is never prefetched. */
  async sweep(): Promise<void> {
    await this.#quietly('sweep', () => this.#folder.sweep())
  }

  /**
   * Takes a segment that is ready, or waits for one that is being downloaded.
   * @returns true when it is at the destination
   */
  async take(name: string, signal: AbortSignal): Promise<boolean> {
    return (
      (await this.#quietly('take', async () => {
        const owner = await this.#folder.serving(this.#recovery)
        if (!owner) {
          await this.#folder.sweep()
          return false
        }
        const { askForSegment } = await import('./prefetch-channel.ts')
        if (!(await askForSegment(owner.channel, name, signal))) return false
        await rename(this.#folder.ready(name), this.#options.dest)
        return true
      })) ?? false
    )
  }

  /** Starts a prefetcher for the segments after this one, unless one is running. */
  async startBehind(name: string, segmentSize: number): Promise<void> {
    await this.#quietly('start', async () => {
      const self = runningProcess(process.pid)
      const id = parseSegmentName(name, segmentSize)
      const recovery = this.#recovery
      if (!self || !id || (await this.#folder.isServed(recovery))) return
      const claimed = { recovery, prefetcher: { pid: self.pid, startTime: self.startTime } }
      const owner = await this.#folder.claim(claimed)
      if (!owner) return
      await this.#warnOfLittleSpace(segmentSize)
      const first = segmentName(id.timeline, id.segno + 1n, segmentSize)
      try {
        const pid = await this.#options.startPrefetcher({ folder: this.#folder.path, first, segmentSize })
        const prefetcher = runningProcess(pid)
        if (!prefetcher) throw new Error(`the prefetcher ${pid} ended at once`)
        await this.#folder.setPrefetcher(owner, prefetcher)
      } catch (error) {
        await this.#folder.remove()
        throw error
      }
    })
  }

  /** The prefetcher itself has no log: its output is /dev/null. */
  async #warnOfLittleSpace(segmentSize: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#folder.path)
    const wanted = Math.max(2, Math.floor(this.#options.windowBytes / segmentSize))
    const segments = segmentsThatFit(bavail * bsize, segmentSize)
    if (segments >= wanted) return
    const { dest, log } = this.#options
    log.warn('little space is free on the file system of pg_wal: prefetching fewer segments', {
      directory: dirname(dest),
      free_bytes: bavail * bsize,
      segments,
      wanted,
    })
  }

  async #quietly<T>(step: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work()
    } catch (error) {
      this.#options.log.debug('prefetching failed, fetching without it', { step, error })
      return undefined
    }
  }
}
