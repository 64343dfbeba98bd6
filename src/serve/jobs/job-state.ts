/** The file with the state of one cluster's jobs. It is replaced as a whole, so that a crash leaves the old one or the new one. */
import { mkdir, open, readFile, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../../observe/log.ts'
import { toWalrxError } from '../../primitives/errors.ts'
import type { JobName } from '../configuration/shape.ts'
import type { JobRecord } from './job-record.ts'
import { parseRecords } from './read-records.ts'

/** Records by the names of jobs. */
export type JobRecords = Readonly<Partial<Record<JobName, JobRecord>>>

/** See the file's header. */
export class JobState {
  readonly #path: string
  readonly #log: Logger
  #writing: Promise<void> = Promise.resolve()
  #wanted: JobRecords | undefined
  #hasFailed = false

  /** @param directory of the states, which is there */
  constructor(directory: string, cluster: string, log: Logger) {
    this.#path = join(directory, `${cluster}.json`)
    this.#log = log
  }

  /**
   * Reads the file; nothing where there is none. A file that is no state is moved aside.
   * @throws the error of the system call for a file that cannot be read
   */
  async read(): Promise<JobRecords> {
    let text: string
    try {
      text = await readFile(this.#path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
      throw error
    }
    const records = parseRecords(text)
    if (records) return records
    const aside = `${this.#path}.damaged`
    await rename(this.#path, aside)
    this.#log.warn('the state of the jobs cannot be understood: it begins again, and nothing counts as missed', {
      file: aside,
    })
    return {}
  }

  /** Writes the records, after what is being written; of several that wait the last one. Never throws. */
  write(records: JobRecords): Promise<void> {
    this.#wanted = records
    this.#writing = this.#writing.then(() => this.#writeWanted())
    return this.#writing
  }

  async #writeWanted(): Promise<void> {
    const records = this.#wanted
    if (!records) return
    this.#wanted = undefined
    try {
      const next = `${this.#path}.new`
      await using file = await open(next, 'w', 0o600)
      await file.writeFile(`${JSON.stringify({ version: 1, jobs: records }, undefined, 1)}\n`)
      await file.sync()
      await rename(next, this.#path)
      this.#hasFailed = false
    } catch (error) {
      // Jobs go on: what is lost is known by their next end. Once is enough to say it.
      if (!this.#hasFailed) {
        this.#log.error('the state of the jobs cannot be written: after a restart they may run again', {
          file: this.#path,
          error: toWalrxError(error),
        })
      }
      this.#hasFailed = true
    }
  }
}

/**
 * Makes the directory of the states in one that is there: below /proc, Node would try for ever to make all of a path.
 * Throws the error of the system call.
 */
export async function makeStateDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST' && (await stat(path)).isDirectory()
    if (!isThere) throw error
  }
}
