/** The life of `walrx serve`: from a configuration to the stop, with every configuration that is read in between. */
import type { ServiceNotice } from '../daemon/service-notice.ts'
import { toWalrxError, type WalrxError } from '../primitives/errors.ts'
import { parseListenAddress, StatusServer } from '../status/server.ts'
import { mistakeLine } from './configuration/mistakes.ts'
import type { Configuration, ReadOutcome } from './configuration/read-configuration.ts'
import { Fleet, type FleetOptions } from './fleet.ts'
import { fleetReadiness } from './fleet-status.ts'
import { lockState } from './state-lock.ts'

/** What {@link serve} needs. */
export interface ServeOptions extends FleetOptions {
  /** Path of the configuration, as it was given. */
  readonly path: string
  readonly configuration: Configuration
  /** Reads the configuration again. */
  readonly load: () => Promise<ReadOutcome>
  /** Aborts at the first signal to stop: finish. */
  readonly drain: AbortSignal
  /** Aborts at the second: drop everything. */
  readonly now: AbortSignal
  /** Calls back at every SIGHUP. Returns what ends that. */
  readonly onHangup: (listener: () => void) => () => void
  readonly notice: ServiceNotice
}

/**
 * Serves until a signal stops it.
 * @throws WALRX_USAGE, WALRX_SYSTEM for a state directory or an address that cannot be used; WALRX_DRAIN_INCOMPLETE
 */
export async function serve(options: ServeOptions): Promise<void> {
  const { configuration, drain, log, notice, now } = options
  const unlock = await lockState(configuration.stateDirectory)
  const serving = new Serving(options)
  let failure: WalrxError | undefined
  try {
    await serving.listen(configuration.listen)
    serving.start()
    const release = options.onHangup(() => serving.reload())
    log.info('serving', { clusters: configuration.clusters.length, configuration: options.path })
    notice.ready()
    try {
      if (!drain.aborted)
        await new Promise<void>((stopped) => drain.addEventListener('abort', () => stopped(), { once: true }))
    } finally {
      release()
    }
    notice.stopping()
    log.info('stopping: receivers archive what is whole, jobs clean up')
  } finally {
    failure = await serving.close(now)
    await unlock()
  }
  if (failure) throw failure
}

class Serving {
  readonly #options: ServeOptions
  readonly #fleet: Fleet
  #status: StatusServer | undefined
  #configuration: Configuration
  #loadedMs: number
  #mistakes = 0
  /** Configurations are applied one after the other. */
  #reloading: Promise<void> = Promise.resolve()
  #isAskedAgain = false

  constructor(options: ServeOptions) {
    this.#options = options
    this.#configuration = options.configuration
    this.#loadedMs = options.clock.now()
    this.#fleet = new Fleet(options, options.configuration)
  }

  start(): void {
    this.#fleet.start()
  }

  async listen(address: string): Promise<void> {
    const at = parseListenAddress(address)
    if (!at) return
    const { log, metrics, path } = this.#options
    this.#status = await StatusServer.open({
      ...at,
      readiness: () =>
        fleetReadiness(
          this.#fleet.snapshot(),
          { path, loadedMs: this.#loadedMs, mistakes: this.#mistakes },
          (cluster) => this.#fleet.secretsOf(cluster),
        ),
      metrics: () => metrics.read(),
    })
    log.info('the status page is open', { address: this.#status.url })
  }

  /** Reads the configuration again, after one that is being applied. */
  reload(): void {
    if (this.#isAskedAgain) return
    this.#isAskedAgain = true
    this.#reloading = this.#reloading.then(() => this.#reload())
  }

  async close(now: AbortSignal): Promise<WalrxError | undefined> {
    const failure = await this.#fleet.close(now)
    await this.#reloading
    await this.#status?.close()
    return failure
  }

  async #reload(): Promise<void> {
    this.#isAskedAgain = false
    const { clock, drain, load, log, notice, path } = this.#options
    if (drain.aborted) return
    log.info('reading the configuration again', { configuration: path })
    notice.reloading()
    try {
      const { configuration, mistakes } = await load()
      this.#mistakes = mistakes?.length ?? 0
      for (const mistake of mistakes ?? []) log.error(mistakeLine(path, mistake))
      if (!configuration)
        log.error('the configuration has mistakes: the old one stays in force', { mistakes: this.#mistakes })
      else if (!drain.aborted) {
        await this.#apply(configuration)
        this.#loadedMs = clock.now()
      }
    } catch (error) {
      log.error('the configuration cannot be read: the old one stays in force', { error: toWalrxError(error) })
    }
    notice.ready()
  }

  async #apply(configuration: Configuration): Promise<void> {
    const { log } = this.#options
    const before = this.#configuration
    const { stateDirectory } = before
    if (configuration.stateDirectory !== stateDirectory) {
      log.warn('another state directory counts from the next start of walrx on', { state: stateDirectory })
    }
    this.#configuration = { ...configuration, stateDirectory }
    await this.#fleet.apply(this.#configuration)
    if (configuration.listen === before.listen) return
    await this.#status?.close()
    this.#status = undefined
    await this.listen(configuration.listen).catch((error: unknown) => {
      log.error('there is no status page until the configuration is read again', { error: toWalrxError(error) })
    })
  }
}
