/** An archive that reports which cluster it has been found to belong to: before that, nothing may be deleted from it. */
import type { WriteCodec } from '../compression/codec.ts'
import { toWalrxError, type WalrxError } from '../primitives/errors.ts'
import type { Storage, StorageCallOptions } from '../storage/storage.ts'
import { WalArchive } from '../walg/wal/wal-archive.ts'

/** Learns how each attempt to bind the archive to the server's cluster has ended. */
export interface BindingObserver {
  /** The archive belongs to this cluster. */
  bound(): void
  /** It does not, or that could not be found out. */
  refused(error: WalrxError): void
}

/** See the file's header. */
export class WatchedArchive extends WalArchive {
  readonly #observer: BindingObserver | undefined

  constructor(storage: Storage, codec: WriteCodec, observer: BindingObserver | undefined) {
    super(storage, codec)
    this.#observer = observer
  }

  override async bindSystem(systemId: bigint, segmentSize: number, options?: StorageCallOptions): Promise<void> {
    try {
      await super.bindSystem(systemId, segmentSize, options)
    } catch (error) {
      this.#observer?.refused(toWalrxError(error))
      throw error
    }
    this.#observer?.bound()
  }
}
