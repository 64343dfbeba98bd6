/** Whether a directory that is not empty may be restored over: it is a data directory of the backup's cluster. */
import fs from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { WalrxError } from '../../../primitives/errors.ts'
import { shellWord } from '../../../primitives/shell-word.ts'
import { controlFilePath, readSystemIdentifier } from '../../../postgres/system-identifier.ts'
import { clusterOfMarker, incompleteMarker, readable } from '../backup-fetch.ts'
import type { BackupDocuments } from '../backup-documents.ts'
import { mappingPath, type PlacedTablespace, refuseUsedFolders } from '../tablespaces.ts'

/** True where there is something to restore over: more than an empty pg_wal. Throws WALRX_RESTORE_FAILED. */
export async function isUsed(destination: string): Promise<boolean> {
  const names = (await readable(destination)) ?? []
  if (names.some((name) => name !== 'pg_wal')) return true
  return names.length > 0 && ((await readable(join(destination, 'pg_wal'))) ?? []).length > 0
}

/**
 * Refuses a directory that is not a data directory, and one in which another program's restore has stopped.
 * @returns its system identifier; undefined for one that an interrupted restore of walrx has left without pg_control and without
 * a word about its cluster
 * @throws WALRX_RESTORE_FAILED
 */
export async function clusterOf(destination: string): Promise<bigint | undefined> {
  const marker = await read(join(destination, incompleteMarker))
  try {
    return await readSystemIdentifier(destination)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT') {
      throw new WalrxError('WALRX_RESTORE_FAILED', `${destination}/${controlFilePath} cannot be read: ${message}`, {
        cause: error,
      })
    }
  }
  if (marker !== undefined) return clusterOfMarker(marker)
  const hasVersion = (await read(join(destination, 'PG_VERSION'))) !== undefined
  const what = hasVersion
    ? `${destination} has no ${controlFilePath}: another restore has not come to its end there`
    : `${destination} is not empty, and no data directory: it has no ${controlFilePath}`
  throw new WalrxError('WALRX_RESTORE_FAILED', what, {
    hint: 'give the data directory of the cluster, or an empty directory',
  })
}

/**
 * Refuses a directory of another cluster, and a backup that cannot be compared with what is there.
 * @param cluster undefined where it is not known
 * @throws WALRX_OTHER_CLUSTER, WALRX_BACKUP_UNSUPPORTED
 */
export function refuseOtherCluster(
  destination: string,
  cluster: bigint | undefined,
  { manifest, name, sentinel: { systemIdentifier } }: BackupDocuments,
): void {
  if (!manifest || systemIdentifier === undefined) {
    const lacks = manifest ? 'system identifier' : 'manifest'
    throw new WalrxError(
      'WALRX_BACKUP_UNSUPPORTED',
      `${name} has no ${lacks}: nothing shows which files are as in it`,
      {
        hint: `only backups that walrx took can be restored with --delta: empty ${destination}, and restore without it`,
      },
    )
  }
  if (cluster === undefined || cluster === systemIdentifier) return
  throw new WalrxError(
    'WALRX_OTHER_CLUSTER',
    `${destination} is of the cluster with system identifier ${cluster}, and ${name} of that with ${systemIdentifier}`,
    { hint: 'give the data directory of that cluster, or an empty directory' },
  )
}

/**
 * Which tablespaces are where they are restored to: the links in the data directory lead there.
 * @returns the real directories by oid
 * @throws WALRX_RESTORE_FAILED for any other directory that holds something: it may be of another server
 */
export async function linkedTablespaces(
  destination: string,
  tablespaces: readonly PlacedTablespace[],
): Promise<ReadonlyMap<number, string>> {
  const linked = new Map<number, string>()
  for (const tablespace of tablespaces) {
    const { location, oid, original } = tablespace
    const link = join(destination, 'pg_tblspc', String(oid))
    const target = await fs.readlink(link).catch(() => undefined)
    const [real, wanted] = await Promise.all([realPath(link), realPath(location)])
    if (target !== undefined && real !== undefined && real === wanted) {
      linked.set(oid, real)
      continue
    }
    if (real !== undefined && target !== undefined && ((await readable(location)) ?? []).length > 0) {
      const mapping = `${mappingPath(original)}=${mappingPath(target)}`
      throw new WalrxError(
        'WALRX_RESTORE_FAILED',
        `tablespace ${oid} would be restored to ${location}, which is not empty, and not where ${link} leads: ${target}`,
        { hint: `to restore it to where it is: --tablespace-mapping ${shellWord(mapping)}` },
      )
    }
    await refuseUsedFolders([tablespace])
  }
  return linked
}

/** Refuses a `--waldir` that holds something, unless pg_wal leads there already. Throws WALRX_RESTORE_FAILED. */
export async function refuseUsedWalDirectory(destination: string, walDirectory: string | undefined): Promise<void> {
  if (walDirectory === undefined) return
  const [there, wanted] = await Promise.all([realPath(join(destination, 'pg_wal')), realPath(walDirectory)])
  if (wanted === undefined || wanted === there || ((await readable(walDirectory)) ?? []).length === 0) return
  throw new WalrxError('WALRX_RESTORE_FAILED', `${walDirectory} for the WAL is not empty`, {
    hint: 'give --waldir an empty or a new directory, or the one that pg_wal is a link to',
  })
}

/**
 * Refuses an archive that lies in what a restore clears.
 * @param archive the directory of the archive
 * @param directories of the data directory, of its tablespaces and of its WAL
 * @throws WALRX_USAGE
 */
export async function refuseArchiveWithin(archive: string, directories: readonly string[]): Promise<void> {
  const own = (await realPath(archive)) ?? resolve(archive)
  for (const directory of directories) {
    const real = (await realPath(directory)) ?? resolve(directory)
    if (/^\.\.(\/|$)/.test(relative(real, own))) continue
    throw new WalrxError('WALRX_USAGE', `the archive ${archive} is in ${directory}, which the restore would clear`, {
      hint: 'move the archive elsewhere, or restore into another directory',
    })
  }
}

function realPath(path: string): Promise<string | undefined> {
  return fs.realpath(path).catch(() => undefined)
}

async function read(path: string): Promise<string | undefined> {
  return fs.readFile(path, 'latin1').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw new WalrxError('WALRX_RESTORE_FAILED', `${path} cannot be read: ${error.message}`, { cause: error })
  })
}
