/**
 * `walrx_005/backups/<name>.json`, the intent of a backup: which process writes it, and when it last showed that it
 * still runs. It is there before the first part, and goes with the sentinel.
 */
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { type JsonValue, parseJson } from '../../primitives/json/json.ts'
import { isSegmentName } from '../../postgres/wal/wal-file.ts'
import type { Storage } from '../../storage/storage.ts'
import { readDocument } from '../stored/stored-reader.ts'
import { intentKey } from './backup-names.ts'

/** After which a heartbeat that stands still means a dead writer. */
export const intentExpiryMs = 15 * 60_000

/** After which one is dead that waits for its WAL, or whose intent cannot be read. */
const waitingExpiryMs = 24 * 3600_000

/** How long after the last heartbeat a backup is left alone. @param content undefined where it cannot be read */
export function expiryOf(content: Pick<IntentContent, 'sentinel'> | undefined): number {
  return content === undefined || content.sentinel !== undefined ? waitingExpiryMs : intentExpiryMs
}

/** What an intent says. */
export interface IntentContent {
  readonly owner: string
  readonly hostname: string
  readonly startedAt: string
  /** The sentinel's text, once everything but the WAL is there: what `walrx backup-finish` needs. */
  readonly sentinel?: string
  /** Names of the segments that are waited for, first and last. */
  readonly segments?: readonly [string, string]
  /** The objects that the backup consists of, with sizes. */
  readonly objects?: readonly { readonly name: string; readonly size: number }[]
}

/** Reads an intent; undefined where there is none. Throws WALRX_OBJECT_DAMAGED. */
export async function readIntent(
  storage: Storage,
  name: string,
  signal?: AbortSignal,
): Promise<IntentContent | undefined> {
  const key = intentKey(name)
  let text: string
  try {
    text = (await readDocument(storage, key, signal ? { signal } : {})).toString('utf8')
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return undefined
    throw error
  }
  try {
    const value = parseJson(text) as { readonly [key: string]: JsonValue }
    if (typeof value['owner'] !== 'string') throw new SyntaxError('it names no owner')
    const { objects = [], segments, sentinel = '' } = value as unknown as IntentContent
    const isPair = segments === undefined || (segments.length === 2 && segments.every(isSegmentName))
    if (!isPair || !Array.isArray(objects) || typeof sentinel !== 'string')
      throw new SyntaxError('its fields are wrong')
    return value as unknown as IntentContent
  } catch (error) {
    throw new WalrxError('WALRX_OBJECT_DAMAGED', `${storage.location}/${key} is not an intent of a backup`, {
      cause: error,
    })
  }
}
