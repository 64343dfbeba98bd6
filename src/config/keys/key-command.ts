/** Runs the command that prints keys. Nothing that it prints to standard output is in any message. */
import { type ChildProcess, spawn } from 'node:child_process'
import { trimKeyFile } from '../../crypto/libsodium/libsodium-key.ts'
import { redactForeignText } from '../../observe/redact.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { type KeyEnvironment, writingKeys } from './key-settings.ts'
import { keyBytesMax } from './key-text.ts'

/** How the command is called in messages: its text may hold a secret. */
const keyCommandLabel = writingKeys.keyCommand

/** How long it may take. */
const timeoutMs = 30_000

/** How long its output is waited for after its end, where something that it has left running holds the pipe open. */
const outputGraceMs = 1_000

/** What is kept of its standard error, in bytes: the end, where the reason mostly is. */
const saidBytesMax = 4096

/** What a message shows of that, in characters. */
const shownMax = 400

/** How it ended. */
type End =
  | { readonly kind: 'ended'; readonly status: number | null; readonly signal: NodeJS.Signals | null }
  | { readonly kind: 'late' }
  | { readonly kind: 'too much' }
  | { readonly kind: 'not started'; readonly code: string }
  | { readonly kind: 'stopped' }

/**
 * The failure of the command. It is no outage to those that are called for one file: the server calls them again, and has the
 * answer at once. A service that starts asks again where it may pass.
 */
export class KeyCommandError extends WalrxError {
  /** True for a command that has run, and failed: what it asks may be out. */
  readonly mayPass: boolean

  constructor(message: string, hint: string, mayPass: boolean) {
    super('WALRX_KEY_UNAVAILABLE', message, { hint })
    this.mayPass = mayPass
  }
}

/** How it is run. */
export interface KeyCommandOptions {
  /** Its whole environment; default that of this process. */
  readonly environment?: KeyEnvironment | undefined
  /** For tests. */
  readonly timeoutMs?: number
}

/**
 * Runs it by /bin/sh, and without standard input.
 * @returns what it printed, which the caller zeroes
 * @throws WALRX_KEY_UNAVAILABLE; an AbortError where SIGTERM or SIGINT has stopped this process meanwhile
 */
export async function runKeyCommand(command: string, options: KeyCommandOptions = {}): Promise<Buffer> {
  const run = new KeyCommandRun(command, options)
  const end = await run.end()
  const output = run.takeOutput()
  try {
    const failure = failureOf(end, output, run.said(output, command), options.timeoutMs ?? timeoutMs)
    if (failure) throw failure
    return Buffer.from(output)
  } finally {
    output.fill(0)
  }
}

/** One run. */
class KeyCommandRun {
  readonly #child: ChildProcess | undefined
  readonly #timeoutMs: number
  readonly #output: Buffer[] = []
  #outputBytes = 0
  #said: Buffer = Buffer.alloc(0)
  #isSaidCut = false
  #startError = ''

