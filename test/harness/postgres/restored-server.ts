/** Servers on what `walrx backup-fetch` made. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { appendFile, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { join } from 'node:path'
import { until } from '../time/until.ts'
import { runWalrx } from '../walrx/walrx-process.ts'
import { serverIdentity } from './postgres-files.ts'
import { openAndStart, type PgMajor, type TestPostgres } from './postgres.ts'

/**
 * Starts the data directory in `<directory>/data` and waits until its recovery has ended by promotion.
 * @param tablespaces folders outside of it; they are given to the server too
 * @param env added to the server's environment, and so to its restore_command's
 */
export async function startRestored(
  directory: string,
  major: PgMajor,
  tablespaces: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<TestPostgres> {
  await restoredToServer(directory, tablespaces)
  const server = await openAndStart(directory, { major, env })
  try {
    await until('the end of the recovery', async () => {
      const [row] = await server.sql<{ recovering: boolean }>('select pg_is_in_recovery() as recovering')
      return row?.recovering === false
    })
    return server
  } catch (error) {
    await server[Symbol.asyncDispose]()
    throw error
  }
}

/** Makes the server the owner of the data directory in `<directory>/data`, and of these folders. */
export async function restoredToServer(directory: string, tablespaces: readonly string[] = []): Promise<void> {
  const { uid, gid } = serverIdentity
  const paths = [join(directory, 'data'), ...tablespaces]
  if (uid !== undefined) await promisify(execFile)('chown', ['-R', `${uid}:${gid}`, ...paths])
}

/**
 * As {@link startRestored}, of a data directory without a recovery of its own: it recovers by walrx's restore_command, to the end.
 * @param prefix the archive's prefix for walrx
 */
export async function startRecovering(
  directory: string,
  major: PgMajor,
  prefix: readonly string[],
  tablespaces: readonly string[] = [],
): Promise<TestPostgres> {
  const data = join(directory, 'data')
  const restoreCommand = await runWalrx(['restore-command', ...prefix])
  assert.equal(restoreCommand.status, 0, restoreCommand.stderr)
  await appendFile(join(data, 'postgresql.auto.conf'), restoreCommand.stdout)
  await writeFile(join(data, 'recovery.signal'), '')
  return startRestored(directory, major, tablespaces)
}
