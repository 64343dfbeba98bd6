/**
 * The same WAL, archived by one receiver for each row of the table of encryption: whole segments, a timeline's last one as a
 * partial, a history, and chunks of the segment that is not finished.
 */
import assert from 'node:assert/strict'
import { chmod, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import { type EncryptionRow, settingsOf } from '../../harness/crypto/encryption-rows.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { startStandby, untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { archivedKeys } from '../../harness/store/archive-check.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'

const segmentSize = 1024 * 1024

/** An archive of one row. */
export interface RowArchive {
  readonly row: EncryptionRow
  readonly root: string
  /** Where it is, and how it is encrypted. */
  readonly env: Readonly<Record<string, string>>
}

/** A WAL file, and what it has to be. */
export interface ExpectedFile {
  readonly name: string
  /** Of a partial, what comes before the end of the timeline: zeros follow. */
  readonly content: Buffer
}

/** See the file's header. */
export interface ReceiverWorld {
  readonly root: string
  readonly archives: ReadonlyMap<EncryptionRow, RowArchive>
  /** In the order of the receivers: the same in all archives. */
  readonly files: readonly ExpectedFile[]
}

/** True where a file's bytes are what they have to be. */
export function isExpected(content: Buffer, { content: expected, name }: ExpectedFile): boolean {
  if (!name.endsWith('.partial')) return content.equals(expected)
  const rest = content.subarray(expected.length)
  return content.subarray(0, expected.length).equals(expected) && rest.every((byte) => byte === 0)
}

/** Receives, fails over to a standby, receives more, and kills the receivers. */
export async function makeReceiverWorld(rows: readonly EncryptionRow[]): Promise<ReceiverWorld> {
  const root = newServerDirectory('encrypted-wal')
  await mkdir(root, { recursive: true })
  const settings = { max_replication_slots: '40', max_wal_senders: '40', wal_keep_size: '256MB' }
  await using primary = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
  await using standby = await startStandby(primary, { settings })
  await primary.sql('create table t (text text)')
  const archives = await Promise.all(rows.map((row, index) => makeArchive(row, join(root, `archive-${index}`))))
  const ports = [primary, standby].map(({ port }) => port).join()
  const receivers = archives.map(({ env }, index) => receive(`host=127.0.0.1,127.0.0.1 port=${ports}`, env, index))
  try {
    const files = await writeBoth(primary, standby, receivers)
    return { root, archives: new Map(archives.map((archive) => [archive.row, archive])), files }
  } finally {
    for (const receiver of receivers) await receiver[Symbol.asyncDispose]()
  }
}

async function makeArchive(row: EncryptionRow, root: string): Promise<RowArchive> {
  await mkdir(root, { recursive: true })
  await chmod(root, 0o777)
  const env = { ...(await settingsOf(row, join(root, '..'))), WALG_FILE_PREFIX: root, WALG_PG_WAL_SIZE: '1' }
  return { row, root, env }
}

function receive(conninfo: string, env: Readonly<Record<string, string>>, index: number): WalrxProcess {
  const flags = ['--tail-interval=50ms', '--log-level=debug', '--dbname', `${conninfo} user=postgres`]
  return startWalrx(['wal-receive', ...flags], { env: { ...env, WALG_SLOTNAME: `row_${index}` } })
}

async function writeBoth(
  primary: TestPostgres,
  standby: TestPostgres,
  receivers: readonly WalrxProcess[],
): Promise<ExpectedFile[]> {
  const all = (wait: (receiver: WalrxProcess) => Promise<unknown>) => Promise.all(receivers.map(wait))
  await all((receiver) => receiver.logged('streaming'))
  const [row] = await primary.sql<{ name: string }>('select pg_walfile_name(pg_current_wal_insert_lsn()) as name')
  const first = row?.name ?? ''
  await generateWal(primary, { segments: 1, fill: 'full' })
  await generateWal(primary, { segments: 1 })
  const names = [first, segmentAfter(first)]
  await all(async (receiver) => {
    for (const name of names) await receiver.logged(({ file, msg }) => msg === 'archived' && file === name)
  })
  const segments = await Promise.all(
    names.map(async (name) => ({ name, content: await readFile(join(primary.pgWal(), name)) })),
  )
  await untilStored(primary, receivers)
  await untilReplayed(standby, primary)
  await primary.kill9()
  await standby.promote()
  await all((receiver) => receiver.logged(({ msg, timeline }) => msg === 'streaming' && timeline === 2))
  await untilStored(standby, receivers)
  const history = { name: '00000002.history', content: await readFile(join(standby.pgWal(), '00000002.history')) }
  const files = [...segments, history, await partialBefore(standby, history.content.toString())]
  await all((receiver) => receiver.stop('SIGKILL'))
  return files
}

function segmentAfter(name: string): string {
  return name.slice(0, 16) + (parseInt(name.slice(16), 16) + 1).toString(16).toUpperCase().padStart(8, '0')
}

/** Writes a row, and waits until every archive has it, in a chunk of the segment's tail. */
async function untilStored(server: TestPostgres, receivers: readonly WalrxProcess[]): Promise<void> {
  await server.sql(`insert into t select md5(i::text) from generate_series(1, 1000) i`)
  const [row] = await server.sql<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn')
  const end = parseLsn(row?.lsn ?? '')
  await Promise.all(
    receivers.map((receiver) => receiver.logged(({ msg, upTo }) => msg === 'stored' && parseLsn(String(upTo)) >= end)),
  )
}

/** The last segment of timeline 1: the new timeline's first has the same bytes up to the switch. */
async function partialBefore(server: TestPostgres, history: string): Promise<ExpectedFile> {
  const end = parseLsn(history.split('\t')[1] ?? '')
  const bytes = Number(end % BigInt(segmentSize))
  const number = (end / BigInt(segmentSize)).toString(16).toUpperCase().padStart(8, '0')
  const name = (timeline: number) => `0000000${timeline}00000000${number}`
  const content = await readFile(join(server.pgWal(), name(2)))
  return { name: `${name(1)}.partial`, content: content.subarray(0, bytes) }
}

/** The object of a WAL file in an archive. */
export function objectOf({ root }: RowArchive, name: string): string {
  const keys = archivedKeys(root).filter((key) => key.replace(/\.(zst|lz4|br)$/, '') === `wal_005/${name}`)
  assert.equal(keys.length, 1, `${name} in ${keys.join()}`)
  return join(root, keys[0] ?? '')
}
