/**
 * What every command does with an archive that the keys don't open: one line that names the object, status 2 (of wal-fetch
 * 126), and nothing is written. And how an archive that was not encrypted becomes one that is.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import { generateWal } from '../../harness/made/wal-load.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'

const timeout = 240_000
type Environment = Readonly<Record<string, string>>
const none: Environment = {}
const right: Environment = { WALG_LIBSODIUM_KEY: 'the right key of this archive 123' }
const wrong: Environment = { WALG_LIBSODIUM_KEY: 'another key of any other archive' }

let server: TestPostgres
before(async () => {
  server = await startPostgres({ major: 17, segmentSizeMb: 1, fresh: true })
})
after(() => server[Symbol.asyncDispose]())

/** An archive in a directory. */
class Place {
  readonly root: string
  readonly archive: string
  readonly slot: string

  private constructor(name: string) {
    this.root = newServerDirectory(name)
    this.archive = join(this.root, 'archive')
    this.slot = name
  }

  static async make(name: string): Promise<Place> {
    const place = new Place(name)
    await makeServerDirectory(place.root, 0o755)
    mkdirSync(place.archive)
    return place
  }

  get prefix(): readonly string[] {
    return ['--file-prefix', this.archive]
  }

  run(env: Environment, command: string, ...args: readonly string[]) {
    return runWalrx([command, ...this.prefix, ...args], { env })
  }

  receiver(env: Environment) {
    const args = ['wal-receive', ...this.prefix, '--dbname', server.conninfo(), '--slotname', this.slot]
    return startWalrx(args, { env })
  }

  /** Receives some segments, and whatever is done meanwhile. */
  async receive(env: Environment, work: () => Promise<void> = () => Promise.resolve()): Promise<void> {
    await using receiver = this.receiver(env)
    await receiver.logged('streaming')
    const before = this.segments().length
    await generateWal(server, { segments: 3 })
    await until('two more segments', () => this.segments().length >= before + 2)
    await work()
    assert.equal((await receiver.stop()).status, 0)
  }

  async push(env: Environment): Promise<string> {
    const { status, stderr, stdout } = await this.run(env, 'backup-push', '--dbname', server.conninfo(), '--json')
    assert.equal(status, 0, stderr)
    return (JSON.parse(stdout) as { readonly backup_name: string }).backup_name
  }

  /** File names of all segments, in their order. */
  segments(): string[] {
    const folder = join(this.archive, 'wal_005')
    const names = existsSync(folder) ? readdirSync(folder) : []
    return names.filter((name) => /^[0-9A-F]{24}(\.zst)?$/.test(name)).sort()
  }

  /** Every object with its bytes. */
  digest(): string {
    const hash = createHash('sha256')
    const paths = readdirSync(this.archive, { recursive: true, encoding: 'utf8' }).sort()
    for (const path of paths) {
      const file = join(this.archive, path)
      if (statSync(file).isFile()) hash.update(`${path}\n`).update(readFileSync(file))
    }
    return hash.digest('hex')
  }
}

/** Ends with this status, says one line that matches, with a hint, and shows no key. */
function assertRefused(
  what: string,
  { status, stderr }: { readonly status: number | null; readonly stderr: string },
  expected: number,
  says: RegExp,
  hint = /WALG_LIBSODIUM_KEY_PATH|WALRX_READ_KEY_PATH|WALRX_ACCEPT_UNENCRYPTED=true/,
): void {
  assert.equal(status, expected, `${what}: ${stderr}`)
  const lines = stderr.split('\n').filter((line) => line !== '')
  const errors = lines
    .map((line) => JSON.parse(line) as { readonly level: string; readonly msg: string; readonly hint?: string })
    .filter(({ level }) => level === 'error')
  assert.equal(errors.length, 1, `${what}: ${stderr}`)
  assert.match(errors[0]?.msg ?? '', says, what)
  assert.match(errors[0]?.hint ?? '', hint, what)
  for (const { WALG_LIBSODIUM_KEY: key = '-' } of [right, wrong]) assert.ok(!stderr.includes(key), what)
}

