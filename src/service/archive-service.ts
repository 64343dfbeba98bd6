/**
 * The archive service of one cluster: receives its WAL, watches its slot, takes a base backup after a gap, and shows its
 * state. It shares nothing but what its settings give it, so several can run in one process; each is opened, run and
 * closed as a whole.
 */
import { openCodec, openStorage, type StorageValues } from '../config/open-storage.ts'
import type { ClusterMetrics } from '../observe/cluster-metrics.ts'
import { PgServer, type PgServerOptions } from '../postgres/connect/connection.ts'
import { bytesBetween, formatLsn } from '../postgres/lsn.ts'
import { toWalrxError, type WalrxError } from '../primitives/errors.ts'
import { orAborted } from '../primitives/wait.ts'
import { MemoryShare } from '../receive/memory-budget.ts'
import { Receiver, type ReceiverSnapshot } from '../receive/receiver.ts'
import type { Readiness } from '../status/server.ts'
import type { Storage } from '../storage/storage.ts'
import { checkKeys } from '../walg/wal/key-check.ts'
import type { WalArchive } from '../walg/wal/wal-archive.ts'
import { GapBackup } from './gap-backup.ts'
import { untilKeysAnswer } from './key-patience.ts'
import { metered, setGauges } from './metered.ts'
import type { ServiceSettings } from './service-settings.ts'
import { SlotCare } from './slot-care.ts'
import { WatchedArchive } from './watched-archive.ts'

/** Options of {@link ArchiveService.open}. */
export interface OpenServiceOptions {
  /** Gives the start up: what was opened is closed. */
  readonly signal?: AbortSignal
  /** Opens the storage; default by its values. */
  readonly openStorage?: (values: StorageValues) => Promise<Storage>
}

/** What was opened for a service. */
interface Opened {
  readonly storage: Storage
  readonly archive: WalArchive
  readonly metrics: ClusterMetrics
}

/** See the file's header. */
export class ArchiveService implements AsyncDisposable {
  /** See {@link ServiceSettings.cluster}. */
  readonly cluster: string
  readonly #storage: Storage
  readonly #metrics: ClusterMetrics
  readonly #slotCare: SlotCare | undefined
  readonly #gapBackup: GapBackup | undefined
  readonly #receiver: Receiver
  readonly #memory: MemoryShare
  /** Aborts when the receiver is to finish. */
  readonly #stop = new AbortController()
  #running: Promise<void> | undefined
  #closed: Promise<void> | undefined
  #failure: WalrxError | undefined

  private constructor(settings: ServiceSettings, { archive, metrics, storage }: Opened) {
    this.cluster = settings.cluster
    this.#storage = storage
    this.#metrics = metrics
    const { allowStandby, clock, conninfo, log, random, slot, tailPace } = settings
    const open = (options: Partial<PgServerOptions>) => new PgServer({ conninfo, log, clock, random, ...options })
    const server = open({ acceptStandby: allowStandby })
    const { isSynchronous } = tailPace
    this.#slotCare = slot && new SlotCare({ slot, server, isSynchronous, clock, random, log, metrics })
    this.#gapBackup = this.#openGapBackup(settings)
    this.#memory = new MemoryShare(settings.memoryBytes)
    this.#receiver = new Receiver({
      server,
      archive,
      clock,
      random,
      log,
      meter: metered(metrics),
      slot: slot?.name,
      allowStandby,
      memoryBytes: settings.memoryBytes,
      memory: this.#memory,
      uploadConcurrency: settings.uploadConcurrency,
      endpos: settings.endpos,
      drainTimeoutMs: settings.drainTimeoutMs,
      tailPace,
      syncOutageMs: settings.syncOutageMs,
      onGap: () => void this.#gapBackup?.look(),
      // All hosts, standbys too and whatever target_session_attrs says, to look around in.
      everyHost: conninfo.hosts.length > 1 ? open({ anyHost: true }) : undefined,
      ...(this.#slotCare && { watch: this.#slotCare.watch, guard: this.#slotCare.guard }),
    })
    metrics.onRead = () => setGauges(metrics, this.#receiver.snapshot())
  }

