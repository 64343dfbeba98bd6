/** The marker `walrx_005/system.json`, which names the cluster that an archive belongs to. */
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { jsonBigint, type JsonValue, parseJson } from '../../primitives/json/json.ts'
import { segmentSizeMax, segmentSizeMin } from '../../postgres/wal/wal-file.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { systemKey } from '../names.ts'
import { readDocument } from '../stored/stored-reader.ts'

/** What the marker says. */
export interface SystemBinding {
  readonly systemId: bigint
  /** Bytes of one segment; undefined in a marker without it. */
  readonly segmentSize: number | undefined
}

/** What to do about a marker that cannot be read. It says nothing that the server and the WAL do not say. */
const remedy = `remove it with walrx st rm --force ${systemKey}: the next walrx wal-receive or backup-push writes it again`

/** The marker; undefined where there is none. Throws WALRX_OBJECT_DAMAGED when it cannot be read. */
export async function readSystem(storage: Storage, options?: StorageCallOptions): Promise<SystemBinding | undefined> {
  let content: Buffer
  try {
    content = await readDocument(storage, systemKey, options)
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return undefined
    throw error
  }
  const where = `${storage.location}/${systemKey}, which names the cluster of the archive,`
  const fields = parseMarker(content.toString(), where, remedy)
  const systemId = jsonBigint(fields.SystemIdentifier)
  if (systemId === undefined) {
    throw new WalrxError('WALRX_OBJECT_DAMAGED', `${where} has no SystemIdentifier`, { hint: remedy })
  }
  const segmentSize = jsonBigint(fields.WalSegmentSize)
  if (segmentSize === undefined) return { systemId, segmentSize }
  const isPossible = segmentSize >= segmentSizeMin && segmentSize <= segmentSizeMax
  if (!isPossible || (segmentSize & (segmentSize - 1n)) !== 0n) {
    throw new WalrxError('WALRX_OBJECT_DAMAGED', `${where} has the segment size ${segmentSize}`, { hint: remedy })
  }
  return { systemId, segmentSize: Number(segmentSize) }
}

/** The fields of a JSON object. Throws WALRX_OBJECT_DAMAGED, naming `key`, for anything else. */
export function parseMarker(text: string, key: string, hint?: string): { readonly [key: string]: JsonValue } {
  try {
    const value = parseJson(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as { [key: string]: JsonValue }
  } catch {
    // Falls through to the error below.
  }
  throw new WalrxError('WALRX_OBJECT_DAMAGED', `${key} is not a JSON object`, hint === undefined ? {} : { hint })
}
