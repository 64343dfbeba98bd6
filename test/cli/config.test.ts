/** `walrx config`, run in this process. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import { runProgram } from '../../src/cli/program.ts'
import { madeKey } from '../harness/made/openpgp-keys.ts'

async function walrx(args: readonly string[], environment: Record<string, string> = {}) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const outside = { stdin: new PassThrough(), stdout, stderr, signals: new EventEmitter(), exit: () => {} }
  const status = await runProgram({ args, environment, home: undefined, ...outside })
  const text = (stream: PassThrough) => (stream.read() as Buffer | null)?.toString() ?? ''
  return { status, stdout: text(stdout), stderr: text(stderr) }
}

test('shows what is set, and with --all the defaults too', async () => {
  const set = await walrx(['config'], { WALG_SLOTNAME: 'one' })
  assert.deepEqual([set.status, set.stderr], [0, ''])
  assert.match(set.stdout, /^config file: none\n\noption +value +from\nWALG_SLOTNAME +one +environment\n$/)
  const all = await walrx(['config', 'wal-receive', '--all'], {})
  assert.match(all.stdout, /^WALG_SLOTNAME +walrx +default$/m)
  assert.doesNotMatch(all.stdout, /^WALRX_STANDBY_TAIL/m)
  assert.match((await walrx(['config'])).stdout, /no option is set: --all shows the defaults/)
})

test('takes the flags of the command that it describes, and no others', async () => {
  const { status, stdout } = await walrx(['config', 'wal-receive', '-S', 'two', '--memory', '64MB', '--json'])
  assert.equal(status, 0)
  const found = JSON.parse(stdout) as { options: { name: string; value: string; source: string; set_by: string }[] }
  assert.deepEqual(
    found.options.filter(({ source }) => source === 'flag').map(({ name, set_by, value }) => [name, value, set_by]),
    [
      ['WALG_SLOTNAME', 'two', '--slotname'],
      ['WALRX_MEMORY', '64MB', '--memory'],
    ],
  )
  const refused = await walrx(['config', 'wal-fetch', '--slotname', 'x'])
  assert.equal(refused.status, 2)
  assert.match(refused.stderr, /config has no option --slotname/)
  const mistyped = await walrx(['config', 'wal-recieve'])
  assert.deepEqual([mistyped.status, mistyped.stdout], [2, ''])
  assert.match(mistyped.stderr, /there is no command wal-recieve\nhint: did you mean wal-receive\?/)
})

test('ends with 2 where the command would not start, after it has shown everything', async () => {
  for (const [environment, message] of [
    [{ WALRX_LOG_LEVEL: 'loud' }, /WALRX_LOG_LEVEL: must be one of error, warn, info, debug/],
    [{ WALG_USE_WAL_DELTA: 'true' }, /WALG_USE_WAL_DELTA is set \(environment\) and stops wal-receive: walrx doesn't/],
    [{ WALG_GS_PREFIX: 'gs://b' }, /WALG_GS_PREFIX is set .*\nhint: set WALG_S3_PREFIX/],
  ] as const) {
    const { status, stderr, stdout } = await walrx(['config', 'wal-receive'], environment)
    assert.equal(status, 2)
    assert.match(stderr, message)
    assert.match(stdout, new RegExp(`^${Object.keys(environment)[0]}`, 'm'))
  }
  assert.equal((await walrx(['config', 'wal-fetch'], { WALG_USE_WAL_DELTA: 'true' })).status, 0)
})

describe('a command that would not start', () => {
  let home: string
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'walrx-config-'))
    writeFileSync(join(home, 'service'), '[db1]\nhost=db1\n\n[db2]\nhost db2 hidd3n-text\n')
    writeFileSync(join(home, 'short'), 'short')
    writeFileSync(join(home, 'locked'), (await madeKey({ passphrase: 's3cr3t' })).secret)
    writeFileSync(join(home, 'key'), 'hidd3n-key-of-32-bytes-or-more-x')
    execFileSync('mkfifo', [join(home, 'fifo')])
  })
  after(() => rm(home, { recursive: true }))

  /** What is shown and said, which must not have any of the secrets. */
  async function ended(args: readonly string[], environment: Record<string, string> = {}) {
    const fill = (text: string) => text.replaceAll('HOME', home)
    const filled = Object.fromEntries(Object.entries(environment).map(([name, text]) => [name, fill(text)]))
    const end = await walrx(['config', ...args.map(fill)], filled)
    assert.doesNotMatch(end.stdout + end.stderr, /hidd3n|s3cr3t/)
    return end
  }

  test('is shown by a connection string, a URL or a service that cannot be used', async () => {
    for (const [conninfo, message] of [
      ["host=db1 password='s3cr3t", /the connection string has a quote at character 19 that is not closed/],
      ['postgresql://u:s3cr3t@s3cr3t@h/db', /the connection string has an "@" after the one that ends the password/],
      ['hostt=db1 password=s3cr3t', /unknown keyword "hostt"/],
      ['host=a,b port=1,2,3 password=s3cr3t', /3 values in port do not match 2 hosts/],
      ['host=a connect_timeout=soon', /connect_timeout is "soon"; it must be a whole number/],
      ['service=db1 servicefile=HOME/none', /service file "\S+none" not found/],
      ['service=db2 servicefile=HOME/service', /syntax error in service file "\S+service", line 5/],
      ['service=db3 servicefile=HOME/service', /definition of service "db3" not found/],
      ['service=db1 servicefile=HOME/fifo', /service file "\S+fifo" is no regular file/],
      ['service=db1 servicefile=HOME', /service file "\S+" cannot be read: EISDIR/],
    ] as const) {
      const { status, stderr, stdout } = await ended(['wal-receive', '--dbname', conninfo, '--slotname', 'shown'])
      assert.equal(status, 2, conninfo)
      assert.match(stderr, message)
      assert.match(stdout, /^WALG_SLOTNAME +shown/m)
      assert.match(stdout, /^WALRX_DBNAME .* flag, as --dbname$/m)
      const json = JSON.parse((await ended(['wal-receive', '--json', '--dbname', conninfo])).stdout) as {
        problem: string
      }
      assert.match(json.problem, message)
    }
    assert.equal((await ended(['wal-receive', '--dbname', 'service=db1 servicefile=HOME/service'])).status, 0)
    for (const command of [['backup-push'], []]) {
      const { status, stderr } = await ended(command, { PGSERVICE: 'db9', PGSERVICEFILE: 'HOME/service' })
      assert.equal(status, 2)
      assert.match(stderr, /definition of service "db9" not found/)
    }
    assert.equal((await ended(['wal-show'], { PGSERVICE: 'db9' })).status, 0, 'it asks no server')
  })

  test('is shown by every other kind of setting', async () => {
    const archive = { WALG_FILE_PREFIX: 'HOME' }
    const bucket = { WALG_S3_PREFIX: 's3://b/x' }
    for (const [environment, message] of [
      [{ ...archive, PGPORT: 'x' }, /PGPORT is not a number/],
      [{ ...archive, WALG_UPLOAD_CONCURRENCY: 'x' }, /must be a whole number from 1/],
      [{ ...archive, WALRX_DRAIN_TIMEOUT: '1x' }, /must be a duration like 15s/],
      [{ ...archive, WALRX_MEMORY: '1 parsec' }, /WALRX_MEMORY: must be a size/],
      [{ ...archive, WALRX_STATUS_LISTEN: 'a:b:c' }, /"a:b:c"/],
      [{ ...archive, WALG_ZSTD_LEVEL: 'best', WALG_COMPRESSION_LEVEL: '3' }, /two levels are given/],
      [{ WALG_FILE_PREFIX: 'relative' }, /must be an absolute path/],
      [{ ...archive, ...bucket }, /both an S3 prefix .* and a directory/],
      [{ WALG_S3_PREFIX: 'http://x' }, /must be s3:\/\/bucket\/path/],
      [{ ...bucket, AWS_ENDPOINT: 'nonsense' }, /endpoint nonsense is not an http/],
      [{ ...bucket, S3_CA_CERT_FILE: 'HOME/none' }, /the CA file \S+none holds no readable certificate/],
      [{ ...bucket, HTTPS_PROXY: 'ftp://x' }, /HTTPS_PROXY/],
      [{ ...bucket, AWS_ROLE_ARN: 'arn:aws:iam::1:role/x' }, /AWS_WEB_IDENTITY_TOKEN_FILE is not set/],
      [{ ...archive, WALG_LIBSODIUM_KEY_PATH: 'HOME/none' }, /the key file .* does not exist/],
      [{ ...archive, WALG_LIBSODIUM_KEY_PATH: 'HOME/short' }, /the key has 5 bytes/],
      [{ ...archive, WALG_LIBSODIUM_KEY_PATH: 'HOME/fifo' }, /is no regular file/],
      [{ ...archive, WALG_PGP_KEY_PATH: 'HOME/key' }, /WALG_PGP_KEY_PATH=\S+key has no armored/],
      [
        { ...archive, WALG_PGP_KEY_PATH: 'HOME/locked' },
        /OpenPGP key \w+ is locked .*\nhint: set WALG_PGP_KEY_PASSPHRASE/,
      ],
      [{ ...archive, WALRX_KEY_COMMAND: 'echo s3cr3t | true; exit 3' }, /WALRX_KEY_COMMAND ended with status 3/],
      [{ ...archive, WALRX_READ_KEY_PATH: 'HOME/key' }, /and no key to encrypt with/],
    ] as const) {
      const end = await ended(['wal-receive'], environment as Record<string, string>)
      assert.deepEqual(
        [end.status, message.test(end.stderr)],
        [2, true],
        `${JSON.stringify(environment)}: ${end.stderr}`,
      )
      for (const name of Object.keys(environment)) assert.match(end.stdout, new RegExp(`^${name} `, 'm'))
    }
    const options = ['--slotless', '--synchronous']
    assert.match((await ended(['wal-receive', ...options])).stderr, /--synchronous needs a replication slot/)
    const reading = { ...archive, WALRX_READ_KEY_PATH: 'HOME/key' }
    assert.deepEqual(await ended([], reading).then(({ status, stderr }) => ({ status, stderr })), {
      status: 0,
      stderr: '',
    })
  })
})

test('says of every setting of WAL-G what walrx does with it', async () => {
  const { stdout } = await walrx(['config', '--walg'])
  assert.match(stdout, /^WALG_SLOTNAME +honoured +--slotname: /m)
  assert.match(stdout, /^S3_RETENTION_PERIOD +refused +walrx doesn't lock objects/m)
  const rows = JSON.parse((await walrx(['config', '--walg', '--json'])).stdout) as { name: string; effect: string }[]
  assert.equal(rows.length, stdout.trimEnd().split('\n').length - 1)
  assert.equal(rows.find(({ name }) => name === 'PGSSLMODE')?.effect, 'honoured')
})
