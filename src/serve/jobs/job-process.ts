/**
 * A job is a process of walrx itself: a crash, or memory that it takes, is its own, and it runs beside the streams at a
 * lower priority. Between the two is a channel that breaks when the parent ends, however it ends: then the child stops.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { setPriority } from 'node:os'
import { createInterface } from 'node:readline'
import type { Logger, LogLevel } from '../../observe/log.ts'
import { logLevels } from '../../observe/log.ts'
import { redactText } from '../../observe/redact.ts'
import { type Clock, type Timer } from '../../primitives/clock.ts'
import { toWalrxError } from '../../primitives/errors.ts'

/** What is run. */
export interface JobProcessOptions {
  /** Program and arguments; no secret is among them, for every user of a machine sees them. */
  readonly command: readonly [string, ...string[]]
  /** Its whole environment. */
  readonly environment: Readonly<Record<string, string | undefined>>
  /** As nice(1) has it; 0 leaves it as it is. */
  readonly nice: number
  readonly timeoutMs: number
  readonly clock: Clock
  readonly log: Logger
  /** Texts that must not be printed. */
  readonly secrets: readonly string[]
  /** Called once it runs. */
  readonly onStarted: (pid: number) => void
  /** Asks it to end. */
  readonly signal: AbortSignal
}

/** How a process ended. */
export interface JobEnd {
  /** Undefined where a signal ended it, or where it could not be started. */
  readonly status: number | undefined
  /** The last error that it logged, or why it did not end well; undefined after status 0. */
  readonly error: string | undefined
  /** The code of that error, where it has one. */
  readonly code?: string | undefined
  /** True where walrx asked it to end. */
  readonly isStopped: boolean
}

/** How long a job may take to clean up before it is killed. */
const killAfterMs = 45_000

/** Lines of output in the log; a deletion may print thousands. */
const linesMax = 200

/** Runs it to its end. Never throws. */
export async function runJobProcess(options: JobProcessOptions): Promise<JobEnd> {
  const { clock, command, environment, nice, onStarted, signal, timeoutMs } = options
  const [program, ...args] = command
  let child: ChildProcess
  try {
    child = spawn(program, args, { env: environment, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] })
  } catch (error) {
    return { status: undefined, error: toWalrxError(error).message, isStopped: false }
  }
  const output = new JobOutput(options)
  for (const stream of [child.stdout, child.stderr]) {
    if (stream) createInterface({ input: stream }).on('line', (line) => output.line(line, stream === child.stderr))
  }
  if (child.pid !== undefined) {
    lowerPriority(child.pid, nice, options.log)
    onStarted(child.pid)
  }
  let isStopped = false
  let isLate = false
  let killTimer: Timer | undefined
  const end = () => {
    child.kill('SIGTERM')
    killTimer ??= clock.setTimer(killAfterMs, () => child.kill('SIGKILL'))
  }
  const onAbort = () => {
    isStopped = true
    end()
  }
  const late = setLongTimer(clock, timeoutMs, () => {
    isLate = true
    end()
  })
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  const { failure, status } = await ended(child)
  signal.removeEventListener('abort', onAbort)
  late.cancel()
  killTimer?.cancel()
  output.end()
  if (status === 0) return { status, error: undefined, isStopped: false }
  const error = isLate
    ? `it did not end within ${timeoutMs / 1000} s`
    : (failure ??
      output.lastError ??
      `it ended with ${status === undefined ? String(child.signalCode) : `status ${status}`}`)
  const code = isLate || failure !== undefined ? undefined : output.lastCode
  return { status, error: redactText(error, options.secrets), code, isStopped }
}

/** The longest timer that Node has: a longer one fires at once. */
const timerMsMax = 2 ** 31 - 1

/** A timer of any length. */
function setLongTimer(clock: Clock, ms: number, fire: () => void): Timer {
  let leftMs = ms
  const next = (): Timer => {
    const partMs = Math.min(leftMs, timerMsMax)
    leftMs -= partMs
    return clock.setTimer(partMs, () => {
      if (leftMs > 0) timer = next()
      else fire()
    })
  }
  let timer = next()
  return { cancel: () => timer.cancel() }
}

/** Waits for the end, and for all output. A process that did not start has a failure. */
function ended(child: ChildProcess): Promise<{ readonly status?: number; readonly failure?: string }> {
  return new Promise((resolve) => {
    child.once('error', (error) => {
      if (child.pid === undefined) resolve({ failure: toWalrxError(error).message })
    })
    child.once('close', (status) => resolve(status === null ? {} : { status }))
  })
}

function lowerPriority(pid: number, nice: number, log: Logger): void {
  if (nice === 0) return
  try {
    setPriority(pid, nice)
  } catch (error) {
    log.debug('the priority of a job could not be lowered', { error: toWalrxError(error) })
  }
}

/** Passes a job's log on, line by line, in the context of its cluster. */
class JobOutput {
  readonly #options: JobProcessOptions
  #lines = 0
  /** The message of the last line of level error. */
  lastError: string | undefined
  /** Its code. */
  lastCode: string | undefined

  constructor(options: JobProcessOptions) {
    this.#options = options
  }

  line(text: string, isLog: boolean): void {
    const entry = isLog ? parseLine(text) : undefined
    const { log } = this.#options
    if (entry) {
      const { hint, level, message } = entry
      if (level === 'error') {
        this.lastError = typeof hint === 'string' ? `${message} (${hint})` : message
        this.lastCode = typeof entry.fields['code'] === 'string' ? entry.fields['code'] : undefined
      }
      log[level](message, entry.fields)
      return
    }
    if (isLog && text.trim() !== '') {
      this.lastError = text
      this.lastCode = undefined
    }
    if (++this.#lines <= linesMax) log.info('output of the job', { line: text })
  }

  end(): void {
    const more = this.#lines - linesMax
    if (more > 0) this.#options.log.info('the job printed more than is logged', { lines: more })
  }
}

interface LogEntry {
  readonly level: LogLevel
  readonly message: string
  readonly hint: unknown
  readonly fields: Readonly<Record<string, unknown>>
}

/** A line of walrx's JSON log; undefined for any other. */
function parseLine(text: string): LogEntry | undefined {
  if (!text.startsWith('{')) return undefined
  try {
    const { level, msg, time: _time, ...fields } = JSON.parse(text) as Record<string, unknown>
    const known = logLevels.find((each) => each === level)
    return known && typeof msg === 'string' ? { level: known, message: msg, hint: fields['hint'], fields } : undefined
  } catch {
    return undefined
  }
}
