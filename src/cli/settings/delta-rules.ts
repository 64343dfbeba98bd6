/** What the options say of deltas, for every command that asks what a backup would build on. */
import type { DeltaRules } from '../../backup/delta/parent-choice.ts'
import type { OptionValues } from '../../config/options/options.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { type JsonValue, parseJson } from '../../primitives/json/json.ts'

/** The options that say it. */
export type DeltaOptions = Pick<
  OptionValues<'backup-plan'>,
  'full' | 'deltaMaxSteps' | 'deltaOrigin' | 'deltaFromName' | 'deltaFromUserData'
>

/** Reads them. Throws WALRX_USAGE where a backup is named in two ways. */
export function deltaRulesOf(options: DeltaOptions): DeltaRules {
  const { deltaFromName, deltaFromUserData, deltaMaxSteps, deltaOrigin, full } = options
  if (deltaFromName !== undefined && deltaFromUserData !== undefined) {
    throw new WalrxError('WALRX_USAGE', 'the parent of the delta is given twice, by its name and by its user data', {
      hint: 'set WALG_DELTA_FROM_NAME (--delta-from-name) or WALG_DELTA_FROM_USER_DATA (--delta-from-user-data), not both',
    })
  }
  return {
    full,
    maxSteps: deltaMaxSteps,
    origin: deltaOrigin,
    fromName: deltaFromName,
    fromUserData: parseUserData(deltaFromUserData),
  }
}

/** WAL-G takes JSON, and keeps anything else as a string. */
export function parseUserData(text: string | undefined): JsonValue | undefined {
  if (text === undefined) return undefined
  try {
    return parseJson(text)
  } catch {
    return text
  }
}
