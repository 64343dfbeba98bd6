import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { ChangedFork, PlanReport } from '../../src/backup/plan/backup-plan.ts'
import { planToJson } from '../../src/cli/terminal/plans/plan-json.ts'
import { planToText } from '../../src/cli/terminal/plans/plan-text.ts'
import { WalrxError } from '../../src/primitives/errors.ts'
import { parseJson } from '../../src/primitives/json/json.ts'
import { parseLsn } from '../../src/postgres/lsn.ts'
import { runWalrx } from '../harness/walrx/walrx-process.ts'

const systemId = 7455523487659893045n

function forkOf(more: Partial<ChangedFork>): ChangedFork {
  return {
    tablespace: 1663,
    database: 5,
    relation: 16384,
    fork: 'main',
    path: 'base/5/16384',
    blocks: 1,
    limit: undefined,
    name: undefined,
    databaseName: undefined,
    isThere: true,
    ...more,
  }
}

function named(relation: string, more: Partial<ChangedFork> = {}): ChangedFork {
  return forkOf({ name: { database: 'db', schema: 'public', relation, kind: 'r', toastOf: undefined }, ...more })
}

function reportOf(changes: readonly ChangedFork[] | undefined, more: Partial<PlanReport> = {}): PlanReport {
  const cluster = { systemId, serverVersion: 170_010, segmentSize: 1, blockSize: 8192, checksums: 'on' } as const
  return {
    plan: { full: { code: 'steps', message: 'm' } },
    parent: undefined,
    server: {
      host: 'db1',
      cluster: { ...cluster, dataDirectory: undefined },
      inRecovery: false,
      timeline: 3,
      lsn: parseLsn('16/B374D848'),
    },
    walBytes: undefined,
    summaries: undefined,
    changes,
    delta: undefined,
    full: undefined,
    earlyStart: undefined,
    unknown: [],
    ...more,
  }
}

/** What is looked at of a plan for programs. */
interface Printed {
  readonly kind: string
  readonly full_because: unknown
  readonly server: unknown
  readonly changes: { readonly blocks: number; readonly relations: readonly Readonly<Record<string, unknown>>[] }
  readonly expected: unknown
}

const json = (report: PlanReport) => parseJson([...planToJson(report)].join('')) as unknown as Printed

describe('a plan for people', () => {
  test('shows names as SQL has them, and nothing that a terminal would obey', () => {
    const changes = [
      named('t'),
      named('Odd "name"'),
      named('two\nlines \u001b[2J \u202e'),
      named('pg_toast_1', {
        name: {
          database: 'db',
          schema: 'pg_toast',
          relation: 'pg_toast_1',
          kind: 't',
          toastOf: { schema: 's', relation: 'T' },
        },
      }),
      named('t', { fork: 'vm' }),
      forkOf({ databaseName: 'other db', path: 'base/7/8' }),
      named('fresh', { limit: 0 }),
      named('short', { limit: 1 }),
    ]
    const text = planToText(reportOf(changes), 6)
    for (const line of [
      'changed  8 blocks (64.0 kB) of 8 relation forks',
      '         1  db.public.t',
      '         1  db.public."Odd ""name"""',
      '         1  db.public."two\\u000alines \\u001b[2J \\u202e"',
      '         1  db.pg_toast.pg_toast_1 (of s."T")',
      '         1  db.public.t (vm)',
      '         1  base/7/8 of database "other db"',
      '         1  db.public.fresh, created or emptied',
      '         1  db.public.short, cut to 1 block',
    ]) {
      assert.ok(text.split('\n').includes(line), `${line}\n${text}`)
    }
  })

  test('says how many relations it does not show, and leaves out what is gone', () => {
    const changes = Array.from({ length: 143 }, (_, index) => named(`t${index}`, { blocks: 200 - index }))
    const gone = named('gone', { blocks: 1_000_000, isThere: false })
    const text = planToText(reportOf([gone, ...changes]), 6)
    assert.match(text, /^ +and 123 more with 14637 blocks: --json has all$/m)
    assert.match(text, /of 143 relation forks, without 1 fork of dropped relations$/m)
    assert.equal(text.match(/db\.public\.t\d+/g)?.length, 20)
    const all = json(reportOf([gone, ...changes]))
    assert.equal(all.changes.relations.length, 144)
    assert.equal(all.changes.relations[0]?.exists, false)
    assert.equal(all.changes.blocks, 143 * 129)
  })

  test('says why it is a full one, and what is not known', () => {
    const reason = new WalrxError('WALRX_NO_PRIVILEGE', 'permission denied\nfor \u001bx')
    const report = reportOf(undefined, {
      plan: { full: { code: 'steps', message: 'the chain has 6 steps', hint: 'a hint' } },
      full: { bytes: 4096, by: 'databases' },
      unknown: [{ what: 'sizes', reason, hint: 'grant it' }],
    })
    assert.equal(
      planToText(report, 6),
      [
        'plan       a full backup',
        'because    the chain has 6 steps',
        'hint       a hint',
        'server     db1, PostgreSQL 17.10, timeline 3 at 16/B374D848',
        'expected   about 4.0 kB before compression',
        'not known  the size to expect: the files of the server cannot be listed',
        '           permission denied\\u000afor \\u001bx',
        '           grant it',
        '',
      ].join('\n'),
    )
  })
})

