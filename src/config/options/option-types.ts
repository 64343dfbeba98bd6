/** The vocabulary of the option table: what one row says, and which TypeScript type its value has. */
import type { Lsn } from '../../postgres/lsn.ts'
import type { Secret } from '../../primitives/secret.ts'
import type { CommandGroup, commandTable } from '../commands.ts'

/** Commands of walrx, as typed. */
export type CommandName = keyof typeof commandTable

/** Commands, each by its name or with a group of its like. */
export type CommandSet = readonly (CommandName | CommandGroup)[]

/** The commands that a word of a {@link CommandSet} stands for. */
export type CommandsOf<W> = W extends 'all'
  ? CommandName
  : W extends CommandName
    ? W
    : { [C in CommandName]: W extends (typeof commandTable)[C]['groups'][number] ? C : never }[CommandName]

/** Headings of `--help` and of docs/reference.md, in their order. */
export const optionGroups = [
  'Storage',
  'S3',
  'PostgreSQL',
  'Compression',
  'Encryption',
  'Receive',
  'Push',
  'Backup',
  'Fetch',
  'Restore',
  'Recovery',
  'Catalogue',
  'Retention',
  'Copy',
  'Objects',
  'General',
] as const

/** A heading of {@link optionGroups}. */
export type OptionGroup = (typeof optionGroups)[number]

/** How the text of an option is read. Bytes are written like `64MB` (powers of 1024), durations like `15s`. */
export type OptionType =
  | { readonly kind: 'string' }
  /** A key or a passphrase: as it is, with the white space around it, and hidden from every inspection. */
  | { readonly kind: 'secret' }
  | { readonly kind: 'integer'; readonly min: number; readonly max: number }
  /** With a decimal point, if it has one. */
  | { readonly kind: 'number'; readonly min: number; readonly max: number }
  | { readonly kind: 'bytes'; readonly min: number; readonly max: number }
  | { readonly kind: 'duration'; readonly minMs: number; readonly maxMs: number }
  | { readonly kind: 'boolean' }
  | {
      readonly kind: 'choice'
      readonly values: readonly string[]
      /** Other spellings that are understood, each with the value that it stands for. */
      readonly synonyms?: Readonly<Record<string, string>>
    }
  | { readonly kind: 'lsn' }

/** Between the values of a flag that is given several times: no argument can contain it. */
export const valueSeparator = '\0'

/** One row of the table. */
export interface OptionSpec {
  /**
   * Environment variables, the first set one wins. `WALG_X` is also read as `WALE_X`; `AWS_X` and `S3_X` also as
   * `WALG_AWS_X`, `WALE_S3_X` and so on (docs/walg-format.md, 9.1, 9.2). Empty: a flag only.
   */
  readonly env: readonly string[]
  /** Long flag without the dashes. None for secrets: arguments are visible to every user of the machine. */
  readonly flag?: string
  /** One-letter flag. */
  readonly alias?: string
  readonly type: OptionType
  /** True where the flag may be given several times: the value is then all of them, with {@link valueSeparator} between. */
  readonly isRepeatable?: true
  /** Default, written as an operator would. */
  readonly default?: string
  /** What happens without a value, where that is no fixed default. */
  readonly defaultText?: string
  /** Values that some commands refuse, although others understand them, and why. */
  readonly unsupported?: {
    readonly values: readonly string[]
    readonly commands: CommandSet
    readonly reason: string
  }
  /** True for what must never be printed. */
  readonly secret?: true
  readonly commands: CommandSet
  readonly group: OptionGroup
  /** What `--help` and the reference call the value: `RATE` in `--max-rate RATE`. None for switches. */
  readonly valueName?: string
  readonly help: string
}

type TypeValue<T extends OptionType> = T extends { kind: 'string' }
  ? string
  : T extends { kind: 'secret' }
    ? Secret
    : T extends { kind: 'integer' | 'number' | 'bytes' | 'duration' }
      ? number
      : T extends { kind: 'boolean' }
        ? boolean
        : T extends { kind: 'choice'; values: readonly (infer V)[] }
          ? V
          : T extends { kind: 'lsn' }
            ? Lsn
            : never

/** The type of an option's value: undefined is possible exactly where the row has no default. Durations are in ms. */
export type OptionValue<S extends OptionSpec> = S extends { default: string }
  ? TypeValue<S['type']>
  : TypeValue<S['type']> | undefined
