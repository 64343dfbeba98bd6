/**
 * An archive belongs to one cluster. The marker `walrx_005/system.json` is created by whoever comes first, atomically
 * where the storage can; an archive that WAL-G or WAL-RUS has begun has no marker, but its sentinels and segments say
 * whose it is.
 */
import { WalrxError } from '../primitives/errors.ts'
import { formatJson, jsonBigint, type JsonValue, parseJson } from '../primitives/json.ts'
import { decodePageHeader, longHeaderSize } from '../postgres/wal-page.ts'
import { readObject, type Storage, type StorageCallOptions } from '../storage/storage.ts'
import { basebackupsFolder, sentinelSuffix, systemKey, walFolder } from './names.ts'
import type { WalReader } from './wal-reader.ts'

/** What the marker says. */
export interface SystemBinding {
  readonly systemId: bigint
  /** Bytes of one segment; undefined in a marker that does not tell. */
  readonly segmentSize: number | undefined
}

/** The marker; undefined where there is none. Throws WALRX_OBJECT_DAMAGED when it cannot be read. */
export async function readSystem(storage: Storage, options?: StorageCallOptions): Promise<SystemBinding | undefined> {
  if (!(await storage.head(systemKey, options))) return undefined
  const fields = parseObject((await readObject(storage, systemKey, options)).toString(), systemKey)
  const systemId = jsonBigint(fields.SystemIdentifier)
  if (systemId === undefined) {
    throw new WalrxError('WALRX_OBJECT_DAMAGED', `${storage.location}/${systemKey} names no SystemIdentifier`)
  }
  const segmentSize = jsonBigint(fields.WalSegmentSize)
  return { systemId, segmentSize: segmentSize === undefined ? undefined : Number(segmentSize) }
}

/**
 * Binds the archive to a cluster, or finds that it is bound to it.
 * @throws WALRX_OTHER_CLUSTER when marker, backups or segments are of another
 */
export async function bindSystem(
  storage: Storage,
  reader: WalReader,
  systemId: bigint,
  segmentSize: number,
  options?: StorageCallOptions,
): Promise<void> {
  const bound = await readSystem(storage, options)
  if (bound) return check(storage, systemId, bound.systemId, systemKey)
  const found = (await systemOfBackups(storage, options)) ?? (await systemOfSegments(reader, storage, options))
  if (found) check(storage, systemId, found.systemId, found.key)
  const marker = formatJson({ SystemIdentifier: systemId, WalSegmentSize: segmentSize })
  const outcome = await storage.putIfAbsent(systemKey, Buffer.from(`${marker}\n`), options)
  if (outcome === 'created') return
  const winner = await readSystem(storage, options)
  if (winner) check(storage, systemId, winner.systemId, systemKey)
}

function check(storage: Storage, ours: bigint, theirs: bigint, key: string): void {
  if (ours === theirs) return
  throw new WalrxError(
    'WALRX_OTHER_CLUSTER',
    `${storage.location} belongs to the cluster with system identifier ${theirs} (${key}), this server's is ${ours}`,
    { hint: 'give each cluster a prefix of its own; after initdb or pg_upgrade begin a new one' },
  )
}

function parseObject(text: string, key: string): { readonly [key: string]: JsonValue } {
  try {
    const value = parseJson(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as { [key: string]: JsonValue }
  } catch {
    // Falls through to the error below.
  }
  throw new WalrxError('WALRX_OBJECT_DAMAGED', `${key} is no JSON object`)
}

interface FoundSystem {
  readonly systemId: bigint
  readonly key: string
}

/** The system identifier of the newest backup whose sentinel tells one. */
async function systemOfBackups(storage: Storage, options?: StorageCallOptions): Promise<FoundSystem | undefined> {
  let newest: { key: string; lastModifiedMs: number } | undefined
  for await (const info of storage.list(basebackupsFolder, options)) {
    if (!info.key.endsWith(sentinelSuffix)) continue
    if (!newest || info.lastModifiedMs >= newest.lastModifiedMs) newest = info
  }
  if (!newest) return undefined
  const fields = parseObject((await readObject(storage, newest.key, options)).toString(), newest.key)
  const systemId = jsonBigint(fields.SystemIdentifier)
  return systemId === undefined ? undefined : { systemId, key: newest.key }
}

/** The system identifier in the first archived segment's first page. */
async function systemOfSegments(
  reader: WalReader,
  storage: Storage,
  options?: StorageCallOptions,
): Promise<FoundSystem | undefined> {
  for await (const { kind, name, extension, key } of reader.walObjects(options)) {
    if (kind !== 'segment') continue
    const head: Uint8Array[] = []
    let length = 0
    const file = await reader.openWalFile(name, extension, options)
    if (!file) return undefined
    for await (const chunk of file.body) {
      head.push(Buffer.from(chunk))
      length += chunk.length
      if (length >= longHeaderSize) break
    }
    const header = decodePageHeader(Buffer.concat(head))
    if (!header?.long) {
      throw new WalrxError(
        'WALRX_OTHER_CLUSTER',
        `${storage.location}/${key} is no WAL segment that can be read here`,
        {
          hint: `is ${walFolder} encrypted, or written by something else? begin a new prefix`,
        },
      )
    }
    return { systemId: header.long.systemId, key }
  }
  return undefined
}