describe('an encrypted archive', { timeout }, () => {
  let place: Place
  let backup = ''
  before(async () => {
    place = await Place.make('keys_right')
    await place.receive(right, async () => {
      backup = await place.push(right)
    })
  })

  for (const [title, env, says] of [
    ['without a key', none, /archive\/\S+ is encrypted, or damaged at its beginning, and no key is set$/],
    ['with another key', wrong, /archive\/\S+ is encrypted with another key than WALG_LIBSODIUM_KEY \(libsodium\), or/],
  ] as const) {
    test(`${title} is refused by all that writes, and stays as it is`, async () => {
      const before = place.digest()
      const connection = ['--dbname', server.conninfo()]
      for (const args of [
        ['wal-receive', ...connection, '--slotname', place.slot],
        ['backup-push', ...connection],
        ['backup-push', ...connection, '--dry-run'],
        ['backup-plan', ...connection],
        ['wal-finalize', '--force'],
      ]) {
        const [command = '', ...rest] = args
        assertRefused(args.slice(0, 4).join(' '), await place.run(env, command, ...rest), 2, says)
        assert.equal(place.digest(), before, `${command} wrote`)
      }
    })

    test(`${title} is refused by all that reads it, and nothing is written`, async () => {
      const before = place.digest()
      const destination = join(place.root, 'restored')
      assertRefused('backup-verify', await place.run(env, 'backup-verify', backup), 2, says)
      assertRefused('backup-fetch', await place.run(env, 'backup-fetch', destination, backup), 2, says)
      assertRefused('--recover', await place.run(env, 'backup-fetch', destination, 'LATEST', '--recover'), 2, says)
      assert.ok(!existsSync(destination))
      const [segment = ''] = place.segments()
      const name = segment.slice(0, 24)
      assertRefused('wal-fetch', await place.run(env, 'wal-fetch', name, destination), 126, says)
      assert.ok(!existsSync(destination))
      // What walrx.json has of the files that were left out cannot be read; all else is open.
      const shown = await place.run(env, 'backup-show', backup)
      assertRefused('backup-show', shown, 2, says)
      assert.ok(shown.stdout.includes(backup))
      for (const command of ['backup-list', 'wal-show']) {
        assert.equal((await place.run(env, command)).status, 0, command)
      }
      assert.equal(place.digest(), before)
    })
  }

  test('with its key is whole, and a plain segment in it is refused', async () => {
    assert.equal((await place.run(right, 'backup-verify', backup)).status, 0)
    const [segment = ''] = place.segments()
    const name = segment.slice(0, 24)
    const [fetched, again] = ['fetched', 'again'].map((each) => join(place.root, each)) as [string, string]
    assert.equal((await place.run(right, 'wal-fetch', name, fetched)).status, 0)
    const stored = join(place.archive, 'wal_005', segment)
    renameSync(stored, `${fetched}.kept`)
    for (const [file, bytes] of [
      [stored, zstdCompressSync(readFileSync(fetched))],
      [join(place.archive, 'wal_005', name), readFileSync(fetched)],
    ] as const) {
      writeFileSync(file, bytes)
      const refused = await place.run(right, 'wal-fetch', name, again)
      assertRefused('wal-fetch', refused, 126, /is not encrypted, but WALG_LIBSODIUM_KEY \(libsodium\) is set$/)
      assert.ok(!existsSync(again))
      rmSync(file)
    }
    // Bare and encrypted: PostgreSQL never gets it, without a key or with another one.
    const codec = ['--compression-method', 'none']
    const bare = join(place.archive, 'wal_005', name)
    writeFileSync(bare, readFileSync(`${fetched}.kept`))
    for (const env of [none, wrong, { ...wrong, WALRX_ACCEPT_UNENCRYPTED: 'true' }]) {
      const refused = await place.run(env, 'wal-fetch', ...codec, name, again)
      assertRefused('wal-fetch', refused, 126, /is encrypted/)
      assert.ok(!existsSync(again))
    }
    rmSync(bare)
    renameSync(`${fetched}.kept`, stored)
  })
})

test('an archive becomes an encrypted one where that is accepted', { timeout }, async () => {
  const place = await Place.make('keys_mixed')
  let plainBackup = ''
  await place.receive(none, async () => {
    plainBackup = await place.push(none)
  })
  const plainCount = place.segments().length
  const before = place.digest()
  const says = /is not encrypted, but WALG_LIBSODIUM_KEY \(libsodium\) is set$/
  const args = ['--dbname', server.conninfo()]
  for (const command of ['wal-receive', 'backup-push']) {
    const refused = await place.run(right, command, ...args)
    assertRefused(command, refused, 2, says, /^set WALRX_ACCEPT_UNENCRYPTED=true/)
  }
  assert.equal(place.digest(), before)

  const accepting = { ...right, WALRX_ACCEPT_UNENCRYPTED: 'true' }
  let encryptedBackup = ''
  await place.receive(accepting, async () => {
    encryptedBackup = await place.push(accepting)
  })
  const segments = place.segments()
  assert.ok(segments.length > plainCount)
  const [first = '', last = ''] = [segments[0], segments.at(-1)]
  const isZstd = (file: string) => readFileSync(join(place.archive, 'wal_005', file)).readUInt32LE(0) === 0xfd2fb528
  assert.equal(isZstd(first), true)
  assert.equal(isZstd(last), false, 'the newest is encrypted')
  const destination = join(place.root, 'segment')
  for (const each of [first, last]) {
    assert.equal((await place.run(accepting, 'wal-fetch', each.slice(0, 24), destination)).status, 0, each)
  }
  for (const backup of [plainBackup, encryptedBackup]) {
    const { status, stderr } = await place.run(accepting, 'backup-verify', backup)
    assert.equal(status, 0, stderr)
  }
  // A start also reads the last segments before its own, as long as some of them are not encrypted.
  await place.receive(accepting)
  assertRefused('wal-receive', await place.run(none, 'wal-receive', ...args), 2, /no key is set$/)
  assertRefused('the old backup', await place.run(right, 'backup-verify', plainBackup), 2, says)
})
