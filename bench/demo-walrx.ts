/** walrx as the demo runs it: the program of this checkout, as the user that the servers run as. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { serverIdentity } from '../test/harness/postgres/postgres-files.ts'

const main = findProgram()

/** What `walrx` stands for in the commands that the demo prints. */
export const walrxCommand = `node ${main}`

/** The compiled program, which starts faster, unless something in `src` is newer; then the source. */
function findProgram(): string {
  const source = fileURLToPath(new URL('../src', import.meta.url))
  const compiled = fileURLToPath(new URL('../dist/main.js', import.meta.url))
  const compiledMs = statSync(compiled, { throwIfNoEntry: false })?.mtimeMs ?? 0
  const files = readdirSync(source, { recursive: true, encoding: 'utf8' })
  const isStale = files.some((file) => statSync(join(source, file)).mtimeMs > compiledMs)
  return isStale ? join(source, 'main.ts') : compiled
}

/** Runs a command of walrx to its end; returns what it printed. */
export async function runWalrx(args: readonly string[], environment: NodeJS.ProcessEnv): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [main, ...args], {
    ...serverIdentity,
    env: environment,
    cwd: '/',
  })
  return stdout
}

/** One line of the log. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly msg: string }

/** A running `walrx wal-receive`. */
export class RunningReceiver implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #ended: Promise<number | string>
  readonly #lines: LogLine[] = []
  readonly #listeners: ((line: LogLine) => void)[] = []

  constructor(args: readonly string[], environment: NodeJS.ProcessEnv) {
    this.#child = spawn(process.execPath, [main, 'wal-receive', ...args], {
      ...serverIdentity,
      env: { ...environment, WALRX_LOG_FORMAT: 'json', WALRX_STATUS_LISTEN: '127.0.0.1:0' },
      cwd: '/',
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    // It must not outlive the demo, however that ends.
    process.once('exit', () => this.#child.kill('SIGKILL'))
    if (this.#child.stderr) createInterface(this.#child.stderr).on('line', (text) => this.#read(text))
    this.#ended = new Promise((resolve, reject) => {
      this.#child.once('error', reject)
      this.#child.once('exit', (code, signal) => resolve(signal ?? code ?? 0))
    })
    this.#ended.catch(() => {})
  }

  #read(text: string): void {
    const line = text.startsWith('{') ? (JSON.parse(text) as LogLine) : { msg: text }
    this.#lines.push(line)
    for (const listener of this.#listeners) listener(line)
  }

  /** Calls `listener` with every line from the first one on. */
  follow(listener: (line: LogLine) => void): void {
    for (const line of this.#lines) listener(line)
    this.#listeners.push(listener)
  }

  /** Resolves with the first line of that message, past ones included; rejects when walrx ends without it. */
  line(message: string): Promise<LogLine> {
    const found = new Promise<LogLine>((resolve) => {
      this.follow((line) => {
        if (line.msg === message) resolve(line)
      })
    })
    const ended = this.#ended.then((end) => {
      throw new Error(`walrx wal-receive ended with ${end}:\n${this.#lines.map(({ msg }) => msg).join('\n')}`)
    })
    return Promise.race([found, ended])
  }

  /** The value of a metric without labels but its cluster. */
  async metric(name: string): Promise<number> {
    const { address } = await this.line('the status page is open')
    const text = await (await fetch(`${String(address)}/metrics`)).text()
    return Number(new RegExp(`^${name}(?:\\{cluster="[^"]*"\\})? (\\S+)$`, 'm').exec(text)?.[1])
  }

  /** Asks it to finish; returns its exit status, or the signal that ended it. */
  async stop(): Promise<number | string> {
    this.#child.kill('SIGTERM')
    return this.#ended
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#ended.catch(() => {})
  }
}
