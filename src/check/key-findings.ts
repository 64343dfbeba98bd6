/** Findings of the keys: whether they can be used, and whether they fit what the archive holds. */
import { hasCode, isKeyOutage, isOfKey, type WalrxError } from '../primitives/errors.ts'
import type { Storage } from '../storage/storage.ts'
import { checkKeys } from '../walg/wal/key-check.ts'
import { attempt, type AttemptOptions } from './attempt.ts'
import { failed, type Finding, ok, skipped } from './finding.ts'

/** Milliseconds for a key: a command or a service may need a while. */
const keyMs = 60_000

/** All findings of the group. @param reason why the archive cannot be read; undefined where it can */
export async function keyFindings(
  storage: Storage,
  reason: string | undefined,
  options: AttemptOptions,
): Promise<Finding[]> {
  const usable = await usableKeys(storage, options)
  const id = 'keys.archive'
  if (usable.level === 'error') return [usable, skipped(id, 'the keys cannot be used')]
  if (reason !== undefined) return [usable, skipped(id, reason)]
  const lateness = {
    code: 'WALRX_STORAGE_UNAVAILABLE',
    what: `${storage.location}, asked for its newest objects,`,
    hint: 'see the findings of the storage',
  } as const
  const { error } = await attempt({ ...options, stepMs: keyMs }, lateness, (signal) =>
    checkKeys(storage, { reader: 'wal-receive', signal }),
  )
  if (!error)
    return [
      usable,
      ok(
        id,
        storage.keyring
          ? 'none of the newest objects of the archive contradicts the keys'
          : 'none of the newest objects of the archive is encrypted',
      ),
    ]
  return [usable, isOfTheKeys(error) ? failed(id, error) : skipped(id, error.message)]
}

function isOfTheKeys(error: WalrxError): boolean {
  return (
    isOfKey(error) || isKeyOutage(error) || hasCode(error, 'WALRX_KEY_UNAVAILABLE') || hasCode(error, 'WALRX_USAGE')
  )
}

async function usableKeys({ keyring }: Storage, options: AttemptOptions): Promise<Finding> {
  const id = 'keys.usable'
  if (!keyring) return ok(id, 'no key is set: what is archived is not encrypted by walrx')
  const lateness = {
    code: 'WALRX_KEY_UNAVAILABLE',
    what: 'the source of the key',
    hint: 'run its command by hand, or ask its service: it must answer within a minute',
  } as const
  const { error, value } = await attempt({ ...options, stepMs: keyMs }, lateness, () => keyring.prove())
  if (error) return failed(id, error)
  const { isReadable, writing } = value
  return ok(
    id,
    `${writing.label} (${writing.method}) encrypts${isReadable ? ', and opens what it has encrypted' : ', and has no private key to open it'}`,
  )
}
