/** Where the bench keeps its server, its builds and what the contenders write. */
import { mkdir, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Root of the checkout. */
export const checkout = dirname(dirname(fileURLToPath(import.meta.url)))

/** A directory of the bench's own; the prepared server in it is kept for the next run. */
export class WorkDirectory {
  readonly path: string

  constructor(path: string | undefined) {
    this.path = resolve(path ?? join(checkout, 'bench/.work'))
  }

  /** The path of something in it. */
  at(...names: string[]): string {
    return join(this.path, ...names)
  }

  /** An empty directory for one run. */
  async emptied(...names: string[]): Promise<string> {
    const path = this.at(...names)
    await rm(path, { recursive: true, force: true, maxRetries: 5 })
    await mkdir(path, { recursive: true })
    return path
  }

  /** A directory that is kept from run to run. */
  async made(...names: string[]): Promise<string> {
    await mkdir(this.at(...names), { recursive: true })
    return this.at(...names)
  }

  /** Removes something in it. */
  async remove(...names: string[]): Promise<void> {
    await rm(this.at(...names), { recursive: true, force: true, maxRetries: 5 })
  }
}
