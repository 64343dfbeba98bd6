/** Backups without a sentinel: being written, waiting for their WAL, or left by a writer that died. */
import type { WalrxError } from '../../primitives/errors.ts'
import type { ObjectInfo, Storage } from '../../storage/storage.ts'
import { type ListedFolders, noFolder } from '../../walg/backup/backup-listing.ts'
import { orProblem } from '../../walg/damaged-object.ts'
import { nameOfIntent } from '../../walg/backup/backup-names.ts'
import { expiryOf, type IntentContent, readIntent } from '../../walg/backup/intent-document.ts'

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
 * Finds them. @param problems gets the intents that cannot be read
 * @throws what the storage says
 */
export async function findUnfinished(
  storage: Storage,
  { folders, listed }: Pick<ListedFolders, 'folders' | 'listed'>,
  intents: readonly ObjectInfo[],
  problems: WalrxError[],
  nowMs: number,
  signal: AbortSignal,
): Promise<UnfinishedBackup[]> {
  const done = new Set(listed.map(({ name }) => name))
  const signs = new Map<string, ObjectInfo>()
  for (const info of intents) {
    const name = nameOfIntent(info.key)
    if (name !== undefined) signs.set(name, info)
  }
  const names = new Set([...folders.keys(), ...signs.keys()].filter((name) => !done.has(name)))
  const found: UnfinishedBackup[] = []
  for (const name of [...names].sort()) {
    const sign = signs.get(name)
    const { bytes, newestMs } = folders.get(name) ?? noFolder
    const intent = sign && (await orProblem(readIntent(storage, name, signal), sign.key, problems))
    const lastSignMs = Math.max(newestMs, sign?.lastModifiedMs ?? 0)
    const state = sign ? stateOf(intent, nowMs - sign.lastModifiedMs) : 'unknown'
    found.push({ name, state, host: intent?.hostname, lastSignMs, storedBytes: bytes })
  }
  return found
}

function stateOf(intent: IntentContent | undefined, ageMs: number): UnfinishedState {
  if (ageMs >= expiryOf(intent)) return 'left'
  return intent?.sentinel === undefined ? 'written' : 'waits'
}
