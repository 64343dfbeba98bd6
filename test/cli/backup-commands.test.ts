import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { parseJson } from '../../src/primitives/json/json.ts'
import { filesMetadataKey, manifestKey, metadataKey, partKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { goldenArchive, goldenBackups } from '../harness/made/golden-backups.ts'
import { runWalrx } from '../harness/walrx/walrx-process.ts'

const archiveName = 'walg-local-lz4-deltas'
const [full, first, second] = goldenBackups.flatMap(([archive, backup]) =>
  archive === archiveName ? [backup] : [],
) as [string, string, string]

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'walrx-backups-'))
  cpSync(new URL('basebackups_005', goldenArchive(archiveName)), join(root, 'basebackups_005'), { recursive: true })
  for (const [index, backup] of [full, first, second].entries()) {
    const seconds = Date.UTC(2024, 4, 1, 10, index) / 1000
    utimesSync(join(root, sentinelKey(backup)), seconds, seconds)
  }
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const walrx = (...args: string[]) => runWalrx([...args, '--file-prefix', root, '--log-format', 'pretty'])

function write(key: string, content: string): void {
  mkdirSync(join(root, key, '..'), { recursive: true })
  writeFileSync(join(root, key), content)
}

describe('backup-list', () => {
  test("prints WAL-G's table", async () => {
    const { status, stdout, stderr } = await walrx('backup-list')
    assert.deepEqual([status, stderr], [0, ''])
    const lines = stdout.split('\n')
    assert.match(lines[0] ?? '', /^backup_name +modified +wal_file_name +storage_name$/)
    assert.equal(lines[3], `${second} 2024-05-01T10:02:00Z 000000010000000000000006 default`)
    assert.equal(lines.length, 5)
  })

  test('warns of what cannot be restored, and prints the same', async () => {
    const whole = await walrx('backup-list')
    rmSync(join(root, partKey(first, 'pg_control.tar.lz4')))
    for (const args of [[], ['--detail']]) {
      const { status, stderr, stdout } = await walrx('backup-list', ...args)
      assert.deepEqual([status, stdout.split(' ', 1)], [0, whole.stdout.split(' ', 1)])
      if (args.length === 0) assert.equal(stdout, whole.stdout)
      const warnings = stderr.trimEnd().split('\n')
      assert.equal(warnings.length, 2)
      assert.match(warnings[0] ?? '', new RegExp(`WARN: ${first} cannot be restored: it has no part with pg_control$`))
      assert.match(warnings[1] ?? '', new RegExp(`WARN: ${second} cannot be restored: ${first} has no part with pg_c`))
    }
    const { stdout } = await walrx('backup-list', '--chains', '--json')
    const problems = (JSON.parse(stdout) as { chain_problem: string | null }[]).map((each) => each.chain_problem)
    const problem = `${first} has no part with pg_control`
    assert.deepEqual(problems, [null, problem, problem])
  })

  test("prints WAL-G's JSON, every number as it is", async () => {
    const { stdout } = await walrx('backup-list', '--detail', '--json')
    const rows = parseJson(stdout) as { readonly [key: string]: unknown }[]
    assert.deepEqual(Object.keys(rows[0] ?? {}), [
      ...['backup_name', 'time', 'wal_file_name', 'storage_name', 'start_time', 'finish_time', 'date_fmt', 'hostname'],
      ...['data_dir', 'pg_version', 'start_lsn', 'finish_lsn', 'is_permanent', 'system_identifier'],
      ...['uncompressed_size', 'compressed_size'],
    ])
    assert.equal(rows[0]?.system_identifier, 7710381530900200095n)
    assert.equal(rows[0]?.time, '2024-05-01T10:00:00Z')
    const brief = parseJson((await walrx('backup-list', '--json')).stdout) as object[]
    assert.deepEqual(Object.keys(brief[0] ?? {}), ['backup_name', 'time', 'wal_file_name', 'storage_name'])
  })

  test('shows chains after what WAL-G prints, and which of them are broken', async () => {
    const plain = await walrx('backup-list')
    const whole = await walrx('backup-list', '--chains')
    assert.deepEqual([whole.status, whole.stderr], [0, ''])
    const [titles, ...lines] = whole.stdout.trimEnd().split('\n')
    assert.match(titles!, / storage_name delta_count delta_from +chain$/)
    const ends = lines.map((line, row) =>
      line
        .split(plain.stdout.split('\n')[row + 1]!)[1]
        ?.trim()
        .split(/ +/),
    )
    assert.deepEqual(ends, [
      ['0', '-', 'whole'],
      ['1', full, 'whole'],
      ['2', first, 'whole'],
    ])
    const rows = parseJson((await walrx('backup-list', '--chains', '--json')).stdout) as Record<string, unknown>[]
    assert.deepEqual(rows[2]!.chain, [full, first, second])
    assert.deepEqual([rows[2]!.delta_from, rows[2]!.delta_count, rows[2]!.chain_problem], [first, 2, null])
    assert.deepEqual([rows[0]!.delta_from, rows[0]!.delta_count], [null, 0])

    rmSync(join(root, sentinelKey(full)))
    const broken = await walrx('backup-list', '--chains', '--detail')
    assert.match(broken.stdout, new RegExp(`${second} .* false +2 +${first} ${full} is missing\n`))
    const shown = await walrx('backup-show', second)
    assert.match(shown.stdout, new RegExp(`^cannot be restored +${full} is missing$`, 'm'))
  })

  test('sorts by start, and warns where the times in the storage differ from that', async () => {
    utimesSync(join(root, sentinelKey(full)), 1_716_000_000, 1_716_000_000)
    const names = (text: string) => (JSON.parse(text) as { backup_name: string }[]).map((row) => row.backup_name)
    for (const detail of [[], ['--detail']]) {
      const { stderr, stdout } = await walrx('backup-list', '--json', ...detail)
      assert.deepEqual(names(stdout), [full, first, second])
      assert.match(stderr, new RegExp(`LATEST is ${second} .* it would be ${full} `))
    }
  })

  test('of an empty archive prints nothing, or an empty array', async () => {
    rmSync(join(root, 'basebackups_005'), { recursive: true })
    for (const detail of [[], ['--detail']]) {
      const text = await walrx('backup-list', ...detail)
      assert.deepEqual([text.status, text.stdout], [0, ''])
      assert.match(text.stderr, /the archive has no backup/)
      assert.equal((await walrx('backup-list', '--json', ...detail)).stdout, '[]\n')
    }
  })

  test('shows what it can where a document is damaged, and ends with an error that names it', async () => {
    write(metadataKey(first), '{"is_permanent":')
    write(sentinelKey(second), 'x')
    rmSync(join(root, metadataKey(second)))
    const { status, stdout, stderr } = await walrx('backup-list', '--detail')
    assert.equal(status, 5)
    assert.equal(stdout.split('\n').length, 5)
    assert.match(stdout, new RegExp(`${first} .* vm +/fx/`))
    assert.match(stdout, new RegExp(`${second} .* \\? +\\?`))
    assert.ok(stderr.includes(metadataKey(first)) && stderr.includes(sentinelKey(second)), stderr)
    assert.doesNotMatch(stderr, /\n\s+at /)
    assert.equal((await walrx('backup-list')).status, 0)
  })
})

