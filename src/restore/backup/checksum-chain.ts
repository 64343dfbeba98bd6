/**
 * Chains that no server can use: checksums were switched on between two backups, and pages that have not changed since
 * have none. WAL-G and WAL-RUS take such deltas.
 */
import { mapInParallel } from '../../catalog/map-in-parallel.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import type { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { lastWithoutChecksums, readChecksumState } from '../../walg/backup/checksum-states.ts'
import { blamingBackup, damaged } from './backup-damage.ts'
import { type BackupDocuments, chainOf } from './backup-documents.ts'

/**
 * Refuses such a chain, by the pg_control of each of its backups. One that cannot be read says nothing here.
 * @throws WALRX_BACKUP_DAMAGED, what the storage throws
 */
export function refuseSwitchedChecksums(
  archive: BackupArchive,
  documents: BackupDocuments,
  options: StorageCallOptions,
): Promise<void> {
  if (documents.parents.length === 0) return Promise.resolve()
  return blamingBackup(async () => {
    const chain = await mapInParallel(chainOf(documents), async ({ name, parts }) => {
      return { name, state: await readChecksumState(archive, parts, options) }
    })
    const without = lastWithoutChecksums(chain)
    if (!without) return
    const { name } = documents
    throw damaged(
      `${name} was taken with data_checksums = ${chain.at(-1)?.state}, and ${without.name}, which it builds on, with ` +
        `${without.state}: pages that have not changed in between have no checksum, and a server would refuse them`,
      `restore ${without.name} instead, with --recover: with the WAL since then it recovers to every later point`,
    )
  })
}
