/** What is wrong at the start is reported in one clear line, with a documented exit status and no stack trace. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { platform, tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { startBucket, type Bucket } from '../harness/store/bucket.ts'
import { freePort } from '../harness/ports.ts'
import { startPostgres, type TestPostgres } from '../harness/postgres/postgres.ts'
import { runWalrx, startWalrx } from '../harness/walrx/walrx-process.ts'

/** One expectation: how the command is called, and how it must end. */
interface Case {
  readonly what: string
  readonly args: () => string[]
  readonly env?: () => Record<string, string>
  readonly status: number
  readonly says: RegExp
}

describe('a bad start', () => {
  let server: TestPostgres
  let archive: string
  let bucket: Bucket

  before(async () => {
    server = await startPostgres({
      major: 17,
      segmentSizeMb: 1,
      settings: { wal_sender_timeout: '1s' },
      hba: 'local all all trust\nlocal replication all trust\nhost replication secret all scram-sha-256\nhost all all all trust\nhost replication all all trust\n',
    })
    await server.sql(`create role secret login replication password 'right'`)
    await server.sql('create role plain login')
    await server.sql(`select pg_create_logical_replication_slot('logical', 'pgoutput')`).catch(() => {})
    archive = mkdtempSync(join(tmpdir(), 'walrx-bad-'))
    bucket = await startBucket()
  })

  after(async () => {
    await server[Symbol.asyncDispose]()
    await bucket[Symbol.asyncDispose]()
    rmSync(archive, { recursive: true, force: true })
  })

  const receive = (conninfo: string, ...more: string[]) => [
    'wal-receive',
    '--file-prefix',
    archive,
    '--dbname',
    conninfo,
    ...more,
  ]
  const s3 = (key: string, name: string) => ({
    AWS_ACCESS_KEY_ID: key,
    AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey,
    AWS_REGION: 'us-east-1',
    AWS_ENDPOINT: bucket.endpoint,
    AWS_S3_FORCE_PATH_STYLE: 'true',
    WALG_S3_PREFIX: `s3://${name}/archive`,
    S3_MAX_RETRIES: '1',
  })
  let nobodyListens = 0
  before(async () => {
    nobodyListens = await freePort()
  })

  const cases: Case[] = [
    {
      what: 'a wrong password',
      args: () => receive(server.conninfo('secret'), '--slotname', 'a'),
      env: () => ({ PGPASSWORD: 'wrong' }),
      status: 3,
      says: /password authentication failed/,
    },
    {
      what: 'a role without REPLICATION',
      args: () => receive(server.conninfo('plain')),
      status: 3,
      says: /permission denied|REPLICATION/,
    },
    {
      what: 'a host that does not exist',
      args: () => receive('host=no-such-host.invalid user=postgres'),
      status: 3,
      says: /no-such-host\.invalid/,
    },
    {
      what: 'a port at which nobody listens',
      args: () => receive(`host=127.0.0.1 port=${nobodyListens} user=postgres`),
      status: 3,
      says: /ECONNREFUSED|refused/,
    },
    {
      what: 'a directory that is missing',
      args: () => ['wal-receive', '--file-prefix', `${archive}/missing`, '--dbname', server.conninfo()],
      status: 4,
      says: /missing/,
    },
    {
      what: 'no archive at all',
      args: () => ['wal-receive', '--dbname', server.conninfo()],
      status: 2,
      says: /WALG_S3_PREFIX/,
    },
    {
      what: 'an unknown option',
      args: () => receive(server.conninfo(), '--slotnam', 'x'),
      status: 2,
      says: /slotnam/,
    },
    {
      what: 'a value that an option cannot have',
      args: () => receive(server.conninfo(), '--compression-method', 'gzip'),
      status: 2,
      says: /gzip/,
    },
    {
      what: 'memory for less than two segments',
      args: () => receive(server.conninfo(), '--memory', '1MB'),
      status: 2,
      says: /memory/i,
    },
    {
      what: 'encryption that walrx does not do yet',
      args: () => receive(server.conninfo()),
      env: () => ({ YC_CSE_KMS_KEY_ID: 'x'.repeat(32) }),
      status: 2,
      says: /YC_CSE_KMS_KEY_ID/,
    },
    {
      what: 'a bucket that does not exist',
      args: () => ['wal-receive', '--dbname', server.conninfo()],
      env: () => s3(bucket.accessKeyId, 'no-such-bucket'),
      status: 4,
      says: /no-such-bucket/,
    },
    {
      what: 'a wrong access key',
      args: () => ['wal-receive', '--dbname', server.conninfo()],
      env: () => s3('WRONGKEYWRONGKEY', bucket.bucket),
      status: 4,
      says: /403|InvalidAccessKeyId|AccessDenied|denied/i,
    },
  ]
  for (const { what, args, env, status, says } of cases) {
    test(what, { timeout: 120_000 }, async () => {
      const end = await runWalrx(args(), { env: env?.() ?? {} })
      const lines = end.stderr.trim().split('\n')
      const last = lines.at(-1) ?? ''
      assert.match(end.stderr, says)
      assert.equal(end.status, status, end.stderr)
      assert.doesNotMatch(end.stderr, /\n\s+at /, 'a stack trace')
      assert.ok(last.length > 0)
    })
  }

  test(
    'a directory that cannot be written',
    { timeout: 120_000, skip: platform() !== 'linux' && 'there is no /sys here' },
    async () => {
      // Not even root may make a folder there.
      const end = await runWalrx(['wal-receive', '--file-prefix', '/sys/kernel', '--dbname', server.conninfo()])
      assert.equal(end.status, 4, end.stderr)
      assert.match(end.stderr, /\/sys\/kernel/)
    },
  )

  test('a server without walsenders', { timeout: 120_000 }, async () => {
    await using minimal = await startPostgres({
      major: 17,
      segmentSizeMb: 1,
      settings: { wal_level: 'minimal', max_wal_senders: '0' },
    })
    const end = await runWalrx(receive(minimal.conninfo()))
    assert.equal(end.status, 3, end.stderr)
    assert.match(end.stderr, /max_wal_senders/)
  })

  test('an archive of another cluster', { timeout: 120_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'walrx-other-'))
    try {
      await using first = startWalrx([
        'wal-receive',
        '--file-prefix',
        folder,
        '--dbname',
        server.conninfo(),
        '--slotname',
        'first',
      ])
      await first.logged('streaming')
      await first.stop()
      await using other = await startPostgres({ major: 17, segmentSizeMb: 1, fresh: true })
      const end = await runWalrx(['wal-receive', '--file-prefix', folder, '--dbname', other.conninfo()])
      assert.equal(end.status, 5, end.stderr)
      assert.match(end.stderr, new RegExp(`${other.systemId}`))
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })

  test('a standby, without --allow-standby', { timeout: 120_000 }, async () => {
    const { startStandby } = await import('../harness/postgres/postgres-copies.ts')
    await using standby = await startStandby(server)
    const end = await runWalrx(receive(standby.conninfo(), '--slotname', 'standby'))
    assert.equal(end.status, 3, end.stderr)
    assert.match(end.stderr, /--allow-standby/)
  })
})
