/** How walrx calls itself: with the Node that runs it, the program file in use, and the flags that were given. */
import { extname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { optionsOf, type Settings } from '../../../config/load.ts'
import { type CommandName, type OptionSpec, valueSeparator } from '../../../config/options/option-types.ts'
import { readFilesOf } from '../../../config/keys/key-settings.ts'
import { formatBytes, formatDurationMs } from '../../../config/options/option-values.ts'
import type { OptionKey } from '../../../config/options/options.ts'
import { formatLsn, type Lsn } from '../../../postgres/lsn.ts'

/** Path of the Node that runs this, and of the program file: what `walrx` stands for, whatever PATH says later. */
export function ownProgram(): { readonly node: string; readonly main: string } {
  // `.ts` in a checkout, `.js` where it was built.
  const main = new URL(`../../../main${extname(import.meta.filename)}`, import.meta.url)
  return { node: process.execPath, main: fileURLToPath(main) }
}

/** Options whose values are paths. */
const pathOptions: ReadonlySet<OptionKey> = new Set<OptionKey>(['s3CaCertFile', 'pgpKeyPath', 'libsodiumKeyPath'])

/** The text of an option with absolute paths: what reads it may run in another directory. */
export function withWholePaths(key: OptionKey, text: string): string {
  if (pathOptions.has(key)) return resolve(text)
  if (key !== 'readKeyPath') return text
  return readFilesOf(text)
    .map(({ path, transform }) => `${transform === undefined ? '' : `${transform}:`}${resolve(path)}`)
    .join(',')
}

/**
 * What was given by flags, as flags for another command; what that command doesn't take is left out. The other command
 * may run in another directory and as another user: paths are absolute, also a relative one of the config file, and the
 * config file is named also where it was found in the home directory.
 */
export function flagArguments(settings: Settings, command: CommandName): string[] {
  const values = settings.values as Readonly<Partial<Record<OptionKey, unknown>>>
  return optionsOf(command).flatMap(([key, spec]) => {
    if (key === 'configPath')
      return settings.configFile === undefined ? [] : [`--config=${resolve(settings.configFile)}`]
    if (spec.flag === undefined || values[key] === undefined) return []
    const source = settings.source(key)
    const text = flagText(spec, values[key])
    const isMoved = source === 'config file' && withWholePaths(key, text) !== text
    if (source !== 'flag' && !isMoved) return []
    const texts = text.split(spec.isRepeatable ? valueSeparator : /$^/)
    return texts.map((each) => `--${spec.flag}=${withWholePaths(key, each)}`)
  })
}

function flagText({ type }: OptionSpec, value: unknown): string {
  if (type.kind === 'bytes') return formatBytes(value as number)
  if (type.kind === 'duration') return formatDurationMs(value as number)
  if (type.kind === 'lsn') return formatLsn(value as Lsn)
  return String(value)
}