describe('backup-show', () => {
  test('shows what a backup is, and what builds on it', async () => {
    write(manifestKey(full, 'lz4'), 'x'.repeat(100))
    const { status, stdout } = await walrx('backup-show', full)
    assert.equal(status, 0)
    for (const line of [
      `name               ${full}`,
      'kind               full backup',
      `deltas on it       ${first}`,
      'timeline           1',
      'start              0/2000028 at 2026-11-20T22:18:15.350342Z',
      'finish             0/2000120 at 2026-11-20T22:18:16.44573Z, 1.1 s later',
      'server             PostgreSQL 17.11',
      'system identifier  7710381530900200095',
      'tablespace 16384   /fx/walg-local-lz4-deltas/ts',
      'parts              3, 1.7 MB, 19 % of 9.3 MB',
      'manifest           stored, 100 bytes',
      'permanent          no',
    ])
      assert.ok(stdout.includes(`${line}\n`), `${line}\n${stdout}`)
  })

  test('takes LATEST', async () => {
    const { stdout } = await walrx('backup-show', 'LATEST')
    assert.match(stdout, new RegExp(`^name +${second} \\(LATEST\\)\n`))
    assert.match(stdout, new RegExp(`kind +delta on ${first}, step 2 from ${full}\n`))
  })

  test('prints the sentinel as it is, and the table of files when asked', async () => {
    const { stdout } = await walrx('backup-show', first, '--json', '--detail')
    const shown = parseJson(stdout) as { readonly [key: string]: unknown }
    assert.deepEqual(shown.sentinel, parseJson(readFileSync(join(root, sentinelKey(first)), 'utf8')))
    const files = (shown.files_metadata as { Files: Record<string, object> }).Files
    assert.equal(Object.keys(files).length, 416)
    assert.equal(
      Object.hasOwn(JSON.parse((await walrx('backup-show', first, '--json')).stdout) as object, 'files_metadata'),
      false,
    )
  })

  test('says that the table of files is missing', async () => {
    rmSync(join(root, filesMetadataKey(full)), { force: true })
    assert.match(
      (await walrx('backup-show', full, '--detail')).stdout,
      /files +not listed: files_metadata.json is missing/,
    )
  })

  test('of what is not there ends with 2 and the nearest name', async () => {
    const { status, stderr, stdout } = await walrx('backup-show', full.replace('2', '3'))
    assert.deepEqual([status, stdout], [2, ''])
    assert.match(stderr, /^walrx: there is no backup "base_000000010000000000000003" at file:/)
    assert.match(stderr, /^hint: did you mean base_000000010000000000000002\?$/m)
  })

  test('of a damaged sentinel shows what there is and names it', async () => {
    write(sentinelKey(full), '{"LSN":"0/3"}')
    const { status, stdout, stderr } = await walrx('backup-show', full)
    assert.equal(status, 5)
    assert.match(stdout, /kind +\?\n/)
    assert.match(stderr, /LSN is "0\/3", not a whole number/)
  })
})

