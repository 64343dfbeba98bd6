import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { mistakeLines, readText } from './read-text.ts'

const directory = mkdtempSync(join(tmpdir(), 'walrx-serve-'))
after(() => rmSync(directory, { recursive: true }))
const secretFile = join(directory, 'password')
writeFileSync(secretFile, 'from a file\n')

const good = (extra = '', top = '') => `${top}
clusters:
  orders:
    server: {dbname: host=db1 user=walrx}
    storage: {s3-prefix: s3://backups/orders}
${extra}`

async function planOf(text: string, environment: Record<string, string> = {}) {
  const { configuration, mistakes } = await readText(text, environment)
  assert.ok(configuration, JSON.stringify(mistakes))
  return configuration
}

describe('a configuration', () => {
  test('gives a cluster what the defaults have, and its own settings go first', async () => {
    const top = `
memory: 1GB
jobs: 3
defaults:
  time-zone: Europe/Zurich
  storage: {s3-prefix: s3://backups}
  compression: {compression-method: lz4}
  environment: {WALG_COMPRESSION_METHOD_: x}
`.replace(/ {2}environment.*\n/, '')
    const { clusters, jobsMax, shares } = await planOf(
      `${top}
  backup: {full: 0 2 * * sun, delta: 0 2 * * mon-sat, jitter: 5m, max-rate: 50MB}
  retention: {schedule: 0 5 * * *, keep-days: 14}
clusters:
  orders:
    server: {dbname: host=db1}
    storage: {storage-prefix: orders}
  users:
    server: {pghost: db2, pgport: 5433}
    storage: {file-prefix: /srv/users}
    environment: {WALG_COMPRESSION_METHOD: zstd, PGPASSWORD: 0123}
    receive: {memory: 64MB}
    backup: {schedule: '@weekly', time-zone: UTC}
    retention: {schedule: off}
`,
    )
    const [orders, users] = clusters
    assert.equal(jobsMax, 3)
    assert.deepEqual([...shares.values()], [960 * 1024 ** 2, 64 * 1024 ** 2])
    assert.deepEqual(orders?.receive.environment, {
      WALG_S3_PREFIX: 's3://backups',
      WALG_STORAGE_PREFIX: 'orders',
      WALG_COMPRESSION_METHOD: 'lz4',
      WALRX_DBNAME: 'host=db1',
    })
    assert.deepEqual(
      orders?.jobs.map(({ name, triggers, jitterMs }) => [name, triggers.map((each) => each.text), jitterMs]),
      [
        ['backup', ['0 2 * * sun (Europe/Zurich)', '0 2 * * mon-sat (Europe/Zurich)'], 300_000],
        ['retention', ['0 5 * * * (Europe/Zurich)'], 0],
      ],
    )
    const [backup, retention] = orders?.jobs ?? []
    assert.equal(backup?.call.environment['WALG_DISK_RATE_LIMIT'], '50MB')
    assert.deepEqual(retention?.call.words, ['--confirm'])
    assert.deepEqual([...(retention?.call.flags ?? [])], [['keepDays', '14']])
    // A directory of its own takes the place of the bucket; digits stay as they are written.
    assert.deepEqual(users?.receive.environment, {
      WALG_FILE_PREFIX: '/srv/users',
      WALG_COMPRESSION_METHOD: 'zstd',
      PGPASSWORD: '0123',
      PGHOST: 'db2',
      PGPORT: '5433',
    })
    assert.deepEqual(
      users?.jobs.map(({ name, triggers }) => [name, triggers.map((each) => each.text)]),
      [['backup', ['@weekly (UTC)']]],
    )
    assert.ok(users?.secrets.includes('0123'))
  })

  test('takes values from the environment and from files, and knows them for secrets', async () => {
    const text = good(`    environment:
      PGPASSWORD_FILE: ${secretFile}
      AWS_ACCESS_KEY_ID: AKIA
      AWS_SECRET_ACCESS_KEY: \${KEY}
      PGOPTIONS: -c a=$\${b}
    compression: {compression-method: "\${METHOD}"}
`)
    const { clusters } = await planOf(text, { KEY: 'k-e-y-from-environment', METHOD: 'lz4' })
    const environment: Readonly<Record<string, string>> = clusters[0]?.receive.environment ?? {}
    assert.equal(environment['PGPASSWORD'], 'from a file')
    assert.equal(environment['PGOPTIONS'], '-c a=${b}')
    assert.equal(environment['WALG_COMPRESSION_METHOD'], 'lz4')
    assert.ok(clusters[0]?.secrets.includes('from a file') && clusters[0].secrets.includes('k-e-y-from-environment'))
  })

  test('finds the password of a connection string, from a file or not', async () => {
    const file = join(directory, 'conninfo')
    writeFileSync(file, 'postgresql://walrx:s%40me%20thing@db1/')
    const { clusters } = await planOf(good().replace('dbname: host=db1 user=walrx', `dbname-file: ${file}`))
    assert.ok(clusters[0]?.secrets.includes('s@me thing') && clusters[0].secrets.includes('s%40me%20thing'))
  })
})

