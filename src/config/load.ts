/** Reads options: flag, then environment, then config file, then default. */
import type { CommandName } from './option-types.ts'
import type { OptionKey, OptionValues } from './options.ts'

/** Where a value came from. */
export type OptionSource = 'flag' | 'environment' | 'config file' | 'default'

/** The loaded settings of one command. */
export interface Settings<C extends CommandName = CommandName> {
  readonly command: C
  readonly values: OptionValues<C>
  /** Where the value came from; `default` also where there is none. */
  source(key: OptionKey): OptionSource
  /** The value with its name and origin, for messages: `WALG_COMPRESSION_METHOD=foo (from environment)`. */
  describe(key: OptionKey): string
  /** PG* settings of environment and config file, with the flags laid over them: what libpq would see. */
  readonly pgEnvironment: Readonly<Record<string, string>>
}
