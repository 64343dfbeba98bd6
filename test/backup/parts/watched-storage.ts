/**
 * A storage in memory that looks at the bodies of its puts piece by piece, and keeps the pieces until a put ends, as it
 * may by its contract and S3's does, or copies each late, as a directory's does; and a look at promises that nobody waits
 * for.
 */
import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import type { StorageBody, StorageCallOptions } from '../../../src/storage/storage.ts'
import { MemoryStorage, type MemoryStorageOptions } from '../../harness/store/memory-storage.ts'

/** A piece of a body that has come. */
export interface PutPiece {
  readonly key: string
  /** From 1. */
  readonly number: number
  /** Of the whole body so far. */
  readonly bytes: number
  readonly signal: AbortSignal | undefined
}

/** See the file's header. */
export class WatchedStorage extends MemoryStorage {
  readonly releasesChunks: boolean
  /** Runs before the next piece is asked for: may wait or throw. */
  onPiece: ((piece: PutPiece) => unknown) | undefined
  /** Puts that have not ended, and the most there ever were. */
  openPuts = 0
  openPutsMax = 0

  /** @param options releasesChunks: it copies a piece before it asks for the next one, and not at once */
  constructor({
    releasesChunks = false,
    ...options
  }: MemoryStorageOptions & { readonly releasesChunks?: boolean } = {}) {
    super(options)
    this.releasesChunks = releasesChunks
  }

  override async put(key: string, body: StorageBody, options: StorageCallOptions = {}): Promise<void> {
    this.openPuts++
    this.openPutsMax = Math.max(this.openPutsMax, this.openPuts)
    try {
      if (body instanceof Uint8Array) return await super.put(key, body, options)
      const kept: Uint8Array[] = []
      await super.put(key, this.#watch(key, body, kept, options.signal), options)
      this.seed(key, Buffer.concat(kept))
    } finally {
      this.openPuts--
    }
  }

  async *#watch(
    key: string,
    body: AsyncIterable<Uint8Array>,
    kept: Uint8Array[],
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array, undefined> {
    let number = 0
    let bytes = 0
    for await (const piece of body) {
      signal?.throwIfAborted()
      number++
      bytes += piece.length
      await this.onPiece?.({ key, number, bytes, signal })
      if (this.releasesChunks) for (let turn = 0; turn < 3; turn++) await setImmediate()
      const stored = this.releasesChunks ? Buffer.from(piece) : piece
      kept.push(stored)
      yield stored
    }
  }
}

/** Waits for the signal alone, as a request does that nobody answers. */
export function forever(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    if (signal?.aborted) reject(signal.reason as Error)
    signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })
}

/** Everything that is ready to happen has happened: a few turns, as streams and the pool of libuv take more than one. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await setImmediate()
}

/** Runs `use`, and a while longer: no promise may fail that nobody waits for. */
export async function withNothingUnhandled(use: () => Promise<void>): Promise<void> {
  const unhandled: unknown[] = []
  const note = (reason: unknown) => unhandled.push(reason)
  process.on('unhandledRejection', note)
  try {
    await use()
    await settle()
  } finally {
    process.off('unhandledRejection', note)
  }
  assert.deepEqual(unhandled, [])
}
