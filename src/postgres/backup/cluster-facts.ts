/** The facts about a cluster that a replication connection can read. */
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { type ChecksumState, parseShownState } from '../control-file.ts'
import type { ReplicationSession } from '../protocol/session.ts'
import { parseSegmentSize } from '../wal/wal-file.ts'

/** See {@link readClusterFacts}. */
export interface ClusterFacts {
  readonly systemId: bigint
  /** server_version_num, e.g. 170010. */
  readonly serverVersion: number
  /** Bytes of a WAL segment. */
  readonly segmentSize: number
  /** Bytes of a page. */
  readonly blockSize: number
  /** Whether pages have checksums. */
  readonly checksums: ChecksumState
  /** Undefined where the role may not see it: that needs pg_read_all_settings. */
  readonly dataDirectory: string | undefined
}

/**
 * Reads all of them, with five commands.
 * @throws ServerError, WALRX_CONNECTION_LOST, WALRX_PROTOCOL for values that no server has
 */
export async function readClusterFacts(
  session: Pick<ReplicationSession, 'host' | 'identifySystem' | 'serverVersion' | 'show'>,
): Promise<ClusterFacts> {
  const { systemId } = await session.identifySystem()
  const segmentSize = parseSegmentSize(await session.show('wal_segment_size'))
  const blockSize = await session.show('block_size')
  if (!/^\d{1,5}$/.test(blockSize)) {
    throw new WalrxError('WALRX_PROTOCOL', `${session.host} reported block_size "${blockSize}", which is not a number`)
  }
  return {
    systemId,
    serverVersion: session.serverVersion,
    segmentSize,
    blockSize: Number(blockSize),
    checksums: parseShownState(await session.show('data_checksums')),
    dataDirectory: await readDataDirectory(session),
  }
}

function readDataDirectory(session: Pick<ReplicationSession, 'show'>): Promise<string | undefined> {
  return showIfAllowed(session, 'data_directory')
}

/** Settings that name the files that a server cannot start without, or lets nobody in. */
const fileSettings = ['config_file', 'hba_file', 'ident_file'] as const

/**
 * Configuration files that no backup has, because they are not in the data directory; by the setting that names them.
 * Empty where the role may not see that.
 */
export async function readOutside(
  session: Pick<ReplicationSession, 'show'>,
  dataDirectory: string | undefined,
): Promise<Record<string, string>> {
  const outside: Record<string, string> = {}
  if (dataDirectory === undefined) return outside
  for (const setting of fileSettings) {
    const path = await showIfAllowed(session, setting)
    if (path !== undefined && path !== '' && !path.startsWith(`${dataDirectory}/`)) outside[setting] = path
  }
  return outside
}

async function showIfAllowed(session: Pick<ReplicationSession, 'show'>, setting: string): Promise<string | undefined> {
  try {
    return await session.show(setting)
  } catch (error) {
    if (hasCode(error, 'WALRX_NO_PRIVILEGE')) return undefined
    throw error
  }
}
