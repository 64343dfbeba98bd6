import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import { startBaseBackup } from '../../../src/postgres/backup/base-backup.ts'
import type { BaseBackupOptions } from '../../../src/postgres/backup/base-backup-command.ts'
import type { BackupTablespace } from '../../../src/postgres/backup/base-backup-sink.ts'
import { readClusterFacts } from '../../../src/postgres/backup/cluster-facts.ts'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer } from '../../../src/postgres/connect/connection.ts'
import { formatLsn } from '../../../src/postgres/lsn.ts'
import type { PgSession } from '../../../src/postgres/connect/pg-session.ts'
import { formatTablespaceMap } from '../../../src/postgres/backup/tablespace-map.ts'
import { TestAuthority, withoutOpenssl } from '../../harness/postgres/certificates.ts'
import { majorsFor } from '../../harness/extent.ts'
import { startStandby } from '../../harness/postgres/postgres-copies.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { assertManifest, manifestOf, readTar, sha256 } from './received-backup.ts'
import { RecordingSink } from './scripted-backup.ts'

const megabyte = 1024 * 1024
const options: BaseBackupOptions = {
  label: "walrx's test",
  checkpoint: 'fast',
  verifyChecksums: true,
  manifestChecksums: 'SHA256',
}

function connect(server: TestPostgres, user: string = 'repl', more: string = ''): Promise<PgSession> {
  return new PgServer({ conninfo: parseConninfo(`${server.conninfo(user)} ${more}`, { env: {} }) }).connect()
}

/** Takes a backup over a connection of its own. */
async function takeBackup(server: TestPostgres, sink: RecordingSink, more: Partial<BaseBackupOptions> = {}) {
  const session = await connect(server)
  try {
    const backup = await startBaseBackup(session, { ...options, ...more })
    return { start: backup.start, end: await backup.receive(sink) }
  } finally {
    await session.close()
  }
}

/** The error of a promise that must fail. */
function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => assert.fail('it did not fail'),
    (error: unknown) => error,
  )
}

/** Fills a table, without a row of WAL too many. */
async function fill(server: TestPostgres, table: string, megabytes: number, tablespace?: string): Promise<void> {
  const where = tablespace === undefined ? '' : ` tablespace ${tablespace}`
  await server.sql(`
    create table ${table} (id bigint, filler text)${where};
    alter table ${table} alter filler set storage plain;
    insert into ${table} select i, repeat(md5(i::text), 124) from generate_series(1, ${megabytes * 256}) i;
    checkpoint`)
}

