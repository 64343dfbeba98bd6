/** A relation that is cut, and grows again, between the question what was cut and the start of the backup. */
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { BackupSource } from '../../../src/backup/backup-begin.ts'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer } from '../../../src/postgres/connect/connection.ts'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import { BackupArchive } from '../../../src/walg/backup/backup-archive.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { RecordingLog } from '../../backup/recording-log.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres } from '../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { pushDelta } from './delta-push.ts'

test('a relation that is cut while a delta is begun comes whole', { timeout: 120_000 }, async () => {
  const root = join(newServerDirectory('delta-cut-meanwhile'), 'archive')
  await makeServerDirectory(join(root, '..'), 0o755)
  await mkdir(root)
  await using server = await startPostgres({ major: 17, settings: { summarize_wal: 'on', autovacuum: 'off' } })
  const postgres = new PgServer({ conninfo: parseConninfo(server.conninfo(), { env: {} }) })
  const log = new RecordingLog()
  const storage = new FileStorage({ folders: archiveFolders, root, fsync: false })
  const push = (source: BackupSource) => pushDelta(source, root, { log })
  await server.sql(`create table t as select g as id, repeat('x', 900) as text from generate_series(1, 8000) g`)
  await server.sql('create table other as select * from t')
  await server.sql('vacuum')
  await push(postgres)

  let sessions = 0
  let isCut = false
  const meddled: BackupSource = {
    connect: (signal) => {
      sessions++
      return postgres.connect(signal)
    },
    async trySql(session, signal) {
      const opening = await postgres.trySql(session, signal)
      if (isCut || !opening.sql) return opening
      const { sql } = opening
      // Other questions come before, over connections of their own.
      let hasAsked = false
      const [close, readWalSummaries] = [sql.close.bind(sql), sql.readWalSummaries.bind(sql)]
      sql.readWalSummaries = () => {
        hasAsked = true
        return readWalSummaries()
      }
      sql.close = async () => {
        await close()
        sql.close = close
        if (!hasAsked) return
        isCut = true
        await server.sql('delete from t where id > 4000')
        await server.sql('vacuum t')
        await server.checkpoint()
        await server.sql(`insert into t select g, repeat('y', 900) from generate_series(10001, 14000) g`)
      }
      return opening
    },
  }
  const pushed = await push(meddled)
  assert.equal(pushed.full, undefined)
  assert.equal(sessions, 2)
  const archive = new BackupArchive(storage)
  const found = await archive.readFilesMetadata(pushed.name, pushed.sentinel, {})
  const isIncremented = async (table: string) => {
    const [row] = await server.sql<{ path: string }>(`select pg_relation_filepath('${table}') as path`)
    return found.kind === 'found' && found.metadata.files.get(`/${row?.path}`)?.isIncremented
  }
  assert.equal(await isIncremented('t'), false)
  assert.equal(await isIncremented('other'), true)
})
