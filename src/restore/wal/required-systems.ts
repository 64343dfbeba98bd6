/** The cluster that WAL must come from: the recovering server's own, which the archive must be bound to. */
import type { Logger } from '../../observe/log.ts'
import { readSystemIdentifier } from '../../postgres/system-identifier.ts'
import { hasCode } from '../../primitives/errors.ts'
import type { Storage } from '../../storage/storage.ts'
import { readSystem } from '../../walg/wal/system-marker.ts'
import type { RequiredSystem } from './segment-check.ts'

/** Options of {@link RequiredSystems}. */
export interface RequiredSystemsOptions {
  readonly storage: Storage
  /** Default: the working directory, which PostgreSQL makes the data directory for a restore_command. */
  readonly dataDir?: string
  readonly log: Logger
}

/** Reads the identifiers once; after a failure of the storage it reads them again. */
export class RequiredSystems {
  readonly #options: RequiredSystemsOptions
  #known: readonly RequiredSystem[] | undefined

  constructor(options: RequiredSystemsOptions) {
    this.#options = options
  }

  /** The system identifiers that a segment must have. Throws what the storage throws. */
  async get(signal: AbortSignal): Promise<readonly RequiredSystem[]> {
    if (this.#known) return this.#known
    const systems: RequiredSystem[] = []
    const own = await readServerSystemId(this.#options.dataDir ?? '.')
    if (own !== undefined) systems.push({ systemId: own, source: 'the server has' })
    const bound = await this.#readMarker(signal)
    if (bound !== undefined) systems.push({ systemId: bound, source: 'the archive is bound to' })
    this.#known = systems
    return systems
  }

  /** A damaged marker must not prevent a recovery. */
  async #readMarker(signal: AbortSignal): Promise<bigint | undefined> {
    try {
      return (await readSystem(this.#options.storage, { signal }))?.systemId
    } catch (error) {
      if (!hasCode(error, 'WALRX_OBJECT_DAMAGED')) throw error
      this.#options.log.warn("the archive's system marker is damaged: not checking the archive's system identifier", {
        error,
      })
      return undefined
    }
  }
}

/** The system identifier of the data directory; undefined where it cannot be read. */
export async function readServerSystemId(dataDir: string): Promise<bigint | undefined> {
  return readSystemIdentifier(dataDir).catch(() => undefined)
}
