/** SIGHUP from the start to the end: it never ends walrx, and one that comes before all is served is not lost. */
import type { Logger } from '../observe/log.ts'

/** See the file's header. */
export class Hangups {
  #listener: (() => void) | undefined
  #state: 'starting' | 'serving' | 'stopping' = 'starting'
  #wasEarly = false

  /**
   * Made before the configuration is read.
   * @param watch calls back at every SIGHUP
   */
  constructor(watch: (listener: () => void) => unknown, log: Logger) {
    watch(() => {
      if (this.#state === 'stopping') log.info('walrx stops: SIGHUP is ignored')
      else if (this.#listener) this.#listener()
      else this.#wasEarly = true
    })
  }

  /**
   * Calls back at every SIGHUP from now on, and at once where one has come before. Called once.
   * @returns ends that
   */
  readonly listen = (listener: () => void): (() => void) => {
    this.#listener = listener
    this.#state = 'serving'
    if (this.#wasEarly) listener()
    return () => (this.#state = 'stopping')
  }
}
