/** Reports that requests wait for the store: in the log, and to the progress bar of the command. */
import type { Logger } from '../../observe/log.ts'
import type { StorageTrouble } from '../../storage/storage.ts'

/** See the file's header. */
export class StoreWaits {
  readonly #log: Logger
  #sinceMs: number | undefined

  constructor(log: Logger) {
    this.#log = log
  }

  /** Seconds that requests have waited so far; undefined while none waits. */
  get seconds(): number | undefined {
    return this.#sinceMs === undefined ? undefined : Math.round((performance.now() - this.#sinceMs) / 1000)
  }

  /** To be given to the storage. */
  readonly onTrouble = (trouble: StorageTrouble): void => {
    if (trouble.kind === 'waiting') {
      this.#sinceMs ??= performance.now() - trouble.forMs
      this.#log.warn('waiting for the store', {
        error: trouble.reason,
        waitedMs: Math.round(trouble.forMs),
        givesUpAfterMs: Math.round(trouble.leftMs),
      })
    } else if (trouble.kind === 'over') {
      this.#sinceMs = undefined
      if (trouble.hasSucceeded) this.#log.info('the store answers again', { waitedMs: Math.round(trouble.forMs) })
    } else this.#log.warn('the store refused the keys: they are read again', { error: trouble.reason })
  }
}
