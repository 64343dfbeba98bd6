/** Reports to the operator why a command ended: one line and what to do next, never a stack for bad input. */
import type { RootLogger } from '../observe/log.ts'
import { redactText } from '../observe/redact.ts'
import { toWalrxError } from '../primitives/errors.ts'

/** How an error is reported. */
export interface ReportOptions {
  /** Takes the text for people. */
  readonly write: (text: string) => void
  /** Takes the error as a log line instead, where the log is JSON. */
  readonly log?: RootLogger | undefined
  readonly secrets?: readonly string[]
  /** Completes the commands that a hint says to run; the log does it itself. */
  readonly complete?: ((hint: string) => string) | undefined
  /** True at log level debug: defects are then reported with their stack. */
  readonly debug?: boolean
}

/** Writes `walrx: message` and `hint: …`, or one log line. */
export function reportError(thrown: unknown, options: ReportOptions): void {
  const error = toWalrxError(thrown)
  const message = redactText(error.message, options.secrets).replace(/\s*\n\s*/g, ' ')
  const hint = error.code === 'WALRX_INTERNAL' ? defectHint(options.debug) : error.hint
  if (options.log) {
    const stack = error.code === 'WALRX_INTERNAL' && options.debug ? { stack: stackOf(thrown) } : {}
    options.log.error(message, { code: error.code, ...(hint !== undefined && { hint }), ...stack })
    options.log.flush()
    return
  }
  const prefix = error.code === 'WALRX_INTERNAL' ? 'unexpected error: ' : ''
  options.write(`walrx: ${prefix}${message}\n`)
  if (hint !== undefined) options.write(`hint: ${hintText(hint, options)}\n`)
  if (error.code === 'WALRX_INTERNAL' && options.debug)
    options.write(`${redactText(stackOf(thrown), options.secrets)}\n`)
}

/** What a signal ended. */
export interface Stop {
  readonly command: string
  readonly signal: NodeJS.Signals
  /** What is left, and what to do next. */
  readonly hint: string | undefined
}

/** Writes that a signal stopped the command, and what is left, or one log line. */
export function reportStop({ command, hint, signal }: Stop, options: Omit<ReportOptions, 'debug'>) {
  const message = `${signal} stopped ${command} before it was done`
  if (options.log) options.log.warn(message, hint === undefined ? {} : { hint })
  else options.write(`walrx: ${message}\n${hint === undefined ? '' : `hint: ${hintText(hint, options)}\n`}`)
}

function hintText(hint: string, { complete, secrets }: Pick<ReportOptions, 'complete' | 'secrets'>): string {
  return redactText(complete ? complete(hint) : hint, secrets)
}

function defectHint(debug: boolean | undefined): string {
  return debug
    ? 'this is a defect of walrx: please report it with this stack'
    : 'this is a defect of walrx: run the command again with --log-level debug, and report it with the stack'
}

function stackOf(thrown: unknown): string {
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)
}