for (const major of majorsFor([14, 18])) {
  describe(`a base backup of PostgreSQL ${major}, by a role with REPLICATION alone`, () => {
    let server: TestPostgres
    /** The data directory apart, in the order in which they were made. */
    const locations: string[] = []

    before(async () => {
      server = await startPostgres({
        major,
        dataChecksums: true,
        settings: { max_wal_size: '2GB', allow_in_place_tablespaces: 'on' },
      })
      await server.sql('create role repl login replication')
      for (const name of ['plain', 'with space \\ and \u00fc']) {
        const location = join(server.directory, name)
        await makeServerDirectory(location, 0o700)
        locations.push(location)
        await server.sql(`create tablespace "${name}" location '${location}'`)
      }
      await server.sql(`create tablespace inplace location ''`)
      await server.sql(`create table here (i int) tablespace inplace; insert into here values (1)`)
      await fill(server, 'big', 12)
      await fill(server, 'elsewhere', 2, '"with space \\ and \u00fc"')
      await server.sql('create table empty (i int) tablespace plain')
    })

    after(() => server[Symbol.asyncDispose]())

    test('holds every file of the manifest, the label first and pg_control last', async () => {
      const sink = new RecordingSink()
      const { end, start } = await takeBackup(server, sink)
      assert.deepEqual(end.checksumFailures, [])
      assert.ok(end.endLsn > start.startLsn)
      assert.equal(end.endTimeline, 1)
      assert.deepEqual(
        sink.archives.map(({ tablespace }) => tablespace),
        start.tablespaces,
      )
      assertTablespaces(start.tablespaces)
      const range = { Timeline: 1, 'Start-LSN': formatLsn(start.startLsn), 'End-LSN': formatLsn(end.endLsn) }
      assert.deepEqual(manifestOf(sink)['WAL-Ranges'], [range])
      assert.deepEqual([...(await assertManifest(sink))], [])
      const entries = await readTar(sink.archives.at(-1)?.pieces ?? [])
      assert.equal(entries[0]?.name, 'backup_label')
      assert.equal(entries.at(-1)?.name, 'global/pg_control')
      assert.ok(entries.every(({ type }) => type !== 'symlink'))
      const map = entries.find(({ name }) => name === 'tablespace_map')?.sha256
      const outside = start.tablespaces.flatMap(({ location, oid }) =>
        oid !== undefined && location.startsWith('/') ? [{ oid, location }] : [],
      )
      assert.equal(map, sha256(formatTablespaceMap(outside)))
      // 14 and 15 leave a tablespace in place out without a word.
      assert.equal(hasFilesInPlace(sink), major >= 16)
    })

    test('holds the files of a tablespace in place without a map, and links as symbolic ones', async () => {
      const sink = new RecordingSink()
      const { start } = await takeBackup(server, sink, { tablespaceMap: false })
      assertTablespaces(start.tablespaces)
      assert.deepEqual([...(await assertManifest(sink))], [])
      assert.ok(hasFilesInPlace(sink))
      const links = (await readTar(sink.archives.at(-1)?.pieces ?? [])).filter(({ type }) => type === 'symlink')
      assert.deepEqual(links.map(({ linkName }) => linkName).sort(), [...locations].sort())
    })

    function hasFilesInPlace(sink: RecordingSink): boolean {
      const outside = start(sink)
        .filter(({ location }) => location.startsWith('/'))
        .map(({ oid }) => oid)
      return manifestOf(sink).Files.some(({ Path }) => {
        const oid = /^pg_tblspc\/(\d+)\//.exec(Path)?.[1]
        return oid !== undefined && !outside.includes(Number(oid))
      })
    }

    function start(sink: RecordingSink): BackupTablespace[] {
      return sink.archives.map(({ tablespace }) => tablespace)
    }

    function assertTablespaces(tablespaces: readonly BackupTablespace[]): void {
      assert.deepEqual(tablespaces.at(-1)?.oid, undefined)
      assert.equal(tablespaces.at(-1)?.location, '')
      for (const { oid, sizeBytes } of tablespaces) {
        assert.ok(sizeBytes !== undefined && sizeBytes >= 0, `size of ${oid}`)
      }
      const outside = tablespaces.filter(({ location }) => location.startsWith('/')).map(({ location }) => location)
      assert.deepEqual(outside.sort(), [...locations].sort())
      const inside = tablespaces.filter(({ location }) => /^pg_tblspc\/\d+$/.test(location))
      assert.equal(inside.length, major >= 16 ? 1 : 0)
      if (major >= 16) assert.equal(inside[0]?.location, `pg_tblspc/${inside[0]?.oid}`)
    }

    test('reports the facts about the cluster, the data directory only to a role that may see it', async () => {
      const session = await connect(server)
      const facts = await readClusterFacts(session)
      await session.close()
      assert.deepEqual(facts, {
        systemId: server.systemId,
        serverVersion: session.serverVersion,
        segmentSize: 16 * megabyte,
        blockSize: 8192,
        checksums: 'on',
        dataDirectory: undefined,
      })
      const superuser = await connect(server, 'postgres')
      assert.equal((await readClusterFacts(superuser)).dataDirectory, server.dataDir)
      await superuser.close()
    })

    test('keeps to a rate', async () => {
      const sink = new RecordingSink()
      const session = await connect(server)
      const backup = await startBaseBackup(session, { ...options, maxRateKb: 16 * 1024 })
      const begin = performance.now()
      await backup.receive(sink)
      const seconds = (performance.now() - begin) / 1000
      await backup.close()
      const megabytes =
        sink.archives.flatMap(({ pieces }) => pieces).reduce((sum, { length }) => sum + length, 0) / megabyte
      assert.ok(megabytes > 16, `${megabytes} MB`)
      // basebackup_throttle.c lets an eighth of a second pass before it looks.
      assert.ok(seconds > megabytes / 16 - 0.5, `${megabytes} MB in ${seconds} s`)
    })

    test('waits for a slow consumer: the server stands still, and memory does', async () => {
      const session = await connect(server)
      await assertBackPressure(server, session)
    })

    test('breaks off with the server, and a signal breaks it off', async () => {
      for (const how of ['terminated', 'aborted', 'closed'] as const) {
        const session = await connect(server)
        const backup = await startBaseBackup(session, options)
        const aborter = new AbortController()
        const sink = new RecordingSink()
        sink.answer = () => {
          if (sink.calls !== 20) return
          if (how === 'aborted') aborter.abort(new Error('enough'))
          if (how === 'closed') void backup.close()
          if (how !== 'terminated') return
          // Not awaited while the socket is read, for the server may be writing.
          return server.sql(`select pg_terminate_backend(${session.backendPid})`).then(() => {})
        }
        const error = await failureOf(backup.receive(sink, aborter.signal))
        if (how === 'aborted') assert.match(String(error), /enough/)
        else assert.ok(hasCode(error, 'WALRX_CONNECTION_LOST'), String(error))
        await session.close()
        await until('the walsender to be gone', async () => {
          const rows = await server.sql(`select from pg_stat_replication where pid = ${session.backendPid}`)
          return rows.length === 0
        })
      }
    })

    if (major >= 15) {
      test('reads everything into a blackhole, and sends nothing', async () => {
        const sink = new RecordingSink()
        const session = await connect(server)
        const { manifestChecksums: _, ...scrub } = options
        const backup = await startBaseBackup(session, { ...scrub, target: 'blackhole' })
        await backup.receive(sink)
        await backup.close()
        assert.equal(sink.archives.length, backup.start.tablespaces.length)
        assert.ok(sink.archives.every(({ pieces }) => pieces.length === 0))
        const total = backup.start.tablespaces.reduce((sum, { sizeBytes }) => sum + (sizeBytes ?? 0), 0)
        const done = sink.progress.at(-1) ?? 0
        assert.ok(Math.abs(done - total) < total / 10, `${done} of ${total} bytes`)
        assert.deepEqual(
          sink.progress,
          [...sink.progress].sort((one, other) => one - other),
        )
      })
    }

    test('names damaged files and blocks, and accepts them where that was requested', async () => {
      const relations = await server.sql<{ path: string }>(
        `select pg_relation_filepath(name) as path from unnest(array['big', 'elsewhere']) name`,
      )
      await server.stop()
      const [big, elsewhere] = relations.map(({ path }) => path)
      for (const block of [1, 3, 5, 7, 9, 11, 13]) await spoil(join(server.dataDir, big ?? ''), block)
      await spoil(join(server.dataDir, elsewhere ?? ''), 2)
      await server.start()
      const inTablespace = /^(.*)\/(PG_.*)$/.exec(elsewhere ?? '')?.[2] ?? ''
      const failures = [
        { file: join(locations[1] ?? '', inTablespace), blocks: [2], count: 1 },
        { file: big, blocks: [1, 3, 5, 7, 9], count: 7 },
      ]
      const sink = new RecordingSink()
      const error = await failureOf(takeBackup(server, sink))
      assert.ok(hasCode(error, 'WALRX_BACKUP_CHECKSUM'), String(error))
      assert.deepEqual((error as unknown as { failures: unknown }).failures, failures)
      assert.ok(error.message.includes(`${big} (blocks 1, 3, 5, 7, 9 and 2 more)`), error.message)
      assert.ok(sink.hasManifest)
      const { end } = await takeBackup(server, new RecordingSink(), { acceptChecksumFailures: true })
      assert.deepEqual(end.checksumFailures, failures)
      assert.ok(end.endLsn > 0n)
      const unverified = await takeBackup(server, new RecordingSink(), { verifyChecksums: false })
      assert.deepEqual(unverified.end.checksumFailures, [])
      if (major < 15) return
      const scrub = await failureOf(takeBackup(server, new RecordingSink(), { target: 'blackhole' }))
      assert.ok(hasCode(scrub, 'WALRX_BACKUP_CHECKSUM'), String(scrub))
      assert.deepEqual((scrub as unknown as { failures: unknown }).failures, failures)
    })

    test('a server that dies ends it', async () => {
      const session = await connect(server)
      const backup = await startBaseBackup(session, options)
      const sink = new RecordingSink()
      sink.answer = () => (sink.calls === 20 ? server.kill9() : undefined)
      const error = await failureOf(backup.receive(sink))
      assert.ok(hasCode(error, 'WALRX_CONNECTION_LOST'), String(error))
      await session.close()
    })
  })

  describe(`a base backup of a standby of PostgreSQL ${major}`, () => {
    test('ends where the standby was, and fails when the standby is promoted meanwhile', async () => {
      await using primary = await startPostgres({ major })
      await primary.sql('create role repl login replication')
      await fill(primary, 'big', 12)
      await using standby = await startStandby(primary)
      const sink = new RecordingSink()
      const { end, start } = await takeBackup(standby, sink)
      assert.ok(end.endLsn >= start.startLsn)
      assert.equal(end.endTimeline, 1)
      const label = Buffer.concat(sink.archives.at(-1)?.pieces ?? []).toString('latin1', 512, 1024)
      assert.match(label, /BACKUP FROM: standby/)
      assert.ok(label.includes(`START WAL LOCATION: ${formatLsn(start.startLsn)} `), label)

      const session = await connect(standby)
      const backup = await startBaseBackup(session, options)
      const slow = new RecordingSink()
      slow.answer = () => (slow.calls === 20 ? standby.promote() : undefined)
      const error = await failureOf(backup.receive(slow))
      await session.close()
      assert.ok(hasCode(error, 'WALRX_SERVER_ERROR'), String(error))
      assert.equal((error as unknown as { sqlstate: string }).sqlstate, '55000')
    })
  })
}

