/**
 * An archive belongs to one cluster, with one WAL segment size. The marker `walrx_005/system.json` is created by the
 * first writer, atomically where the storage can; an archive that WAL-G or WAL-RUS has begun has no marker, but its
 * sentinels and segments show the cluster.
 *
 * The system identifier alone is not enough: `pg_resetwal --wal-segsize` keeps it, and from then on the same names stand
 * for other WAL.
 */
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { formatJson, jsonBigint } from '../../primitives/json/json.ts'
import { decodePageHeader, longHeaderSize } from '../../postgres/wal/wal-page.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { systemKey, walFolder } from '../names.ts'
import { listSentinels } from '../backup/backup-listing.ts'
import { readDocument } from '../stored/stored-reader.ts'
import { createDocument } from '../stored/stored-writer.ts'
import { parseMarker, readSystem } from './system-marker.ts'
import type { WalObject, WalReader } from './wal-reader.ts'

/** A cluster, as far as an archive is bound to it. */
export interface BoundCluster {
  readonly systemId: bigint
  /** Bytes of one segment. */
  readonly segmentSize: number
}

/**
 * Binds the archive to a cluster, or finds that it is bound to it.
 * @throws WALRX_OTHER_CLUSTER when marker, backups or segments are of another, or of another segment size
 */
export async function bindSystem(
  storage: Storage,
  reader: WalReader,
  cluster: BoundCluster,
  options?: StorageCallOptions,
): Promise<void> {
  if ((await checkSystem(storage, reader, cluster, options)) === 'bound') return
  const marker = formatJson({ SystemIdentifier: cluster.systemId, WalSegmentSize: cluster.segmentSize })
  const outcome = await createDocument(storage, systemKey, Buffer.from(`${marker}\n`), options)
  if (outcome === 'created') return
  const winner = await readSystem(storage, options)
  if (winner) check(storage, cluster, { ...winner, key: systemKey })
}

/**
 * Whether the archive is bound to this cluster, or may be; writes nothing.
 * @returns `free` where it has no marker
 * @throws WALRX_OTHER_CLUSTER as {@link bindSystem} does
 */
export async function checkSystem(
  storage: Storage,
  reader: WalReader,
  cluster: BoundCluster,
  options?: StorageCallOptions,
): Promise<'bound' | 'free'> {
  const bound = await readSystem(storage, options)
  if (bound) check(storage, cluster, { ...bound, key: systemKey })
  if (bound?.segmentSize !== undefined) return 'bound'
  const backups = bound ? undefined : await systemOfBackups(storage, options)
  for (const found of [backups, await systemOfSegments(reader, storage, options)]) {
    if (found) check(storage, cluster, found)
  }
  return bound ? 'bound' : 'free'
}

function check(storage: Storage, ours: BoundCluster, { key, segmentSize, systemId }: FoundSystem): void {
  if (ours.systemId !== systemId) {
    throw new WalrxError(
      'WALRX_OTHER_CLUSTER',
      `${storage.location} belongs to the cluster with system identifier ${systemId} (${key}), this server's is ${ours.systemId}`,
      { hint: 'give each cluster a prefix of its own; after initdb or pg_upgrade, use a new prefix' },
    )
  }
  if (segmentSize === undefined || ours.segmentSize === segmentSize) return
  throw new WalrxError(
    'WALRX_OTHER_CLUSTER',
    `${storage.location} holds WAL in segments of ${segmentSize} bytes (${key}), wal_segment_size of this server is ${ours.segmentSize} bytes`,
    {
      hint: 'after pg_resetwal --wal-segsize, use a new prefix and take a full backup; what this prefix holds stays restorable',
    },
  )
}

/** What an object says. */
interface FoundSystem {
  readonly systemId: bigint
  /** Undefined where the object does not have it. */
  readonly segmentSize: number | undefined
  readonly key: string
}

/** How many of the newest backups are asked: WAL-G leaves the identifier out where it could not read it. */
const sentinelsMax = 5

/** The system identifier of the newest backup that has one in its sentinel. */
async function systemOfBackups(storage: Storage, options?: StorageCallOptions): Promise<FoundSystem | undefined> {
  const sentinels = await listSentinels(storage, options)
  sentinels.sort((a, b) => b.lastModifiedMs - a.lastModifiedMs)
  for (const { key } of sentinels.slice(0, sentinelsMax)) {
    const fields = parseMarker((await readDocument(storage, key, options)).toString(), `${storage.location}/${key}`)
    const systemId = jsonBigint(fields.SystemIdentifier)
    if (systemId !== undefined) return { systemId, segmentSize: undefined, key }
  }
  return undefined
}

/** System identifier and segment size in the first page of the newest segment. */
async function systemOfSegments(
  reader: WalReader,
  storage: Storage,
  options?: StorageCallOptions,
): Promise<FoundSystem | undefined> {
  const newest = await reader.newestSegment(options)
  if (!newest) return undefined
  const header = decodePageHeader(await headOf(reader, newest, options))
  if (header?.long) return { ...header.long, key: newest.key }
  throw unreadable(storage, newest.key)
}

/** The first bytes of a segment, as many as its long header has; fewer when there are no more. */
async function headOf(reader: WalReader, segment: WalObject, options?: StorageCallOptions): Promise<Buffer> {
  const head: Uint8Array[] = []
  let length = 0
  try {
    const file = await reader.openWalFile(segment.name, segment.extension, options)
    for await (const chunk of file?.body ?? []) {
      head.push(Buffer.from(chunk))
      length += chunk.length
      if (length >= longHeaderSize) break
    }
  } catch (error) {
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED') && !hasCode(error, 'WALRX_CODEC_UNSUPPORTED')) throw error
    throw unreadable({ location: reader.location }, segment.key, error)
  }
  return Buffer.concat(head)
}

function unreadable({ location }: Pick<Storage, 'location'>, key: string, cause?: unknown): WalrxError {
  return new WalrxError('WALRX_OTHER_CLUSTER', `${location}/${key} is not a WAL segment that walrx can read`, {
    hint: `what is in ${walFolder} may be damaged, or written by another program: move it away, or use a new prefix`,
    cause,
  })
}
