/** Backups without a sentinel: being written, waiting for their WAL, or left by a writer that died. */
import { hasCode } from '../../primitives/errors.ts'
import type { ObjectInfo, Storage } from '../../storage/storage.ts'
import { expiryOf, type IntentContent, readIntent } from '../../walg/backup/intent-document.ts'
import { intentsPrefix } from '../../walg/names.ts'
import type { BackupUsage, UsageByBackup } from './backup-usage.ts'

/**
 * What a backup without a sentinel is.
 * - `written`: a walrx that lives writes it.
 * - `waits`: all of it is there but its WAL; walrx backup-finish can complete it.
 * - `left`: its walrx is dead; the next backup-push removes it.
 * - `unknown`: no walrx wrote it, or its sentinel was removed: another tool may be writing it.
 */
export type UnfinishedState = 'written' | 'waits' | 'left' | 'unknown'

/** One of them. */
export interface UnfinishedBackup {
  readonly name: string
  readonly state: UnfinishedState
  /** Host of the writer, where it is known. */
  readonly host: string | undefined
  /** The last sign of the writer: of its intent, or the newest object. Milliseconds since 1970. */
  readonly lastSignMs: number
  readonly storedBytes: number
}

/**
 * Finds them. @param objects listing of walrx's own objects: the intents among them are looked at
 * @throws what the storage says
 */
export async function findUnfinished(
  storage: Storage,
  { finished, usage }: UsageByBackup,
  intents: readonly ObjectInfo[],
  nowMs: number,
  signal: AbortSignal,
): Promise<UnfinishedBackup[]> {
  const done = new Set(finished.map(({ name }) => name))
  const signs = new Map(intents.flatMap((info) => (nameOfIntent(info.key) ? [[nameOfIntent(info.key), info]] : [])))
  const names = new Set([...usage.keys(), ...(signs.keys() as Iterable<string>)].filter((name) => !done.has(name)))
  const found: UnfinishedBackup[] = []
  for (const name of [...names].sort()) {
    const sign = signs.get(name) as ObjectInfo | undefined
    const { newestMs, storedBytes }: BackupUsage = usage.get(name) ?? { storedBytes: 0, objectCount: 0, newestMs: 0 }
    const intent = sign && (await intentOf(storage, name, signal))
    const lastSignMs = Math.max(newestMs, sign?.lastModifiedMs ?? 0)
    const state = sign ? stateOf(intent, nowMs - sign.lastModifiedMs) : 'unknown'
    found.push({ name, state, host: intent?.hostname, lastSignMs, storedBytes })
  }
  return found
}

function nameOfIntent(key: string): string | undefined {
  const name = key.startsWith(intentsPrefix) && key.endsWith('.json') ? key.slice(intentsPrefix.length, -5) : undefined
  return name === '' ? undefined : name
}

/** Undefined for one that cannot be read, or has gone meanwhile. */
async function intentOf(storage: Storage, name: string, signal: AbortSignal): Promise<IntentContent | undefined> {
  try {
    return await readIntent(storage, name, signal)
  } catch (error) {
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED')) throw error
    return undefined
  }
}

function stateOf(intent: IntentContent | undefined, ageMs: number): UnfinishedState {
  if (ageMs >= expiryOf(intent)) return 'left'
  return intent?.sentinel === undefined ? 'written' : 'waits'
}
