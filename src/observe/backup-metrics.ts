/**
 * Metrics of a backup, in a file for the textfile collector of Prometheus's node exporter: a command that ends has no
 * page of its own to scrape.
 */
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { Gauge, Registry } from 'prom-client'

/** The list. All are gauges: they describe one backup, the running one or the last one. */
export const backupMetricSpecs = {
  running: { type: 'gauge', name: 'walrx_backup_running', help: '1 while a backup is being taken, else 0' },
  success: {
    type: 'gauge',
    name: 'walrx_backup_success',
    help: '1 when the last backup that ended is complete, else 0',
  },
  startTime: {
    type: 'gauge',
    name: 'walrx_backup_start_time_seconds',
    help: 'Start of the backup, in seconds since the epoch',
  },
  lastSuccessTime: {
    type: 'gauge',
    name: 'walrx_backup_last_success_time_seconds',
    help: 'End of the last complete backup, in seconds since the epoch; 0 for never',
  },
  duration: {
    type: 'gauge',
    name: 'walrx_backup_duration_seconds',
    help: 'Seconds since the start of the backup, at its end the whole time',
  },
  receivedBytes: { type: 'gauge', name: 'walrx_backup_received_bytes', help: 'Bytes that the server has sent' },
  expectedBytes: {
    type: 'gauge',
    name: 'walrx_backup_expected_bytes',
    help: "The server's estimate of the bytes that it will send",
  },
  storedBytes: { type: 'gauge', name: 'walrx_backup_stored_bytes', help: 'Bytes of the stored tars' },
  files: { type: 'gauge', name: 'walrx_backup_files_count', help: 'Files in the backup' },
  checksumFailures: {
    type: 'gauge',
    name: 'walrx_backup_damaged_files_count',
    help: 'Files in which the server found damaged pages',
  },
} as const

/** How often the file is written while a backup runs. */
const writeMs = 10_000

/** The values that a finished backup adds. */
export interface FinishedBackup {
  readonly storedBytes: number
  readonly files: number
  readonly damagedFiles: number
}

/** The file, from the beginning of a backup to its end. */
export class BackupMetricsFile {
  readonly #path: string
  readonly #now: () => number
  readonly #onFailure: (error: Error) => void
  readonly #registry = new Registry()
  readonly #gauges: { readonly [K in keyof typeof backupMetricSpecs]: Gauge }
  readonly #startedAt: number
  #writtenAt = -Infinity
  #writing: Promise<void> = Promise.resolve()

  private constructor(path: string, now: () => number, onFailure: (error: Error) => void) {
    this.#path = path
    this.#now = now
    this.#onFailure = onFailure
    this.#startedAt = now()
    const entries = Object.entries(backupMetricSpecs).map(
      ([key, { help, name }]) => [key, new Gauge({ name, help, registers: [this.#registry] })] as const,
    )
    this.#gauges = Object.fromEntries(entries) as { [K in keyof typeof backupMetricSpecs]: Gauge }
  }

  /**
   * Begins a backup: reads the time of the last good one from an earlier file, and writes the new file.
   * @param now milliseconds since the epoch
   * @param onFailure called when the file cannot be written: the backup continues without it
   */
  static async begin(path: string, now: () => number, onFailure: (error: Error) => void): Promise<BackupMetricsFile> {
    const file = new BackupMetricsFile(path, now, onFailure)
    const before = await readFile(path, 'utf8').catch(() => '')
    file.#gauges.lastSuccessTime.set(valueIn(before, backupMetricSpecs.lastSuccessTime.name))
    file.#gauges.success.set(valueIn(before, backupMetricSpecs.success.name))
    file.#gauges.startTime.set(file.#startedAt / 1000)
    file.#gauges.running.set(1)
    await file.#write()
    return file
  }

  /** Sets the progress; the file is written at most every ten seconds. */
  progress(receivedBytes: number, expectedBytes: number | undefined): void {
    this.#gauges.receivedBytes.set(receivedBytes)
    this.#gauges.expectedBytes.set(expectedBytes ?? receivedBytes)
    if (this.#now() - this.#writtenAt < writeMs) return
    this.#writtenAt = this.#now()
    this.#writing = this.#writing.then(() => this.#write())
  }

  /** Ends the backup. @param finished undefined for a backup that failed */
  async end(finished: FinishedBackup | undefined): Promise<void> {
    this.#gauges.running.set(0)
    this.#gauges.success.set(finished ? 1 : 0)
    if (finished) {
      this.#gauges.lastSuccessTime.set(this.#now() / 1000)
      this.#gauges.storedBytes.set(finished.storedBytes)
      this.#gauges.files.set(finished.files)
      this.#gauges.checksumFailures.set(finished.damagedFiles)
    }
    await this.#writing
    await this.#write()
  }

  /** Writes another name first, because the collector may read at any time. */
  async #write(): Promise<void> {
    this.#writtenAt = this.#now()
    this.#gauges.duration.set((this.#now() - this.#startedAt) / 1000)
    const temporary = `${this.#path}.${process.pid}.tmp`
    try {
      await writeFile(temporary, await this.#registry.metrics(), { mode: 0o644 })
      await rename(temporary, this.#path)
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {})
      this.#onFailure(error as Error)
    }
  }
}

function valueIn(text: string, name: string): number {
  const value = Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
  return Number.isFinite(value) ? value : 0
}
