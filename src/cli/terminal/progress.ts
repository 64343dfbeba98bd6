/** Progress of a long command: a bar where somebody watches a terminal, log lines elsewhere. */
import type { SingleBar } from 'cli-progress'
import type { Logger } from '../../observe/log.ts'
import { durationText } from './duration-text.ts'
import type { StoreWaits } from './store-waits.ts'
import { canRedraw, type TerminalVariables } from './terminal-rules.ts'

/** A bar or its replacement. */
export interface Progress {
  /** @param total undefined where nobody knows */
  update(doneBytes: number, totalBytes: number | undefined): void
  /** Ends it; harmless twice. */
  stop(): void
}

/** Options of {@link openProgress}. */
export interface ProgressOptions {
  /** What is being done, one word. */
  readonly what: string
  /** Where the bar goes, if it is a terminal. */
  readonly stream: NodeJS.WritableStream & { readonly isTTY?: boolean }
  /** TERM says whether the terminal can show a bar. */
  readonly environment: TerminalVariables
  readonly log: Logger
  /** Where requests wait for the store, the bar shows for how long. */
  readonly waits?: StoreWaits
}

/** How often something is said at most. */
const barMs = 100
const logMs = 10_000
/** How often a bar shows for how long requests have waited. */
const waitMs = 1_000
const MB = 1e6

/** Nothing is shown before the first update. */
export async function openProgress(options: ProgressOptions): Promise<Progress> {
  if (!canRedraw(options.stream, options.environment)) return new LogLines(options)
  // Only a terminal needs it, and it takes a while to load.
  const progress = await import('cli-progress')
  return new Bar(options, progress.default)
}

class Bar implements Progress {
  readonly #options: ProgressOptions
  readonly #library: typeof import('cli-progress')
  #bar: SingleBar | undefined
  #shownAt = 0
  #refresh: NodeJS.Timeout | undefined
  readonly #begunAt = performance.now()

  constructor(options: ProgressOptions, library: typeof import('cli-progress')) {
    this.#options = options
    this.#library = library
  }

  update(doneBytes: number, totalBytes: number | undefined): void {
    const now = performance.now()
    if (this.#bar && now - this.#shownAt < barMs) return
    this.#shownAt = now
    const total = Math.max(totalBytes ?? 0, doneBytes) / MB
    if (!this.#bar) {
      this.#bar = new this.#library.SingleBar({
        format: `${this.#options.what} [{bar}] {percentage}% | {value} of {total} MB | {rate} MB/s | {rest}`,
        stream: this.#options.stream as NodeJS.WriteStream,
        formatValue: (value, _options, type) =>
          type === 'value' || type === 'total' ? value.toFixed(0) : String(value),
        hideCursor: true,
      })
      this.#bar.start(total, doneBytes / MB, { rate: '-', rest: '' })
      this.#refresh = setInterval(() => this.#showWait(), waitMs)
      this.#refresh.unref()
    }
    this.#bar.setTotal(total)
    const seconds = (now - this.#begunAt) / 1000
    // Of the first moment nothing follows.
    const isEarly = doneBytes === 0 || seconds < 1
    const left = (Math.max(0, total * MB - doneBytes) / doneBytes) * seconds
    const rest = this.#waitText() ?? (isEarly ? '' : `${durationText(left)} to go`)
    this.#bar.update(doneBytes / MB, { rate: isEarly ? '-' : (doneBytes / MB / seconds).toFixed(0), rest })
  }

  /** While requests wait no bytes come, and nothing else would show it. */
  #showWait(): void {
    const rest = this.#waitText()
    if (rest !== undefined) this.#bar?.update({ rest })
  }

  #waitText(): string | undefined {
    const seconds = this.#options.waits?.seconds
    return seconds === undefined ? undefined : `waiting for the store for ${durationText(seconds)}`
  }

  stop(): void {
    clearInterval(this.#refresh)
    this.#bar?.stop()
    this.#bar = undefined
  }
}

class LogLines implements Progress {
  readonly #options: ProgressOptions
  readonly #begunAt = performance.now()
  #saidAt = performance.now()

  constructor(options: ProgressOptions) {
    this.#options = options
  }

  update(doneBytes: number, totalBytes: number | undefined): void {
    const now = performance.now()
    if (now - this.#saidAt < logMs) return
    this.#saidAt = now
    const bytesPerSecond = Math.round(doneBytes / ((now - this.#begunAt) / 1000))
    const left = totalBytes === undefined ? undefined : Math.max(0, totalBytes - doneBytes)
    this.#options.log.info('progress', {
      what: this.#options.what,
      doneBytes,
      totalBytes,
      bytesPerSecond,
      secondsLeft: left === undefined || bytesPerSecond === 0 ? undefined : Math.round(left / bytesPerSecond),
    })
  }

  stop(): void {}
}
