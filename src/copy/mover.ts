/** Copies single objects, several at a time, and counts them. */
import type { ObjectInfo, Storage } from '../storage/storage.ts'
import type { StoredObject } from '../walg/stored/object-sum.ts'
import { copyObject, type CopyOutcome, heldBytesMax } from '../walg/stored/transfer/stored-copy.ts'
import type { CopyPool } from './copy-pool.ts'

/** Memory of a streamed object: blocks of a multipart upload, of which three are there at a time (s3-upload.ts). */
const streamedBytes = 24 * 1024 * 1024

/** What {@link Mover} works with. */
export interface MoverOptions {
  readonly source: Storage
  readonly target: Storage
  readonly pool: CopyPool
  /** Called with the bytes that came from the source so far. */
  readonly onProgress: (bytes: number) => void
}

/** See the file's header. */
export class Mover {
  readonly #options: MoverOptions
  #bytesRead = 0
  /** Objects that were copied. */
  objects = 0
  /** Their bytes as stored. */
  bytes = 0

  constructor(options: MoverOptions) {
    this.#options = options
  }

  /** Begins to copy an object when there is room for it. The result comes when it is stored and proved. */
  async begin(
    info: ObjectInfo,
    expected?: Pick<StoredObject, 'size' | 'crc32c'>,
  ): Promise<{ readonly outcome: Promise<CopyOutcome> }> {
    const { pool, source, target } = this.#options
    const { promise, resolve, reject } = Promise.withResolvers<CopyOutcome>()
    promise.catch(() => {})
    const held = info.size <= heldBytesMax ? info.size : streamedBytes
    await pool.begin(held, async (signal) => {
      try {
        const onBytes = (bytes: number) => this.#options.onProgress((this.#bytesRead += bytes))
        const outcome = await copyObject({ source, target, info, expected, signal, onBytes })
        if (outcome === 'copied') {
          this.objects++
          this.bytes += info.size
        }
        resolve(outcome)
      } catch (error) {
        reject(error as Error)
        throw error
      }
    })
    return { outcome: promise }
  }

  /** The same, to its end. */
  async move(info: ObjectInfo): Promise<CopyOutcome> {
    return (await this.begin(info)).outcome
  }
}