describe('a plan for programs', () => {
  test('has every number as it is, and LSNs as PostgreSQL writes them', () => {
    const plan = json(reportOf([named('a"b', { limit: 0 })]))
    assert.deepEqual(plan.server, {
      host: 'db1',
      version: 170_010,
      system_identifier: systemId,
      in_recovery: false,
      timeline: 3,
      lsn: '16/B374D848',
    })
    assert.deepEqual([plan.kind, plan.full_because], ['full', { code: 'steps', message: 'm', hint: null }])
    assert.equal(plan.changes.relations[0]?.relation, 'a"b')
    assert.equal(plan.changes.relations[0]?.limit_block, 0)
    assert.deepEqual(plan.expected, { delta: null, full: null })
  })

  test('is JSON without changes, with none, and with more than are written at once', () => {
    assert.equal(json(reportOf(undefined)).changes, null)
    assert.deepEqual(json(reportOf([])).changes, { blocks: 0, bytes: 0, relations: [] })
    const many = Array.from({ length: 2001 }, (_, index) => named(`t${index}`))
    assert.equal(json(reportOf(many)).changes.relations.length, 2001)
  })
})

describe('backup-plan', () => {
  let root: string
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'walrx-plan-'))
  })
  afterEach(() => rmSync(root, { recursive: true, force: true }))

  for (const command of [['backup-plan'], ['backup-push', '--dry-run']]) {
    const run = (...args: string[]) => runWalrx([...command, ...args], { env: { WALRX_LOG_FORMAT: 'pretty' } })

    test(`${command.join(' ')} refuses what makes no sense`, async () => {
      const prefix = ['--file-prefix', root]
      for (const [args, status, words] of [
        [[], 2, /no archive is given/],
        [[...prefix, '--delta-from-name', 'a', '--delta-from-user-data', 'b'], 2, /by its name and by its user data/],
        [[...prefix, '--delta-max-steps', '65'], 2, /delta-max-steps/],
        [[...prefix, 'base_1'], 2, /takes no argument "base_1"|base_1 is no data directory/],
        [[...prefix, '--limit', '3'], 2, /has no option --limit/],
        [[...prefix, '-d', 'host=127.0.0.1 port=1'], 3, /127\.0\.0\.1/],
        [['--file-prefix', join(root, 'missing'), '-d', 'host=127.0.0.1 port=1'], 3, /127\.0\.0\.1/],
      ] as const) {
        const end = await run(...args)
        assert.equal(end.status, status, `${args.join(' ')}: ${end.stderr}`)
        assert.match(end.stderr, words)
        assert.equal(end.stdout, '')
      }
    })
  }

  test('describes itself by --help', async () => {
    const { stdout } = await runWalrx(['backup-plan', '--help'])
    assert.match(stdout, /without beginning a backup/)
    for (const flag of ['--delta-max-steps', '--require-incremental', '--dbname', '--s3-prefix', '--json', '--full']) {
      assert.ok(stdout.includes(flag), flag)
    }
    for (const flag of ['--checkpoint', '--wal-timeout', '--label']) assert.ok(!stdout.includes(flag), flag)
  })
})
