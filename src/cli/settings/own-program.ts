/** How walrx calls itself: with the Node that runs it, the program file in use, and the flags that were given. */
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { optionsOf, type Settings } from '../../config/load.ts'
import type { CommandName, OptionSpec } from '../../config/options/option-types.ts'
import { formatBytes, formatDurationMs } from '../../config/options/option-values.ts'
import type { OptionKey } from '../../config/options/options.ts'

/** Path of the Node that runs this, and of the program file: what `walrx` stands for, whatever PATH says later. */
export function ownProgram(): { readonly node: string; readonly main: string } {
  // `.ts` in a checkout, `.js` where it was built.
  const main = new URL(`../../main${extname(import.meta.filename)}`, import.meta.url)
  return { node: process.execPath, main: fileURLToPath(main) }
}

/** What was given by flags, as flags for another command; what that command doesn't take is left out. */
export function flagArguments(settings: Settings, command: CommandName): string[] {
  const values = settings.values as Readonly<Partial<Record<OptionKey, unknown>>>
  return optionsOf(command).flatMap(([key, spec]) => {
    const isGiven = settings.source(key) === 'flag' && spec.flag !== undefined
    return isGiven ? [`--${spec.flag}=${flagText(spec, values[key])}`] : []
  })
}

function flagText({ type }: OptionSpec, value: unknown): string {
  if (type.kind === 'bytes') return formatBytes(value as number)
  if (type.kind === 'duration') return formatDurationMs(value as number)
  return String(value)
}