test('a base backup under TLS waits for a slow consumer as well', { skip: withoutOpenssl ?? false }, async () => {
  await using authority = await TestAuthority.create('walrx')
  await using server = await startPostgres({ major: 17, tls: await authority.issue('db.test') })
  await server.sql('create role repl login replication')
  await fill(server, 'big', 12)
  const session = await connect(server, 'repl', 'sslmode=require')
  assert.ok(session.isEncrypted)
  await assertBackPressure(server, session)
})

/**
 * Receives a backup with a sink that takes a promise's time over every few pieces, and over one until the server cannot
 * send any more; uses each piece only when its time is over; and checks all of it against the manifest.
 */
async function assertBackPressure(server: TestPostgres, session: PgSession): Promise<void> {
  const backup = await startBaseBackup(session, options)
  const sink = new RecordingSink()
  let isBusy = false
  let grownBytes = Infinity
  let deliveries = 0
  const standstill = async () => {
    const before = process.memoryUsage().arrayBuffers
    await until('the server to wait for us', async () => {
      const rows = await server.sql(
        `select from pg_stat_activity where pid = ${session.backendPid} and wait_event = 'ClientWrite'`,
      )
      return rows.length === 1
    })
    grownBytes = process.memoryUsage().arrayBuffers - before
  }
  sink.onData = (bytes) => {
    assert.equal(isBusy, false, 'delivered while the sink was busy')
    deliveries++
    const take = () => {
      sink.archives.at(-1)?.pieces.push(Buffer.from(bytes))
      isBusy = false
    }
    if (deliveries % 7 > 0) return take()
    isBusy = true
    const wait = deliveries === 105 ? standstill() : new Promise<void>(setImmediate)
    return wait.then(take)
  }
  await backup.receive(sink)
  await backup.close()
  await assertManifest(sink)
  assert.ok(sink.archives.flatMap(({ pieces }) => pieces).length > 200)
  assert.ok(grownBytes < 2 * megabyte, `${grownBytes} bytes were read ahead`)
}

/** Flips bits in the middle of a page. */
async function spoil(path: string, block: number): Promise<void> {
  const file = await open(path, 'r+')
  const bytes = Buffer.alloc(8)
  await file.read(bytes, 0, 8, block * 8192 + 5000)
  await file.write(
    bytes.map((byte) => byte ^ 0xff),
    0,
    8,
    block * 8192 + 5000,
  )
  await file.close()
}
