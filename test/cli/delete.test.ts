import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { runProgram } from '../../src/cli/program.ts'
import { Random } from '../harness/random.ts'
import { runWalrx } from '../harness/walrx/walrx-process.ts'
import { type MadeArchive, makeArchive } from '../retention/made-archive.ts'
import { keysIn, writeDirectory } from '../retention/made-directory.ts'

let root: string
let made: MadeArchive
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'walrx-delete-'))
  made = makeArchive(new Random(7), { events: 30, isSimple: true })
  writeDirectory(made.storage, root)
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

/** In this process, which saves a start for each call. */
async function run(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const texts = Promise.all([text(stdout), text(stderr)])
  const streams = { stdin, stdout, stderr, signals: new EventEmitter(), exit: () => assert.fail('was ended') }
  const status = await runProgram({
    ...streams,
    args: [...args, '--file-prefix', root],
    environment: {},
    home: undefined,
  })
  stdout.end()
  stderr.end()
  const [out, err] = await texts
  return { status, stdout: out, stderr: err }
}

const walrx = (...args: string[]) => run('delete', ...args)

/** Names of the full backups, the oldest first. */
const fulls = () => made.backups.filter(({ parent }) => parent === undefined).map(({ name }) => name)

interface Shown {
  readonly dry_run: boolean
  readonly backups: readonly { readonly action: string; readonly backup_name: string }[]
  readonly total: { readonly backups: number; readonly objects: number; readonly bytes: number }
  readonly done?: {
    readonly backups: number
    readonly objects: number
    readonly bytes: number
    readonly refused: number
  }
  readonly window: { readonly backup_name: string } | null
}

