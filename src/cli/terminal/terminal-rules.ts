/** What may be written to a stream: colours, lines that are drawn over, and how wide. The rules that most programs share. */

/** Variables by name. */
export type TerminalVariables = Readonly<Record<string, string | undefined>>

/** A stream that may be a terminal. */
export interface MaybeTerminal {
  readonly isTTY?: boolean | undefined
  readonly columns?: number | undefined
}

/**
 * True where colours are wanted. FORCE_COLOR and CLICOLOR_FORCE ask for them everywhere (0 forbids them), NO_COLOR
 * forbids them, and so do CLICOLOR=0 and TERM=dumb; else a terminal has them.
 */
export function wantsColours(stream: MaybeTerminal, variables: TerminalVariables): boolean {
  const { CLICOLOR, CLICOLOR_FORCE, FORCE_COLOR, NO_COLOR, TERM } = variables
  if (FORCE_COLOR !== undefined && FORCE_COLOR !== '') return FORCE_COLOR !== '0' && FORCE_COLOR !== 'false'
  if (NO_COLOR !== undefined && NO_COLOR !== '') return false
  if (CLICOLOR_FORCE !== undefined && CLICOLOR_FORCE !== '' && CLICOLOR_FORCE !== '0') return true
  return stream.isTTY === true && CLICOLOR !== '0' && TERM !== 'dumb'
}

/** True where a line can be drawn over: a terminal that is not dumb. */
export function canRedraw(stream: MaybeTerminal, { TERM }: TerminalVariables): boolean {
  return stream.isTTY === true && TERM !== 'dumb'
}

/** Nothing is readable below. */
const columnsMin = 40

/** Columns to wrap at: COLUMNS, else the terminal's; `otherwise` where there is none. */
export function columnsOf(stream: MaybeTerminal, { COLUMNS }: TerminalVariables, otherwise: number): number {
  const wanted = /^\d{1,5}$/.test(COLUMNS ?? '') ? Number(COLUMNS) : 0
  return Math.max(columnsMin, wanted || stream.columns || otherwise)
}
