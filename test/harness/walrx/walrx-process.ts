/** `walrx` as its users run it: a process of its own, with its log read line by line. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const mainFile = fileURLToPath(new URL('../../../src/main.ts', import.meta.url))

/** One line of the JSON log. */
export interface LogLine {
  readonly level: string | number
  readonly msg: string
  readonly [field: string]: unknown
}

/** How a process ended. */
export interface ProcessEnd {
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Options of {@link startWalrx}. */
export interface WalrxOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
}

/**
 * How long a line or the end of a command is waited for. Whoever waited for ever would keep the test process, with all
 * that it has started, far beyond its test.
 */
const patienceMs = 100_000

/** The variables that tests must not inherit from their environment. */
function cleanEnvironment(): Record<string, string> {
  const kept = Object.entries(process.env).filter(([name]) => !/^(WALG_|WALE_|WALRX_|PG|AWS_|S3_|NODE_TEST)/.test(name))
  return Object.fromEntries(kept) as Record<string, string>
}

/** A running walrx. */
export class WalrxProcess implements AsyncDisposable {
  readonly child: ChildProcess
  readonly lines: LogLine[] = []
  #stdout = ''
  #stderr = ''
  readonly #watchers = new Set<() => void>()
  readonly ended: Promise<ProcessEnd>

  constructor(args: readonly string[], options: WalrxOptions = {}) {
    this.child = spawn(process.execPath, [mainFile, ...args], {
      env: { ...cleanEnvironment(), WALRX_STATUS_LISTEN: 'off', ...options.env },
      cwd: options.cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const { stdout, stderr } = this.child
    stdout?.on('data', (chunk: Buffer) => (this.#stdout += chunk.toString()))
    if (stderr) createInterface({ input: stderr }).on('line', (line) => this.#onLine(line))
    this.ended = once(this.child, 'close').then(([status, signal]) => {
      const end = { status: status as number | null, signal: signal as NodeJS.Signals | null }
      return { ...end, stdout: this.#stdout, stderr: this.#stderr }
    })
    void this.ended.then(() => this.#wake())
  }

  /** Everything written to stderr so far. */
  get stderr(): string {
    return this.#stderr
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null
  }

  /**
   * Resolves with the first log line, from `from` on, that matches; rejects when the process ends first or it is late.
   */
  async logged(matches: string | ((line: LogLine) => boolean), from = 0): Promise<LogLine> {
    const isMatch = typeof matches === 'string' ? (line: LogLine) => line.msg === matches : matches
    const deadline = performance.now() + patienceMs
    for (let next = from; ;) {
      for (; next < this.lines.length; next++) {
        const line = this.lines[next] as LogLine
        if (isMatch(line)) return line
      }
      if (this.hasEnded) throw new Error(`walrx ended before it logged ${String(matches)}:\n${this.#stderr}`)
      const leftMs = deadline - performance.now()
      if (leftMs <= 0) throw new Error(`walrx has not logged ${String(matches)}:\n${this.#stderr.slice(-4000)}`)
      await this.#output(leftMs)
    }
  }

  /** Resolves when there is something new, or after a time. */
  async #output(atMostMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#watchers.add(resolve)
    const timer = setTimeout(resolve, atMostMs)
    await promise
    clearTimeout(timer)
  }

  /** Sends a signal and waits for the end. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<ProcessEnd> {
    this.child.kill(signal)
    return this.ended
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.hasEnded) await this.stop('SIGKILL')
  }

  #onLine(text: string): void {
    this.#stderr += `${text}\n`
    try {
      this.lines.push(JSON.parse(text) as LogLine)
    } catch {
      // Not every line is JSON: an error before the log is set up is for people.
    }
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#watchers) wake()
    this.#watchers.clear()
  }
}

/** Starts walrx with JSON logs. */
export function startWalrx(args: readonly string[], options: WalrxOptions = {}): WalrxProcess {
  return new WalrxProcess(args, { ...options, env: { WALRX_LOG_FORMAT: 'json', ...options.env } })
}

/** Runs a command to its end. One that hangs is killed: its status is null. */
export async function runWalrx(args: readonly string[], options: WalrxOptions = {}): Promise<ProcessEnd> {
  const walrx = startWalrx(args, options)
  const timer = setTimeout(() => walrx.child.kill('SIGKILL'), patienceMs)
  const end = await walrx.ended
  clearTimeout(timer)
  return end
}
