/**
 * Files of a restored directory. They are opened, written and closed synchronously: the thread that has decoded bytes writes
 * them while they are in the processor's cache, and for a small file a trip to another thread takes longer than the call.
 * Only a sync may take seconds, and goes to the libuv pool.
 */
import fs from 'node:fs'
import type { BackgroundSync } from './background-sync.ts'
import { explained } from './restore-error.ts'

/** A file that is being written. Its calls need not be waited for: they are done in their order. */
export interface RestoredFile {
  /** Resolves when the bytes are written: until then they must not change. */
  write(bytes: Uint8Array): Promise<void>
  /** The file is complete. It is durable when the sink's `sync` has resolved. */
  finish(): Promise<void>
  /** Closes an incomplete file, after what is being written to it. Does nothing after {@link finish}. */
  drop(): Promise<void>
}

/** A file from an earlier backup of the chain, which an increment changes. */
export interface ChangedFile extends Omit<RestoredFile, 'write'> {
  /** Cuts it to this many bytes, or extends it with zeros. */
  resize(bytes: number): Promise<void>
  write(position: number, bytes: Uint8Array): Promise<void>
}

/** A file that swallows everything. */
export const nowhereFile: RestoredFile & ChangedFile = {
  resize: async () => {},
  write: async () => {},
  finish: async () => {},
  drop: async () => {},
}

/** A large file begins to go to the disk after so many bytes: a sync at its end would have to wait for all of it. */
const flushBytes = 64 * 1024 * 1024

/**
 * Makes a file, or empties it.
 * @param syncs what its sync is left to; undefined for none
 * @throws WALRX_RESTORE_FAILED with the path
 */
export function makeFile(path: string, mode: number, syncs: BackgroundSync | undefined): RestoredFile {
  const { O_CREAT, O_NOFOLLOW, O_TRUNC, O_WRONLY } = fs.constants
  const file = new OpenFile(path, syncs, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode)
  return {
    write: async (bytes) => file.append(bytes),
    finish: () => file.finish(),
    drop: () => file.drop(),
  }
}

/**
 * Opens a file that was finished before; its mode stays.
 * @throws WALRX_RESTORE_FAILED with the path
 */
export function changeFile(path: string, syncs: BackgroundSync | undefined): ChangedFile {
  const file = new OpenFile(path, syncs, fs.constants.O_WRONLY | fs.constants.O_NOFOLLOW)
  return {
    resize: async (bytes) => file.resize(bytes),
    write: async (position, bytes) => file.write(position, bytes),
    finish: () => file.finish(),
    drop: () => file.drop(),
  }
}

class OpenFile {
  readonly #path: string
  readonly #syncs: BackgroundSync | undefined
  readonly #descriptor: number
  #isOpen = true
  #unflushed = 0
  #flush: Promise<void> | undefined
  /** After a call that failed none is made. */
  #failure: Error | undefined

  constructor(path: string, syncs: BackgroundSync | undefined, flags: number, mode?: number) {
    this.#path = path
    this.#syncs = syncs
    this.#descriptor = explained(path, () => {
      const descriptor = fs.openSync(path, flags, mode)
      try {
        // The mask of the process has taken bits from it.
        if (mode !== undefined) fs.fchmodSync(descriptor, mode)
      } catch (error) {
        fs.closeSync(descriptor)
        throw error
      }
      return descriptor
    })
  }

  append(bytes: Uint8Array): void {
    this.#call(() => {
      for (let at = 0; at < bytes.length;) at += fs.writeSync(this.#descriptor, bytes, at, bytes.length - at)
    })
    this.#unflushed += bytes.length
    if (!this.#syncs || this.#unflushed < flushBytes || this.#flush) return
    this.#unflushed = 0
    this.#flush = this.#syncs.flush(this.#synced, this.#path).then(() => {
      this.#flush = undefined
    })
  }

  write(position: number, bytes: Uint8Array): void {
    this.#call(() => {
      for (let at = 0; at < bytes.length;) {
        at += fs.writeSync(this.#descriptor, bytes, at, bytes.length - at, position + at)
      }
    })
  }

  resize(bytes: number): void {
    this.#call(() => fs.ftruncateSync(this.#descriptor, bytes))
  }

  async finish(): Promise<void> {
    this.#isOpen = false
    try {
      if (this.#failure !== undefined) throw this.#failure
    } catch (error) {
      await this.#flush
      fs.closeSync(this.#descriptor)
      throw error
    }
    if (this.#syncs) {
      await this.#flush
      await this.#syncs.add(this.#synced, this.#path)
    } else explained(this.#path, () => fs.closeSync(this.#descriptor))
  }

  async drop(): Promise<void> {
    if (!this.#isOpen) return
    this.#isOpen = false
    await this.#flush
    fs.closeSync(this.#descriptor)
  }

  #call(work: () => void): void {
    if (this.#failure !== undefined) throw this.#failure
    try {
      explained(this.#path, work)
    } catch (error) {
      this.#failure = error as Error
      throw error
    }
  }

  get #synced() {
    return {
      sync: () => settled((done) => fs.fsync(this.#descriptor, done)),
      datasync: () => settled((done) => fs.fdatasync(this.#descriptor, done)),
      close: () => fs.closeSync(this.#descriptor),
    }
  }
}

/** What promisify does, without a new function for each file: that takes as long as the sync of a small one. */
function settled(call: (done: (error: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => call((error) => (error ? reject(error) : resolve())))
}
