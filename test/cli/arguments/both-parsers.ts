/** What a command line comes to by either parser, which must be the same. */
import assert from 'node:assert/strict'
import { checkArguments, type RawArguments } from '../../../src/cli/arguments/arguments.ts'
import { parsePlain } from '../../../src/cli/arguments/plain-arguments.ts'
import { parseWithYargs } from '../../../src/cli/arguments/yargs-arguments.ts'
import type { Command } from '../../../src/cli/command.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'

/** Values and arguments; `help`; or message and hint of a refusal. */
export type Outcome =
  | {
      readonly flags: Readonly<Record<string, string>>
      readonly positionals: Readonly<Record<string, string>>
      /** Arguments that follow those with names; missing where none do. */
      readonly rest?: readonly string[]
    }
  | 'help'
  | readonly [message: string, hint: string | undefined]

type Parser = (command: Command, args: readonly string[]) => RawArguments

function outcome(parser: Parser, command: Command, args: readonly string[]): Outcome {
  const raw = parser(command, args)
  if (raw.help) return 'help'
  try {
    const { flags, positionals, rest } = checkArguments(command, raw)
    return { flags: Object.fromEntries(flags), positionals, ...(rest.length > 0 && { rest }) }
  } catch (error) {
    assert.ok(error instanceof WalrxError && error.code === 'WALRX_USAGE')
    return [error.message, error.hint]
  }
}

/** The outcome by the plain parser, when yargs comes to the same. */
export function both(command: Command, args: readonly string[]): Outcome {
  const plain = outcome(parsePlain, command, args)
  assert.deepEqual(outcome(parseWithYargs, command, args), plain, JSON.stringify(args))
  return plain
}
