/** The log for the operator: a small interface, implemented with pino. */
import { createRequire } from 'node:module'
import type { Logger as PinoLogger } from 'pino'
import { toWalrxError, WalrxError } from '../primitives/errors.ts'
import { isSecretName, redactText } from './redact.ts'

/**
 * The values of a message, by name. A bigint is written as text: as `X/X` where the name ends in "lsn", else in
 * decimal. An error goes in the field `error`. Secrets are removed, but should never be passed.
 */
export type LogFields = Readonly<Record<string, unknown>>

/** The log. A message is a constant lower-case phrase without a full stop; values that vary go in the fields. */
export interface Logger {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  /**
   * The same logger with fields added to every message.
   * @param secrets further texts that must never appear
   */
  child(fields: LogFields, secrets?: readonly string[]): Logger
}

/** A logger that writes nothing. */
export const silentLog: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
}

/** How much is logged, least first. */
export const logLevels = ['error', 'warn', 'info', 'debug'] as const

/** A level of {@link logLevels}. */
export type LogLevel = (typeof logLevels)[number]

/** Options of {@link createLog}. */
export interface LogOptions {
  readonly level: LogLevel
  /** JSON lines for machines, or text for people; called when the first line is written. */
  readonly format: () => 'json' | 'pretty'
  /** Texts that must never appear in any field. */
  readonly secrets?: readonly string[]
  /** Where lines go. Default: standard error. */
  readonly write?: (line: string) => void
  /** Completes the commands that a hint says to run; by default they stay as they are. */
  readonly complete?: ((hint: string) => string) | undefined
  /** Colours in pretty text. Default false. */
  readonly colours?: () => boolean
  /**
   * True for a service: it does not wait for the reader of standard error, and drops lines beyond a backlog of a
   * megabyte, because a log collector that hangs must not stop the stream. Default false: written at once.
   */
  readonly buffered?: boolean
}

/** A logger with a flush. */
export interface RootLogger extends Logger {
  /** Writes buffered lines. Called before the process ends. */
  flush(): void
}

/** The backlog for standard error when its reader hangs, in bytes; further lines are dropped. */
const backlogBytesMax = 1024 * 1024

/**
 * A logger on standard error. pino is loaded with the first line that is really written: most calls of wal-fetch write
 * none, and loading it would take much of their time.
 */
export function createLog(options: LogOptions): RootLogger {
  let sink: Sink | undefined
  const open = () => (sink ??= openSink(options))
  return Object.assign(new LevelLog(options, open, {}), { flush: () => sink?.flush() })
}

/** pino and its flush. */
interface Sink {
  readonly pino: PinoLogger
  flush(): void
}

/** Filters by level, and cleans the fields before pino gets them. */
class LevelLog implements Logger {
  readonly #options: LogOptions
  readonly #open: () => Sink
  readonly #fields: LogFields

  constructor(options: LogOptions, open: () => Sink, fields: LogFields) {
    this.#options = options
    this.#open = open
    this.#fields = fields
  }

  debug(message: string, fields?: LogFields): void {
    this.#say('debug', message, fields)
  }

  info(message: string, fields?: LogFields): void {
    this.#say('info', message, fields)
  }

  warn(message: string, fields?: LogFields): void {
    this.#say('warn', message, fields)
  }

  error(message: string, fields?: LogFields): void {
    this.#say('error', message, fields)
  }