describe('backup-mark', () => {
  test('marks LATEST in both places, and says where it did not', async () => {
    const { status, stdout, stderr } = await walrx('backup-mark', 'LATEST')
    assert.equal(status, 0)
    assert.equal(stdout, `${full} is permanent\n${first} is permanent\n${second} is permanent\n`)
    assert.match(stderr, /WAL-RUS reads the sentinel/)
    assert.match((await walrx('backup-show', second)).stdout, /permanent +yes\n/)
    assert.match((await walrx('backup-show', full)).stdout, /permanent +yes, but only by metadata.json: WAL-RUS/)
    assert.equal((await walrx('backup-mark', second)).stdout, `${second} was permanent already\n`)
  })

  test('does not take away what a delta needs', async () => {
    await walrx('backup-mark', 'LATEST')
    const { status, stderr } = await walrx('backup-mark', '-i', full)
    assert.equal(status, 2)
    assert.match(stderr, new RegExp(`${first} is permanent and builds on ${full}`))
    assert.equal((await walrx('backup-mark', '--impermanent', second)).stdout, `${second} is impermanent\n`)
    assert.equal((await walrx('backup-mark', '-i', first)).status, 0)
    assert.equal((await walrx('backup-mark', '-i', full)).status, 0)
  })

  test('needs a name', async () => {
    const { status, stderr } = await walrx('backup-mark')
    assert.equal(status, 2)
    assert.match(stderr, /NAME is missing/)
  })
})
