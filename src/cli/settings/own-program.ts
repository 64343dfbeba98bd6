/** How walrx calls itself: with the Node that runs it, the program file in use, and the flags that were given. */
import { extname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { optionsOf, type Settings } from '../../config/load.ts'
import { type CommandName, type OptionSpec, valueSeparator } from '../../config/options/option-types.ts'
import { formatBytes, formatDurationMs } from '../../config/options/option-values.ts'
import type { OptionKey } from '../../config/options/options.ts'
import { formatLsn, type Lsn } from '../../postgres/lsn.ts'

/** Path of the Node that runs this, and of the program file: what `walrx` stands for, whatever PATH says later. */
export function ownProgram(): { readonly node: string; readonly main: string } {
  // `.ts` in a checkout, `.js` where it was built.
  const main = new URL(`../../main${extname(import.meta.filename)}`, import.meta.url)
  return { node: process.execPath, main: fileURLToPath(main) }
}

/** Options whose values are paths. */
const pathOptions: ReadonlySet<OptionKey> = new Set<OptionKey>(['s3CaCertFile'])

/**
 * What was given by flags, as flags for another command; what that command doesn't take is left out. The other command
 * may run in another directory and as another user: paths are absolute, and the config file is named also where it was
 * found in the home directory.
 */
export function flagArguments(settings: Settings, command: CommandName): string[] {
  const values = settings.values as Readonly<Partial<Record<OptionKey, unknown>>>
  return optionsOf(command).flatMap(([key, spec]) => {
    if (key === 'configPath')
      return settings.configFile === undefined ? [] : [`--config=${resolve(settings.configFile)}`]
    if (settings.source(key) !== 'flag' || spec.flag === undefined) return []
    const texts = flagText(spec, values[key]).split(spec.isRepeatable ? valueSeparator : /$^/)
    return texts.map((text) => `--${spec.flag}=${pathOptions.has(key) ? resolve(text) : text}`)
  })
}

function flagText({ type }: OptionSpec, value: unknown): string {
  if (type.kind === 'bytes') return formatBytes(value as number)
  if (type.kind === 'duration') return formatDurationMs(value as number)
  if (type.kind === 'lsn') return formatLsn(value as Lsn)
  return String(value)
}
