/** Copies of a test server's data directory, and what can be started on one: standbys and recoveries. */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { until } from '../time/until.ts'
import { newServerDirectory } from '../walrx/test-workspace.ts'
import { copyTree, giveToServer, makeServerDirectory, superuser } from './postgres-files.ts'
import { openAndStart, type PostgresOptions, type TestPostgres } from './postgres.ts'

/** A copy of a data directory. Recovery may start on it once; copy it again with {@link copyTree} for more. */
export interface DataDirCopy {
  readonly major: PostgresOptions['major']
  /** Holds the copy in `data`. */
  readonly directory: string
  readonly dataDir: string
}

/** Contents that belong to the running server only; the same list as basebackup.c's excludeDirContents. */
const emptied = /^(pg_replslot|pg_dynshmem|pg_notify|pg_serial|pg_snapshots|pg_stat_tmp|pg_subtrans)\/./
const leftOut = /^postmaster\.(pid|opts)$/

/**
 * Copies the data directory: of a running server as a base backup (with backup_label), of a stopped one as it lies.
 * @param wal false leaves pg_wal empty, so that recovery must get everything from the archive
 */
export async function copyDataDir(server: TestPostgres, wal: boolean): Promise<DataDirCopy> {
  const directory = newServerDirectory(`copy${server.major}`)
  const dataDir = join(directory, 'data')
  await makeServerDirectory(directory, 0o755)
  const skipWal = (path: string) => path.startsWith('pg_wal/')
  const skip = (path: string) => skipWal(path) || emptied.test(path) || leftOut.test(path)
  if (server.pid === undefined) await copyTree(server.dataDir, dataDir, skip)
  else await copyOnline(server, dataDir, skip)
  if (wal) await copyTree(server.pgWal(), join(dataDir, 'pg_wal'))
  else await makeServerDirectory(join(dataDir, 'pg_wal/archive_status'), 0o700)
  return { major: server.major, directory, dataDir }
}

async function copyOnline(server: TestPostgres, dataDir: string, skip: (path: string) => boolean): Promise<void> {
  // Start and stop must happen in one session.
  const client = await server.client()
  try {
    const old = server.major < 15
    await client.query(old ? "select pg_start_backup('test', true, false)" : "select pg_backup_start('test', true)")
    await copyTree(server.dataDir, dataDir, skip)
    const stop = old ? 'pg_stop_backup(false, false)' : 'pg_backup_stop(false)'
    const { rows } = await client.query<{ labelfile: string }>(`select labelfile from ${stop}`)
    await writeServerFile(join(dataDir, 'backup_label'), rows[0]?.labelfile ?? '')
  } finally {
    await client.end()
  }
}

async function writeServerFile(path: string, content: string): Promise<void> {
  await writeFile(path, content, { mode: 0o600 })
  await giveToServer(path)
}

/** Options of {@link startStandby}. */
export interface StandbyOptions {
  readonly settings?: Readonly<Record<string, string>>
  /** The physical slot on the primary that the standby uses; it must exist. */
  readonly slot?: string
  /** application_name of its walreceiver, and so its name in synchronous_standby_names. Default `standby`. */
  readonly name?: string
}

/** Starts a hot standby that streams from `primary`, and waits until it answers. */
export async function startStandby(primary: TestPostgres, options: StandbyOptions = {}): Promise<TestPostgres> {
  const copy = await copyDataDir(primary, true)
  await writeServerFile(join(copy.dataDir, 'standby.signal'), '')
  const name = options.name ?? 'standby'
  const conninfo = `host=${primary.socketDir} port=${primary.port} user=${superuser} application_name=${name}`
  return openAndStart(copy.directory, {
    major: copy.major,
    settings: {
      primary_conninfo: conninfo,
      ...(options.slot !== undefined && { primary_slot_name: options.slot }),
      ...options.settings,
    },
  })
}

/**
 * Waits until a standby has replayed everything that `primary` has written. The insert position right after a switch, or
 * at the end of a page, is beyond the header of a page that nobody has begun. Replay ends before that header, and would
 * reach the position only with the next record: the background writer's, up to 15 seconds later.
 */
export async function untilReplayed(standby: TestPostgres, primary: TestPostgres): Promise<void> {
  // Headers of the first page of a segment and of the others: XLogLongPageHeaderData and XLogPageHeaderData.
  const [goal] = await primary.sql<{ lsn: string }>(`
    select (lsn - case when (lsn - '0/0') % pg_size_bytes(current_setting('wal_segment_size')) = 40 then 40
      when (lsn - '0/0') % 8192 = 24 then 24 else 0 end)::text as lsn
    from pg_current_wal_insert_lsn() as lsn`)
  await until('the standby to replay everything', async () => {
    const [row] = await standby.sql<{ done: boolean }>(`select pg_last_wal_replay_lsn() >= '${goal?.lsn}' as done`)
    return row?.done
  })
}

/** Options of {@link startRecovery}. */
export interface RecoveryOptions {
  /** Consumed: the recovery runs in it. */
  readonly copy: DataDirCopy
  readonly restoreCommand: string
  /** `recovery` ends when the archive does and promotes; `standby` keeps asking. Default recovery. */
  readonly signal?: 'recovery' | 'standby'
  readonly settings?: Readonly<Record<string, string>>
  readonly env?: Readonly<Record<string, string>>
  /**
   * True waits until the server has recovered, as a `standby` until it answers. False returns while it still recovers:
   * use `ready`, `recovered` or `ended`. Default true.
   */
  readonly wait?: boolean
}

/**
 * Starts recovery from an archive. The restore command runs as the server's user, with the data directory as its
 * working directory.
 */
export async function startRecovery(options: RecoveryOptions): Promise<TestPostgres> {
  const { copy, env, settings, signal } = options
  await writeServerFile(join(copy.dataDir, `${signal ?? 'recovery'}.signal`), '')
  const server: PostgresOptions = {
    major: copy.major,
    settings: { restore_command: options.restoreCommand, ...settings },
    ...(env && { env }),
  }
  const wait = options.wait ?? true
  const recovering = await openAndStart(copy.directory, server, wait)
  if (wait && signal !== 'standby') await recovering.recovered()
  return recovering
}

/** Removes a copy that nothing was started on. */
export async function removeCopy(copy: DataDirCopy): Promise<void> {
  await rm(copy.directory, { recursive: true, force: true })
}
