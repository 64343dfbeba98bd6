/** Plans on real servers: what they say against the backup that follows, why it must be full, and that they leave no trace. */
import assert from 'node:assert/strict'
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { describe, test } from 'node:test'
import { filesMetadataKey } from '../../../src/walg/backup/backup-names.ts'
import { isFullRun, majorsFor } from '../../harness/extent.ts'
import { startStandby } from '../../harness/postgres/postgres-copies.ts'
import { giveToServer, makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { until } from '../../harness/time/until.ts'
import { type ProcessEnd, runWalrx } from '../../harness/walrx/walrx-process.ts'
import { change, makeRelations, summarize } from '../delta/delta-load.ts'

/**
 * By how much a backup may differ from its plan, in bytes: backup_label is not always as long, and a part more has an end
 * of a kilobyte more. Seen were 0 to 1024.
 */
const toleranceBytes = 2048

interface Relation {
  readonly database: string | null
  readonly schema: string | null
  readonly relation: string | null
  readonly fork: string
  readonly path: string
  readonly database_oid: number
  readonly blocks: number
  readonly limit_block: number | null
  readonly exists: boolean | null
}

/** What `backup-plan --json` prints. */
interface Plan {
  readonly kind: 'full' | 'delta'
  readonly full_because: { readonly code: string; readonly message: string; readonly hint: string | null } | null
  readonly parent: { readonly name: string } | null
  readonly server: { readonly in_recovery: boolean; readonly version: number }
  readonly early_start_lsn: string | null
  readonly wal_bytes: number | null
  readonly summaries: { readonly behind_bytes: number; readonly missing: object | null } | null
  readonly changes: { readonly blocks: number; readonly relations: readonly Relation[] } | null
  readonly expected: {
    readonly delta: {
      readonly bytes: number
      readonly increments: { readonly files: number }
      readonly unchanged: { readonly files: number }
      readonly whole: { readonly files: number; readonly because: Readonly<Record<string, object>> }
    } | null
    readonly full: { readonly bytes: number; readonly by: string } | null
  }
  readonly unknown: readonly { readonly what: string; readonly message: string; readonly hint: string | null }[]
}

/** What `backup-push --json` prints. */
interface Pushed {
  readonly backup_name: string
  readonly delta_from: string | null
  readonly uncompressed_size: number
}

class World {
  readonly server: TestPostgres
  readonly archive: string

  private constructor(server: TestPostgres, archive: string) {
    this.server = server
    this.archive = archive
  }

  static async open(server: TestPostgres): Promise<World> {
    const root = newServerDirectory('backup-plan')
    await makeServerDirectory(root, 0o755)
    const archive = join(root, 'archive')
    await mkdir(archive)
    return new World(server, archive)
  }

  /** The same archive, of another server. */
  of(server: TestPostgres): World {
    return new World(server, this.archive)
  }

  run(command: readonly string[], user?: string): Promise<ProcessEnd> {
    const args = ['--file-prefix', this.archive, '--dbname', this.server.conninfo(user)]
    const steps = command.includes('--delta-max-steps') ? [] : ['--delta-max-steps', '4']
    return runWalrx([...command, ...args, ...steps])
  }

  async plan(args: readonly string[] = [], user?: string): Promise<Plan> {
    const end = await this.run(['backup-plan', '--json', ...args], user)
    assert.equal(end.status, 0, end.stderr)
    return JSON.parse(end.stdout) as Plan
  }

  async push(args: readonly string[] = []): Promise<Pushed> {
    const end = await this.run(['backup-push', '--json', '--no-wait', ...args])
    assert.equal(end.status, 0, end.stderr)
    return JSON.parse(end.stdout) as Pushed
  }

  /** The server's checkpoint and slots, and every object of the archive with its time. */
  async traces(): Promise<unknown> {
    const [server] = await this.server.sql(
      `select checkpoint_lsn::text, redo_lsn::text, (select count(*)::int from pg_replication_slots) as slots
       from pg_control_checkpoint()`,
    )
    const names = (await readdir(this.archive, { recursive: true })).sort()
    const objects = await Promise.all(names.map(async (name) => [name, (await stat(join(this.archive, name))).mtimeMs]))
    return { server, objects }
  }

  /** A full one for this reason, by plan and --dry-run; with --require-incremental the error that a backup ends with. */
  async assertFull(code: string, words: RegExp, args: readonly string[] = [], user?: string): Promise<Plan> {
    const before = await this.traces()
    const plan = await this.plan(args, user)
    assert.equal(plan.kind, 'full')
    assert.equal(plan.full_because?.code, code, plan.full_because?.message)
    assert.match(plan.full_because?.message ?? '', words)
    assert.equal(plan.expected.delta, null)
    assert.ok((plan.expected.full?.bytes ?? 0) > 5_000_000)
    const required = ['--require-incremental', ...args]
    const planned = await this.run(['backup-plan', ...required], user)
    assert.deepEqual(await this.traces(), before)
    const pushed = await this.run(['backup-push', ...required], user)
    assert.deepEqual([planned.status, pushed.status], [2, 2])
    const lastError = ({ stderr }: ProcessEnd) => {
      const { code: name, hint, msg } = JSON.parse(stderr.trimEnd().split('\n').at(-1) ?? '') as Record<string, unknown>
      return { name, hint, msg }
    }
    assert.equal(lastError(planned).name, 'WALRX_BACKUP_NOT_INCREMENTAL')
    assert.deepEqual(lastError(planned), lastError(pushed))
    assert.match(planned.stdout, /^plan +a full backup\n/)
    return plan
  }

  async incrementsOf(name: string): Promise<number> {
    const end = await runWalrx(['backup-show', name, '--detail', '--json', '--file-prefix', this.archive])
    const { files_metadata: documents } = JSON.parse(end.stdout) as {
      files_metadata: { Files: Record<string, { IsIncremented: boolean }> }
    }
    return Object.values(documents.Files).filter(({ IsIncremented: is }) => is).length
  }
}

const settings = { summarize_wal: 'on', autovacuum: 'off' }

test('a server before 17 takes a full one', { timeout: 120_000 }, async () => {
  await using server = await startPostgres({ major: 14 })
  const world = await World.open(server)
  const first = await world.plan()
  const pushed = await world.push()
  assert.ok(Math.abs(pushed.uncompressed_size - (first.expected.full?.bytes ?? 0)) <= toleranceBytes)
  await world.assertFull('server', /is PostgreSQL 14, and incremental backups need 17/)
})

const skip = !isFullRun && 'WALRX_TEST_ALL=1 runs it'

for (const major of majorsFor([17]).filter((each) => each >= 17)) {
  describe(`a plan on PostgreSQL ${major}`, { timeout: 500_000 }, () => {
    test('says what the backup then is', async (t) => {
      await using server = await startPostgres({ major, settings })
      const world = await World.open(server)
      const place = join(world.archive, '..', 'ts')
      await mkdir(place)
      await giveToServer(place)
      await server.sql(`create tablespace ts location '${place}'`)
      await makeRelations(server, 'ts')
      const odd = `Odd "name"\n'\\ü`
      await server.sql(`create table ${`"${odd.replaceAll('"', '""')}"`} as select 1 as id`)
      const full = await world.plan()
      assert.deepEqual([full.kind, full.full_because?.code], ['full', 'no-backup'])
      let pushed = await world.push()
      t.diagnostic(`full: ${full.expected.full?.bytes} planned, ${pushed.uncompressed_size} sent`)
      assert.ok(Math.abs(pushed.uncompressed_size - (full.expected.full?.bytes ?? 0)) <= toleranceBytes)
      for (const step of isFullRun ? [1, 2, 3] : [1]) {
        await change(server, step, 'ts')
        await server.sql(`insert into ${`"${odd.replaceAll('"', '""')}"`} select ${step}`)
        await summarize(server)
        const before = await world.traces()
        const plan = await world.plan()
        assert.deepEqual(await world.traces(), before)
        assert.deepEqual([plan.kind, plan.parent?.name, plan.unknown], ['delta', pushed.backup_name, []])
        assert.ok((plan.wal_bytes ?? 0) > 0)
        pushed = await world.push()
        assert.equal(pushed.delta_from, plan.parent?.name)
        const { delta } = plan.expected
        t.diagnostic(`delta ${step}: ${delta?.bytes} planned, ${pushed.uncompressed_size} sent`)
        assert.ok(Math.abs(pushed.uncompressed_size - (delta?.bytes ?? 0)) <= toleranceBytes)
        const increments = await world.incrementsOf(pushed.backup_name)
        assert.equal((delta?.increments.files ?? 0) + (delta?.unchanged.files ?? 0), increments)
        assert.ok((delta?.increments.files ?? 0) > 0)
        const relations = plan.changes?.relations ?? []
        const own = relations.find(({ fork, relation }) => relation === odd && fork === 'main')
        assert.deepEqual([own?.database, own?.schema, own?.blocks, own?.exists], ['postgres', 'public', 1, true])
        const made = relations.find(({ relation }) => relation === `made_in_${step}`)
        assert.equal(made?.limit_block, 0)
        assert.ok(relations.some(({ path }) => new RegExp(`^pg_tblspc/\\d+/PG_${major}_\\d+/5/\\d+$`).test(path)))
        assert.ok(relations.some(({ database_oid: oid }) => oid === 0))
        if (step > 1) continue
        assert.ok(relations.some(({ exists }) => exists === false))
        const cut = relations.find(({ fork, relation }) => relation === 'truncated' && fork === 'main')
        assert.ok((cut?.limit_block ?? 0) > 0, JSON.stringify(cut))
        for (const reason of ['cut', 'fork', 'new', 'no-relation', 'odd', 'shared']) {
          assert.ok(delta?.whole.because[reason], reason)
        }
      }
    })

    test('says why it must be a full one', async () => {
      await using server = await startPostgres({ major, settings: { ...settings, summarize_wal: 'off' } })
      const world = await World.open(server)
      await world.assertFull('no-backup', /there is no backup yet to build on/)
      const { backup_name: first } = await world.push()
      await world.assertFull('off', /WALG_DELTA_MAX_STEPS is 0/, ['--delta-max-steps', '0'])
      await world.assertFull('asked', /--full asks for a full backup/, ['--full'])
      const off = await world.assertFull('summaries', /does not summarize its WAL/)
      assert.equal(off.parent?.name, first)
      await server.sql(`alter system set summarize_wal = on`)
      await server.reload()
      const { backup_name: second } = await world.push(['--full', '--permanent'])
      await world.assertFull('permanent', /is permanent, and this backup is not to be/)
      const permanent = await world.plan(['--permanent'])
      assert.deepEqual([permanent.kind, permanent.parent?.name], ['delta', second])
      const before = await world.traces()
      const dry = await world.run(['backup-push', '--dry-run', '--permanent', '--json'])
      assert.equal(dry.status, 0, dry.stderr)
      assert.deepEqual((JSON.parse(dry.stdout) as Plan).parent, permanent.parent)
      assert.deepEqual(await world.traces(), before)
      await world.push(['--permanent'])
      await world.assertFull('steps', /is 1 steps away/, ['--delta-max-steps', '1', '--permanent'])
      await summarize(server)
      for (const name of await readdir(join(server.pgWal(), 'summaries'))) {
        await rm(join(server.pgWal(), 'summaries', name))
      }
      const named = ['--delta-from-name', second, '--permanent']
      const holed = await world.assertFull('summaries', /the server has no WAL summary of .* on timeline 1/, named)
      assert.notEqual(holed.summaries?.missing, null)
      await rm(join(world.archive, filesMetadataKey(second)))
      await world.assertFull('parent', /has no table of its files/, named)
      const missing = await world.run(['backup-plan', '--delta-from-name', 'base_000000010000000000000099'])
      assert.equal(missing.status, 2)
      assert.match(missing.stderr, /there is no backup .*base_000000010000000000000099/)
    })

    test('shows how far the summarizer lags', { skip }, async () => {
      await using server = await startPostgres({ major, settings })
      const world = await World.open(server)
      await world.push()
      const [row] = await server.sql<{ pid: number }>('select summarizer_pid as pid from pg_get_wal_summarizer_state()')
      const pid = row?.pid ?? assert.fail('no summarizer')
      process.kill(pid, 'SIGSTOP')
      try {
        await server.sql('create table t as select g as id from generate_series(1, 50000) g')
        await server.checkpoint()
        const plan = await world.plan()
        assert.equal(plan.kind, 'delta')
        assert.ok((plan.summaries?.behind_bytes ?? 0) > 2_000_000)
        assert.deepEqual(plan.changes?.relations, [])
        const text = await world.run(['backup-plan'])
        assert.match(text.stdout, /MB of WAL are in no summary yet: what they change is not counted/)
      } finally {
        process.kill(pid, 'SIGCONT')
      }
    })

    test('says what a role may not see, and what would let it', async () => {
      await using server = await startPostgres({ major, settings })
      await server.sql('create role repl login replication')
      const world = await World.open(server)
      await world.push()
      await server.sql('create table t as select g as id from generate_series(1, 50000) g')
      await summarize(server)
      const whole = await world.plan()
      const poor = await world.plan([], 'repl')
      assert.equal(poor.changes?.blocks, whole.changes?.blocks)
      assert.ok(poor.changes?.relations.every(({ exists }) => exists === null))
      assert.deepEqual([poor.expected.delta, poor.expected.full?.by], [null, 'databases'])
      const [sizes] = poor.unknown
      assert.deepEqual([poor.unknown.length, sizes?.what], [1, 'sizes'])
      assert.match(sizes?.message ?? '', /permission denied for function pg_(ls_dir|stat_file)/)
      const statement =
        /grant execute on function .* to repl$/.exec(sizes?.hint ?? '')?.[0] ?? assert.fail('no statement')
      await server.sql(statement)
      const rich = await world.plan([], 'repl')
      assert.deepEqual(rich.expected, (await world.plan()).expected)
      assert.deepEqual(rich.unknown, [])
      await server.configure({ hba: 'host replication repl 127.0.0.1/32 trust' })
      await server.reload()
      const words = /walrx cannot read the WAL summaries over an ordinary connection/
      const blind = await world.plan([], 'repl')
      assert.deepEqual([blind.kind, blind.full_because?.code], ['full', 'summaries'])
      assert.match(blind.full_because?.message ?? '', words)
      assert.match(blind.full_because?.hint ?? '', /pg_hba\.conf a line such as: host postgres repl/)
      assert.deepEqual(
        blind.unknown.map(({ what }) => what),
        ['sizes'],
      )
      assert.deepEqual([blind.changes, blind.summaries, blind.expected.full], [null, null, null])
      const refused = await world.run(['backup-push', '--require-incremental'], 'repl')
      assert.equal(refused.status, 2)
      assert.match(refused.stderr, words)
    })

    test(
      'of a standby is as good, and knows that a new primary has left the history of the old one',
      { skip },
      async () => {
        await using primary = await startPostgres({ major, settings })
        const world = await World.open(primary)
        await world.push()
        await using standby = await startStandby(primary, { settings })
        await primary.sql('create table t as select g as id from generate_series(1, 10000) g')
        await summarize(primary)
        const [end] = await primary.sql<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn')
        const onStandby = world.of(standby)
        await until('the summary of the standby', async () => {
          const [row] = await standby.sql<{ done: boolean }>(
            `select pg_last_wal_replay_lsn() >= '${end?.lsn}' and summarized_lsn >= (
             select max(end_lsn) from pg_available_wal_summaries()) and exists (
             select from pg_class where relname = 't') as done from pg_get_wal_summarizer_state()`,
          )
          return row?.done
        })
        const plan = await onStandby.plan()
        assert.deepEqual([plan.kind, plan.server.in_recovery, plan.unknown], ['delta', true, []])
        const pushed = await onStandby.push()
        const early = await onStandby.plan()
        assert.equal(early.parent?.name, pushed.backup_name)
        assert.match(early.early_start_lsn ?? '', /^[0-9A-F]+\/[0-9A-F]+$/)
        const refused = await onStandby.run(['backup-push', '--no-wait'])
        assert.equal(refused.status, 8, refused.stderr)
        assert.ok(refused.stderr.includes(`its last restartpoint is ${early.early_start_lsn},`), refused.stderr)
        await standby.promote()
        await primary.sql('insert into t select g from generate_series(1, 50000) g')
        await world.push()
        await standby.sql('insert into t select g from generate_series(1, 90000) g')
        await standby.switchWal()
        await standby.sql('insert into t select g from generate_series(1, 90000) g')
        // Else the one of the end of recovery might still be under way.
        await standby.checkpoint()
        const left = await onStandby.assertFull('history', /the server's history left timeline 1 at/)
        assert.equal(left.wal_bytes, null)
      },
    )
  })
}
