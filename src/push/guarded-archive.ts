/**
 * An archive as an archive_command sees it: of which cluster it is, and whether it may be written to. A receiver finds that
 * out once, at its start; here it is found out when it is first needed, and remembered (see known-archive.ts).
 */
import type { WriteCodec } from '../compression/codec.ts'
import type { Logger } from '../observe/log.ts'
import type { Clock } from '../primitives/clock.ts'
import { toWalrxError, WalrxError } from '../primitives/errors.ts'
import type { Storage } from '../storage/storage.ts'
import type { StorageTraits } from '../storage/storage.ts'
import { systemKey } from '../walg/names.ts'
import type { BoundCluster } from '../walg/wal/system-binding.ts'
import { readSystem } from '../walg/wal/system-marker.ts'
import { WalArchive } from '../walg/wal/wal-archive.ts'
import { type ArchiveInUse, type Knowledge, noteKnown, readKnown } from './known-archive.ts'

/** What {@link GuardedArchive} needs. */
export interface GuardedArchiveOptions {
  readonly storage: Storage
  readonly codec: WriteCodec
  /** Names the archive among all: its location, and the endpoint of its store. */
  readonly identity: string
  /** Where what is found out is kept for the next process; undefined: nowhere. */
  readonly knowledgePath: string | undefined
  readonly log: Logger
  readonly clock: Pick<Clock, 'now'>
}

/** See the file's header. */
export class GuardedArchive {
  readonly archive: WalArchive
  readonly #options: GuardedArchiveOptions
  #known: Promise<Knowledge | undefined> | undefined
  #belongs: Promise<void> | undefined
  /** What the archive is bound to, as soon as that is known. */
  #bound: BoundCluster | undefined
  #writable: Promise<void> | undefined
  /** What a probe has found, until it is noted. */
  #found: StorageTraits | undefined

  constructor(options: GuardedArchiveOptions) {
    this.#options = options
    this.archive = new WalArchive(options.storage, options.codec)
  }

  /**
   * Checks that the archive is of this cluster, or of none yet; writes nothing.
   * @throws WALRX_OTHER_CLUSTER, and what the storage says
   */
  belongsTo(cluster: BoundCluster, signal: AbortSignal): Promise<void> {
    const check = async () => {
      const known = (await this.#knowledge(signal))?.cluster
      if (known?.systemId === cluster.systemId && known.segmentSize === cluster.segmentSize) this.#bound = known
      else {
        // Loaded here, because only the first call needs it.
        const { checkSystem } = await import('../walg/wal/system-binding.ts')
        const found = await checkSystem(this.#options.storage, this.archive, cluster, { signal })
        if (found === 'bound') this.#bound = cluster
      }
    }
    return (this.#belongs ??= this.#orAgain(check(), () => (this.#belongs = undefined)))
  }

  /**
   * The same for a file in which no segment size is: a history, a backup label.
   * @param systemId of the server; undefined where it is unknown, and then nothing is checked
   */
  async belongsToSystem(systemId: bigint | undefined, signal: AbortSignal): Promise<void> {
    const { storage } = this.#options
    if (systemId !== undefined && (await this.#knowledge(signal))?.cluster.systemId === systemId) return
    const bound = systemId === undefined ? undefined : await readSystem(storage, { signal })
    if (!bound || bound.systemId === systemId) return
    throw new WalrxError(
      'WALRX_OTHER_CLUSTER',
      `${storage.location} belongs to the cluster with system identifier ${bound.systemId}, this server's is ${systemId}`,
      { hint: 'give each cluster a prefix of its own; after initdb or pg_upgrade, use a new prefix' },
    )
  }

  /**
   * Called before the first write: proves that conditional puts work and that the keys fit, unless that is known; then
   * binds the archive to the cluster, where it is bound to none.
   * @param cluster undefined for a file that says nothing of it
   * @throws WALRX_KEY_MISSING, WALRX_KEY_WRONG, WALRX_OTHER_CLUSTER, and what the storage says
   */
  async makeWritable(cluster: BoundCluster | undefined, signal: AbortSignal): Promise<void> {
    await (this.#writable ??= this.#orAgain(this.#prove(signal), () => (this.#writable = undefined)))
    if (cluster && !this.#bound) {
      await this.archive.bindSystem(cluster.systemId, cluster.segmentSize, { signal })
      this.#bound = cluster
    }
    const traits = this.#found
    if (!traits || !this.#bound) return
    this.#found = undefined
    await this.#note({ cluster: this.#bound, traits }, signal)
  }

  async #prove(signal: AbortSignal): Promise<void> {
    const { storage } = this.#options
    const known = await this.#knowledge(signal)
    if (known) return storage.assumeTraits?.(known.traits)
    const { checkKeys } = await import('../walg/wal/key-check.ts')
    this.#found = await storage.probe({ signal })
    await checkKeys(storage, { signal })
  }

  /** What an earlier process has found out. */
  #knowledge(signal: AbortSignal): Promise<Knowledge | undefined> {
    const { knowledgePath: path } = this.#options
    if (path === undefined) return Promise.resolve(undefined)
    const read = async () => readKnown(path, await this.#inUse(signal))
    return (this.#known ??= this.#orAgain(read(), () => (this.#known = undefined)))
  }

  /** For the next process. The archive has its marker by now. */
  async #note(knowledge: Knowledge, signal: AbortSignal): Promise<void> {
    const { knowledgePath: path, log } = this.#options
    if (path === undefined) return
    try {
      await noteKnown(path, await this.#inUse(signal), knowledge)
    } catch (error) {
      log.debug('what was found out about the archive cannot be kept', { file: path, error: toWalrxError(error) })
    }
  }

  async #inUse(signal: AbortSignal): Promise<ArchiveInUse> {
    const { clock, identity, storage } = this.#options
    const marker = await storage.head(systemKey, { signal })
    return { identity, keyring: storage.keyring, marker, nowMs: clock.now() }
  }

  /** Forgets a failure: the next caller tries again. */
  #orAgain<T>(promise: Promise<T>, forget: () => void): Promise<T> {
    promise.catch(forget)
    return promise
  }
}