  child(fields: LogFields, secrets: readonly string[] = []): Logger {
    const known = this.#options.secrets ?? []
    const options = secrets.length === 0 ? this.#options : { ...this.#options, secrets: [...known, ...secrets] }
    return new LevelLog(options, this.#open, { ...this.#fields, ...fields })
  }

  #say(level: LogLevel, message: string, fields: LogFields | undefined): void {
    if (logLevels.indexOf(level) > logLevels.indexOf(this.#options.level)) return
    const { complete, level: least, secrets = [] } = this.#options
    const all = { ...this.#fields, ...fields }
    const clean: Record<string, unknown> = {}
    for (const [name, value] of Object.entries(all)) {
      const whole = complete && typeof value === 'string' && isAdvice(name) ? complete(value) : value
      clean[name] = printable(name, whole, secrets, least === 'debug', 0)
    }
    this.#open().pino[level](clean, redactText(message, secrets))
  }
}

/** True for the fields that say what to do next. */
function isAdvice(name: string): boolean {
  return name === 'hint' || name === 'completeBy'
}

function openSink(options: LogOptions): Sink {
  const require = createRequire(import.meta.url)
  const pino = require('pino') as typeof import('pino')
  const settings = {
    level: options.level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  }
  const { flush, write } = options.write
    ? { write: options.write, flush: () => {} }
    : openStandardError(pino, options.buffered === true)
  const stream = { write }
  if (options.format() === 'json') return { pino: pino(settings, stream), flush }
  const pretty = require('pino-pretty') as typeof import('pino-pretty')
  const format = pretty.prettyFactory({
    colorize: options.colours?.() ?? false,
    translateTime: 'SYS:yyyy-mm-dd HH:MM:ss.l',
    singleLine: true,
    errorLikeObjectKeys: options.level === 'debug' ? ['error'] : [],
  })
  return { pino: pino(settings, { write: (line: string) => write(format(line)) }), flush }
}

/**
 * Standard error. When it cannot be written, because its disk is full or its reader is gone, lines are lost and the
 * command goes on: pino's own destination would then try for ever to write the rest at the end of the process.
 */
function openStandardError(pino: typeof import('pino').pino, isBuffered: boolean) {
  const stream = pino.destination({ fd: 2, sync: !isBuffered, ...(isBuffered && { maxLength: backlogBytesMax }) })
  let [isFailing, isClosed] = [false, false]
  const close = () => {
    isClosed = true
    stream.destroy()
  }
  stream.on('error', () => {
    isFailing = true
    // Lines that are written at once leave nothing to be written later.
    if (!isBuffered) close()
  })
  stream.on('write', () => (isFailing = false))
  return {
    write: (line: string) => void (isClosed || stream.write(line)),
    flush: () => (isClosed ? undefined : isFailing ? close() : stream.flushSync()),
  }
}

/** A value for the log: without secrets and bigints, with errors as plain objects. */
function printable(name: string, value: unknown, secrets: readonly string[], stacks: boolean, depth: number): unknown {
  if (isSecretName(name) && value !== undefined && value !== null) return '[redacted]'
  if (typeof value === 'string') return redactText(value, secrets)
  if (typeof value === 'bigint') return /lsn$/i.test(name) ? positionText(value) : value.toString()
  if (value instanceof Error) return printableError(value, secrets, stacks, depth)
  if (typeof value !== 'object' || value === null || value instanceof Date) return value
  if (depth >= 4) return '…'
  if (Array.isArray(value)) return value.map((item) => printable('', item, secrets, stacks, depth + 1))
  const entries = Object.entries(value)
  return Object.fromEntries(entries.map(([key, item]) => [key, printable(key, item, secrets, stacks, depth + 1)]))
}

function printableError(error: Error, secrets: readonly string[], stacks: boolean, depth: number): unknown {
  const named = toWalrxError(error)
  const code = error instanceof WalrxError ? error.code : (error as NodeJS.ErrnoException).code
  return {
    ...(typeof code === 'string' && { code }),
    message: redactText(error.message, secrets),
    ...(named.hint !== undefined && { hint: redactText(named.hint, secrets) }),
    ...(error.cause instanceof Error &&
      depth < 4 && { cause: printableError(error.cause, secrets, stacks, depth + 1) }),
    ...(stacks && error.stack !== undefined && { stack: redactText(error.stack, secrets) }),
  }
}

/** A 64-bit position as PostgreSQL writes it. */
function positionText(value: bigint): string {
  return `${(value >> 32n).toString(16)}/${(value & 0xffffffffn).toString(16)}`.toUpperCase()
}