describe('every mistake is one line with its place, all of them at once', () => {
  const cases: readonly (readonly [string, string, ...string[]])[] = [
    ['an empty file', '', '1:1: the file is empty: it needs clusters'],
    ['no map', '- a', '1:1: the file has to be a map: lines of "key: value"'],
    ['no clusters', 'jobs: 2', '1:1: the file has no clusters: there is nothing to do'],
    ['a tab', 'clusters:\n\ta: 1', '2:1: tabs cannot indent; use spaces'],
    ['a missing quote', 'clusters: "', '1:12: a closing quote, a bracket, a comma or a colon is missing'],
    ['a cluster twice', 'clusters:\n  a: {}\n  a: {}', '3:3: the key stands twice in this map'],
    ['an unknown key', good('    bakup: {}'), '6:5: clusters.orders has no such key: did you mean backup?'],
    [
      'a key in the wrong section',
      good('    scrub: {keep-days: 3, schedule: off}'),
      '6:13: clusters.orders.scrub has no such key: it has schedule, time-zone, jitter, timeout, checkpoint, max-rate',
    ],
    ['a list for a value', good('    receive: {slotname: [a]}'), '6:25: slotname is a list, and has to be one value'],
    ['nothing for a value', good('    receive: {slotname: }'), '6:25: slotname has no value'],
    [
      'a bad value',
      good('    receive: {tail-bytes: lots}'),
      '6:27: tail-bytes must be a size like 64MB from 64kB to 64MB',
    ],
    [
      'a schedule',
      good('    scrub: {schedule: 0 25 * * *}'),
      '6:23: schedule must be a schedule as cron writes it, such as 30 2 * * sun: its hour is out of range',
    ],
    [
      'one of a list',
      good('    scrub: {schedule: ["@daily", never]}'),
      '6:34: schedule must be a schedule as cron writes it, such as 30 2 * * sun: it has five fields, or six with seconds first, or is a word such as @daily',
    ],
    [
      'a day that never comes',
      good('    scrub: {schedule: 0 0 31 2 *}'),
      '6:23: schedule is a schedule that is never due',
    ],
    [
      'a day of the week',
      good('    scrub: {schedule: 0 0 * * 8}'),
      '6:23: schedule must be a schedule as cron writes it, such as 30 2 * * sun: its day of the week is out of range',
    ],
    [
      'a year',
      good('    scrub: {schedule: 0 12 1 * * 2027}'),
      '6:23: schedule must be a schedule as cron writes it, such as 30 2 * * sun: six fields begin with seconds, and none is a year',
    ],
    [
      'a date for a schedule',
      good('    scrub: {schedule: "2020-01-01T00:00:00"}'),
      '6:23: schedule must be a schedule as cron writes it, such as 30 2 * * sun: it has five fields, or six with seconds first, or is a word such as @daily',
    ],
    ['several documents', `${good()}---\n${good()}`, '6:1: the file holds several documents; it can have one'],
    ['a zero byte in a variable', good('    environment: {MY_PASSWORD: "a\\0b"}'), '6:32: the value holds a zero byte'],
    ['a zero byte in an option', good('    receive: {slotname: "a\\0b"}'), '6:25: the value holds a zero byte'],
    [
      'a bad number of what to keep',
      good('    retention: {schedule: "@daily", keep-full: 0}'),
      '6:48: keep-full must be a whole number from 1 to 1000000',
    ],
    ['deletions that are off', good('    retention: {schedule: off}')],
    [
      'a job that is no map',
      good('    retention: off'),
      '6:16: clusters.orders.retention has to be a map: lines of "key: value"; for a job that never runs, {schedule: off}',
    ],
    [
      'a server in a file that is missing',
      good().replace('dbname: host=db1 user=walrx', 'dbname-file: /nonexistent'),
      '4:27: the file cannot be read: it does not exist',
    ],
    [
      'a time zone',
      good('    scrub: {schedule: "@daily", time-zone: Europe/Zurch}'),
      '6:44: time-zone must be the name of a time zone, such as UTC or Europe/Zurich',
    ],
    [
      'no schedule',
      good('    retention: {keep-days: 7}'),
      '6:5: retention has no schedule, and would never run: add one, or write schedule: off',
    ],
    [
      'nothing to keep',
      good('    retention: {schedule: "@daily"}'),
      '6:5: retention says nothing about what to keep: add keep-days, keep-full or another of its keys',
    ],
    [
      'two rules in one',
      good('    retention: {schedule: "@daily", keep-days: 7, recovery-window: 7d}'),
      '6:48: --keep-days and --recovery-window are the same in two units: write one of them',
    ],
    [
      'deltas that are none',
      good('    backup: {delta: "@daily", delta-max-steps: 0}'),
      '6:48: delta-max-steps is 0, so that the schedule of deltas would take full backups only',
    ],
    [
      'a variable that is not set',
      good('    environment: {PGPASSWORD: "${NOPE}"}'),
      '6:31: the environment variable NOPE is not set, or empty',
    ],
    [
      'a variable without a name',
      good('    environment: {PGPASSWORD: "a${b c}"}'),
      '6:31: ${…} has to hold the name of an environment variable; write $${ for the characters ${',
    ],
    [
      'a file that is not there',
      good('    environment: {PGPASSWORD_FILE: /nonexistent}'),
      '6:36: the file cannot be read: it does not exist',
    ],
    ['a relative path', good('    environment: {PGPASSWORD_FILE: x}'), '6:36: the path of the file has to be absolute'],
    [
      'a directory',
      good(`    environment: {PGPASSWORD_FILE: ${directory}}`),
      '6:36: the path does not lead to a regular file',
    ],
    [
      'a mistyped setting',
      good('    environment: {WALG_SLOTNAM: x}'),
      '6:19: no setting has this name: did you mean WALG_SLOTNAME?',
    ],
    [
      'a mistyped variable of libpq',
      good('    environment: {PGPASWORD: x}'),
      '6:19: no setting has this name: did you mean PGPASSWORD?',
    ],
    [
      'a setting in two places',
      good('    environment: {WALG_S3_PREFIX: s3://x}'),
      '6:19: WALG_S3_PREFIX is set in line 5 already',
    ],
    [
      'settings of WAL-G that walrx refuses',
      good('    environment: {S3_USE_YC_SESSION_TOKEN: true}'),
      '6:44: S3_USE_YC_SESSION_TOKEN is set (environment), but',
    ],
    ['two archives', good('').replace('{s3-prefix: ', '{file-prefix: /srv/x, s3-prefix: '), '5:47: both an S3 prefix'],
    [
      'no server',
      'clusters:\n  a:\n    storage: {file-prefix: /srv/a}',
      '2:3: no server is named: add server: with dbname or pghost',
    ],
    [
      'a bad name',
      'clusters:\n  a/b: {}',
      '2:3: the name of a cluster is up to 63 letters, digits, _, - and ., and begins with a letter or a digit',
    ],
    [
      'memory',
      good('', 'memory: 16MB'),
      '1:9: memory is 16MB, and the clusters need 32MB: 32MB for each of 1 others, which is two segments',
    ],
    [
      'the same slot',
      good('  two:\n    server: {dbname: host=DB1 port=5432}\n    storage: {s3-prefix: s3://backups/two}'),
      '7:22: server and slot are those of orders too: only one can receive from a slot',
    ],
    [
      'the same archive',
      good('  two:\n    server: {dbname: host=db2}\n    storage: {s3-prefix: s3://backups/orders/}'),
      '8:26: the archive is that of orders too: each needs its own',
    ],
    [
      'an archive in another',
      good('  two:\n    server: {dbname: host=db2}\n    storage: {s3-prefix: s3://backups}'),
      '8:26: the archive and that of orders lie in each other: give each a folder of its own',
    ],
    ['the address', good('', 'listen: here'), '1:9: listen must be HOST:PORT, for instance 127.0.0.1:8432, or off'],
    ['the directory of the state', good('', 'state: here'), '1:8: state must be an absolute path'],
    [
      'an alias to nothing',
      'clusters: *x',
      '1:11: the alias (*name) has no anchor (&name) before it; put a value that begins with * into quotes',
    ],
  ]
  for (const [what, text, ...expected] of cases) {
    test(what, async () => {
      const lines = await mistakeLines(text)
      assert.equal(lines.length, expected.length, lines.join('\n'))
      for (const [index, line] of lines.entries()) {
        const start = `walrx.yaml:${expected[index]}`
        assert.ok(line === start || (line.startsWith(start) && /(but|prefix)$/.test(start)), `${line}\n${start}`)
      }
    })
  }

  test('a link to the same directory is the same archive', async () => {
    const link = join(directory, 'link')
    symlinkSync(directory, link)
    const one = (name: string, path: string) =>
      `  ${name}:\n    server: {dbname: host=${name}}\n    storage: {file-prefix: ${path}}\n`
    assert.match((await mistakeLines(`clusters:\n${one('a', directory)}${one('b', link)}`)).join(), /that of a too/)
  })

  test('aliases that would fill the memory are refused, and so is what is nested for ever', async () => {
    const levels = 'abcdefgh'.split('').map((name, at, all) => {
      const before = at === 0 ? 'x' : `*${all[at - 1]}`
      return `${name}: &${name} [${Array.from({ length: 9 }, () => before).join(', ')}]`
    })
    assert.match((await mistakeLines(levels.join('\n'))).join(), /more than 200000 values/)
    assert.match((await mistakeLines('['.repeat(100_000))).join(), /nested too deeply/)
    assert.equal((await mistakeLines('a: &a {b: *a}\nclusters: *a'.replace('&a {', '&a {c: 1, '))).length > 0, true)
  })
})
