/**
 * A delta on backups without data checksums, of a server that has them now: the pages that have not changed since have no
 * checksum, and the restored server would call each of them invalid.
 */
import { mapInParallel } from '../../catalog/map-in-parallel.ts'
import type { ChecksumState } from '../../postgres/control-file.ts'
import type { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { readChecksumState } from '../../walg/backup/checksum-states.ts'
import type { FullReason } from './full-reason.ts'

/**
 * Why no delta can be built on a backup, by the pg_control of all that it consists of. Only `on` is known to be sound: how
 * a server has come from another state to its own, with the WAL or without it, nothing shows.
 * @param chain names, the backup to build on first
 * @param server what the server says of its pages now
 * @returns undefined where nothing is in the way
 * @throws what the storage throws
 */
export async function reasonOfChecksums(
  archive: BackupArchive,
  chain: readonly string[],
  server: ChecksumState,
  signal: AbortSignal,
): Promise<FullReason | undefined> {
  if (server === 'off') return undefined
  const states = await mapInParallel(chain, async (name) => {
    const parts = await archive.listParts(name, { signal })
    return { name, state: await readChecksumState(archive, parts, { signal }) }
  })
  const found = states.find(({ state }) => state !== 'on')
  if (!found) return undefined
  const is =
    found.state === undefined
      ? 'has a pg_control that does not show whether its pages have checksums'
      : `was taken with data_checksums = ${found.state}`
  const below = found.name === chain[0] ? '' : `, which ${chain[0]} builds on,`
  return {
    code: 'checksums',
    message: `${found.name}${below} ${is}, and the server has ${server}: pages that have not changed since may have no checksum`,
    hint: 'a delta can build on the full backup that is taken once data_checksums is on',
  }
}