  /**
   * Opens the archive and proves that it can be written to, with the keys that are set; connects to no server yet. Whatever
   * goes wrong, nothing of it is left open.
   * @throws WALRX_USAGE for settings that contradict each other, WALRX_KEY_MISSING, WALRX_KEY_WRONG and
   * WALRX_KEY_UNAVAILABLE for keys that don't fit the archive, what the storage says, the signal's reason
   */
  static async open(settings: ServiceSettings, options: OpenServiceOptions = {}): Promise<ArchiveService> {
    const { clock, cluster, compression, log, metrics, random } = settings
    const signal = options.signal ?? new AbortController().signal
    const codec = openCodec(compression)
    const storage = await (options.openStorage ?? openStorage)(settings.storage)
    const patience = { clock, random, log, signal }
    try {
      await untilKeysAnswer(async () => storage.keyring?.keys(), patience)
      const traits = await orAborted(storage.probe({ signal }), signal)
      if (!traits.conditionalPut) {
        log.warn('the storage has no conditional put: walrx looks up a name before it writes it', {
          location: storage.location,
          hint: 'run only one receiver for this archive, or use a storage that knows If-None-Match',
        })
      }
      if (traits.listingProblem !== undefined) {
        log.warn(`listings of the storage are not as S3 promises: ${traits.listingProblem}`, {
          location: storage.location,
          hint: 'walrx lists in another way there, with more requests: see "What a store must be able to do" in docs/operations.md',
        })
      }
      await untilKeysAnswer(() => checkKeys(storage, { reader: 'wal-receive', signal }), patience)
      const archive = new WatchedArchive(storage, codec, settings.binding)
      const ofCluster = metrics.addCluster(cluster)
      try {
        return new ArchiveService(settings, { storage, archive, metrics: ofCluster })
      } catch (error) {
        ofCluster.close()
        throw error
      }
    } catch (error) {
      await storage.close()
      throw error
    }
  }

  /**
   * Receives until `endpos` is durable, a signal stops it, or the service is closed. Called once.
   * @param drain finish: stop receiving, archive what is whole, acknowledge, return
   * @param now drop everything
   * @throws as {@link Receiver.run} does
   */
  run(drain: AbortSignal, now: AbortSignal): Promise<void> {
    // A service that was closed before it ran has nothing to do.
    if (this.#closed) return this.#running ?? Promise.resolve()
    this.#running ??= this.#run(drain, now)
    return this.#running
  }

  /**
   * Changes the memory for WAL while it receives; the stream goes on.
   * @throws WALRX_USAGE when it does not hold two segments of the server
   */
  resizeMemory(memoryBytes: number): void {
    this.#memory.resize(memoryBytes)
  }

  /** Gives memory for WAL back that was of no use since the last time. */
  trimMemory(): void {
    this.#memory.trim()
  }

  /** The state of the service. Ready means: WAL is streaming and a buffer is free for more of it. */
  readiness(): Readiness {
    const snapshot = this.#receiver.snapshot()
    if (this.#failure) return { ready: false, reason: this.#failure.message, details: detailsOf(snapshot) }
    if (this.#closed) return { ready: false, reason: 'the receiver is stopped', details: detailsOf(snapshot) }
    return readinessOf(snapshot)
  }

  /**
   * Finishes as at `drain` and frees everything: connections, timers, the backup under way, the storage, the metrics. An
   * error of the run goes to the caller of {@link run}. May be called at any time, and twice.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #run(drain: AbortSignal, now: AbortSignal): Promise<void> {
    const onDrain = () => this.#stop.abort()
    drain.addEventListener('abort', onDrain, { once: true })
    if (drain.aborted) onDrain()
    try {
      // For a gap after which an earlier run has not taken its backup.
      void this.#gapBackup?.look()
      await this.#receiver.run(this.#stop.signal, now)
    } catch (error) {
      this.#failure = toWalrxError(error)
      throw error
    } finally {
      drain.removeEventListener('abort', onDrain)
      await this.#slotCare?.close()
      await this.#gapBackup?.close()
    }
  }

  async #close(): Promise<void> {
    this.#stop.abort()
    await this.#running?.catch(() => {})
    await this.#slotCare?.close()
    await this.#gapBackup?.close()
    this.#metrics.close()
    await this.#storage.close()
  }

  #openGapBackup({ clock, gapBackup, log, random }: ServiceSettings): GapBackup | undefined {
    return (
      gapBackup &&
      new GapBackup({
        ...gapBackup,
        storage: this.#storage,
        clock,
        random,
        log,
        onEnd: (outcome) => this.#metrics.gapBackups.inc(1, { outcome }),
        signal: this.#stop.signal,
      })
    )
  }
}

function readinessOf(snapshot: ReceiverSnapshot): Readiness {
  const details = detailsOf(snapshot)
  if (snapshot.state !== 'streaming') {
    return { ready: false, reason: snapshot.lastError ?? `the receiver is ${snapshot.state}`, details }
  }
  if (snapshot.poolFree === 0)
    return { ready: false, reason: 'no segment buffer is free: the storage is too slow or out', details }
  return { ready: true, details }
}

function detailsOf(snapshot: ReceiverSnapshot): Readonly<Record<string, unknown>> {
  const { durableLsn, receivedLsn, serverEnd } = snapshot
  return {
    ...snapshot,
    receivedLsn: formatLsn(receivedLsn),
    durableLsn: formatLsn(durableLsn),
    serverEnd: formatLsn(serverEnd),
    lagBytes: Math.max(0, bytesBetween(durableLsn, serverEnd)),
  }
}
