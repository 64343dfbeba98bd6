/**
 * What a command is. Each lives in `commands/<name>.ts`, exports one {@link Command}, has a row in `config/commands.ts`,
 * and is entered in `command-loaders.ts`, which imports it only when it is asked for.
 */
import type { CommandName } from '../config/options/option-types.ts'
import type { OptionKey, OptionValues } from '../config/options/options.ts'
import type { Settings } from '../config/load.ts'
import type { Logger } from '../observe/log.ts'

/** An argument by position. */
export interface Positional<P extends string = string> {
  /** As code names it; `--help` prints it in upper case. */
  readonly name: P
  readonly help: string
  /** What it can be, for completion in a shell; `commands` for those of walrx. */
  readonly choices?: readonly string[] | 'commands'
}

/** A call that `--help` shows. */
export interface Example {
  /** The command line, beginning with `walrx`. */
  readonly call: string
  /** What it does, in a few words. */
  readonly means: string
}

/** What a command gets: everything that it may touch of the outside. */
export interface CommandContext<
  C extends CommandName = CommandName,
  P extends string = string,
  O extends string = string extends P ? string : never,
> {
  /** The values of the command's options, checked and frozen. */
  readonly options: OptionValues<C>
  /** The same with where each came from, the PG* settings as libpq would see them, and the environment. */
  readonly settings: Settings<C>
  /** By their names. One of {@link Command.optionals} that was not typed is missing. */
  readonly positionals: Readonly<Record<P, string> & Partial<Record<O, string>>>
  /** What was typed for {@link Command.rest}, in its order. */
  readonly rest: readonly string[]
  /** Flags as typed, by option, those of a command that is described too. */
  readonly flags: ReadonlyMap<OptionKey, string>
  /** Home directory of the user; undefined for one without. */
  readonly home: string | undefined
  readonly log: Logger
  readonly signals: StopSignals
  readonly stdin: NodeJS.ReadableStream
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
}

/** How the operator ends a command. */
export interface StopSignals {
  /** Aborts at the first SIGTERM or SIGINT: finish what was begun. */
  readonly drain: AbortSignal
  /** Aborts at the second: drop everything. */
  readonly now: AbortSignal
  /** Calls back at every SIGHUP, which ends a process that does not listen. Returns what ends that. */
  readonly onHangup: (listener: () => void) => () => void
}

/**
 * A command: which options it takes is said by the option table's `commands`. Its arguments by position are those of
 * `positionals`, then of `optionals`, then any number for `rest`.
 */
export interface Command<
  C extends CommandName = CommandName,
  P extends string = string,
  O extends string = string extends P ? string : never,
> {
  readonly name: C
  /** Those that must be there. */
  readonly positionals: readonly Positional<P>[]
  /** Those that may follow. */
  readonly optionals?: readonly Positional<O>[]
  /** What all further ones are; without it there may be none. */
  readonly rest?: Positional
  readonly examples: readonly Example[]
  /** Another command, the flags of which it takes too: that one is not run. */
  readonly describes?: CommandName
  /** Finds `describes` in what follows the command's name; undefined for none. */
  findDescribed?(args: readonly string[]): CommandName | undefined
  /**
   * Does the work. Returns the exit status; throws WalrxError, which the caller prints and turns into an exit status.
   */
  run(context: CommandContext<C, P, O>): Promise<number>
  /**
   * What a signal has left of the command, and what to do next: printed when `run` gave up because of one and its error
   * does not say it. Undefined where nothing is left.
   */
  whatIsLeft?(context: CommandContext<C, P, O>): string | undefined
}
