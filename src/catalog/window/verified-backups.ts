/** What `walrx backup-verify` has found: a backup that was damaged then is no more of use than one that lacks a part. */
import type { WalrxError } from '../../primitives/errors.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import type { Sentinel } from '../../walg/backup/sentinel.ts'
import {
  isVerificationOf,
  nameOfVerification,
  readVerification,
  type Verification,
  verificationKey,
} from '../../walg/backup/verification.ts'
import { orProblem } from '../../walg/damaged-object.ts'
import { verifiedFolder } from '../../walg/names.ts'
import { followChain, linkOf } from '../chains.ts'
import { mapInParallel } from '../map-in-parallel.ts'

/** A backup, as far as a record can be of it. */
export interface VerifiableBackup {
  readonly name: string
  /** Undefined where it cannot be read. */
  readonly sentinel: Pick<Sentinel, 'delta' | 'startLsn' | 'startTime'> | undefined
  readonly lack?: string | undefined
}

/** Names of the backups that there are records of. One listing; throws what the storage says. */
export async function listVerified(storage: Pick<Storage, 'list'>, options?: StorageCallOptions): Promise<string[]> {
  const names: string[] = []
  for await (const { key } of storage.list(verifiedFolder, options)) {
    const name = nameOfVerification(key)
    if (name !== undefined) names.push(name)
  }
  return names
}

/**
 * The records that are of these very backups, by name. A small object for each that there is.
 * @param verified names of the backups that there are records of
 * @param problems gets the records that cannot be read
 * @throws what the storage says
 */
export async function readVerifications(
  storage: Storage,
  backups: readonly VerifiableBackup[],
  verified: ReadonlySet<string>,
  problems: WalrxError[],
  options?: StorageCallOptions,
): Promise<ReadonlyMap<string, Verification>> {
  const byName = new Map(backups.map((backup) => [backup.name, backup]))
  const links = new Map(backups.map((backup) => [backup.name, linkOf(backup)]))
  const found = new Map<string, Verification>()
  const names = [...byName.keys()].filter((name) => verified.has(name))
  await mapInParallel(names, async (name) => {
    const record = await orProblem(readVerification(storage, name, options), verificationKey(name), problems)
    const chain = followChain(name, links).names.map((each) => {
      const { startLsn, startTime } = byName.get(each)?.sentinel ?? {}
      return { name: each, startLsn, startTime }
    })
    if (record && isVerificationOf(record, chain)) found.set(name, record)
  })
  return found
}

/** The backups; one that was found damaged, and lacks nothing else, lacks that. */
export function withDamage<B extends VerifiableBackup>(
  backups: readonly B[],
  verifications: ReadonlyMap<string, Verification>,
): B[] {
  return backups.map((backup) => {
    if (backup.lack !== undefined || verifications.get(backup.name)?.result !== 'damaged') return backup
    return { ...backup, lack: 'was found damaged by walrx backup-verify' }
  })
}
