/** Makes sure that the target is free, or has the archive of the same cluster, and binds it before anything is copied. */
import { hasCode, isOfKey, WalrxError } from '../primitives/errors.ts'
import { decodePageHeader } from '../postgres/wal/wal-page.ts'
import type { Storage, StorageCallOptions } from '../storage/storage.ts'
import { bindSystem, type BoundCluster, checkSystem } from '../walg/wal/system-binding.ts'
import { readSystem } from '../walg/wal/system-marker.ts'
import { WalReader } from '../walg/wal/wal-reader.ts'
import type { ScopedBackup } from './scope/scoped-backups.ts'

/** Of a server that nobody asked, and an archive that nobody can read. */
export const defaultSegmentSize = 16 * 1024 * 1024

/** What an archive says of its cluster. */
export interface SourceCluster {
  readonly systemId: bigint | undefined
  /** Bytes; undefined where only the content of a segment would show it, and no key opens one. */
  readonly segmentSize: number | undefined
}

/** The cluster of the source: by its marker, else by the first page of its newest segment. */
export async function clusterOf(source: Storage, options?: StorageCallOptions): Promise<SourceCluster> {
  const marker = await readSystem(source, options)
  if (marker?.segmentSize !== undefined) return marker
  const header = await newestHeader(source, options)
  return { systemId: marker?.systemId ?? header?.systemId, segmentSize: header?.segmentSize }
}

async function newestHeader(
  source: Storage,
  options?: StorageCallOptions,
): Promise<{ readonly systemId: bigint; readonly segmentSize: number } | undefined> {
  const reader = new WalReader(source)
  const newest = await reader.newestSegment(options)
  if (!newest) return undefined
  try {
    const file = await reader.openForm(newest, options)
    for await (const piece of file?.body ?? []) return decodePageHeader(Buffer.from(piece))?.long
  } catch (error) {
    const isUnreadable = hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_CODEC_UNSUPPORTED')
    if (!isUnreadable && !isOfKey(error)) throw error
  }
  return undefined
}

/**
 * Checks that the target may get the copy; binds it where `binds`.
 * @throws WALRX_OTHER_CLUSTER where it belongs to another cluster, or the source has backups of several
 */
export async function claimTarget(
  {
    backups,
    cluster,
    source,
    target,
  }: {
    readonly source: Storage
    readonly target: Storage
    readonly cluster: SourceCluster
    readonly backups: readonly ScopedBackup[]
  },
  binds: boolean,
  options?: StorageCallOptions,
): Promise<void> {
  const stranger = backups.find(
    ({ systemId }) => systemId !== undefined && cluster.systemId !== undefined && systemId !== cluster.systemId,
  )
  if (stranger) {
    throw new WalrxError(
      'WALRX_OTHER_CLUSTER',
      `${source.location} belongs to the cluster with system identifier ${cluster.systemId}, and ${stranger.name} is a backup of ${stranger.systemId}`,
      { hint: 'an archive has one cluster: move what is of another one to a prefix of its own' },
    )
  }
  const systemId = cluster.systemId ?? backups.findLast((backup) => backup.systemId !== undefined)?.systemId
  // Nothing says whose WAL it is: names are compared one by one all the same.
  if (systemId === undefined) return
  const reader = new WalReader(target)
  try {
    const size = cluster.segmentSize ?? (await readSystem(target, options))?.segmentSize ?? defaultSegmentSize
    const bound: BoundCluster = { systemId, segmentSize: size }
    if (binds && cluster.segmentSize !== undefined) await bindSystem(target, reader, bound, options)
    else await checkSystem(target, reader, bound, options)
  } catch (error) {
    if (hasCode(error, 'WALRX_OTHER_CLUSTER')) throw ofTarget(error)
    // Its newest segment opens with other keys.
    if (!isOfKey(error)) throw error
  }
}

function ofTarget(error: WalrxError): WalrxError {
  const message = error.message
    .replace("this server's is", "the source's is")
    .replace('of this server', 'of the source')
  return new WalrxError('WALRX_OTHER_CLUSTER', message, {
    hint: 'each cluster has a prefix of its own: copy to another one',
    cause: error,
  })
}