describe('walrx delete', () => {
  test('shows what would go, and changes nothing without --confirm', async () => {
    const before = keysIn(root)
    const { status, stdout } = await walrx('retain', 'FULL', '2')
    assert.equal(status, 0)
    assert.match(stdout, new RegExp(`^keep +${fulls().at(-2)} .* it is not older than`, 'm'))
    assert.match(stdout, new RegExp(`^delete +${fulls()[0]} .* no rule keeps it$`, 'm'))
    assert.match(stdout, /^delete +[0-9A-F]{24} - [0-9A-F]{24} +\d+ segments .* no backup that stays needs it$/m)
    assert.match(stdout, new RegExp(`^the window that remains: from .* the end of ${fulls().at(-2)}\\) to `, 'm'))
    assert.match(stdout, /^nothing was deleted: --confirm deletes$/m)
    assert.deepEqual(keysIn(root), before)
  })

  test('deletes with --confirm just what it has shown', async () => {
    const before = keysIn(root)
    const plan = JSON.parse((await walrx('retain', 'FULL', '2', '--json')).stdout) as Shown
    assert.equal(plan.dry_run, true)
    const { status, stdout } = await walrx('retain', 'FULL', '2', '--confirm', '--json')
    assert.equal(status, 0)
    const done = JSON.parse(stdout) as Shown
    assert.deepEqual(done.total, plan.total)
    assert.equal(done.window?.backup_name, fulls().at(-2))
    const left = keysIn(root)
    assert.deepEqual(
      left.filter((key) => !before.includes(key)),
      [],
    )
    const gone = plan.backups.filter(({ action }) => action === 'delete').map((each) => each.backup_name)
    assert.ok(gone.length > 2)
    for (const name of gone) assert.ok(!left.some((key) => key.includes(name)), name)
    assert.equal(done.done?.refused, 0)
    assert.equal(done.done?.backups, gone.length)
    const again = await walrx('retain', 'FULL', '2', '--confirm')
    assert.match(again.stdout, /^to delete: 0 backups, 0 objects, 0 bytes\ndeleted: 0 backups, 0 objects, 0 bytes$/m)
    assert.deepEqual(keysIn(root), left)
  })

  test('refuses what cannot be meant', async () => {
    const before = keysIn(root)
    const delta = made.backups.find(({ parent }) => parent)?.name ?? ''
    const cases: [string[], RegExp][] = [
      [[], /^walrx: delete needs a rule\nhint: .*--keep-days 14/],
      [['Retain', '5'], /^walrx: delete does not know Retain\nhint: did you mean retain\?/],
      [['expire'], /^walrx: delete does not know expire\nhint: it is one of retain, before/],
      [['retain'], /^walrx: delete retain lacks/],
      [['retain', '0'], /^walrx: delete retain needs a count of at least 1, and not 0/],
      [['retain', '5', '--after'], /^walrx: --after needs a value/],
      [['retain', '-1'], /^walrx: delete has no option -1\nhint: no argument is a negative number/],
      [['retain', '1.5'], /^walrx: delete retain needs a count of at least 1, and not 1\.5/],
      [['retain', '1e9'], /^walrx: delete retain needs a count of at least 1, and not 1e9/],
      [['retain', ''], /^walrx: delete retain needs a count of at least 1, and not ''/],
      [['retain', 'full', '5'], /^walrx: delete retain takes no full\nhint: did you mean walrx delete retain FULL 5\?/],
      [['retain', '5', 'FIND_FULL'], /^walrx: delete retain takes no 5\nhint: .* walrx delete retain FIND_FULL 5\?/],
      [['retain', 'FULL', '5', '6'], /^walrx: delete retain takes no 6/],
      [['before', 'FULL', 'x'], /^walrx: delete before takes no FULL/],
      [['before', '2099-01-01T00:00:00Z'], /^walrx: 2099-01-01T00:00:00Z is in the future/],
      [['before', '2026-01-01'], /^walrx: 2026-01-01 is no time/],
      [['before', 'nothing'], /^walrx: there is no backup "nothing"/],
      [['before', 'latest'], /^walrx: there is no backup "latest" .*\nhint: did you mean LATEST\?/],
      [['target', 'Latest'], /^walrx: there is no backup "Latest" .*\nhint: did you mean LATEST\?/],
      [['retain', '1', '--after', 'latest'], /^walrx: there is no backup "latest" .*\nhint: did you mean LATEST\?/],
      [['before', `${delta}_backup_stop_sentinel.json`], new RegExp(`hint: did you mean ${delta}\\?`)],
      [
        ['before', delta],
        new RegExp(`is a delta, .*\nhint: FIND_FULL .*: walrx delete before FIND_FULL ${delta}$`, 'm'),
      ],
      [['target', 'base_000000010000000000000001'], /^walrx: there is no backup .*\nhint: did you mean base_/],
      [['target', '--target-user-data', '{'], /^walrx: --target-user-data is no JSON/],
      [['garbage', 'WAL'], /^walrx: delete garbage takes no WAL/],
      [
        ['everything', 'force'],
        /^walrx: delete everything takes no force\nhint: did you mean walrx delete everything FORCE\?/,
      ],
      [['retain', '5', '--keep-days', '3'], /^walrx: delete retain goes by its own rule, and not by --keep-days/],
      [['--keep-days', '3', '--recovery-window', '3d'], /^walrx: --keep-days and --recovery-window are the same/],
      [['before', 'x', '--after', 'y'], /^walrx: --after belongs to delete retain/],
      [['--keep-days', '3', '--dry-run'], /^walrx: delete has no option --dry-run\nhint: without --confirm/],
      ...['0', '-1', '1.5', '1e9', '3d', ' '].flatMap((value): [string[], RegExp][] => {
        const expected = new RegExp(`^walrx: --keep-days=${value}: must be a whole number from 1 to 36500`)
        return [
          [['--keep-days', value], expected],
          [[`--keep-days=${value}`], expected],
        ]
      }),
      [['--keep-days', ''], /^walrx: --keep-days needs a value/],
      [['--keep-full', '-2'], /^walrx: --keep-full=-2: must be a whole number from 1/],
      [['--recovery-window', '-1d'], /^walrx: --recovery-window=-1d: must be a duration like 15s/],
      [['--recovery-window', '5'], /^walrx: --recovery-window=5: must be a duration like 15s/],
    ]
    await Promise.all(
      cases.map(async ([args, expected]) => {
        const { status, stderr, stdout } = await walrx(...args, '--confirm')
        assert.match(stderr, expected, args.join(' '))
        assert.deepEqual([status, stdout], [2, ''], args.join(' '))
      }),
    )
    assert.deepEqual(keysIn(root), before)
  })

  test('takes LATEST for the backup that began last, wherever a backup is named', async () => {
    const plans = async (...args: string[]) => JSON.parse((await walrx(...args, '--json')).stdout) as Shown
    const newest = made.backups.at(-1)?.name ?? ''
    const gone = async (...args: string[]) =>
      (await plans(...args)).backups.filter(({ action }) => action === 'delete').map((each) => each.backup_name)
    assert.deepEqual(await gone('target', 'LATEST'), [newest])
    for (const words of [
      ['before', 'FIND_FULL'],
      ['retain', 'FIND_FULL', '1', '--after'],
    ]) {
      const found = await gone(...words, 'LATEST')
      assert.deepEqual(found, await gone(...words, newest))
      assert.ok(found.length > 0, words.join(' '))
    }
  })

  test('deletes everything only if it is told so twice', async () => {
    const before = keysIn(root)
    const shown = await walrx('everything')
    assert.match(shown.stdout, /^delete {2}basebackups_005\/ {2}\d+ objects.*\n(.*\n)*nothing was deleted/)
    assert.deepEqual(keysIn(root), before)
    const { name } = made.backups[0] ?? { name: '' }
    assert.equal((await run('backup-mark', name)).status, 0)
    const refused = await walrx('everything', '--confirm')
    assert.equal(refused.status, 2)
    assert.match(refused.stderr, /is permanent\nhint: walrx delete everything FORCE/)
    assert.deepEqual(keysIn(root), before)
    assert.match((await walrx('everything', 'FORCE', '--confirm')).stdout, /^deleted: everything, \d+ objects/)
    assert.deepEqual(keysIn(root), [])
  })
})

