/** The bytes of a stored file, read on demand. */
import { constants } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { WalrxError } from '../../primitives/errors.ts'
import { abortable } from '../abortable.ts'
import type { ChunkBuffers } from '../storage.ts'
import { type FileTask, describeTask, fileError } from './file-errors.ts'

/** To read what should be a file: a FIFO in its place is not waited for. */
export const readFlags = constants.O_RDONLY | constants.O_NONBLOCK

/** The most bytes of one chunk. */
const CHUNK_BYTES_MAX = 1024 * 1024

/**
 * Iterates over the first `size` bytes of an open file in chunks of up to 1 MiB, each in a buffer of its own. The
 * handle is closed at the end, at an error, when the caller stops early and when `signal` aborts.
 */
export class FileBody implements AsyncIterableIterator<Uint8Array> {
  readonly #handle: FileHandle
  readonly #size: number
  readonly #task: FileTask
  readonly #signal: AbortSignal | undefined
  readonly #buffers: ChunkBuffers | undefined
  readonly #onAbort = () => void this.#close()
  #offset = 0
  #closed: Promise<void> | undefined

  /** `size`: bytes of the file when it was opened. */
  constructor(
    handle: FileHandle,
    size: number,
    task: FileTask,
    signal: AbortSignal | undefined,
    buffers?: ChunkBuffers,
  ) {
    this.#handle = handle
    this.#size = size
    this.#task = task
    this.#signal = signal
    this.#buffers = buffers
    signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#signal?.throwIfAborted()
    if (this.#closed || this.#offset === this.#size) return await this.return()
    try {
      const left = this.#size - this.#offset
      const chunk = this.#buffers?.take() ?? Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES_MAX, left))
      const read = this.#handle.read(chunk, 0, Math.min(chunk.length, left), this.#offset)
      const { bytesRead } = await abortable(read, this.#signal)
      // walrx never writes an object in place, but WAL-G before 3.0.9 did.
      if (bytesRead === 0) throw shrunk(this.#task, this.#offset, this.#size)
      this.#offset += bytesRead
      return { done: false, value: chunk.subarray(0, bytesRead) }
    } catch (error) {
      const closed = this.#close()
      // Not awaited after an abort: close waits for a read that hangs.
      this.#signal?.throwIfAborted()
      await closed
      throw fileError(error, this.#task)
    }
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    await this.#close()
    return { done: true, value: undefined }
  }

  #close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort)
    // Closing a file that was only read cannot lose data.
    this.#closed ??= this.#handle.close().catch(() => {})
    return this.#closed
  }
}

function shrunk(task: FileTask, offset: number, size: number): WalrxError {
  return new WalrxError(
    'WALRX_STORAGE_UNAVAILABLE',
    `${describeTask(task)} failed: the file ended after ${offset} of ${size} bytes, so another program is writing it in place`,
  )
}
