/** A contender while it runs. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Launch } from './contenders.ts'
import { endedChildrenCpu, MemorySampler } from './process-sampler.ts'

/** How long a contender that ends by itself may take after its last segment. */
const stopTimeoutMs = 20_000

/** What a contender cost. */
export interface ProcessCost {
  /** User and system time, its start included. */
  readonly cpuSeconds: number
  readonly rssBytes: number
  readonly commitBytes: number
}

/** One started contender. Only one may run at a time: its CPU time is read from the sum of all ended children. */
export class ContenderProcess implements AsyncDisposable {
  /** performance.now() at the start. */
  readonly startedAtMs: number
  /** Resolves with the reason when the process has ended. */
  readonly ended: Promise<string>
  readonly #child: ChildProcess
  readonly #endsByItself: boolean
  readonly #logPath: string
  readonly #sampler: MemorySampler
  readonly #cpuBefore: number
  #isRunning = true

  constructor({ command, args, environment, endsByItself }: Launch, stateDirectory: string) {
    this.#endsByItself = endsByItself ?? false
    this.#logPath = join(stateDirectory, 'log')
    const log = openSync(this.#logPath, 'a')
    this.#cpuBefore = endedChildrenCpu('self')
    this.startedAtMs = performance.now()
    this.#child = spawn(command, args, { stdio: ['ignore', log, log], env: environment, cwd: stateDirectory })
    closeSync(log)
    this.#sampler = new MemorySampler(this.#child.pid ?? -1)
    this.ended = new Promise((resolve) => {
      const settle = (reason: string) => {
        this.#isRunning = false
        resolve(reason)
      }
      this.#child.once('error', (error) => settle(error.message))
      this.#child.once('exit', (code, signal) => settle(signal ?? `exit status ${code}`))
    })
  }

  /** The last lines of its log. */
  get logTail(): string {
    return readFileSync(this.#logPath, 'utf8').slice(-2000)
  }

  /** Waits for its end, and stops it after this many milliseconds: true then. */
  async endsWithin(ms: number): Promise<boolean> {
    let isStopped = false
    const timer = setTimeout(() => {
      isStopped = true
      this.#child.kill('SIGKILL')
    }, ms)
    await this.ended
    clearTimeout(timer)
    return isStopped
  }

  /**
   * The cost up to its own end, or up to now where it doesn't end by itself. Such a process is killed, because the work
   * of a receiver after its last segment must not count (WAL-G continues for many seconds after a request to stop).
   * @param mayBeStopped true: an end by {@link endsWithin} is no failure
   */
  async finish(mayBeStopped = false): Promise<ProcessCost> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), this.#endsByItself ? stopTimeoutMs : 0)
    const end = await this.ended
    clearTimeout(timer)
    if (this.#endsByItself && !mayBeStopped && end !== 'exit status 0')
      throw new Error(`it ended with ${end}: ${this.logTail}`)
    return { cpuSeconds: endedChildrenCpu('self') - this.#cpuBefore, ...this.#sampler.stop() }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#sampler.stop()
    if (!this.#isRunning) return
    this.#child.kill('SIGKILL')
    await this.ended
  }
}