  constructor(command: string, options: KeyCommandOptions) {
    this.#timeoutMs = options.timeoutMs ?? timeoutMs
    try {
      // By the environment: the arguments of a process are visible to every user of the machine. In a process group of its
      // own, so that whatever it has started ends with it.
      this.#child = spawn('/bin/sh', ['-c', `eval "$${keyCommandLabel}"`], {
        env: { ...(options.environment ?? process.env), [keyCommandLabel]: command },
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
      })
    } catch (error) {
      this.#startError = (error as NodeJS.ErrnoException).code ?? ''
    }
  }

  /** Waits for the end, or brings it about. */
  async end(): Promise<End> {
    const child = this.#child
    if (!child) return { kind: 'not started', code: this.#startError }
    const { promise, resolve } = Promise.withResolvers<End>()
    let isSettled = false
    const timers = [setTimeout(() => resolve({ kind: 'late' }), this.#timeoutMs)]
    const stop = () => resolve({ kind: 'stopped' })
    const kill = () => this.#kill()
    process.once('SIGTERM', stop).once('SIGINT', stop).once('exit', kill)
    child.once('error', (error: NodeJS.ErrnoException) => resolve({ kind: 'not started', code: error.code ?? '' }))
    child.once('close', (status, signal) => resolve({ kind: 'ended', status, signal }))
    child.once('exit', (status, signal) => {
      // One that is killed below ends after this: its timer would keep the process.
      if (isSettled) return
      timers.push(setTimeout(() => resolve({ kind: 'ended', status, signal }), outputGraceMs))
    })
    child.stdout?.on('data', (chunk: Buffer) => {
      this.#outputBytes += chunk.length
      this.#output.push(chunk)
      if (this.#outputBytes > keyBytesMax) resolve({ kind: 'too much' })
    })
    child.stderr?.on('data', (chunk: Buffer) => this.#hear(chunk))
    const end = await promise
    isSettled = true
    timers.forEach(clearTimeout)
    process.off('SIGTERM', stop).off('SIGINT', stop).off('exit', kill)
    if (end.kind !== 'ended') this.#kill()
    child.stdout?.destroy()
    child.stderr?.destroy()
    child.unref()
    return end
  }

  /** What it printed; called once. */
  takeOutput(): Buffer {
    const output = Buffer.concat(this.#output)
    for (const chunk of this.#output.splice(0)) chunk.fill(0)
    return output
  }

  /** The end of its standard error in one line, without what it printed, and without other secrets as far as they can be seen. */
  said(output: Buffer, command: string): string {
    const said = Buffer.from(this.#said)
    for (const line of linesOf(output)) maskIn(said, line)
    const text = said.toString('utf8')
    // The first line may be the rest of one, with the rest of a key in it.
    const whole = this.#isSaidCut ? text.slice(text.indexOf('\n') + 1) : text
    const words = /\s/.test(command.trim()) ? [command.trim()] : []
    const lines = redactForeignText(whole, words).split(/\s*[\r\n]+\s*/)
    // Without colours, and whatever else a terminal would obey.
    const shown = lines.map((line) => line.replace(/\u001b\[[\d;]*[A-Za-z]|[\u0000-\u001f\u007f]/g, '').trim())
    return shown
      .filter((line) => line !== '')
      .join(' | ')
      .slice(-shownMax)
  }

  #hear(chunk: Buffer): void {
    const all = Buffer.concat([this.#said, chunk])
    this.#isSaidCut ||= all.length > saidBytesMax
    this.#said = all.subarray(-saidBytesMax)
  }

  #kill(): void {
    const pid = this.#child?.pid
    if (pid === undefined) return
    try {
      process.kill(-pid, 'SIGKILL')
    } catch {
      // The group has ended.
    }
  }
}

function failureOf(end: End, output: Buffer, said: string, limitMs: number): Error | undefined {
  const reason = reasonOf(end, output, limitMs)
  if (end.kind === 'stopped') return new DOMException(`${keyCommandLabel} was stopped`, 'AbortError')
  if (reason === undefined) return undefined
  const text = said === '' ? reason.text : `${reason.text}: ${said}`
  return new KeyCommandError(`${keyCommandLabel} ${text}`, reason.hint ?? ordinaryHint, mayPass(end))
}

/** A command that fails may find its vault at the next attempt. One that cannot be run, or prints no key, is set wrongly. */
function mayPass(end: End): boolean {
  return end.kind === 'late' || (end.kind === 'ended' && end.status !== 0 && end.status !== 126 && end.status !== 127)
}

const ordinaryHint =
  'run it as the same user with the same environment: it must print the key, end with 0, and ask for nothing'
const pathHint = 'name the program by its whole path: the PATH of a service or of a server may lack its directory'

function reasonOf(
  end: End,
  output: Buffer,
  limitMs: number,
): { readonly text: string; readonly hint?: string } | undefined {
  switch (end.kind) {
    case 'late':
      return { text: `has not ended after ${limitMs / 1000} s, and was stopped` }
    case 'too much':
      return { text: 'has printed more than 1 MB, and was stopped', hint: 'have it print the key and nothing else' }
    case 'not started':
      return { text: `cannot be started: /bin/sh: ${end.code}` }
    case 'stopped':
      return undefined
    case 'ended':
      if (end.signal) return { text: `was ended by ${end.signal}` }
      if (end.status === 127) return { text: 'ended with status 127 (command not found)', hint: pathHint }
      if (end.status === 126) return { text: 'ended with status 126 (the program cannot be run)' }
      if (end.status !== 0) return { text: `ended with status ${end.status}` }
      return trimKeyFile(output).length > 0 ? undefined : { text: 'has printed nothing' }
    default:
      return end satisfies never
  }
}

/** Lines that are long enough to be a part of a key. */
function* linesOf(output: Buffer): Generator<Buffer> {
  for (let start = 0; start < output.length;) {
    const at = output.indexOf(0x0a, start)
    const end = at < 0 ? output.length : at
    const line = output.subarray(start, output[end - 1] === 0x0d ? end - 1 : end)
    if (line.length >= 8) yield line
    start = end + 1
  }
}

function maskIn(text: Buffer, secret: Buffer): void {
  for (let at = text.indexOf(secret); at >= 0; at = text.indexOf(secret, at + secret.length)) {
    text.fill('*', at, at + secret.length)
  }
}
