import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type BaseBackupEnd, type BaseBackupStart, startBaseBackup } from '../../../src/postgres/backup/base-backup.ts'
import type { BaseBackupOptions } from '../../../src/postgres/backup/base-backup-command.ts'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer } from '../../../src/postgres/connect/connection.ts'
import { decodeIncrementalHead, incrementalHeadBytes } from '../../../src/postgres/backup/incremental-file.ts'
import { encodeParentManifest, type ParentManifest } from '../../../src/postgres/backup/parent-manifest.ts'
import type { PgSession } from '../../../src/postgres/connect/pg-session.ts'
import { isMainFork } from '../../../src/postgres/relations/relation-file.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { assertManifest, manifestOf } from './received-backup.ts'
import { RecordingSink } from './scripted-backup.ts'

const options: BaseBackupOptions = {
  label: 'x',
  checkpoint: 'fast',
  verifyChecksums: true,
  manifestChecksums: 'SHA256',
}
const refuse = (what: string) => new WalrxError('WALRX_PROTOCOL', what)

function connect(server: TestPostgres): Promise<PgSession> {
  return new PgServer({ conninfo: parseConninfo(server.conninfo('repl'), { env: {} }) }).connect()
}

/** A whole backup, and what it is called. */
interface Taken {
  readonly sink: RecordingSink
  readonly start: BaseBackupStart
  readonly end: BaseBackupEnd
}

async function take(session: PgSession, more: Partial<BaseBackupOptions> = {}): Promise<Taken> {
  const sink = new RecordingSink()
  const backup = await startBaseBackup(session, { ...options, ...more })
  const end = await backup.receive(sink)
  await session.close()
  return { sink, start: backup.start, end }
}

/** Members of the archive of the data directory, by name. */
function members({ sink }: Taken): Map<string, Buffer> {
  const bytes = Buffer.concat(sink.archives.find(({ tablespace }) => tablespace.oid === undefined)?.pieces ?? [])
  const found = new Map<string, Buffer>()
  for (let at = 0; at < bytes.length && bytes[at] !== 0;) {
    const name = bytes.toString('utf8', at, bytes.indexOf(0, at))
    const size = parseInt(bytes.toString('latin1', at + 124, at + 135), 8)
    found.set(name, bytes.subarray(at + 512, at + 512 + size))
    at += 512 + Math.ceil(size / 512) * 512
  }
  return found
}

for (const major of [17, 18] as const) {
  describe(`an increment of PostgreSQL ${major}, by a role with REPLICATION alone`, () => {
    let server: TestPostgres
    let full: Taken
    let parent: ParentManifest
    /** Path of the table's file. */
    let path = ''

    before(async () => {
      server = await startPostgres({ major, settings: { summarize_wal: 'on' } })
      await server.sql('create role repl login replication')
      await server.sql(`create table t as select g as id, repeat('x', 1000) as x from generate_series(1, 1000) g`)
      const [row] = await server.sql<{ path: string }>(`select pg_relation_filepath('t') as path`)
      path = row?.path ?? ''
      const session = await connect(server)
      const { systemId } = await session.identifySystem()
      full = await take(session)
      const paths = manifestOf(full.sink).Files.map(({ Path }) => Path)
      const { startLsn, timeline } = full.start
      parent = { systemId, timeline, startLsn, finishLsn: full.end.endLsn, paths: paths.filter(isMainFork) }
      assert.ok([...parent.paths].length > 500 && [...parent.paths].includes(path))
      await server.sql(`update t set id = 0 where id between 100 and 110`)
    })

    after(() => server[Symbol.asyncDispose]())

    test('has the changed blocks of files that the manifest lists, and all others whole', async () => {
      const session = await connect(server)
      await session.uploadManifest(encodeParentManifest(parent))
      const increment = await take(session, { incremental: true })
      await assertManifest(increment.sink)
      const files = members(increment)
      const own = files.get(path.replace(/(\d+)$/, 'INCREMENTAL.$1')) ?? assert.fail(`no increment of ${path}`)
      const head = decodeIncrementalHead(own.subarray(0, incrementalHeadBytes(own, refuse)), refuse)
      assert.ok(head.blocks.length > 0 && head.blocks.length < 10, `${head.blocks.length} blocks`)
      const increments = [...files.keys()].filter((name) => /(^|\/)INCREMENTAL\./.test(name))
      assert.ok(increments.length > 300)
      for (const name of increments) assert.ok(isMainFork(name.replace('INCREMENTAL.', '')), name)
      assert.match(files.get('backup_label')?.toString() ?? '', /^INCREMENTAL FROM LSN: /m)
    })

    test('that builds on nothing but positions is whole', async () => {
      const session = await connect(server)
      await session.uploadManifest(encodeParentManifest({ ...parent, paths: [] }))
      const files = members(await take(session, { incremental: true }))
      assert.ok(files.has(path))
      assert.ok([...files.keys()].every((name) => !name.includes('INCREMENTAL.')))
    })

    test('takes a manifest of many megabytes', async () => {
      function* paths(): Generator<string> {
        for (let number = 0; number < 300_000; number++) yield `base/4294967294/${4_000_000_000 + number}`
        yield* parent.paths
      }
      const session = await connect(server)
      const pieces = { made: 0, bytes: 0 }
      const counted = function* () {
        for (const piece of encodeParentManifest({ ...parent, paths: paths() })) {
          pieces.made++
          pieces.bytes += piece.length
          yield piece
        }
      }
      await session.uploadManifest(counted())
      assert.ok(pieces.made > 200 && pieces.bytes > 15_000_000)
      const files = members(await take(session, { incremental: true }))
      assert.ok(files.has(path.replace(/(\d+)$/, 'INCREMENTAL.$1')))
    })

    test('without a manifest, or for another cluster, is refused by the server', async () => {
      const session = await connect(server)
      await assert.rejects(take(session, { incremental: true }), { code: 'WALRX_SERVER_ERROR', sqlstate: '55000' })
      await session.close()
      const other = await connect(server)
      const stranger = encodeParentManifest({ ...parent, systemId: parent.systemId + 1n })
      await assert.rejects(other.uploadManifest(stranger), { code: 'WALRX_SERVER_ERROR', message: /system identifier/ })
      // It answers other commands, and takes another manifest.
      assert.equal(await other.show('summarize_wal'), 'on')
      await other.uploadManifest(encodeParentManifest(parent))
      await other.close()
    })

    test('with a manifest that cannot be read to the end is stopped', async () => {
      const session = await connect(server)
      const broken = function* () {
        yield Buffer.from('{ "PostgreSQL-Backup-Manifest-Version": 2,\n')
        throw new Error('the archive is out')
      }
      await assert.rejects(session.uploadManifest(broken()), { message: 'the archive is out' })
      await assert.rejects(session.show('summarize_wal'), { message: 'the archive is out' })
      await session.close()
    })
  })
}

test('PostgreSQL 16 knows neither', { timeout: 60_000 }, async () => {
  await using server = await startPostgres({ major: 16 })
  await server.sql('create role repl login replication')
  const session = await connect(server)
  await assert.rejects(session.uploadManifest([Buffer.from('{}')]), { code: 'WALRX_SERVER_ERROR', sqlstate: '0A000' })
  await assert.rejects(startBaseBackup(session, { ...options, incremental: true }), {
    code: 'WALRX_USAGE',
    message: /PostgreSQL 16 does not support incremental backups/,
  })
  await session.close()
})
