/**
 * Real servers recover to every kind of target with the settings that walrx writes, and end where walrx predicts it.
 */
import assert from 'node:assert/strict'
import { chmod, copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { after, before, describe, test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import { parseLsn, toLsn } from '../../../src/postgres/lsn.ts'
import { isSegmentName } from '../../../src/postgres/wal/wal-file.ts'
import { transactionTime } from '../../../src/postgres/wal/wal-record.ts'
import { WalRecordReader } from '../../../src/postgres/wal/wal-record-reader.ts'
import { checkReachable, type RecoveryBackup } from '../../../src/restore/recovery/recovery-check.ts'
import type { RecoveryRequest, RecoveryTarget } from '../../../src/restore/recovery/recovery-request.ts'
import { writeRecoverySettings } from '../../../src/restore/recovery/recovery-settings.ts'
import { formatTimestamp, parseTimestamp } from '../../../src/postgres/timestamp.ts'
import { restoreCommand } from '../../../src/restore/wal/restore-command.ts'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { isFullRun, majorsFor, withNext } from '../../harness/extent.ts'
import { copyDataDir, removeCopy, startStandby, untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import { copyTree, giveToServer } from '../../harness/postgres/postgres-files.ts'
import {
  majorSkip,
  openAndStart,
  type PgMajor,
  startPostgres,
  type TestPostgres,
} from '../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { generateWal } from '../../harness/made/wal-load.ts'

const main = fileURLToPath(new URL('../../../src/main.ts', import.meta.url))

const plain: RecoveryRequest = {
  recover: true,
  target: undefined,
  inclusive: true,
  action: 'promote',
  timeline: 'latest',
  restoreCommand: undefined,
  archiveMode: 'off',
}

/** Where a row was inserted. */
interface Mark {
  readonly rows: number
  readonly lsn: string
  readonly xid: string
  readonly name: string
  /** The server's clock after the commit. */
  readonly time: string
}

/** Inserts a row and notes every kind of target just after it. */
async function mark(server: TestPostgres, rows: number): Promise<Mark> {
  const [insert] = await server.sql<{ xid: string }>(
    `insert into t values (${rows}) returning pg_current_xact_id()::text as xid`,
  )
  const [after] = await server.sql<{ lsn: string; time: string }>(
    'select pg_current_wal_insert_lsn()::text as lsn, clock_timestamp()::text as time',
  )
  await server.sql(`select pg_create_restore_point('after row ${rows}''s commit \\')`)
  return { rows, name: `after row ${rows}'s commit \\`, xid: insert?.xid ?? '', ...after! }
}

async function archiveWal(server: TestPostgres, archive: string): Promise<void> {
  await server.switchWal()
  const [row] = await server.sql<{ file: string }>('select pg_walfile_name(pg_current_wal_insert_lsn()) as file')
  const current = row?.file ?? ''
  for (const name of await readdir(server.pgWal())) {
    const isWhole = isSegmentName(name) && name < current && name.startsWith(current.slice(0, 8))
    if (!isWhole && !name.endsWith('.history')) continue
    const archived = join(archive, 'wal_005', name)
    await copyFile(join(server.pgWal(), name), archived)
    // The server runs as another user where the tests run as root.
    await chmod(archived, 0o644)
  }
}

/** A cluster with a backup, four rows after it, and a promoted standby with a fifth and sixth. */
async function makeWorld(major: PgMajor) {
  const root = newServerDirectory(`targets${major}`)
  const archive = join(root, 'archive')
  await mkdir(join(archive, 'wal_005'), { recursive: true })
  const settings = { wal_keep_size: '1GB', track_commit_timestamp: 'on', timezone: 'Asia/Kolkata' }
  await using server = await startPostgres({ major, segmentSizeMb: 1, settings })
  await server.sql('create table t (id int)')
  const startTime = parseTimestamp(new Date(Date.now() - 1000).toISOString())
  const base = await copyDataDir(server, false)
  const label = await readFile(join(base.dataDir, 'backup_label'), 'utf8')
  const [, start, file] = /^START WAL LOCATION: (\S+) \(file (\w+)\)/.exec(label) ?? []
  const [finish] = await server.sql<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn')
  const finishTime = parseTimestamp(new Date().toISOString())
  const marks: Mark[] = []
  for (let rows = 1; rows <= 4; rows++) {
    marks.push(await mark(server, rows))
    await generateWal(server, { segments: 1, fill: rows % 2 ? 'full' : 'switched' })
  }
  const times = await commitTimes(server)
  await using standby = await startStandby(server, { settings })
  await server.sql('select pg_switch_wal()')
  await untilReplayed(standby, server)
  await archiveWal(server, archive)
  await server.stop()
  await standby.promote()
  marks.push(await mark(standby, 5), await mark(standby, 6))
  await archiveWal(standby, archive)
  const backup: RecoveryBackup = {
    name: `base_${file}`,
    timeline: 1,
    startLsn: parseLsn(start ?? ''),
    finishLsn: parseLsn(finish?.lsn ?? ''),
    startTime,
    finishTime,
  }
  const reader = new WalReader(new FileStorage({ folders: archiveFolders, root: archive, fsync: false }))
  return { major, archive, base, backup, marks, reader, times }
}

type World = Awaited<ReturnType<typeof makeWorld>>

/** When the rows were committed, by the server, in microseconds since 2000. */
async function commitTimes(server: TestPostgres): Promise<bigint[]> {
  const rows = await server.sql<{ time: string }>(
    `select (extract(epoch from pg_xact_commit_timestamp(xmin) - '2000-01-01 00:00+00') * 1000000)::bigint::text as time
     from t order by id`,
  )
  return rows.map(({ time }) => BigInt(time))
}

/** Checks and starts a recovery in a copy of the backup. */
async function recover(
  { archive, backup, base, major, reader }: World,
  asked: Partial<RecoveryRequest>,
  options: { readonly unchecked?: boolean; readonly settings?: Record<string, string> } = {},
): Promise<TestPostgres> {
  const request = { ...plain, ...asked }
  if (!options.unchecked) {
    const { warnings } = await checkReachable({ reader, backup, request })
    assert.deepEqual(warnings, [])
  }
  const directory = newServerDirectory(`recovery${major}`)
  await copyTree(base.directory, directory)
  const dataDir = join(directory, 'data')
  // As if the backup had been of a standby: with this file the server would never end its recovery.
  await writeFile(join(dataDir, 'standby.signal'), '')
  const command = restoreCommand([process.execPath, main], [`--file-prefix=${archive}`, '--compression-method=none'])
  await writeRecoverySettings(dataDir, request, command)
  for (const name of ['postgresql.auto.conf', 'recovery.signal']) await giveToServer(join(dataDir, name))
  return openAndStart(directory, { major, settings: { ...options.settings } }, false)
}

async function rowsOf(server: TestPostgres): Promise<number[]> {
  return (await server.sql<{ id: number }>('select id from t order by id')).map(({ id }) => id)
}

const upTo = (rows: number) => Array.from({ length: rows }, (_, index) => index + 1)

for (const major of withNext(majorsFor([18]))) {
  describe(`PostgreSQL ${major}`, { skip: majorSkip(major) }, () => {
    let world: World
    before(async () => {
      world = await makeWorld(major)
    })
    after(() => removeCopy(world.base))
    const markOf = (rows: number): Mark => {
      const found = world.marks[rows - 1]
      assert.ok(found)
      return found
    }
    const expectRows = async (asked: Partial<RecoveryRequest>, rows: number) => {
      // A target left in postgresql.conf must not count.
      const settings = { recovery_target_xid: '3', recovery_target_action: 'shutdown' }
      await using server = await recover(world, asked, { settings })
      await server.recovered()
      assert.deepEqual(await rowsOf(server), upTo(rows), await server.log())
      assert.deepEqual(await server.sql('show archive_mode'), [{ archive_mode: 'off' }])
    }

    test('writes the times of its commits where the reader of records finds them, and no record is lost', async () => {
      const { archive, times } = world
      const found = new Set<bigint>()
      const records = new WalRecordReader((record) => {
        const time = transactionTime(record)
        if (time !== undefined) found.add(time)
      })
      const names = (await readdir(join(archive, 'wal_005'))).filter((name) => /^00000001[0-9A-F]{16}$/.test(name))
      for (const name of names.sort()) records.write(await readFile(join(archive, 'wal_005', name)))
      assert.equal(records.end, undefined)
      assert.equal(times.length, 4)
      for (const time of times) assert.ok(found.has(time), formatTimestamp(time))
    })

    test('recovers to a time', async () => {
      const mark = markOf(2)
      await expectRows({ target: { kind: 'time', time: parseTimestamp(mark.time) } }, 2)
    })

    test('recovers across a promotion, to the end', () => expectRows({}, 6))

    // This is the same in all versions.
    if (!isFullRun && major < 18) return

    test('recovers to a position, and to just before it', async () => {
      const mark = markOf(3)
      await expectRows({ target: { kind: 'lsn', lsn: parseLsn(mark.lsn) }, inclusive: false }, 3)
      await expectRows({ target: { kind: 'lsn', lsn: parseLsn(mark.lsn) } }, 3)
    })

    test('recovers to a restore point, with any characters in its name', async () => {
      const mark = markOf(2)
      await expectRows({ target: { kind: 'name', name: mark.name } }, 2)
    })

    test('recovers to the end of a transaction, or to just before it', async () => {
      const mark = markOf(3)
      await expectRows({ target: { kind: 'xid', xid: BigInt(mark.xid) } }, 3)
      await expectRows({ target: { kind: 'xid', xid: BigInt(mark.xid) }, inclusive: false }, 2)
    })

    test('recovers to the point where the backup is consistent', async () => {
      await expectRows({ target: { kind: 'immediate' } }, 0)
    })

    test('recovers across a promotion to a time after it, or not across it', async () => {
      const mark = markOf(5)
      await expectRows({ target: { kind: 'time', time: parseTimestamp(mark.time) } }, 5)
      await expectRows({ timeline: 'current' }, 4)
    })
  })
}

describe('the reported range', () => {
  let world: World
  before(async () => {
    world = await makeWorld(17)
  })
  after(() => removeCopy(world.base))

  /** The log of a server that tries it. */
  const ending = async (target: RecoveryTarget): Promise<string> => {
    await using server = await recover(world, { target }, { unchecked: true })
    await server.recovered().catch(() => server.ended())
    return server.log()
  }
  const refusal = async (target: RecoveryTarget): Promise<string> => {
    const request = { ...plain, target }
    const error: unknown = await checkReachable({ ...world, request }).catch((reason: unknown) => reason)
    assert.ok(hasCode(error, 'WALRX_TARGET_UNREACHABLE'), 'it was not refused')
    return error.message
  }
  const tooLate = /FATAL: {2}recovery ended before configured recovery target was reached/

  test('ends at the very record at which the server ends, and begins where it begins', async () => {
    const last = /to (\S+)$/.exec(await refusal({ kind: 'lsn', lsn: toLsn(1n << 62n) }))?.[1]
    assert.ok(last)
    assert.match(await ending({ kind: 'lsn', lsn: parseLsn(last) }), /recovery stopping after WAL location/)
    await refusal({ kind: 'lsn', lsn: toLsn(parseLsn(last) + 1n) })
    assert.match(await ending({ kind: 'lsn', lsn: toLsn(parseLsn(last) + 1n) }), tooLate)
    assert.match(await ending({ kind: 'lsn', lsn: world.backup.finishLsn }), /recovery stopping after WAL location/)
  })

  test('ends at the very microsecond at which the server ends', async () => {
    const far = parseTimestamp('2999-01-01 00:00Z')
    const last = /to before (\S+ \S+)$/.exec(await refusal({ kind: 'time', time: far }))?.[1]
    assert.ok(last)
    const time = parseTimestamp(last)
    assert.match(await ending({ kind: 'time', time: time - 1n }), /recovery stopping before commit of transaction/)
    await refusal({ kind: 'time', time })
    assert.match(await ending({ kind: 'time', time }), tooLate)
  })
})
