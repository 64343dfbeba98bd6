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
  if (hint !== undefined) options.write(`hint: ${redactText(hint, options.secrets)}\n`)
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
export function reportStop({ command, hint, signal }: Stop, options: Pick<ReportOptions, 'write' | 'log' | 'secrets'>) {
  const message = `${signal} stopped ${command} before it was done`
  const clean = hint === undefined ? undefined : redactText(hint, options.secrets)
  if (options.log) options.log.warn(message, clean === undefined ? {} : { hint: clean })
  else options.write(`walrx: ${message}\n${clean === undefined ? '' : `hint: ${clean}\n`}`)
}

function defectHint(debug: boolean | undefined): string {
  return debug
    ? 'this is a defect of walrx: please report it with this stack'
    : 'this is a defect of walrx: run the command again with --log-level debug, and report it with the stack'
}

function stackOf(thrown: unknown): string {
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)
}
