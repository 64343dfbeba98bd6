/** What the rooms say to the operator: a small interface here, pino behind it. */

/** Facts of a message, by name. A bigint is written as decimal text; an LSN goes in already formatted, `X/X`. */
export type LogFields = Readonly<Record<string, unknown>>

/**
 * Where messages go. A message is a constant lower-case phrase without a full stop; what varies goes in the fields.
 * An error goes in the field `error`.
 */
export interface Logger {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  /** The same logger with fields added to every message. */
  child(fields: LogFields): Logger
}

/** A logger that says nothing. */
export const silentLog: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
}
