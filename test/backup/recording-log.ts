/** A log that keeps what it gets. */
import type { LogFields, Logger } from '../../src/observe/log.ts'

/** A message and its fields. */
export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly message: string
  readonly fields: LogFields
}

/** See the file's header. */
export class RecordingLog implements Logger {
  readonly lines: LogLine[] = []

  debug = (message: string, fields: LogFields = {}) => this.#add('debug', message, fields)
  info = (message: string, fields: LogFields = {}) => this.#add('info', message, fields)
  warn = (message: string, fields: LogFields = {}) => this.#add('warn', message, fields)
  error = (message: string, fields: LogFields = {}) => this.#add('error', message, fields)

  child(): Logger {
    return this
  }

  /** The messages of a level. */
  of(level: LogLine['level']): string[] {
    return this.lines.filter((line) => line.level === level).map(({ message }) => message)
  }

  #add(level: LogLine['level'], message: string, fields: LogFields): void {
    this.lines.push({ level, message, fields })
  }
}