describe('links in the directory of an archive', () => {
  test('are not followed by what deletes, and what they lead to stays; one that leads nowhere ends nothing', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'walrx-elsewhere-'))
    try {
      writeFileSync(join(elsewhere, 'photo'), 'x')
      const [backup = ''] = fulls()
      const links = ['x', 'notes', 'wal_005/old', `basebackups_005/${backup}/tar_partitions/more`]
      mkdirSync(join(root, 'notes/deep'), { recursive: true })
      for (const link of [...links, 'notes/deep/link']) if (link !== 'notes') symlinkSync(elsewhere, join(root, link))
      symlinkSync('/nonexistent', join(root, 'wal_005/dead'))
      // As a process: the log does not go to the stream of a test.
      const args = ['delete', 'retain', 'FULL', '1', '--confirm', '--file-prefix', root]
      const plan = await runWalrx(args, { cwd: root, env: {} })
      assert.equal(plan.status, 0, plan.stderr)
      assert.match(
        plan.stderr,
        /wal_005\/dead".*rm .*wal_005\/dead".*a symbolic link leads nowhere, and was passed over/,
      )
      assert.match(
        plan.stderr,
        new RegExp(`${backup}/tar_partitions/more".*removed a symbolic link: what it leads to stays`),
      )
      const shown = await run('st', 'rm', 'notes', '--dry-run')
      assert.equal(shown.stdout, 'notes/deep/link\nwould remove 1 object, 0 bytes\n')
      assert.equal((await run('st', 'rm', 'x/photo')).status, 4)
      assert.equal((await run('st', 'rm', 'x')).status, 0)
      const all = await walrx('everything', 'FORCE', '--confirm')
      assert.equal(all.status, 0, all.stderr)
      assert.deepEqual(readdirSync(elsewhere), ['photo'])
      assert.deepEqual(keysIn(root), [])
      assert.ok(!readdirSync(join(root, 'wal_005')).includes('dead'))
    } finally {
      rmSync(elsewhere, { recursive: true })
    }
  })
})
