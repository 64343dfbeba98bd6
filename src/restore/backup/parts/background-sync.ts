/**
 * fsync of files in the background: it takes a second for a gigabyte, while the writer continues with the next file.
 */
import { cannotWrite } from './restore-error.ts'

/** A file whose sync is left to {@link BackgroundSync}. */
export interface SyncedFile {
  sync(): Promise<void>
  datasync(): Promise<void>
  close(): void
}

/** Files that are synced at the same time: each occupies a thread of the libuv pool, which decoding needs too. */
const syncsMax = 2
/** Open files that wait for their fsync: a tar of small files is read meanwhile, and most systems let a process have 1024. */
const waitingMax = 256

/** See the file's header. */
export class BackgroundSync {
  readonly #waiting: (() => Promise<void>)[] = []
  #running = 0
  #failure: { readonly error: unknown } | undefined
  #wake: (() => void)[] = []

  /**
   * Takes a file over, syncs it, and closes it in any case. Resolves when there is room for another file.
   * @param path names it in errors
   * @throws what syncing an earlier file threw
   */
  async add(file: SyncedFile, path: string): Promise<void> {
    this.#waiting.push(async () => {
      try {
        try {
          await file.sync()
        } finally {
          file.close()
        }
      } catch (error) {
        throw cannotWrite(path, error)
      }
    })
    this.#start()
    while (this.#waiting.length > waitingMax) await this.#change()
    if (this.#failure) throw this.#failure.error
  }

  /**
   * Has the disk begin with a file that is still being written. Resolves when that is over: only then may the file be
   * closed. Never rejects: what syncing it threw comes from {@link add} and {@link done}, as it must, because the system
   * reports a failed write once.
   */
  flush(file: SyncedFile, path: string): Promise<void> {
    return new Promise((resolve) => {
      const work = async () => {
        try {
          await file.datasync()
        } catch (error) {
          throw cannotWrite(path, error)
        } finally {
          resolve()
        }
      }
      // Files that are complete can wait.
      this.#waiting.unshift(work)
      this.#start()
    })
  }

  /** Resolves when every file is durable. Throws what syncing one threw. */
  async done(): Promise<void> {
    while (this.#running > 0 || this.#waiting.length > 0) await this.#change()
    if (this.#failure) throw this.#failure.error
  }

  #start(): void {
    while (this.#running < syncsMax) {
      const work = this.#waiting.shift()
      if (!work) return
      this.#running++
      work()
        .catch((error: unknown) => {
          this.#failure ??= { error }
        })
        .finally(() => {
          this.#running--
          this.#start()
          for (const wake of this.#wake.splice(0)) wake()
        })
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve))
  }
}
