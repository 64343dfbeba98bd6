/**
 * The data directory that `backup-push PGDATA` names, as WAL-G's users type it. walrx reads no file of it: the backup comes
 * over the replication connection. But an operator who names a directory means its server, and no other.
 */
import { controlFilePath, readSystemIdentifier } from '../../postgres/system-identifier.ts'
import type { PgServer } from '../../postgres/connect/connection.ts'
import type { Logger } from '../../observe/log.ts'
import { toWalrxError, WalrxError } from '../../primitives/errors.ts'

const leaveOut = 'leave the directory out: the backup comes over the replication connection, also from another machine'

/**
 * Checks that a data directory is the server's, by the system identifier; undefined is none, and nothing is checked.
 * @throws WALRX_USAGE where it cannot be read, or is another cluster's; what the connection says
 */
export async function checkGivenDirectory(
  path: string | undefined,
  server: Pick<PgServer, 'connect'>,
  { log, signal }: { readonly log: Logger; readonly signal: AbortSignal },
): Promise<void> {
  if (path === undefined) return
  const systemId = await readSystemIdentifier(path).catch((error: unknown) => {
    const { message } = toWalrxError(error)
    const text = `${path} is no data directory that can be read here: ${controlFilePath} is needed (${message})`
    throw new WalrxError('WALRX_USAGE', text, { hint: leaveOut, cause: error })
  })
  const session = await server.connect(signal)
  try {
    const { systemId: ofServer } = await session.identifySystem()
    if (ofServer !== systemId) {
      throw new WalrxError(
        'WALRX_USAGE',
        `${path} is of the cluster with system identifier ${systemId}, and the server at ${session.host} is of ${ofServer}`,
        { hint: 'name the server of that directory with --dbname, or leave the directory out' },
      )
    }
  } finally {
    await session.close()
  }
  log.info('the backup comes over the replication connection: the data directory was only compared with the server', {
    directory: path,
    systemId,
  })
}
