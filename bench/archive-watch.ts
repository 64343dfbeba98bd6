/**
 * Observes from outside when a segment appears in an archive under its final name, in the same way for every contender:
 * in a directory by the kernel's event for the rename, in a bucket by listing it again and again.
 */
import { type FSWatcher, watch } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Storage } from '../src/storage/storage.ts'

/** How often to check for a directory that does not exist yet. */
const directoryPollMs = 5

/** A segment's object: the name, with an extension unless it is stored uncompressed. Temporary names don't match. */
const segmentObject = /^([0-9A-F]{24})(?:\.(?:zst|lz4|br|lzma|gz))?$/

/** The observations of an archive. */
export interface ArchiveWatch extends AsyncDisposable {
  /** When each segment was first seen, by its name, in milliseconds of performance.now(). */
  readonly seen: ReadonlyMap<string, number>
  /** Resolves when all of them have been seen, with the time of the last; rejects when `signal` aborts. */
  waitFor(segments: readonly string[], signal: AbortSignal): Promise<number>
  /** Bytes of all segments' objects. */
  storedBytes(): Promise<number>
}

abstract class Watch implements ArchiveWatch {
  readonly seen = new Map<string, number>()
  readonly stopped = new AbortController()
  #waiter: (() => void) | undefined

  protected note(objectName: string): void {
    const segment = segmentObject.exec(objectName)?.[1]
    if (segment === undefined || this.seen.has(segment)) return
    this.seen.set(segment, performance.now())
    this.#waiter?.()
  }

  async waitFor(segments: readonly string[], signal: AbortSignal): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const isComplete = () => segments.every((segment) => this.seen.has(segment))
    const onAbort = () => reject(signal.reason as Error)
    this.#waiter = () => {
      if (isComplete()) resolve()
    }
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    this.#waiter()
    try {
      await promise
    } finally {
      this.#waiter = undefined
      signal.removeEventListener('abort', onAbort)
    }
    return Math.max(...segments.map((segment) => this.seen.get(segment) ?? NaN))
  }

  abstract storedBytes(): Promise<number>

  async [Symbol.asyncDispose](): Promise<void> {
    this.stopped.abort()
    await Promise.resolve()
  }
}

class DirectoryWatch extends Watch {
  readonly #directory: string
  #watcher: FSWatcher | undefined

  constructor(directory: string) {
    super()
    this.#directory = directory
    void this.#start()
  }

  async #start(): Promise<void> {
    while (!this.stopped.signal.aborted) {
      try {
        this.#watcher = watch(this.#directory, (_, name) => this.note(name ?? ''))
        // Objects from before the watch.
        for (const name of await readdir(this.#directory)) this.note(name)
        return
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
        await delay(directoryPollMs)
      }
    }
  }

  async storedBytes(): Promise<number> {
    const names = await readdir(this.#directory)
    const sizes = await Promise.all(
      names
        .filter((name) => segmentObject.test(name))
        .map(async (name) => (await stat(join(this.#directory, name))).size),
    )
    return sizes.reduce((total, size) => total + size, 0)
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]()
    this.#watcher?.close()
  }
}

class BucketWatch extends Watch {
  readonly #storage: Storage
  readonly #done: Promise<void>

  constructor(storage: Storage, pollMs: number) {
    super()
    this.#storage = storage
    this.#done = this.#poll(pollMs)
  }

  async #poll(pollMs: number): Promise<void> {
    const { signal } = this.stopped
    // Segments are uploaded in parallel, so an earlier name may appear later: all are listed every time.
    while (!signal.aborted) {
      try {
        for await (const { key } of this.#storage.list('wal_005/', { signal })) this.note(key.slice('wal_005/'.length))
        await delay(pollMs, undefined, { signal })
      } catch (error) {
        if (!signal.aborted) throw error
      }
    }
  }

  async storedBytes(): Promise<number> {
    let total = 0
    for await (const { key, size } of this.#storage.list('wal_005/')) {
      if (segmentObject.test(key.slice('wal_005/'.length))) total += size
    }
    return total
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]()
    await this.#done
  }
}

/** Watches the directory that holds (or will hold) the segments. */
export function watchDirectory(directory: string): ArchiveWatch {
  return new DirectoryWatch(directory)
}

/**
 * Watches the `wal_005` folder of a bucket. The storage stays the caller's.
 * @param pollMs the pause between two listings
 */
export function watchBucket(storage: Storage, pollMs: number): ArchiveWatch {
  return new BucketWatch(storage, pollMs)
}
